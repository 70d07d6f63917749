package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/ike"
	"getvpn/internal/memnet"
	"getvpn/ipsec"
	"getvpn/model"
)

// twoConf is a member of RED and BLUE on one interface, without fail-close.
var twoConf = common + `hostname gm
crypto gdoi group RED
 identity number 1
 server address ipv4 192.0.2.1
crypto gdoi group BLUE
 identity number 2
 server address ipv4 192.0.2.1
crypto map M 10 gdoi
 set group RED
crypto map M 20 gdoi
 set group BLUE
interface wan
 crypto map M
end
`

// pair is a key server and that member, registered.
func pair(t *testing.T, dir string) (n *memnet.Network, k, m *rig) {
	n = memnet.New(1)
	k, err := start(t, dir, n, "192.0.2.1", ksConf)
	if err != nil {
		t.Fatal(err, k.out)
	}
	if m, err = start(t, dir, n, "198.51.100.1", twoConf); err != nil {
		t.Fatal(err, m.out)
	}
	time.Sleep(5 * time.Second)
	synctest.Wait()
	for _, g := range []string{"RED", "BLUE"} {
		if p := m.plane.policy(g + " wan"); p.State != ipsec.Registered || p.Entries[1].SPI == 0 {
			t.Fatalf("%s: %+v\n%s", g, p, m.out)
		}
	}
	return n, k, m
}

// Without fail-close a member that starts again, here without a key server, goes on
// dropping what the process before it protected: all groups of an interface in one
// step and before any socket is opened. The first start of all is open.
func TestRestartWithoutFailClose(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		n, k, m := pair(t, dir)
		if got := m.plane.done(); slices.Contains(got, "together") {
			t.Errorf("the first start isn't open: %v", got)
		}
		k.d.Stop()
		m.d.Stop()
		for _, g := range []string{"RED", "BLUE"} {
			p := listPath(filepath.Join(dir, "198.51.100.1"), g)
			b, err := os.ReadFile(p)
			st, _ := os.Stat(p)
			if err != nil || st.Mode().Perm() != 0o600 || strings.Contains(string(b), "Key") {
				t.Errorf("%s: %v %s", p, err, b)
			}
		}
		m, err := start(t, dir, n, "198.51.100.1", twoConf)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.plane.done(); !slices.Equal(got[:5], []string{"open", "configure wan", "together", "install RED wan", "install BLUE wan"}) {
			t.Errorf("dataplane saw %v", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		for _, g := range []string{"RED", "BLUE"} {
			if p := m.plane.policy(g + " wan"); p.State != ipsec.Registered || len(p.Entries) != 2 || p.Entries[1].ACE.Action != ipsec.Permit || p.Entries[1].SPI != 0 {
				t.Errorf("%s without a key server: %+v", g, p)
			}
		}
		if slices.Contains(m.plane.done(), "settle") {
			t.Error("what the process before left was removed")
		}
		// An operator opens BLUE.
		if err := m.d.ClearGDOI("BLUE"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if p := m.plane.policy("BLUE wan"); p.State != ipsec.Unregistered {
			t.Errorf("after a clear: %+v", p)
		}
		m.d.Stop()

		// A group that left the configuration meanwhile protects nothing any more, nor
		// does one whose identity has changed.
		os.WriteFile(m.file, nil, 0o600)
		conf := strings.Replace(twoConf, "identity number 1", "identity number 7", 1)
		m, err = start(t, dir, n, "198.51.100.1", conf)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.plane.done(); !slices.Equal(got, []string{"open", "configure wan"}) {
			t.Errorf("another identity: %v", got)
		}
		m.d.Stop()
		conf = strings.Replace(twoConf, "crypto map M 10 gdoi\n set group RED\n", "", 1)
		if m, err = start(t, dir, n, "198.51.100.1", conf); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(listPath(filepath.Join(dir, "198.51.100.1"), "RED")); err == nil {
			t.Error("the list of a group that is gone is still there")
		}
		m.d.Stop()
	})
}

// config-05: a reload of the running configuration is a no-op: no SA, no IKE session,
// no counter, no file of it.
func Test_config_05_reload_of_the_running_configuration(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		_, k, m := pair(t, dir)
		defer k.d.Stop()
		defer m.d.Stop()
		ks, gm, calls := *k.d.store.Load(), *m.d.store.Load(), m.plane.done()
		sessions := [2]*ike.Endpoint{k.d.ep, m.d.ep}
		// The same in other words: with a comment, blank lines, another order of lines.
		os.WriteFile(m.file, []byte("! a comment\n\n"+strings.Replace(twoConf, "hostname gm\n", "", 1)[:len(twoConf)-len("hostname gm\n")-len("end\n")]+"hostname gm\nend\n"), 0o600)
		for range 3 {
			for _, r := range []*rig{k, m} {
				if err := r.d.Reload("test"); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		if got := m.plane.done(); !slices.Equal(got, calls) {
			t.Errorf("dataplane saw %v", got[len(calls):])
		}
		for _, x := range []struct {
			before model.Snapshot
			d      *Daemon
		}{{ks, k.d}, {gm, m.d}} {
			now := *x.d.store.Load()
			now.At, now.Generation = x.before.At, x.before.Generation
			if !reflect.DeepEqual(now, x.before) {
				t.Errorf("the model was\n%+v, is\n%+v", x.before, now)
			}
		}
		if sessions != [2]*ike.Endpoint{k.d.ep, m.d.ep} {
			t.Error("another endpoint")
		}
	})
}

// What the system refuses leaves the configuration before in force.
func TestReloadThatFailsGoesBack(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		_, k, m := pair(t, dir)
		defer k.d.Stop()
		defer m.d.Stop()
		red := m.d.members["RED"]
		// Fail-close for a new map on another interface, which the dataplane refuses.
		bad := strings.Replace(twoConf, "interface wan\n", "crypto map N gdoi fail-close\n activate\ncrypto map N 10 gdoi\n set group BLUE\ninterface lan\n crypto map N\ninterface wan\n", 1)
		os.WriteFile(m.file, []byte(strings.Replace(bad, "hostname gm", "hostname other", 1)), 0o600)
		m.plane.refuse("lan")
		if err := m.d.Reload("test"); err == nil || !strings.Contains(err.Error(), "no room") {
			t.Fatalf("error %v", err)
		}
		if m.d.members["RED"] != red || m.d.RunningConfig().Hostname != "gm" || m.d.store.Load().Hostname != "gm" || len(m.d.members) != 2 {
			t.Error("part of the bad configuration stayed")
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if p := m.plane.policy("BLUE wan"); p.State != ipsec.Registered || p.Entries[1].SPI == 0 {
			t.Errorf("BLUE: %+v", p)
		}
		m.plane.refuse("")
		if err := m.d.Reload("test"); err != nil || m.d.RunningConfig().Hostname != "other" {
			t.Errorf("the same file, when there is room: %v", err)
		}
	})
}

