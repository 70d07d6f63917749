package ipsec

// Access lists, the compiled policy and its three states.

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func net4(s string) AddrMatch      { return MatchPrefix(prefix(s)) }

func TestAddrMatch(t *testing.T) {
	odd := MatchWildcard(addr("10.0.7.0"), addr("0.255.0.255")) // 10.*.7.*
	for _, c := range []struct {
		m    AddrMatch
		a    string
		want bool
	}{
		{AddrMatch{}, "10.1.1.1", true}, {AddrMatch{}, "2001:db8::1", true},
		{net4("10.1.0.0/16"), "10.1.255.255", true}, {net4("10.1.0.0/16"), "10.2.0.0", false},
		{net4("0.0.0.0/0"), "10.2.0.0", true}, {net4("0.0.0.0/0"), "::1", false},
		{net4("10.1.1.1/32"), "10.1.1.1", true}, {net4("10.1.1.1/32"), "10.1.1.0", false},
		{net4("10.1.1.7/28"), "10.1.1.15", true}, // host bits don't count
		{odd, "10.99.7.200", true}, {odd, "10.99.8.200", false},
		{net4("2001:db8::/61"), "2001:db8:0:7::1", true}, {net4("2001:db8::/61"), "2001:db8:0:8::1", false},
		{net4("2001:db8::/61"), "10.1.1.1", false}, {net4("2001:db8::1/128"), "2001:db8::1", true},
	} {
		if got := c.m.Matches(addr(c.a)); got != c.want {
			t.Errorf("%v %s: %v", c.m, c.a, got)
		}
	}
	if p, ok := net4("10.1.0.0/16").Prefix(); !ok || p != prefix("10.1.0.0/16") {
		t.Errorf("%v %v", p, ok)
	}
	if _, ok := odd.Prefix(); ok || !(AddrMatch{}).IsAny() {
		t.Error("neither is a prefix")
	}
	if _, ok := (AddrMatch{}).Prefix(); ok {
		t.Error("any is no prefix")
	}
	rapid.Check(t, func(rt *rapid.T) {
		a := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(rt, "a")))
		b := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(rt, "b")))
		if rapid.Bool().Draw(rt, "near") {
			x := a.As4()
			x[rapid.IntRange(0, 3).Draw(rt, "octet")] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
			b = netip.AddrFrom4(x)
		}
		p := netip.PrefixFrom(a, rapid.IntRange(0, 32).Draw(rt, "bits"))
		m := MatchPrefix(p)
		if m.Matches(b) != p.Contains(b) {
			rt.Fatalf("%v %v", p, b)
		}
		if back, ok := m.Prefix(); !ok || back != p.Masked() {
			rt.Fatalf("%v came back as %v", p, back)
		}
	})
}

func TestPortMatch(t *testing.T) {
	for _, c := range []struct {
		m       PortMatch
		yes, no []uint16
	}{
		{PortMatch{}, []uint16{0, 1, 65535}, nil},
		{PortMatch{Op: PortEq, Lo: 80}, []uint16{80}, []uint16{79, 81}},
		{PortMatch{Op: PortNeq, Lo: 80}, []uint16{79, 81}, []uint16{80}},
		{PortMatch{Op: PortLt, Lo: 80}, []uint16{0, 79}, []uint16{80}},
		{PortMatch{Op: PortGt, Lo: 80}, []uint16{81, 65535}, []uint16{80}},
		{PortMatch{Op: PortRange, Lo: 80, Hi: 90}, []uint16{80, 85, 90}, []uint16{79, 91}},
	} {
		for _, p := range c.yes {
			if !c.m.Matches(p) {
				t.Errorf("%+v refuses %d", c.m, p)
			}
		}
		for _, p := range c.no {
			if c.m.Matches(p) {
				t.Errorf("%+v takes %d", c.m, p)
			}
		}
	}
}

func udp(src, dst string, sp, dp uint16) Flow {
	return Flow{Src: addr(src), Dst: addr(dst), Proto: 17, SrcPort: sp, DstPort: dp}
}

