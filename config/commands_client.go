package config

// What a member says of itself ("client …") and the multicast groups that an interface
// joins by hand.

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"getvpn/cli/grammar"
)

// maxTransformSets is how many sets a member may accept (guide).
const maxTransformSets = 6

var rekeyCiphers = []RekeyCipher{{Encr3DES, 0}, {EncrDES, 0}, {EncrAES, 128}, {EncrAES, 192}, {EncrAES, 256}}

// repeat is an element that may stand n times.
func repeat(element string, n int) string {
	out := element
	for range n - 1 {
		out = element + " [" + out + "]"
	}
	return out
}

func clientCommands() []command {
	cl := func(pattern, help string, do func(c *Client, m *grammar.Match) error) command {
		return command{Mode: modeGroup, Pattern: "client " + pattern, Help: help, No: true, Do: func(b *builder, m *grammar.Match) error {
			return do(&b.thisGroup().Client, m)
		}}
	}
	return []command{
		cl("rekey encryption "+repeat("{c:{3des-cbc|des-cbc}|c:aes bits:{128|192|256}}", len(rekeyCiphers)), "Ciphers that are accepted for rekeys", func(c *Client, m *grammar.Match) error {
			c.RekeyCiphers = nil
			if m.No {
				return nil
			}
			bits := m.All("bits")
			for _, w := range m.All("c") {
				switch w {
				case "3des-cbc":
					c.RekeyCiphers = append(c.RekeyCiphers, RekeyCipher{Encr3DES, 0})
				case "des-cbc":
					c.RekeyCiphers = append(c.RekeyCiphers, RekeyCipher{EncrDES, 0})
				default:
					i := slices.IndexFunc(rekeyCiphers, func(r RekeyCipher) bool { return r.Encr == EncrAES && strconv.Itoa(r.KeyBits) == bits[0] })
					c.RekeyCiphers, bits = append(c.RekeyCiphers, rekeyCiphers[i]), bits[1:]
				}
			}
			c.RekeyCiphers = dedup(c.RekeyCiphers)
			return nil
		}),
		cl("rekey hash "+repeat("h:{sha|sha256|sha384|sha512}", 4), "Hashes that are accepted for rekeys", func(c *Client, m *grammar.Match) error {
			c.RekeyHashes = nil
			if !m.No {
				c.RekeyHashes = dedup(m.All("h"))
			}
			return nil
		}),
		cl("transform-sets "+repeat("t:WORD", maxTransformSets), "Transform sets that are accepted for data", func(c *Client, m *grammar.Match) error {
			c.TransformSets = nil
			if !m.No {
				c.TransformSets = dedup(m.All("t"))
			}
			return nil
		}),
		cl("fail-close revert", "Close again when all SAs have ended", func(c *Client, m *grammar.Match) error {
			c.Revert = !m.No
			return nil
		}),
		cl("status active-sa track n:<1-1000>", "Tell a tracked object whether there is a valid SA", func(c *Client, m *grammar.Match) error {
			c.Track = num(m, "n")
			if m.No {
				c.Track = 0
			}
			return nil
		}),
		cl("recovery-check interval s:<100-1000>", "Register again when packets can't be opened", func(c *Client, m *grammar.Match) error {
			c.Recovery = seconds(num(m, "s"))
			if m.No {
				c.Recovery = 0
			}
			return nil
		}),
		cl("bypass-policy", "Own GDOI traffic passes whatever is downloaded", func(c *Client, m *grammar.Match) error {
			c.Bypass = !m.No
			return nil
		}),
	}
}

// dedup takes out what was named before, in place.
func dedup[T comparable](l []T) []T {
	var out []T
	for _, x := range l {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

// clientLines prints them.
func clientLines(g *Group) []string {
	c := &g.Client
	var l, ciphers []string
	for _, r := range c.RekeyCiphers {
		ciphers = append(ciphers, r.String())
	}
	l = on(l, g.ClientIf != "", " client registration interface %s", g.ClientIf)
	l = on(l, len(ciphers) > 0, " client rekey encryption %s", strings.Join(ciphers, " "))
	l = on(l, len(c.RekeyHashes) > 0, " client rekey hash %s", strings.Join(c.RekeyHashes, " "))
	l = on(l, len(c.TransformSets) > 0, " client transform-sets %s", strings.Join(c.TransformSets, " "))
	l = on(l, c.Revert, " client fail-close revert")
	l = on(l, c.Track != 0, " client status active-sa track %d", c.Track)
	l = on(l, c.Recovery != 0, " client recovery-check interval %d", secs(c.Recovery))
	return on(l, c.Bypass, " client bypass-policy")
}

// String is the cipher as it is configured.
func (r RekeyCipher) String() string {
	if r.Encr == EncrAES {
		return "aes " + strconv.Itoa(r.KeyBits)
	}
	return string(r.Encr) + "-cbc"
}

func joinGroup(b *builder, m *grammar.Match) error {
	j := Join{addr(m, "g"), addr(m, "s")}
	l := &b.thisIf().Joins
	switch {
	case m.No:
		*l = slices.DeleteFunc(*l, func(x Join) bool {
			return x.Group.Is6() == m.Has("six") && (!m.Has("g") || x.Group == j.Group) && (!m.Has("s") || x.Source == j.Source)
		})
	case !j.Group.IsMulticast():
		return bad(m, "g", "%s isn't a multicast address.", j.Group)
	case !slices.Contains(*l, j):
		*l = append(*l, j)
	}
	return nil
}

func joinText(j Join) string {
	s, source := "ip igmp join-group ", " source "
	if j.Group.Is6() {
		s, source = "ipv6 mld join-group ", " "
	}
	s += j.Group.String()
	if j.Source != (netip.Addr{}) {
		s += source + j.Source.String()
	}
	return s
}
