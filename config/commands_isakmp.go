package config

// crypto isakmp: policies, pre-shared keys, identity, keepalive.

import (
	"math/bits"
	"net/netip"
	"slices"

	"getvpn/cli/grammar"
	"getvpn/internal/secret"
)

func isakmpCommands() []command {
	key := "crypto isakmp key {[type:0] key:SECRET|type:6 key:SECRET|type:7 key:SECRET} "
	return []command{
		{Mode: modeGlobal, Pattern: "crypto isakmp policy n:<1-10000>", Help: "An IKE policy", Enter: modeISAKMP, No: true, Do: enterPolicy},
		{Mode: modeISAKMP, Pattern: "encryption alg:{des|3des|aes [bits:{128|192|256}]}", Help: "Cipher", No: true, Do: func(b *builder, m *grammar.Match) error {
			p := &b.c.ISAKMPPolicies[b.policy]
			p.Encr, p.KeyBits = Encryption(m.Get("alg")), num(m, "bits")
			if m.No || p.Encr == "" {
				p.Encr, p.KeyBits = EncrDES, 0
			}
			if p.Encr == EncrAES && p.KeyBits == 0 {
				p.KeyBits = 128
			}
			return nil
		}},
		{Mode: modeISAKMP, Pattern: "hash h:{sha|md5|sha256|sha384|sha512}", Help: "Hash", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.c.ISAKMPPolicies[b.policy].Hash = given(m, "h", "sha")
			return nil
		}},
		{Mode: modeISAKMP, Pattern: "authentication a:{pre-share|rsa-sig|rsa-encr|ecdsa-sig}", Help: "Authentication", No: true, Do: func(b *builder, m *grammar.Match) error {
			if m.Get("a") == "rsa-encr" {
				return bad(m, "a", "Authentication by RSA encryption isn't supported: use pre-share, rsa-sig or ecdsa-sig.")
			}
			b.c.ISAKMPPolicies[b.policy].Auth = given(m, "a", "rsa-sig")
			return nil
		}},
		{Mode: modeISAKMP, Pattern: "group g:{1|2|5|14|15|16|19|20|21|24|31}", Help: "Diffie-Hellman group", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.c.ISAKMPPolicies[b.policy].DHGroup = max(num(m, "g"), 1)
			return nil
		}},
		{Mode: modeISAKMP, Pattern: "lifetime s:<60-86400>", Help: "Lifetime in seconds", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.c.ISAKMPPolicies[b.policy].Lifetime = seconds(num(m, "s"))
			if !m.Has("s") {
				b.c.ISAKMPPolicies[b.policy].Lifetime = seconds(86400)
			}
			return nil
		}},
		{Mode: modeGlobal, Pattern: key + "address a:A.B.C.D [mask:A.B.C.D] [no-xauth]", Help: "Pre-shared key of a peer", No: true, Do: pskAddress},
		{Mode: modeGlobal, Pattern: key + "{address ipv6|ipv6} p:{X:X:X:X::X/<0-128>|X:X:X:X::X}", Help: "Pre-shared key of a peer", No: true, Do: pskIPv6},
		{Mode: modeGlobal, Pattern: key + "hostname h:WORD [no-xauth]", Help: "Pre-shared key of a host name", No: true, Do: pskHost},
		{Mode: modeGlobal, Pattern: "crypto isakmp identity id:{address|dn|hostname}", Help: "Identity sent to peers", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.c.ISAKMPIdentity = given(m, "id", "address")
			return nil
		}},
		// The vendor's device answers aggressive mode unless told otherwise; here it is
		// the other way round, since it gives a hash of the key to whoever asks.
		{Mode: modeGlobal, Pattern: "crypto isakmp aggressive-mode on:{enable|disable}", Help: "Whether aggressive mode is answered", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.c.Aggressive = given(m, "on", "disable") == "enable"
			b.mark("crypto isakmp aggressive-mode")
			return nil
		}},
		{Mode: modeGlobal, Pattern: "crypto isakmp keepalive s:<10-3600> [r:<2-60>] [{p:periodic|on-demand}]", Help: "Dead peer detection", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.c.Keepalive = Keepalive{}
			if !m.No {
				b.c.Keepalive = Keepalive{seconds(num(m, "s")), seconds(2), m.Has("p")}
				if m.Has("r") {
					b.c.Keepalive.Retry = seconds(num(m, "r"))
				}
			}
			return nil
		}},
	}
}

// given is the argument, or what a missing one or "no" means.
func given(m *grammar.Match, name, missing string) string {
	if m.No || !m.Has(name) {
		return missing
	}
	return m.Get(name)
}

func newPolicy(n int) ISAKMPPolicy {
	return ISAKMPPolicy{Priority: n, Encr: EncrDES, Hash: "sha", Auth: "rsa-sig", DHGroup: 1, Lifetime: seconds(86400)}
}

func enterPolicy(b *builder, m *grammar.Match) error {
	n := num(m, "n")
	l := &b.c.ISAKMPPolicies
	i, found := slices.BinarySearchFunc(*l, n, func(p ISAKMPPolicy, n int) int { return p.Priority - n })
	switch {
	case m.No:
		*l = slices.DeleteFunc(*l, func(p ISAKMPPolicy) bool { return p.Priority == n })
		return nil
	case !found:
		*l = slices.Insert(*l, i, newPolicy(n))
	}
	b.policy = i
	b.mark("crypto isakmp policy " + m.Get("n"))
	return nil
}

// pskAddress: without a mask the key is of one host, except for 0.0.0.0, which is any.
func pskAddress(b *builder, m *grammar.Match) error {
	a, n := addr(m, "a"), 32
	if m.Has("mask") {
		mask := addr(m, "mask").As4()
		v := uint32(mask[0])<<24 | uint32(mask[1])<<16 | uint32(mask[2])<<8 | uint32(mask[3])
		n = bits.LeadingZeros32(^v)
		if v<<n != 0 {
			return bad(m, "mask", "Bad mask: its one bits aren't contiguous.")
		}
	} else if a == netip.IPv4Unspecified() {
		n = 0
	}
	return addKey(b, m, ISAKMPKey{Prefix: netip.PrefixFrom(a, n).Masked()})
}

func pskIPv6(b *builder, m *grammar.Match) error {
	p, err := netip.ParsePrefix(m.Get("p"))
	if err != nil {
		a := addr(m, "p")
		p = netip.PrefixFrom(a, 128)
	}
	return addKey(b, m, ISAKMPKey{Prefix: p.Masked()})
}

func pskHost(b *builder, m *grammar.Match) error {
	return addKey(b, m, ISAKMPKey{Hostname: m.Get("h")})
}

func addKey(b *builder, m *grammar.Match, k ISAKMPKey) error {
	same := func(x ISAKMPKey) bool { return x.Prefix == k.Prefix && x.Hostname == k.Hostname }
	if m.No {
		b.c.Keys = slices.DeleteFunc(b.c.Keys, same)
		return nil
	}
	k.Key = secret.Bytes(m.Get("key"))
	switch m.Get("type") {
	case "6":
		return bad(m, "type", "A type 6 key needs the master key, which this version can't read: write the key as type 0 or 7.")
	case "7":
		clear, err := decode7(m.Get("key"))
		if err != nil {
			return bad(m, "key", "This isn't a type 7 key: %v.", err)
		}
		k.Type, k.Written, k.Key = 7, k.Key, clear
	}
	if i := slices.IndexFunc(b.c.Keys, same); i >= 0 {
		b.c.Keys[i] = k
		return nil
	}
	b.c.Keys = append(b.c.Keys, k)
	return nil
}