func TestACEMatches(t *testing.T) {
	e := ACE{Action: Permit, Family: IPv4, Proto: 17, Src: net4("10.1.0.0/16"), Dst: net4("10.2.0.0/16"), DstPort: PortMatch{Op: PortEq, Lo: 53}}
	f := udp("10.1.1.1", "10.2.2.2", 1000, 53)
	if !e.Matches(&f) {
		t.Error("must match")
	}
	for name, change := range map[string]func(*Flow){
		"port": func(f *Flow) { f.DstPort = 54 }, "protocol": func(f *Flow) { f.Proto = 6 },
		"source": func(f *Flow) { f.Src = addr("10.2.1.1") }, "destination": func(f *Flow) { f.Dst = addr("10.1.2.2") },
		"family": func(f *Flow) { f.Src, f.Dst = addr("::1"), addr("::2") },
	} {
		g := f
		change(&g)
		if e.Matches(&g) {
			t.Errorf("%s must not match", name)
		}
	}
	// A later fragment: a permit that names ports covers it, a deny doesn't.
	g := f
	g.Frag, g.SrcPort, g.DstPort = true, 0, 0
	if !e.Matches(&g) {
		t.Error("permit must cover later fragments")
	}
	e.Action = Deny
	if e.Matches(&g) {
		t.Error("deny with ports must not cover later fragments")
	}
	e.DstPort = PortMatch{}
	if !e.Matches(&g) {
		t.Error("deny without ports covers fragments")
	}
	m := ACE{Family: IPv4, Src: net4("10.1.0.0/16"), SrcPort: PortMatch{Op: PortEq, Lo: 1}}.Mirror()
	if m.Dst != net4("10.1.0.0/16") || m.DstPort.Lo != 1 || !m.Src.IsAny() || m.SrcPort.Op != PortAny || m.Mirror().Mirror() != m {
		t.Errorf("mirror %+v", m)
	}
	icmp := ACE{Family: IPv4, Proto: 1, HasICMPType: true, ICMPType: 8}
	if fl := (Flow{Src: addr("10.1.1.1"), Dst: addr("10.1.1.2"), Proto: 1, ICMPType: 8}); !icmp.Matches(&fl) {
		t.Error("ICMP type")
	} else if fl.ICMPType = 0; icmp.Matches(&fl) {
		t.Error("another ICMP type")
	}
}

// TestCompileStates: unregistered with and without fail-close, registered, expired.
func TestCompileStates(t *testing.T) {
	deny := ACE{Action: Deny, Family: IPv4, Proto: 6, DstPort: PortMatch{Op: PortEq, Lo: 22}}
	permit := ACE{Action: Permit, Family: IPv4, Src: net4("10.1.0.0/16"), Dst: net4("10.2.0.0/16")}
	ssh := Flow{Src: addr("10.1.1.1"), Dst: addr("10.2.2.2"), Proto: 6, DstPort: 22}
	data := udp("10.1.1.1", "10.2.2.2", 5, 6)
	back := udp("10.2.2.2", "10.1.1.1", 6, 5)
	other := udp("192.0.2.1", "192.0.2.2", 5, 6)
	sshBack := Flow{Src: addr("10.2.2.2"), Dst: addr("10.1.1.1"), Proto: 6, SrcPort: 22, DstPort: 999}
	judge := func(name string, r *Ruleset, f Flow, want Verdict, reason DropReason, rule int) {
		t.Helper()
		v, i := r.Match(&f)
		why := r.DefaultReason
		if i >= 0 {
			why = r.Rules[i].Reason
		}
		if v != want || i != rule || v == Drop && why != reason {
			t.Errorf("%s: %v by rule %d (%v), want %v by %d", name, v, i, why, want, rule)
		}
	}
	g := GroupPolicy{Group: "G", FailClose: FailClose{ACEs: []ACE{deny}}}
	out, in := Compile([]GroupPolicy{g})
	judge("unregistered", &out, data, Pass, 0, -1)
	judge("unregistered in", &in, back, Pass, 0, -1)

	g.FailClose.Active = true
	out, in = Compile([]GroupPolicy{g})
	judge("fail-close ssh", &out, ssh, Pass, 0, 0)
	judge("fail-close data", &out, data, Drop, DropFailClose, -1)
	judge("fail-close other", &out, other, Drop, DropFailClose, -1)
	judge("fail-close ssh in", &in, sshBack, Pass, 0, 0)
	judge("fail-close data in", &in, back, Drop, DropFailClose, -1)
	g.FailClose.ACEs = []ACE{permit, deny}
	out, _ = Compile([]GroupPolicy{g})
	judge("fail-close permit", &out, data, Drop, DropFailClose, 0)

	// Registered: local deny before the downloaded list; fail-close is over.
	g.State, g.Local, g.Entries = Registered, []ACE{deny}, []Entry{{permit, 0x1234}}
	out, in = Compile([]GroupPolicy{g})
	judge("local deny", &out, ssh, Pass, 0, -1)
	judge("permit", &out, data, Protect, 0, 1)
	judge("unmatched", &out, other, Pass, 0, -1)
	judge("clear inbound", &in, back, Drop, DropClearInbound, 1)
	judge("forward direction in", &in, data, Pass, 0, -1)
	judge("local deny in", &in, sshBack, Pass, 0, -1)
	if out.Rules[1].Group != 0 || out.Rules[1].Entry != 0 || out.Rules[0].Entry != -1 {
		t.Errorf("%+v", out.Rules)
	}
	// A permit without an SA still protects: sealing drops it as no-sa.
	g.Entries[0].SPI = 0
	out, _ = Compile([]GroupPolicy{g})
	judge("no SA", &out, data, Protect, 0, 1)
	g.Passive = true
	_, in = Compile([]GroupPolicy{g})
	judge("passive", &in, back, Pass, 0, 1)
	g.Local = []ACE{{Action: Permit, Family: IPv4, Proto: 17}}
	out, in = Compile([]GroupPolicy{g})
	judge("local permit", &out, data, Drop, DropLocalPermit, 0)
	judge("local permit in", &in, back, Drop, DropLocalPermit, 0)
}

