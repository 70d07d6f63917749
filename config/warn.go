package config

// Advice about what is accepted but will disappoint. Nothing is changed because of it.

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"getvpn/ipsec"
)

type adviser struct {
	c    *Config
	file string
	out  []Warning
}

func (a *adviser) say(object, format string, args ...any) {
	a.out = append(a.out, Warning{a.file, a.c.Source[object], fmt.Sprintf(format, args...)})
}

// Warnings says of each doubtful setting what will happen and what to set instead,
// ordered by line.
func Warnings(file string, c *Config) []Warning {
	a := &adviser{c: c, file: file}
	for i := range c.ISAKMPPolicies {
		a.policy(&c.ISAKMPPolicies[i])
	}
	if c.Aggressive {
		a.say("crypto isakmp aggressive-mode", "aggressive mode gives whoever asks a hash of the pre-shared key to guess at: use main mode; with a wildcard key it is refused all the same")
	}
	for i := range c.TransformSets {
		a.transform(&c.TransformSets[i])
	}
	for i := range c.Groups {
		if c.Groups[i].Local != nil {
			a.group(&c.Groups[i])
		}
	}
	for i := range c.CryptoMaps {
		for _, e := range c.CryptoMaps[i].Entries {
			if l := c.ACLByName(e.ACL); l != nil && slices.ContainsFunc(l.Entries, func(x ipsec.ACE) bool { return x.Action == ipsec.Permit }) {
				a.say(fmt.Sprintf("crypto map %s %d", c.CryptoMaps[i].Name, e.Seq),
					"list %s permits: a member's own list may only deny, and what it permits is dropped", e.ACL)
			}
		}
	}
	slices.SortStableFunc(a.out, func(x, y Warning) int { return cmp.Compare(x.Line, y.Line) })
	return a.out
}

func (a *adviser) policy(p *ISAKMPPolicy) {
	at := fmt.Sprintf("crypto isakmp policy %d", p.Priority)
	var weak []string
	if p.Encr == EncrDES || p.Encr == Encr3DES {
		weak = append(weak, "encr "+string(p.Encr))
	}
	if p.Hash == "md5" || p.Hash == "sha" {
		weak = append(weak, "hash "+p.Hash)
	}
	if slices.Contains([]int{1, 2, 5}, p.DHGroup) {
		weak = append(weak, fmt.Sprintf("group %d", p.DHGroup))
	}
	if len(weak) > 0 {
		a.say(at, "isakmp policy %d is weak (%v): use encr aes 256, hash sha256, group 19", p.Priority, weak)
	}
	member := slices.ContainsFunc(a.c.Groups, func(g Group) bool { return g.Local == nil })
	if member && p.Lifetime >= 86400*time.Second {
		a.say(at, "isakmp policy %d: a lifetime of %d s keeps an idle session for a day at every member; after registration it isn't needed: 1200 s or less is recommended, the same as at the key server",
			p.Priority, secs(p.Lifetime))
	}
}

func (a *adviser) transform(t *TransformSet) {
	at := "crypto ipsec transform-set " + t.Name
	switch t.Transform.Cipher {
	case ipsec.Cipher3DES:
		a.say(at, "transform set %s: esp-3des is weak and slow: use esp-gcm 128", t.Name)
	case ipsec.CipherNull, ipsec.CipherAESGMAC:
		a.say(at, "transform set %s doesn't encrypt: everyone on the way can read the packets", t.Name)
	}
	if t.Transform.Cipher == ipsec.CipherAESGCM && t.Transform.ICVLen == 8 {
		a.say(at, "transform set %s: a check value of 8 octets is easier to forge: use 16", t.Name)
	}
}

// longTEK is below which the guide advises against a TEK lifetime.
const longTEK = 900 * time.Second

