package ks

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/policy"
	"getvpn/ipsec"
	"getvpn/model/event"
)

func permit(n int) []ipsec.ACE {
	var out []ipsec.ACE
	for i := range n {
		out = append(out, ipsec.ACE{Seq: i, Action: ipsec.Permit, Family: ipsec.IPv4, Src: ipsec.MatchPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24))})
	}
	return out
}

func conf(aces []ipsec.ACE) (*config.Config, *config.Group) {
	c := &config.Config{
		TransformSets: []config.TransformSet{{Name: "T", Transform: gcm128}},
		Profiles:      []config.Profile{{Name: "P", TransformSets: []string{"T"}}},
		ACLs: []config.ACL{{Name: "A", Entries: aces}, {Name: "M", Entries: []ipsec.ACE{{Action: ipsec.Permit, Family: ipsec.IPv4, Proto: 17,
			Dst: ipsec.MatchPrefix(netip.MustParsePrefix("239.1.1.1/32")), DstPort: ipsec.PortMatch{Op: ipsec.PortEq, Lo: 849}}}}},
		Groups: []config.Group{{Name: "g", HasNumber: true, Number: 1, Local: &config.LocalServer{SAs: []config.SAIPsec{{Seq: 1, Profile: "P", ACL: "A"}}}}},
	}
	return c, &c.Groups[0]
}

func noSigner(string) (*Signer, error) { return nil, errors.New("no key") }

func TestResolve(t *testing.T) {
	c, g := conf(permit(2))
	s, ev, err := Resolve(c, g, noSigner)
	if err != nil || len(ev) != 0 || s.SIDBits != 24 || s.Rekey != nil || s.Entries[0].Lifetime != time.Hour || len(s.Entries[0].ACEs) != 2 {
		t.Errorf("%+v %v %v", s, ev, err)
	}
	c, g = conf(permit(101))
	s, ev, err = Resolve(c, g, noSigner)
	if err != nil || len(s.Entries[0].ACEs) != 100 || len(ev) != 1 || ev[0] != event.Event(event.ACLTooLong{Max: 100}) {
		t.Errorf("too long: %v %v", ev, err)
	}
	r := permit(1)
	r[0].Proto, r[0].DstPort = 6, ipsec.PortMatch{Op: ipsec.PortRange, Lo: 1, Hi: 9}
	c, g = conf(r)
	if _, ev, err = Resolve(c, g, noSigner); !errors.Is(err, policy.ErrPortRange) || len(ev) != 1 || ev[0] != event.Event(event.ACLRange{}) {
		t.Errorf("range: %v %v", ev, err)
	}
	for name, edit := range map[string]func(*config.Config, *config.Group){
		"no profile":       func(c *config.Config, _ *config.Group) { c.Profiles = nil },
		"no transform set": func(c *config.Config, _ *config.Group) { c.TransformSets = nil },
		"no list":          func(c *config.Config, _ *config.Group) { c.ACLs = nil },
		"only denies":      func(c *config.Config, _ *config.Group) { c.ACLs[0].Entries = []ipsec.ACE{{Family: ipsec.IPv4}} },
		"no sa":            func(_ *config.Config, g *config.Group) { g.Local.SAs = nil },
		"no identity":      func(_ *config.Config, g *config.Group) { g.HasNumber = false },
		"no auth list":     func(_ *config.Config, g *config.Group) { g.Local.AuthAddress = "X" },
		"no signing key":   func(_ *config.Config, g *config.Group) { g.Local.RekeyAuthRSA = "K" },
	} {
		c, g := conf(permit(1))
		edit(c, g)
		if _, _, err := Resolve(c, g, noSigner); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestResolveRekeyAndSigner(t *testing.T) {
	dir := t.TempDir()
	c, g := conf(permit(1))
	l := g.Local
	l.RekeyAuthRSA, l.RekeyEncr, l.RekeyKeyBits, l.RekeySigHash, l.RekeyAddress = "K", config.EncrAES, 256, "sha256", "M"
	load := func(name string) (*Signer, error) { return LoadSigner(Disk{}, dir, name) }
	s, _, err := Resolve(c, g, load)
	if err != nil {
		t.Fatal(err)
	}
	r := s.Rekey
	if r.Cipher != gdoi.KEKAESCBC || r.KeyBits != 256 || r.Hash != gdoi.SigHashSHA256 || r.Multicast != netip.MustParseAddrPort("239.1.1.1:849") || r.Signer.Bits != 2048 || r.Lifetime != 24*time.Hour {
		t.Errorf("%+v", r)
	}
	if again, err := load("K"); err != nil || string(again.Public) != string(r.Signer.Public) {
		t.Errorf("another key the second time: %v", err)
	}
	file := filepath.Join(dir, "rsa-K.pem")
	if st, _ := os.Stat(file); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	os.Chmod(file, 0o640)
	if _, err := load("K"); err == nil {
		t.Error("a key that others can read was taken")
	}
	os.Chmod(file, 0o600)
	os.WriteFile(file, []byte("no"), 0o600)
	if _, err := load("K"); err == nil {
		t.Error("garbage was taken for a key")
	}
}

func TestAuthorizationList(t *testing.T) {
	from := func(p string) ipsec.AddrMatch { return ipsec.MatchPrefix(netip.MustParsePrefix(p)) }
	s := &Setup{Auth: &config.ACL{Entries: []ipsec.ACE{
		{Action: ipsec.Deny, Family: ipsec.IPv4, Src: from("10.0.0.5/32")},
		{Action: ipsec.Permit, Family: ipsec.IPv4, Src: from("10.0.0.0/24")},
	}}}
	for a, want := range map[string]bool{"10.0.0.1": true, "10.0.0.5": false, "10.0.1.1": false, "2001:db8::1": false} {
		if s.authorized(netip.MustParseAddr(a)) != want {
			t.Errorf("%s: want %v", a, want)
		}
	}
	if !(&Setup{}).authorized(netip.MustParseAddr("2001:db8::1")) {
		t.Error("without a list everybody who passes phase 1 may join")
	}
}

// Key servers tell each other the release that they were built from.
func TestReleaseOfABuild(t *testing.T) {
	for version, want := range map[string][3]uint8{"v1.2.3": {1, 2, 3}, "v2.0.1-0.20261125101010-abcdef012345+dirty": {2, 0, 1}, "v1.4.0+dirty": {1, 4, 0},
		"(devel)": {1, 0, 0}, "": {1, 0, 0}, "v0.0.0-20261125101010-abcdef012345": {1, 0, 0}, "v1.2": {1, 0, 0}, "v1.2.300": {1, 0, 0}} {
		if got := release(version); got != want {
			t.Errorf("%q: %v, want %v", version, got, want)
		}
	}
}
