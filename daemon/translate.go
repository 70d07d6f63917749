package daemon

// From configuration to what the engines are made with.

import (
	"fmt"
	"net/netip"
	"slices"

	"getvpn/config"
	"getvpn/gdoi/gm"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/ipsec"
	"getvpn/ipsec/dataplane"
)

// ikeConfig translates policies and keys. Notes are what can't be used and why.
func ikeConfig(c *config.Config) (*ike.Config, []string) {
	out := &ike.Config{Aggressive: c.Aggressive, Keepalive: ike.Keepalive{Retry: c.Keepalive.Retry}}
	if c.Keepalive.Periodic {
		out.Keepalive.Interval = c.Keepalive.Interval
	}
	if c.ISAKMPIdentity == "hostname" {
		out.Identity = ike.Identity{Type: isakmp.IDFQDN, Data: c.Hostname}
	}
	var notes []string
	for _, p := range c.ISAKMPPolicies {
		q, err := ikePolicy(p)
		if err != nil {
			notes = append(notes, fmt.Sprintf("crypto isakmp policy %d isn't used: %v", p.Priority, err))
			continue
		}
		out.Policies = append(out.Policies, q)
	}
	if len(c.ISAKMPPolicies) == 0 {
		out.Policies = []ike.Policy{{Priority: 65535, Encr: ike.EncrAES, KeyBits: 256, Hash: ike.HashSHA256, Auth: ike.AuthPSK, Group: 14}}
	}
	for _, k := range c.Keys {
		out.Keys = append(out.Keys, ike.Key{Prefix: k.Prefix, Hostname: k.Hostname, PSK: k.Key})
	}
	return out, notes
}

func ikePolicy(p config.ISAKMPPolicy) (ike.Policy, error) {
	q := ike.Policy{Priority: p.Priority, Auth: ike.AuthPSK, Group: p.DHGroup, Lifetime: p.Lifetime}
	switch p.Encr {
	case config.EncrAES:
		q.Encr, q.KeyBits = ike.EncrAES, p.KeyBits
	case config.Encr3DES:
		q.Encr = ike.Encr3DES
	default:
		return q, fmt.Errorf("encryption %s isn't supported", p.Encr)
	}
	switch p.Hash {
	case "sha":
		q.Hash = ike.HashSHA1
	case "sha256":
		q.Hash = ike.HashSHA256
	case "sha384":
		q.Hash = ike.HashSHA384
	case "sha512":
		q.Hash = ike.HashSHA512
	default:
		return q, fmt.Errorf("hash %s isn't supported", p.Hash)
	}
	if p.Auth != "pre-share" {
		return q, fmt.Errorf("authentication %s isn't supported yet", p.Auth)
	}
	if !slices.Contains([]int{2, 5, 14, 15, 16, 19, 20, 21, 24}, p.DHGroup) {
		return q, fmt.Errorf("group %d isn't supported", p.DHGroup)
	}
	return q, nil
}

// memberSetup is a group that this device is a member of.
type memberSetup struct {
	Group  config.Group
	Attach []gm.Attachment
	Accept gm.Accept
	Source string // interface that it registers from
}

// sameMember reports whether a change from s to o leaves it the same member.
func (s *memberSetup) sameMember(o *memberSetup) bool {
	a, b := &s.Group, &o.Group
	return a.Name == b.Name && a.IPv6 == b.IPv6 && a.HasNumber == b.HasNumber && a.Number == b.Number && a.Address == b.Address
}

// memberSetups finds the groups with a server list and where crypto maps put them. A
// group that no interface has is no member's: as with the vendor, nothing registers
// without a crypto map on an interface.
func memberSetups(c *config.Config) ([]memberSetup, error) {
	for _, i := range c.Interfaces {
		if i.CryptoMap != "" && c.CryptoMapByName(i.CryptoMap) == nil {
			return nil, fmt.Errorf("interface %s: crypto map %s doesn't exist", i.Name, i.CryptoMap)
		}
	}
	var out []memberSetup
	for _, g := range c.Groups {
		if g.Local != nil {
			continue
		}
		s := memberSetup{Group: g, Accept: gm.AcceptOf(g.Client, c.TransformSets)}
		for _, i := range c.Interfaces {
			m := c.CryptoMapByName(i.CryptoMap)
			if m == nil {
				continue
			}
			for _, e := range m.Entries {
				if e.Group != g.Name {
					continue
				}
				a := gm.Attachment{Interface: i.Name, MapName: m.Name, MapSeq: e.Seq, LocalName: e.ACL}
				var err error
				if a.Local, err = entries(c, e.ACL); err != nil {
					return nil, fmt.Errorf("crypto map %s %d: %w", m.Name, e.Seq, err)
				}
				if f := m.FailClose; f != nil {
					a.FailClose.Active = f.Activate
					if a.FailClose.ACEs, err = entries(c, f.ACL); err != nil {
						return nil, fmt.Errorf("crypto map %s gdoi fail-close: %w", m.Name, err)
					}
				}
				s.Attach = append(s.Attach, a)
			}
		}
		if len(s.Attach) > 0 {
			s.Source = c.RegistersFrom(&s.Group)
			out = append(out, s)
		}
	}
	return out, nil
}

func entries(c *config.Config, name string) ([]ipsec.ACE, error) {
	if name == "" {
		return nil, nil
	}
	a := c.ACLByName(name)
	if a == nil {
		return nil, fmt.Errorf("access list %s doesn't exist", name)
	}
	return a.Entries, nil
}

// interfaceSettings are what the dataplane is told of each interface with a crypto map.
func interfaceSettings(c *config.Config, addrs addresses) map[string]dataplane.InterfaceSettings {
	out := map[string]dataplane.InterfaceSettings{}
	for _, i := range c.Interfaces {
		if i.CryptoMap != "" {
			out[i.Name] = dataplane.InterfaceSettings{MapName: i.CryptoMap, LocalAddr: addrs.of(i.Name, true),
				AdjustMSS: i.AdjustMSS, ClearDF: c.DFBit == config.DFClear, TagMask: c.TagMask}
		}
	}
	return out
}

// inlinePorts are the interfaces without a crypto map that have "cts manual": they take
// tags from frames.
func inlinePorts(c *config.Config) map[string]dataplane.Inline {
	out := map[string]dataplane.Inline{}
	for _, i := range c.Interfaces {
		if cts, ok := i.CTS(); ok && i.CryptoMap == "" {
			out[i.Name] = dataplane.Inline{TagMask: c.TagMask, Static: cts.Static, Trusted: cts.Trusted}
		}
	}
	return out
}

// localSource gives the address that a member registers from.
func localSource(s memberSetup, addrs addresses) func(netip.Addr) netip.Addr {
	return func(server netip.Addr) netip.Addr { return addrs.of(s.Source, server.Is4()) }
}
