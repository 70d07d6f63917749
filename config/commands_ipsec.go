package config

// crypto ipsec: transform sets, profiles, the DF bit.

import (
	"slices"
	"strconv"
	"time"

	"getvpn/cli/grammar"
	"getvpn/ipsec"
)

func ipsecCommands() []command {
	return []command{
		{Mode: modeGlobal, Pattern: "crypto ipsec transform-set name:WORD " + transformPattern, Help: "A transform set", Enter: modeTransform, No: true, Do: enterTransform},
		{Mode: modeTransform, Pattern: "mode m:{tunnel|transport} [require]", Help: "Encapsulation", No: true, Do: func(b *builder, m *grammar.Match) error {
			t := &b.c.TransformSets[b.set].Transform
			t.Mode = ipsec.Tunnel
			if given(m, "m", "tunnel") == "transport" {
				t.Mode = ipsec.Transport
			}
			return nil
		}},
		{Mode: modeTransform, Pattern: "icv n:{8|12|16}", Help: "Octets of the AES-GCM check value", No: true, Do: func(b *builder, m *grammar.Match) error {
			t := &b.c.TransformSets[b.set].Transform
			if t.Cipher != ipsec.CipherAESGCM {
				return bad(m, "n", "Only esp-gcm has a choice of check values.")
			}
			t.ICVLen = num(m, "n")
			if m.No || t.ICVLen == 16 {
				t.ICVLen = 0
			}
			return nil
		}},
		{Mode: modeGlobal, Pattern: "crypto ipsec profile name:WORD", Help: "An IPsec profile", Enter: modeProfile, No: true, Do: enterProfile},
		{Mode: modeProfile, Pattern: "set transform-set t:WORD [t:WORD [t:WORD [t:WORD [t:WORD [t:WORD]]]]]", Help: "Transform sets", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.c.Profiles[b.profile].TransformSets = m.All("t")
			if m.No {
				b.c.Profiles[b.profile].TransformSets = nil
			}
			return nil
		}},
		{Mode: modeProfile, Pattern: "set security-association lifetime u:{seconds s:<120-2592000>|days d:<1-30>}", Help: "TEK lifetime", No: true, Do: func(b *builder, m *grammar.Match) error {
			p := &b.c.Profiles[b.profile]
			p.Lifetime = defaultTEK
			if !m.No {
				p.Lifetime = lifetime(m)
			}
			return nil
		}},
		{Mode: modeProfile, Pattern: "set {pfs|isakmp-profile|security-policy} [LINE]", Help: "Without meaning in a group", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.warn("ignored: a group has no such setting")
			return nil
		}},
		{Mode: modeProfile, Pattern: "description LINE", Help: "Text", No: true, Do: func(*builder, *grammar.Match) error { return nil }},
		{Mode: modeGlobal, Pattern: "crypto ipsec df-bit d:{clear|set|copy}", Help: "DF bit of the outer header", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.c.DFBit = map[string]DFBit{"copy": DFCopy, "clear": DFClear, "set": DFSet}[given(m, "d", "copy")]
			return nil
		}},
	}
}

const (
	defaultTEK = 3600 * time.Second
	defaultKEK = 86400 * time.Second
)

func lifetime(m *grammar.Match) time.Duration {
	if m.Has("d") {
		return time.Duration(num(m, "d")) * 24 * time.Hour
	}
	return seconds(num(m, "s"))
}

const (
	cipherPattern    = "{c:{esp-3des|esp-des|esp-null}|c:{esp-aes|esp-gcm|esp-gmac} [bits:{128|192|256}]}"
	authPattern      = "i:{esp-sha-hmac|esp-sha256-hmac|esp-sha384-hmac|esp-sha512-hmac|esp-md5-hmac}"
	transformPattern = "{" + cipherPattern + " [" + authPattern + "]|" + authPattern + " " + cipherPattern + "}"
)

func enterTransform(b *builder, m *grammar.Match) error {
	name := m.Get("name")
	l := &b.c.TransformSets
	if m.No {
		*l = slices.DeleteFunc(*l, func(t TransformSet) bool { return t.Name == name })
		return nil
	}
	var t ipsec.Transform
	bits := 128
	if m.Has("bits") {
		bits, _ = strconv.Atoi(m.Get("bits"))
	}
	switch m.Get("c") {
	case "esp-des":
		return bad(m, "c", "esp-des isn't supported: use esp-aes.")
	case "esp-3des":
		t.Cipher = ipsec.Cipher3DES
	case "esp-null":
		t.Cipher = ipsec.CipherNull
	case "esp-aes":
		t.Cipher, t.KeyBits = ipsec.CipherAESCBC, bits
	case "esp-gcm":
		t.Cipher, t.KeyBits = ipsec.CipherAESGCM, bits
	case "esp-gmac":
		t.Cipher, t.KeyBits = ipsec.CipherAESGMAC, bits
	}
	switch m.Get("i") {
	case "esp-md5-hmac":
		return bad(m, "i", "esp-md5-hmac isn't supported: use esp-sha256-hmac.")
	case "esp-sha-hmac":
		t.Auth = ipsec.AuthSHA1
	case "esp-sha256-hmac":
		t.Auth = ipsec.AuthSHA256
	case "esp-sha384-hmac":
		t.Auth = ipsec.AuthSHA384
	case "esp-sha512-hmac":
		t.Auth = ipsec.AuthSHA512
	}
	if t.Combined() && t.Auth != ipsec.AuthNone {
		return bad(m, "i", "%s authenticates by itself: leave %s out.", m.Get("c"), m.Get("i"))
	}
	if err := t.Validate(); err != nil {
		return bad(m, "c", "%s alone doesn't authenticate: add esp-sha256-hmac or another integrity transform.", m.Get("c"))
	}
	i := slices.IndexFunc(*l, func(t TransformSet) bool { return t.Name == name })
	if i < 0 {
		i = len(*l)
		*l = append(*l, TransformSet{Name: name})
	}
	(*l)[i].Transform = t
	b.set = i
	b.mark("crypto ipsec transform-set " + name)
	return nil
}

func enterProfile(b *builder, m *grammar.Match) error {
	name := m.Get("name")
	l := &b.c.Profiles
	if m.No {
		*l = slices.DeleteFunc(*l, func(p Profile) bool { return p.Name == name })
		return nil
	}
	i := slices.IndexFunc(*l, func(p Profile) bool { return p.Name == name })
	if i < 0 {
		i = len(*l)
		*l = append(*l, Profile{Name: name, Lifetime: defaultTEK})
	}
	b.profile = i
	b.mark("crypto ipsec profile " + name)
	return nil
}