// TestCompileGoto: a deny leaves the group's list and goes on with the next map entry,
// in the order of the map and not of the call.
func TestCompileGoto(t *testing.T) {
	any4 := ACE{Action: Permit, Family: IPv4}
	deny := func(p string) ACE { return ACE{Action: Deny, Family: IPv4, Src: net4(p)} }
	a := GroupPolicy{Group: "A", MapSeq: 10, State: Registered, Entries: []Entry{{deny("10.1.0.0/16"), 0}, {any4, 1}}}
	b := GroupPolicy{Group: "B", MapSeq: 20, State: Registered, Local: []ACE{deny("10.1.1.0/24")}, Entries: []Entry{{any4, 2}}}
	c := GroupPolicy{Group: "C", MapSeq: 15} // unregistered, open: as if it weren't there
	groups := []GroupPolicy{b, c, a}
	out, in := Compile(groups)
	for _, x := range []struct {
		src   string
		v     Verdict
		group string
	}{{"192.0.2.1", Protect, "A"}, {"10.1.2.1", Protect, "B"}, {"10.1.1.1", Pass, ""}} {
		f := udp(x.src, "10.9.9.9", 1, 2)
		v, i := out.Match(&f)
		if v != x.v || i >= 0 && groups[out.Rules[i].Group].Group != x.group {
			t.Errorf("%s: %v by rule %d", x.src, v, i)
		}
		f = udp("10.9.9.9", x.src, 2, 1)
		v, _ = in.Match(&f)
		if want := map[Verdict]Verdict{Protect: Drop, Pass: Pass}[x.v]; v != want {
			t.Errorf("%s inbound: %v", x.src, v)
		}
	}
	for i, r := range out.Rules {
		if r.Verdict == Next && r.Goto <= i {
			t.Errorf("rule %d goes back to %d", i, r.Goto)
		}
	}
	// One fail-close group closes the interface.
	c.FailClose.Active = true
	out, _ = Compile([]GroupPolicy{b, c, a})
	f := udp("192.0.2.1", "10.9.9.9", 1, 2)
	if v, _ := out.Match(&f); v != Drop {
		t.Errorf("fail-close among others: %v", v)
	}
}

