package policy

// How show commands and the management model print policy.

import (
	"fmt"
	"net/netip"
	"strings"

	"getvpn/gdoi"
	"getvpn/ipsec"
	"getvpn/model"
)

// protoNames are the IOS keywords of IP protocols.
var protoNames = map[uint8]string{1: "icmp", 2: "igmp", 4: "ipinip", 6: "tcp", 17: "udp", 47: "gre",
	50: "esp", 51: "ahp", 58: "icmp", 88: "eigrp", 89: "ospf", 103: "pim", 132: "sctp"}

// ACEText prints an entry as show crypto gdoi does: "permit ip 10.1.0.0 0.0.255.255
// any", "deny tcp any any port = 22".
func ACEText(e ipsec.ACE) string {
	proto, ok := protoNames[e.Proto]
	switch {
	case e.Proto == 0 && e.Family == ipsec.IPv6:
		proto = "ipv6"
	case e.Proto == 0:
		proto = "ip"
	case !ok:
		proto = fmt.Sprint(e.Proto)
	}
	s := e.Action.String() + " " + proto + " " + AddrText(e.Src) + portText(e.SrcPort) + " " + AddrText(e.Dst) + portText(e.DstPort)
	if e.HasICMPType {
		s += fmt.Sprintf(" type = %d", e.ICMPType)
	}
	return s
}

// AddrText prints an address match as an access list does: any, host A, A WILDCARD,
// P/LEN for IPv6.
func AddrText(m ipsec.AddrMatch) string {
	if m.IsAny() {
		return "any"
	}
	p, ok := m.Prefix()
	switch {
	case ok && p.Bits() == 0:
		return "any"
	case ok && p.IsSingleIP():
		return "host " + m.Addr.String()
	case ok && m.Addr.Is6():
		return p.String()
	}
	w := m.Mask.AsSlice()
	for i := range w {
		w[i] = ^w[i]
	}
	wild, _ := netip.AddrFromSlice(w)
	return m.Addr.String() + " " + wild.String()
}

func portText(p ipsec.PortMatch) string {
	switch p.Op {
	case ipsec.PortEq:
		return fmt.Sprintf(" port = %d", p.Lo)
	case ipsec.PortNeq:
		return fmt.Sprintf(" port != %d", p.Lo)
	case ipsec.PortLt:
		return fmt.Sprintf(" port < %d", p.Lo)
	case ipsec.PortGt:
		return fmt.Sprintf(" port > %d", p.Lo)
	case ipsec.PortRange:
		return fmt.Sprintf(" port range %d %d", p.Lo, p.Hi)
	}
	return ""
}

// ReplayModel is an anti-replay setting for the management model.
func ReplayModel(r ipsec.Replay) model.Replay {
	return model.Replay{Mode: [...]string{"Disabled", "Count Based", "Time Based"}[r.Mode], Window: r.Window}
}

// CipherText names a KEK cipher as show commands do.
func CipherText(a gdoi.KEKAlgorithm) string {
	switch a {
	case gdoi.KEKAESCBC:
		return "AES"
	case gdoi.KEK3DES:
		return "3DES"
	case gdoi.KEKDES:
		return "DES"
	}
	return fmt.Sprint(uint16(a))
}

// SigHashText names a rekey signature's hash as show commands do.
func SigHashText(h gdoi.SigHash) string {
	switch h {
	case gdoi.SigHashMD5:
		return "HMAC_AUTH_MD5"
	case gdoi.SigHashSHA1:
		return "HMAC_AUTH_SHA"
	case gdoi.SigHashSHA256:
		return "HMAC_AUTH_SHA256"
	case gdoi.SigHashSHA384:
		return "HMAC_AUTH_SHA384"
	case gdoi.SigHashSHA512:
		return "HMAC_AUTH_SHA512"
	}
	return fmt.Sprint(uint16(h))
}

// KEKModel is a KEK for the management model.
func KEKModel(k *KEK, unicast bool) *model.KEK {
	if k == nil {
		return nil
	}
	return &model.KEK{SPI: k.SPI, Algorithm: CipherText(k.Cipher), KeyBits: k.KeyBits, SigHash: SigHashText(k.SigHash),
		SigBits: k.SigBits, Unicast: unicast, Lifetime: k.Lifetime, Seq: k.Seq}
}

// ACEModels prints a list.
func ACEModels(list []ipsec.ACE) []model.ACE {
	var out []model.ACE
	for _, e := range list {
		out = append(out, model.ACE{Text: ACEText(e)})
	}
	return out
}

// KeyBytes are the octets of a transform's keys as show commands print them: the
// cipher's without salt, the integrity algorithm's.
func KeyBytes(t ipsec.Transform) (cipher, auth int) {
	cipher = t.CipherKeyLen()
	if t.Counter() {
		cipher = t.KeyBits / 8
	}
	return cipher, t.AuthKeyLen()
}

// TransformText is the transform as show commands print it, without a trailing space.
func TransformText(t ipsec.Transform) string { return strings.TrimSpace(t.String()) }
