package daemon

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/cli"
	"getvpn/config"
	"getvpn/internal/memnet"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

// rekeyConf is ksConf with rekeys to each member.
var rekeyConf = strings.Replace(ksConf, "identity number 1\n server local\n", "identity number 1\n server local\n  rekey algorithm aes 256\n  rekey authentication mypubkey ecdsa K\n  rekey transport unicast\n", 1)

// enter gives lines to a session and fails the test when one is refused.
func enter(t *testing.T, s *cli.Session, lines ...string) string {
	t.Helper()
	out := ""
	for _, l := range lines {
		o, err := s.Run(l, cli.Options{})
		if out += o; err != nil {
			t.Fatalf("%s: %v", l, err)
		}
	}
	return out
}

// grouped runs f in a bubble with a key server that has rekeys and a registered member.
func grouped(t *testing.T, f func(t *testing.T, k, m *rig)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		k, err := start(t, dir, n, "192.0.2.1", rekeyConf)
		if err != nil {
			t.Fatal(err, k.out)
		}
		defer k.d.Stop()
		m, err := start(t, dir, n, "198.51.100.1", gmConf)
		if err != nil {
			t.Fatal(err, m.out)
		}
		defer m.d.Stop()
		soon(t, "a registration", func() bool { return member(m).Succeeded == 1 })
		f(t, k, m)
	})
}

// ClearGDOI is "clear crypto gdoi" of a group, or of all with an empty name.
func (d *Daemon) ClearGDOI(group string) error {
	return d.Act(cli.Action{Verb: cli.ActClearGroup, Group: group}, cli.Caller{User: "root", Source: "console"})
}

func member(r *rig) model.GMGroup { return r.d.Snapshot().Members[0] }

// soon waits a minute at most, in the bubble's time.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 600 {
		synctest.Wait()
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("no %s", what)
}

// A list changed in configuration mode reaches the member by one rekey as the mode is
// left: the group goes on with its keys, the member doesn't register again, and who did
// it is told. Nothing happens before.
func TestAChangedListIsRekeyedAsConfigurationModeIsLeft(t *testing.T) {
	grouped(t, func(t *testing.T, k, m *rig) {
		sub := k.d.bus.Subscribe("test", 100)
		defer k.d.bus.Unsubscribe(sub)
		red, before := k.d.groups["RED"].group, m.plane.policy("RED wan")
		s := (&cli.Exec{Control: k.d}).NewSession(cli.Caller{User: "ann", Source: "vty3"})
		enter(t, s, "conf t", "ip access-list extended A", "permit ip 172.16.0.0 0.0.255.255 any")
		time.Sleep(5 * time.Second)
		if g := member(m); g.RekeysReceived != 0 {
			t.Fatal("rekeyed before the end")
		}
		if out := enter(t, s, "show configuration consequences"); strings.Count(out, "rekey now") != 1 || strings.Count(out, "members must re-register") != 1 { // BLUE has no KEK
			t.Errorf("%s", out)
		}
		enter(t, s, "end")
		soon(t, "rekey", func() bool { return member(m).RekeysReceived == 1 })
		after := m.plane.policy("RED wan")
		if len(after.Entries) != len(before.Entries)+1 || after.Entries[1].SPI != before.Entries[1].SPI || len(after.TEKs) != len(before.TEKs) {
			t.Errorf("installed %+v", after)
		}
		if g := member(m); g.Succeeded != 1 || k.d.groups["RED"].group != red {
			t.Errorf("registered %d times; same group: %v", g.Succeeded, k.d.groups["RED"].group == red)
		}
		told := false
		for len(sub.C()) > 0 {
			if e, ok := (<-sub.C()).Event.(event.ConfigChanged); ok {
				told = e.User == "ann" && e.Source == "vty3"
			}
		}
		if !told {
			t.Error("nobody was told who changed it")
		}
		if g := k.d.Snapshot().KeyServers; g[0].Counters.RekeysSent+g[1].Counters.RekeysSent != 1 {
			t.Errorf("%+v", g)
		}
	})
}