// TestCompileModel: the flat list judges as reading the groups one after the other.
func TestCompileModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ace := rapid.Custom(func(rt *rapid.T) ACE {
			e := ACE{Action: Action(rapid.IntRange(0, 1).Draw(rt, "action")), Family: IPv4}
			pick := rapid.SampledFrom([]AddrMatch{{}, net4("10.1.0.0/16"), net4("10.1.1.0/24"), net4("10.2.0.0/16")})
			e.Src, e.Dst = pick.Draw(rt, "src"), pick.Draw(rt, "dst")
			e.Proto = rapid.SampledFrom([]uint8{0, 6, 17}).Draw(rt, "proto")
			if e.Proto != 0 && rapid.Bool().Draw(rt, "ports") {
				e.DstPort = PortMatch{Op: PortEq, Lo: 2}
			}
			return e
		})
		var groups []GroupPolicy
		for i := range rapid.IntRange(1, 3).Draw(rt, "groups") {
			g := GroupPolicy{MapSeq: 10 * i, State: Registered, Passive: rapid.Bool().Draw(rt, "passive"), ReceiveOnly: rapid.Bool().Draw(rt, "receive-only")}
			for range rapid.IntRange(0, 2).Draw(rt, "local") {
				e := ace.Draw(rt, "ace")
				g.Local = append(g.Local, e)
			}
			for range rapid.IntRange(0, 4).Draw(rt, "entries") {
				g.Entries = append(g.Entries, Entry{ACE: ace.Draw(rt, "ace")})
			}
			groups = append(groups, g)
		}
		out, in := Compile(groups)
		host := rapid.SampledFrom([]string{"10.1.1.1", "10.1.2.1", "10.2.1.1", "192.0.2.1"})
		f := Flow{Src: addr(host.Draw(rt, "from")), Dst: addr(host.Draw(rt, "to")), Proto: rapid.SampledFrom([]uint8{1, 6, 17}).Draw(rt, "p"),
			DstPort: uint16(rapid.IntRange(1, 3).Draw(rt, "port")), Frag: rapid.Bool().Draw(rt, "frag")}
		model := func(mirror bool) Verdict {
			for _, g := range groups {
				local := len(g.Local)
				list := slices.Clone(g.Local)
				for _, e := range g.Entries {
					list = append(list, e.ACE)
				}
				for i, e := range list {
					if mirror {
						e = e.Mirror()
					}
					if !e.Matches(&f) {
						continue
					}
					switch {
					case e.Action == Deny:
					case i < local:
						return Drop
					case g.ReceiveOnly:
						return Pass
					case !mirror:
						return Protect
					case g.Passive:
						return Pass
					default:
						return Drop
					}
					break
				}
			}
			return Pass
		}
		if v, _ := out.Match(&f); v != model(false) {
			rt.Fatalf("out: %v, model %v", v, model(false))
		}
		if v, _ := in.Match(&f); v != model(true) {
			rt.Fatalf("in: %v, model %v", v, model(true))
		}
	})
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range NumDropReasons {
		if seen[r.String()] || r.String() == "" {
			t.Errorf("drop reason %d: %q", r, r)
		}
		seen[r.String()] = true
	}
	for _, tr := range allTransforms() {
		if err := tr.Validate(); err != nil {
			t.Errorf("%v: %v", tr, err)
		}
	}
	for _, c := range []struct {
		tr   Transform
		want string
	}{
		{Transform{Cipher: CipherAESCBC, KeyBits: 256, Auth: AuthSHA256}, "esp-256-aes esp-sha256-hmac"},
		{Transform{Cipher: CipherAESCBC, KeyBits: 128, Auth: AuthSHA1}, "esp-aes esp-sha-hmac"},
		{Transform{Cipher: CipherAESGCM, KeyBits: 128}, "esp-gcm"}, {Transform{Cipher: CipherAESGMAC, KeyBits: 192}, "esp-192-gmac"},
		{Transform{Cipher: Cipher3DES, Auth: AuthSHA512}, "esp-3des esp-sha512-hmac"}, {Transform{Cipher: CipherNull, Auth: AuthSHA384}, "esp-null esp-sha384-hmac"},
	} {
		if c.tr.String() != c.want {
			t.Errorf("%q, want %q", c.tr, c.want)
		}
	}
	for _, bad := range []Transform{{}, {Cipher: CipherAESGCM, KeyBits: 100}, {Cipher: CipherAESGCM, KeyBits: 128, ICVLen: 9},
		{Cipher: CipherNull}, {Cipher: Cipher3DES, KeyBits: 168, Auth: AuthSHA1}, {Cipher: CipherAESGMAC, KeyBits: 128, Auth: AuthSHA1}} {
		if bad.Validate() == nil {
			t.Errorf("%+v accepted", bad)
		}
	}
}