func TestReloadChangesLogging(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		_, k, m := pair(t, dir)
		defer k.d.Stop()
		os.WriteFile(m.file, []byte("no logging console\n"+twoConf), 0o600)
		members := m.d.members["RED"]
		if err := m.d.Reload("test"); err != nil {
			t.Fatal(err)
		}
		if m.d.members["RED"] != members {
			t.Error("a logging line restarted a group")
		}
		synctest.Wait()
		before := m.lines()
		m.d.ClearGDOI("RED")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := m.lines(); got != before {
			t.Errorf("%d lines on the console that is off", got-before)
		}
		os.WriteFile(m.file, []byte(twoConf), 0o600)
		if err := m.d.Reload("test"); err != nil {
			t.Fatal(err)
		}
		m.d.ClearGDOI("RED")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := m.lines(); got == before {
			t.Error("no line on the console that is on again")
		}
		if err := m.d.Stop(); err != nil {
			t.Error(err)
		}
	})
}

var errRoom = errors.New("no room")

// A member that hasn't registered is in the state that the new file says, also when that
// is less closed.
func TestReloadLiftsFailClose(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m, err := start(t, dir, memnet.New(1), "198.51.100.1", gmConf)
		if err != nil {
			t.Fatal(err)
		}
		defer m.d.Stop()
		if p := m.plane.policy("RED wan"); !p.FailClose.Active {
			t.Fatalf("%+v", p)
		}
		os.WriteFile(m.file, []byte(strings.Replace(gmConf, " activate\n", "", 1)), 0o600)
		if err := m.d.Reload("test"); err != nil {
			t.Fatal(err)
		}
		if p := m.plane.policy("RED wan"); p.State != ipsec.Unregistered || p.FailClose.Active {
			t.Errorf("still closed: %+v", p)
		}
	})
}
