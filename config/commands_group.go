package config

// crypto gdoi group: what both sides and a member say.

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"getvpn/cli/grammar"
)

// maxServers is how many key servers a member may list (guide).
const maxServers = 8

func groupCommands() []command {
	out := []command{
		{Mode: modeGlobal, Pattern: "crypto {gdoi|gkm} group [v6:ipv6] name:WORD", Help: "A GDOI group", Enter: modeGroup, No: true, Do: enterGroup},
		{Mode: modeGroup, Pattern: "identity {number n:<0-4294967295>|address ipv4 a:A.B.C.D}", Help: "Identity of the group", No: true, Do: func(b *builder, m *grammar.Match) error {
			g := b.thisGroup()
			n, err := strconv.ParseUint(given(m, "n", "0"), 10, 32)
			if err != nil {
				return bad(m, "n", "A group number has 32 bits.")
			}
			g.HasNumber, g.Number, g.Address = m.Has("n") && !m.No, uint32(n), addr(m, "a")
			if m.No {
				g.Address = netip.Addr{}
			}
			return nil
		}},
		{Mode: modeGroup, Pattern: "server address {ipv4 a:A.B.C.D|ipv6 a:X:X:X:X::X}", Help: "A key server of the group", No: true, Do: func(b *builder, m *grammar.Match) error {
			g, a := b.thisGroup(), addr(m, "a")
			switch {
			case m.No:
				g.Servers = slices.DeleteFunc(g.Servers, func(x netip.Addr) bool { return x == a || !m.Has("a") })
			case slices.Contains(g.Servers, a):
			case len(g.Servers) == maxServers:
				return bad(m, "a", "A group has at most %d key servers.", maxServers)
			default:
				g.Servers = append(g.Servers, a)
			}
			return nil
		}},
		{Mode: modeGroup, Pattern: "server local", Help: "Be a key server of the group", Enter: modeLocal, No: true, Do: func(b *builder, m *grammar.Match) error {
			g := b.thisGroup()
			switch {
			case m.No:
				g.Local = nil
			case g.Local == nil:
				g.Local = newLocal()
			}
			return nil
		}},
		{Mode: modeGroup, Pattern: "passive", Help: "Send encrypted, accept clear as well", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.thisGroup().Passive = !m.No
			return nil
		}},
		{Mode: modeGroup, Pattern: "client registration interface i:WORD", Help: "Where registration leaves", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.thisGroup().ClientIf = given(m, "i", "")
			return nil
		}},
		{Mode: modeGroup, Pattern: "interop rfc6407", Help: "Nothing private on the wire", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.thisGroup().Interop = !m.No
			return nil
		}},
	}
	out = append(out, clientCommands()...)
	return append(out, command{Mode: modeGroup, Pattern: "client protocol [LINE]", Help: "Kept for a later version", No: true,
		Do: keepLine(func(b *builder) *[]string { return &b.thisGroup().Kept })})
}

func (b *builder) thisGroup() *Group { return &b.c.Groups[b.group] }

// keepLine keeps a line that nothing acts upon yet, and says so. With "no" it takes
// away what begins the same.
func keepLine(where func(*builder) *[]string) func(*builder, *grammar.Match) error {
	return func(b *builder, m *grammar.Match) error {
		l := where(b)
		text := strings.Join(strings.Fields(m.Line), " ")
		if m.No {
			if rest, _ := strings.CutPrefix(text, "no "); slices.ContainsFunc(*l, func(x string) bool { return strings.HasPrefix(x, rest) }) {
				*l = slices.DeleteFunc(*l, func(x string) bool { return strings.HasPrefix(x, rest) })
				return nil
			}
		}
		if !slices.Contains(*l, text) {
			*l = append(*l, text)
		}
		b.warn("kept, without effect in this version")
		return nil
	}
}

func enterGroup(b *builder, m *grammar.Match) error {
	name := m.Get("name")
	l := &b.c.Groups
	i := slices.IndexFunc(*l, func(g Group) bool { return g.Name == name })
	if m.No {
		*l = slices.DeleteFunc(*l, func(g Group) bool { return g.Name == name })
		return nil
	}
	if i < 0 {
		i = len(*l)
		*l = append(*l, Group{Name: name, IPv6: m.Has("v6")})
	}
	b.group = i
	b.mark("crypto gdoi group " + name)
	return nil
}
