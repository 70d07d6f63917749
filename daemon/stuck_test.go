package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"getvpn/cli"
	"getvpn/internal/memnet"
	"getvpn/ipsec/dataplane"
)

// Fifty clients of the control socket never read, twenty send half a request: a member
// registers nevertheless, and other sessions are answered.
func Test_scale_03_ProtocolBesideStuckClients(t *testing.T) {
	dir := t.TempDir()
	n := memnet.New(1)
	file, sock := filepath.Join(dir, "c.conf"), filepath.Join(dir, "s.sock")
	os.WriteFile(file, []byte(ksConf), 0o600)
	a := netip.MustParseAddr("192.0.2.1")
	k, err := Start(Options{ConfigFile: file, Socket: sock, StateDir: filepath.Join(dir, "state"), addrs: fixedAddr(a), listen: host(n, a),
		openPlane: func(dataplane.Options) (Plane, error) { return nil, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Stop()
	for i := range 70 {
		c, err := net.Dial("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i < 50 {
			fmt.Fprintln(c, `{"command":"show running-config"}`)
		} else {
			fmt.Fprint(c, `{"command":"show`)
		}
	}
	m, err := start(t, dir, n, "198.51.100.1", gmConf)
	if err != nil {
		t.Fatal(err, m.out)
	}
	defer m.d.Stop()
	for limit := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		ans, text, err := cli.Ask(sock, cli.Request{Command: "show crypto gdoi ks members"})
		registered := 0
		for _, g := range k.Snapshot().KeyServers {
			registered += g.Members.Len()
		}
		if err == nil && ans.OK && registered == 1 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("%d members; %+v %q %v", registered, ans, text, err)
		}
	}
}