// crypto gdoi ks rekey brings new TEKs; with replace-now the old ones go at once. clear
// crypto gdoi ks policy renews the KEK too; a direction holds until the next rekey.
func TestOperatorsCommandsReachTheEngines(t *testing.T) {
	grouped(t, func(t *testing.T, k, m *rig) {
		ks := (&cli.Exec{Control: k.d}).NewSession(cli.Caller{User: "ann", Source: "vty0"})
		gm := (&cli.Exec{Control: m.d}).NewSession(cli.Caller{User: "bob", Source: "vty0"})
		first := member(m)
		enter(t, ks, "crypto gdoi ks rekey group RED")
		soon(t, "rekey", func() bool { return member(m).RekeysReceived == 1 })
		if g := member(m); len(g.TEKs) != 2 || g.TEKs[1].SPI != first.TEKs[0].SPI || !g.TEKs[1].Expires.Before(first.TEKs[0].Expires) {
			t.Errorf("%+v", g.TEKs)
		}
		enter(t, gm, "crypto gdoi gm ipsec direction inbound optional")
		soon(t, "direction", func() bool { return member(m).Direction == ipsec.InboundOptional.String() })
		enter(t, ks, "crypto gdoi ks rekey group RED replace-now")
		soon(t, "rekey", func() bool { return member(m).RekeysReceived == 2 })
		soon(t, "old keys gone", func() bool { return len(member(m).TEKs) == 1 })
		if g := member(m); g.Direction != ipsec.Both.String() || g.KEK.SPI != first.KEK.SPI {
			t.Errorf("%+v", g)
		}
		enter(t, ks, "clear crypto gdoi group RED ks policy")
		soon(t, "new KEK", func() bool { return member(m).KEK.SPI != first.KEK.SPI })
		enter(t, gm, "clear crypto gdoi replay", "clear crypto gdoi dataplane counters", "clear crypto isakmp")
		if g := member(m); g.TEKs[0].SA.EncapPackets != 0 { // the plane counts 7, always
			t.Errorf("%+v", g.TEKs[0].SA)
		}
		if g := member(m); g.Succeeded != 1 {
			t.Errorf("registered %d times", g.Succeeded)
		}
		enter(t, ks, "clear crypto gdoi group RED ks members")
		soon(t, "registration", func() bool { return member(m).Succeeded == 2 })
		enter(t, gm, "clear crypto gdoi")
		soon(t, "registration", func() bool { return member(m).Succeeded == 3 })
		for s, line := range map[*cli.Session]string{gm: "crypto gdoi ks rekey", ks: "crypto gdoi gm ipsec direction both"} {
			if _, err := s.Run(line, cli.Options{}); err == nil {
				t.Errorf("%s: done by the wrong kind of device", line)
			}
		}
	})
}

// Who applies to a configuration that isn't in force any more is told who changed it; a
// configuration that the system refuses leaves the one before; what is saved is read
// back the same.
func TestApplyAndSave(t *testing.T) {
	grouped(t, func(t *testing.T, k, m *rig) {
		base := k.d.RunningConfig()
		next := func(lines string) *config.Config {
			c, _, err := config.Parse("t", []byte(strings.TrimSuffix(config.Render(base), "end\n")+lines))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		ann, bob := cli.Caller{User: "ann", Source: "vty0"}, cli.Caller{User: "bob", Source: "vty1"}
		if err := k.d.Apply(base, next("ip cef\n"), ann); err != nil {
			t.Fatal(err)
		}
		var changed *cli.Changed
		if err := k.d.Apply(base, next("hostname x\n"), bob); !errors.As(err, &changed) || changed.By != ann {
			t.Errorf("%v", err)
		}
		base = k.d.RunningConfig()
		red := k.d.groups["RED"].group
		for what, lines := range map[string]string{"a list that isn't there": "crypto gdoi group RED\n server local\n  sa ipsec 1\n   match address ipv4 NONE\n",
			"a group that the engine refuses": "crypto gdoi group RED\n server local\n  rekey algorithm aes 128\ncrypto gdoi group NEW\n identity number 9\n server local\n  sa ipsec 1\n   profile P\n   match address ipv4 DENY\nip access-list extended DENY\n deny ip any any\n"} {
			if err := k.d.Apply(base, next(lines), bob); err == nil || k.d.RunningConfig() != base || k.d.groups["RED"].group != red {
				t.Errorf("%s: %v", what, err)
			}
		}
		if g := member(m); g.RekeysReceived != 0 {
			t.Error("a refused configuration sent a rekey")
		}
		if err := k.d.Save(ann); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(k.file)
		st, err2 := os.Stat(k.file)
		if err != nil || err2 != nil || string(text) != config.Render(base) || st.Mode().Perm() != 0o600 {
			t.Errorf("%v %v %v", err, err2, st)
		}
		if err := k.d.Reload("test"); err != nil || k.d.RunningConfig() != base {
			t.Errorf("the saved file isn't what is in force: %v", err)
		}
	})
}

// The lines that make a group another one restart it; its neighbour goes on.
func TestOnlyAnotherIdentityBeginsAnew(t *testing.T) {
	grouped(t, func(t *testing.T, k, m *rig) {
		s := (&cli.Exec{Control: k.d}).NewSession(cli.Caller{User: "ann", Source: "vty0"})
		red, blue := k.d.groups["RED"].group, k.d.groups["BLUE"].group
		for _, line := range []string{"rekey retransmit 20 number 3", "rekey lifetime days 2", "rekey algorithm aes 128", "sa receive-only", "no sa receive-only", "authorization address ipv4 A"} {
			enter(t, s, "conf t", "crypto gdoi group RED", "server local", line, "end")
			if k.d.groups["RED"].group != red {
				t.Fatalf("%s: the group began anew", line)
			}
		}
		enter(t, s, "conf t", "crypto gdoi group RED", "identity number 7", "end")
		if k.d.groups["RED"].group == red || k.d.groups["BLUE"].group != blue {
			t.Error("the wrong group began anew")
		}
		enter(t, s, "conf t", "no crypto gdoi group BLUE", "end")
		if k.d.groups["BLUE"] != nil || len(k.d.Snapshot().KeyServers) != 1 {
			t.Error("a removed group is still served")
		}
	})
}
