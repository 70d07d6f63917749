package config

// How long a group's rekey message is, before there is one: counted from the entries
// as gdoi encodes them.

import (
	"getvpn/ipsec"
)

// Octets of the parts of a GROUPKEY-PUSH (RFC 6407 §4, §5).
const (
	pushFixed   = 28 + 8 + 4 + 16 + 16 // header, SEQ, SIG's header, SA's header, padding at most
	pushKEK     = 88 + 64              // SAK with IPv4 identities; its key in the KD
	pushSAT     = 4 + 1 + 1 + 5 + 5 + 1 + 4
	pushGAP     = 8
	pushKey     = 9 // key packet of a TEK: heading and SPI
	liveTEKs    = 2 // of an entry while one is followed by the next
	signatureEC = 64
	signature   = 256 // RSA of 2048 bits
	udpMTU      = 1500 - 28
)

// RekeyOctets estimates a group's longest rekey: all entries, each with an old and a
// new TEK. 0 when there are no rekeys.
func RekeyOctets(c *Config, g *Group) int {
	if g.Local == nil {
		return 0
	}
	name, ecdsa := g.Local.RekeyKey()
	if name == "" {
		return 0
	}
	n := pushFixed + pushKEK + signature
	if ecdsa {
		n += signatureEC - signature
	}
	private := false
	for _, v := range views(c, g) {
		if v.acl == nil || len(v.sets) == 0 {
			continue
		}
		t := v.sets[0]
		keys := 4 + t.CipherKeyLen()
		if k := t.AuthKeyLen(); k > 0 {
			keys += 4 + k
		}
		n += liveTEKs * (pushKey + keys)
		for i := range v.acl.Entries[:min(len(v.acl.Entries), maxEntries)] {
			e := &v.acl.Entries[i]
			switch {
			case e.Action == ipsec.Permit:
				n += liveTEKs * (pushSAT + 2*addrOctets(e.Family) + attrOctets(&t, v.SAIPsec, g.Interop))
			case !g.Interop:
				private = true
				n += 5 + aceOctets(e)
			}
		}
		private = private || v.Replay.Mode == ipsec.ReplayTime
	}
	if private && !g.Interop {
		n += pushGAP + 16
	}
	return n
}

// maxEntries is how many entries of a list members get (guide).
const maxEntries = 100

// addrOctets is an address with its mask.
func addrOctets(f ipsec.Family) int {
	if f == ipsec.IPv6 {
		return 32
	}
	return 8
}

// attrOctets are the attributes of a TEK's entry: lifetime (12), encapsulation and
// preservation (8), key length, integrity; then the private ones.
func attrOctets(t *ipsec.Transform, s *SAIPsec, interop bool) int {
	n := 12 + 8
	if t.KeyBits > 0 {
		n += 4
	}
	if t.Auth != ipsec.AuthNone {
		n += 4
	}
	if interop {
		return n
	}
	n += 4 + 8 // anti-replay, age
	if s.Replay.Mode != ipsec.ReplayNone {
		n += 4
	}
	if s.Tag || s.Replay.Mode == ipsec.ReplayTime {
		n += 8
	}
	return n
}

// aceOctets is an entry in our own form: action, protocol, addresses, ports.
func aceOctets(e *ipsec.ACE) int {
	n := 8
	for _, m := range []ipsec.AddrMatch{e.Src, e.Dst} {
		if !m.IsAny() {
			n += addrOctets(e.Family)
		}
	}
	for _, p := range []ipsec.PortMatch{e.SrcPort, e.DstPort} {
		if p.Op != ipsec.PortAny {
			n += 4
		}
	}
	return n
}