func (a *adviser) group(g *Group) {
	l := g.Local
	at := "crypto gdoi group " + g.Name
	short := map[string]bool{}
	a.rekeys(g, at)
	a.coop(g)
	for i := range l.SAs {
		s := &l.SAs[i]
		sa := fmt.Sprintf("%s sa ipsec %d", at, s.Seq)
		if p := a.c.ProfileByName(s.Profile); p != nil && !short[p.Name] {
			short[p.Name] = true
			if l.RekeyLifetime < 3*p.Lifetime {
				a.say(at, "group %s: the KEK lifetime of %d s is less than three times the TEK lifetime of %d s: a member that misses one rekey must register again; set rekey lifetime seconds %d or more",
					g.Name, secs(l.RekeyLifetime), secs(p.Lifetime), 3*secs(p.Lifetime))
			}
			if again, offset := time.Duration(l.RekeyNumber)*l.RekeyRetransmit, rekeyOffset(p.Lifetime); again > offset {
				a.say(at, "group %s: %d retransmissions every %d s take %d s, longer than the %d s that a rekey is sent before the end of a TEK of %d s: rekeys come that much earlier; set fewer, or a longer lifetime",
					g.Name, l.RekeyNumber, secs(l.RekeyRetransmit), secs(again), secs(offset), secs(p.Lifetime))
			}
			if p.Lifetime < longTEK {
				a.say("crypto ipsec profile "+p.Name, "profile %s: a TEK lifetime of %d s makes members rekey all the time; 900 s or more is recommended", p.Name, secs(p.Lifetime))
			}
		}
		switch s.Replay.Mode {
		case ipsec.ReplayCounter:
			// Our members keep a window for each sender (Sender ID or source address);
			// only a group that other makers' members may join needs the warning.
			if g.Interop {
				a.say(sa, "group %s: sa ipsec %d: members of other makers may keep one counter window for all senders and then drop packets when more than two members send: use no replay unless there are two", g.Name, s.Seq)
			}
		case ipsec.ReplayTime:
			a.say(sa, "group %s: sa ipsec %d: a time window is for three members or more, and takes copies for its length; for two members use replay counter window-size 64", g.Name, s.Seq)
		}
		a.list(g, s)
	}
}

// rekeyOffset is how long before a TEK's end it is rekeyed, retransmissions apart
// (guide): 90 s below 900 s of life, else a tenth.
func rekeyOffset(life time.Duration) time.Duration {
	if life < 900*time.Second {
		return 90 * time.Second
	}
	return life / 10
}

// rekeys is advice about the rekey message as a whole.
func (a *adviser) rekeys(g *Group, at string) {
	l := g.Local
	name, ecdsa := l.RekeyKey()
	if name == "" {
		return
	}
	if ecdsa && l.RekeySigHash != "sha" {
		a.say(at, "group %s: rekey sig-hash algorithm %s has no effect: an ECDSA key's curve says which hash is used (P-256 sha256, P-384 sha384, P-521 sha512)", g.Name, l.RekeySigHash)
	}
	if !l.RekeyUnicast && l.RekeyAddress == "" {
		a.say(at, "group %s: multicast rekeys have no address: add rekey address ipv4 LIST, or rekey transport unicast", g.Name)
	}
	if l.RekeyUnicast && !l.Address.IsValid() {
		a.say(at, "group %s: unicast rekeys come from the address that a member registered with: add address ipv4 A, so that it is always the same", g.Name)
	}
	if n := RekeyOctets(a.c, g); n > udpMTU {
		a.say(at, "group %s: a rekey has about %d octets, more than the %d that fit into a packet of 1500: it is sent in fragments, which firewalls may drop; fewer entries or sums of prefixes make it shorter", g.Name, n, udpMTU)
	}
}

// list looks for the entry that shuts the key server out of its own group.
func (a *adviser) list(g *Group, s *SAIPsec) {
	l := a.c.ACLByName(s.ACL)
	if l == nil {
		return
	}
	if n := len(l.Entries); n > 100 {
		a.say("access-list "+l.Name, "list %s has %d entries: members get the first 100", l.Name, n)
	}
	for i := range l.Entries {
		e := &l.Entries[i]
		if e.Action == ipsec.Deny && covers848(e) {
			return
		}
		if e.Action == ipsec.Permit && e.Proto == 0 && e.Src.IsAny() && e.Dst.IsAny() {
			a.say(fmt.Sprintf("access-list %s %d", l.Name, e.Seq),
				"list %s protects everything, the way to the key server too: put deny udp any eq 848 any eq 848 (and what routing and management need) in front", l.Name)
			return
		}
	}
}

// covers848 reports whether a deny leaves GDOI between any key server and member, or
// with one address, in clear.
func covers848(e *ipsec.ACE) bool {
	if e.Proto != 0 && e.Proto != 17 {
		return false
	}
	return e.SrcPort.Matches(848) && e.DstPort.Matches(848)
}
