package config

// Where a member is attached, before and after; and changes that are no group's.

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"getvpn/ipsec"
)

// attachment is a member's place on an interface with everything that counts there.
type attachment struct {
	iface, cmap string
	seq         int
	local       []ipsec.ACE
	closed      bool
	fail        []ipsec.ACE
	source      string
}

func attachments(c *Config, group string) []attachment {
	var out []attachment
	for i := range c.Interfaces {
		m := c.CryptoMapByName(c.Interfaces[i].CryptoMap)
		if m == nil {
			continue
		}
		for _, e := range m.Entries {
			if e.Group != group {
				continue
			}
			a := attachment{iface: c.Interfaces[i].Name, cmap: m.Name, seq: e.Seq, source: m.LocalAddress}
			if l := c.ACLByName(e.ACL); l != nil {
				a.local = l.Entries
			}
			if m.FailClose != nil {
				a.closed = m.FailClose.Activate
				if l := c.ACLByName(m.FailClose.ACL); l != nil {
					a.fail = l.Entries
				}
			}
			out = append(out, a)
		}
	}
	return out
}

func memberMap(p *pair) []hit {
	if !p.member() {
		return nil
	}
	strip := func(l []attachment) []attachment {
		for i := range l {
			l[i].source = ""
		}
		return l
	}
	return one(!reflect.DeepEqual(strip(attachments(p.old, p.was.Name)), strip(attachments(p.next, p.is.Name))), "")
}

func memberSource(p *pair) []hit {
	if !p.member() {
		return nil
	}
	a, b := p.old.RegistersFrom(p.was), p.next.RegistersFrom(p.is)
	return one(a != b, "%s to %s", orNone(a), orNone(b))
}

// RegistersFrom is the interface that a member registers from: the group's client
// registration interface, else the crypto map's local-address, else the interface with
// the map; of several interfaces the first. "": none has it.
func (c *Config) RegistersFrom(g *Group) string {
	if g.ClientIf != "" {
		return g.ClientIf
	}
	all := attachments(c, g.Name)
	if len(all) == 0 {
		return ""
	}
	return cmp.Or(all[0].source, all[0].iface)
}

// everywhere reports whether the pair stands for the configuration as a whole.
func (p *pair) everywhere() bool { return p.was == nil && p.is == nil }

func (p *pair) keysChanged() bool {
	text := func(c *Config) (out []string) {
		for i := range c.Keys {
			k := &c.Keys[i]
			out = append(out, k.Prefix.String()+k.Hostname+" "+string(k.Key))
		}
		slices.Sort(out)
		return out
	}
	return p.everywhere() && !slices.Equal(text(p.old), text(p.next))
}

func hasServers(c *Config) bool {
	return slices.ContainsFunc(c.Groups, func(g Group) bool { return g.Local != nil })
}

func hasMembers(c *Config) bool {
	return slices.ContainsFunc(c.Groups, func(g Group) bool { return g.Local == nil })
}

func pskMember(p *pair) []hit { return one(p.keysChanged() && hasMembers(p.next), "") }
func pskServer(p *pair) []hit { return one(p.keysChanged() && hasServers(p.next), "") }

func profileAdded(p *pair) []hit {
	if !p.everywhere() {
		return nil
	}
	var names []string
	for i := range p.next.Profiles {
		if n := p.next.Profiles[i].Name; p.old.ProfileByName(n) == nil {
			names = append(names, n)
		}
	}
	return one(len(names) > 0, "%s", strings.Join(names, ", "))
}

func isakmpPolicy(p *pair) []hit {
	return one(p.everywhere() && fmt.Sprint(p.old.ISAKMPPolicies) != fmt.Sprint(p.next.ISAKMPPolicies), "")
}
