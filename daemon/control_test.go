package daemon

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"getvpn/cli"
	"getvpn/internal/memnet"
	"getvpn/ipsec/dataplane"
)

// The control socket answers, is the user's and group's alone, respects a living
// daemon and replaces what a dead one left.
func TestControlSocket(t *testing.T) {
	dir := t.TempDir()
	n := memnet.New(1)
	file, sock := filepath.Join(dir, "c.conf"), filepath.Join(dir, "run", "s.sock")
	os.WriteFile(file, []byte(ksConf), 0o600)
	a := netip.MustParseAddr("192.0.2.1")
	o := Options{ConfigFile: file, Socket: sock, StateDir: dir, addrs: fixedAddr(a), listen: host(n, a),
		openPlane: func(dataplane.Options) (Plane, error) { t.Error("a key server opened a dataplane"); return nil, nil }}
	d, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(sock); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	ans, text, err := cli.Ask(sock, cli.Request{Command: "show crypto gdoi"})
	if err != nil || !ans.OK || ans.Hostname != "ks" || !strings.Contains(text, "RED") || !strings.Contains(text, "BLUE") {
		t.Errorf("%+v %v\n%s", ans, err, text)
	}
	if strings.Contains(text, "test-key") {
		t.Error("a key in a view")
	}
	if err := d.ClearGDOI("RED"); err != nil {
		t.Error(err)
	}
	if err := d.ClearGDOI("nobody"); err == nil {
		t.Error("a group that isn't there was cleared")
	}
	second := o
	second.StateDir = t.TempDir()
	for _, o := range []Options{o, second} {
		if _, err := Start(o); err == nil || !strings.Contains(err.Error(), "another daemon") {
			t.Errorf("a second daemon: %v", err)
		}
	}
	if ans, _, err := cli.Ask(sock, cli.Request{Command: "show crypto gdoi"}); err != nil || !ans.OK {
		t.Errorf("the second daemon hurt the first: %v", err)
	}
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
	os.WriteFile(sock, nil, 0o600) // what a dead one left
	if d, err = Start(o); err != nil {
		t.Fatal(err)
	}
	d.Stop()
}

func TestStartRefusesABadFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.conf")
	for name, text := range map[string]string{
		"syntax":      "crypto gdoi nonsense\n",
		"missing map": "interface wan\n crypto map NOPE\n",
	} {
		os.WriteFile(file, []byte(text), 0o600)
		if d, err := Start(Options{ConfigFile: file, StateDir: dir, addrs: fixedAddr{}, listen: host(memnet.New(1), netip.Addr{}),
			openPlane: func(dataplane.Options) (Plane, error) { t.Error("dataplane opened"); return nil, nil }}); err == nil {
			t.Errorf("%s: started", name)
			d.Stop()
		}
	}
}
