package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"getvpn/ipsec"
)

// A running daemon's state directory is told from one that is free, and nothing is
// created in looking.
func TestUnusedStateDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := unused(dir); err != nil {
		t.Error(err)
	}
	if found, _ := os.ReadDir(dir); len(found) != 0 {
		t.Errorf("created %v", found)
	}
	f, err := own(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := unused(dir); err == nil || !strings.Contains(err.Error(), "a daemon uses") {
		t.Errorf("with a daemon: %v", err)
	}
	f.Close()
	if err := unused(dir); err != nil {
		t.Error(err)
	}
}

// What is closed at boot: fail-close blocks that are active, with their list.
func TestPolicyBeforeRegistration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "conf")
	text := `crypto gdoi group G
 identity number 1
 server address ipv4 192.0.2.1
crypto map M gdoi fail-close
 match address UNREG
 activate
crypto map M 10 gdoi
 set group G
crypto map OPEN 10 gdoi
 set group G
interface wan
 crypto map M
interface wan2
 crypto map OPEN
ip access-list extended UNREG
 deny tcp any any eq 22
end
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := load(file, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	setups, err := memberSetups(c)
	if err != nil {
		t.Fatal(err)
	}
	got := atStart(t.TempDir(), setups)
	if len(got) != 1 || got[0].Interface != "wan" { // nothing for wan2, which is open
		t.Fatalf("%+v", got)
	}
	out, in := ipsec.Compile(got)
	if out.Default != ipsec.Drop || in.Default != ipsec.Drop || len(out.Rules) != 1 || out.Rules[0].Verdict != ipsec.Pass {
		t.Errorf("with fail-close: %+v, %+v", out, in)
	}
}
