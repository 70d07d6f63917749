package gdoi

// Values and generators that the tests share.

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/secret"
)

func ptr[T any](v T) *T { return &v }

func subnet(s string) Identity {
	p := netip.MustParsePrefix(s).Masked()
	mask := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	m, _ := netip.AddrFromSlice(mask)
	return MaskIdentity(p.Addr(), m, 0)
}

func key(n int, fill byte) secret.Bytes { return bytes.Repeat([]byte{fill}, n) }

// sample is a policy with all that we send, and the keys for it.
func sample() (*SA, *KD) {
	spi := KEKSPI{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	sa := &SA{
		SAK: &SAK{
			Protocol: 17, Src: AddrIdentity(netip.MustParseAddr("192.0.2.1"), 848), Dst: AddrIdentity(netip.MustParseAddr("239.1.1.1"), 848),
			SPI: spi, Algorithm: KEKAESCBC, KeyBits: 128, Lifetime: 86400, SigHash: SigHashSHA256, SigAlgorithm: SigRSA, SigKeyBits: 2048, Ack: AckKEKSHA256,
		},
		GAP: &GAP{ActivationDelay: ptr[uint16](30), DeactivationDelay: ptr[uint16](60), Capability: ptr(OurCapability()), Denies: []WireACE{
			{Before: 0, Proto: 6, DstPort: WirePort{Op: PortEq, Lo: 22}},
			{Before: 1, Proto: 17, Src: wireAddr("10.0.0.0", "255.0.255.0"), SrcPort: WirePort{PortRange, 1000, 2000}},
			{Before: 2, Proto: 1, HasICMPType: true, ICMPType: 8},
		}},
		SATs: []SAT{
			{Protocol: ProtoESP, Src: subnet("10.1.0.0/16"), Dst: subnet("10.2.0.0/16"), Transform: ESPAESCBC, SPI: 0x01020304, Seconds: 3600, Encap: EncapTunnel, Auth: AuthHMACSHA256, KeyBits: 256, Preservation: PreserveBoth, Direction: Symmetric, Replay: &Replay{ReplayCounter, 64}, Age: ptr[uint32](17)},
			{Protocol: ProtoESP, IPProto: 6, Src: subnet("10.2.0.0/16"), Dst: Identity{isakmp.IDIPv4Subnet, 443, subnet("10.1.0.0/16").Data}, Transform: ESPAESCBC, SPI: 0x01020304, Seconds: 3600, Encap: EncapTunnel, Auth: AuthHMACSHA256, KeyBits: 256, Preservation: PreserveBoth, Direction: Symmetric, Replay: &Replay{ReplayCounter, 64}},
			{Protocol: ProtoESP, Src: subnet("2001:db8::/32"), Dst: subnet("2001:db8:1::/48"), Transform: ESPAESGCM16, SPI: 0x0a0b0c0d, Seconds: 900, Kilobytes: 4608000, Encap: EncapTransport, KeyBits: 128, ESN: true,
				Exact: &WireACE{Permit: true, IPv6: true, Proto: 17, DstPort: WirePort{PortGt, 1023, 0}}},
		},
	}
	kd := &KD{
		TEKs: []TEKKey{
			{SPI: 0x01020304, Algorithm: key(32, 1), Integrity: key(32, 2)},
			{SPI: 0x0a0b0c0d, Algorithm: key(20, 3)},
		},
		KEK:  &KEKKey{SPI: spi, Algorithm: key(32, 4), SigKey: []byte{0x30, 0x82, 1, 2}},
		SIDs: &SIDs{Bits: 24, Values: []uint32{0x000001, 0xfffffe}},
	}
	return sa, kd
}

func wireAddr(a, m string) WireAddr {
	return WireAddr{netip.MustParseAddr(a), netip.MustParseAddr(m)}
}

func mustSA(t testing.TB, sa *SA, d Dialect) []byte {
	t.Helper()
	p, err := sa.Payload(d)
	if err != nil {
		t.Fatal(err)
	}
	return p.Body
}

func formOf(err error) isakmp.Reason {
	var m *isakmp.MalformedError
	if errors.As(err, &m) {
		return m.Reason
	}
	return 0
}

func reasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return 0
}

// gen makes random values of what can be sent.
type gen struct{ *rand.Rand }

func newGen(seed uint64) gen { return gen{rand.New(rand.NewPCG(seed, 1))} }

func (g gen) octets(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

func (g gen) some(n int) []byte { return g.octets(1 + g.IntN(n)) }
func (g gen) u16() uint16       { return uint16(g.Uint32()) }
func (g gen) bool() bool        { return g.IntN(2) == 0 }

func (g gen) identity(source bool) Identity {
	types := []isakmp.IDType{isakmp.IDIPv4, isakmp.IDIPv4Subnet, isakmp.IDIPv6, isakmp.IDIPv6Subnet, isakmp.IDIPv4Range, isakmp.IDIPv6Range}
	id := Identity{Type: types[g.IntN(len(types))], Port: g.u16()}
	if source && g.IntN(5) == 0 {
		id.Data = make([]byte, 3)
		return id
	}
	id.Data = g.octets(id.Type.DataLen())
	return id
}

func (g gen) private(lo, hi int) []isakmp.Attr {
	var out []isakmp.Attr
	for range g.IntN(3) {
		class := uint16(lo + g.IntN(hi-lo+1))
		if g.bool() {
			out = append(out, isakmp.BasicAttr(class, g.u16()))
		} else {
			out = append(out, isakmp.VarAttr(class, g.some(9)))
		}
	}
	return out
}

func (g gen) port() WirePort {
	switch op := PortOp(g.IntN(6)); op {
	case PortAny:
		return WirePort{}
	case PortRange:
		lo := g.u16()
		return WirePort{op, lo, lo + uint16(g.IntN(int(65536-uint32(lo))))}
	default:
		return WirePort{op, g.u16(), 0}
	}
}

func (g gen) addr(v6 bool) WireAddr {
	if g.IntN(4) == 0 {
		return WireAddr{}
	}
	n := 4
	if v6 {
		n = 16
	}
	a, m := g.octets(n), g.octets(n)
	for i := range a {
		a[i] &= m[i]
	}
	x, _ := netip.AddrFromSlice(a)
	y, _ := netip.AddrFromSlice(m)
	return WireAddr{x, y}
}

func (g gen) aces(places int) []WireACE {
	var out []WireACE
	before := 0
	for range g.IntN(6) {
		before = min(places, before+g.IntN(2))
		e := WireACE{Before: uint16(before), Permit: g.bool(), IPv6: g.bool(), Proto: uint8(g.IntN(256))}
		e.Src, e.Dst = g.addr(e.IPv6), g.addr(e.IPv6)
		switch g.IntN(3) {
		case 0:
			e.Proto, e.SrcPort, e.DstPort = 17, g.port(), g.port()
		case 1:
			e.Proto, e.HasICMPType, e.ICMPType = 58, true, uint8(g.IntN(256))
		}
		out = append(out, e)
	}
	return out
}

func (g gen) sat() SAT {
	if g.IntN(12) == 0 {
		return SAT{Protocol: Protocol(3 + g.IntN(200)), Opaque: g.some(20)}
	}
	s := SAT{
		Protocol: ProtoESP, IPProto: uint8(g.IntN(256)), Src: g.identity(true), Dst: g.identity(false),
		Transform: ESPTransform(1 + g.IntN(23)), SPI: g.Uint32(), Seconds: g.Uint32N(9), Kilobytes: g.Uint32N(9),
		Encap: Encapsulation(g.IntN(5)), Auth: AuthAlgorithm(g.IntN(14)), KeyBits: g.u16(), ESN: g.bool(), SigEncoding: g.u16(),
		Preservation: AddressPreservation(g.IntN(5)), Direction: SADirection(g.IntN(4)),
		Private: g.private(int(SATMetadata)+1, 32767),
	}
	if g.bool() {
		s.Replay = &Replay{ReplayCounter, 1 + uint16(g.IntN(1024))}
	}
	if g.bool() {
		s.Metadata = &Metadata{Header: MetadataShort, SGT: g.bool()}
	}
	if g.bool() {
		s.Age = ptr(g.Uint32())
	}
	if l := g.aces(0); len(l) > 0 {
		s.Exact = &l[0]
	}
	return s
}

func (g gen) sa() *SA {
	s := &SA{}
	if g.bool() {
		s.SAK = &SAK{Protocol: 17, Src: g.identity(true), Dst: g.identity(false), SPI: KEKSPI(g.octets(16)),
			Management: uint16(g.IntN(2)), Algorithm: KEKAlgorithm(1 + g.IntN(3)), KeyBits: g.u16(), Lifetime: g.Uint32(),
			SigHash: SigHash(g.IntN(6)), SigAlgorithm: SigAlgorithm(1 + g.IntN(6)), SigKeyBits: g.u16(), Ack: AckRequest(g.IntN(5)), Private: g.private(128, 255)}
	}
	for range g.IntN(5) {
		s.SATs = append(s.SATs, g.sat())
	}
	if s.SAK == nil && len(s.SATs) == 0 {
		s.SATs = []SAT{g.sat()}
	}
	if g.bool() {
		s.GAP = &GAP{SIDRequest: uint16(g.IntN(9)), Denies: g.aces(len(s.SATs)), Private: g.private(int(GAPReplaced)+1, 255), Replaced: g.bool()}
		if g.bool() {
			s.GAP.ActivationDelay, s.GAP.DeactivationDelay = ptr(g.u16()), ptr(g.u16())
			s.GAP.Pseudotime = &Pseudotime{Value: time.Duration(g.Uint32()) * time.Second, Tick: time.Duration(1+g.IntN(65535)) * time.Millisecond, Header: MetadataLong}
			s.GAP.Capability = &Capability{1, uint8(g.IntN(9)), 2, Feature(g.Uint32())}
		}
	}
	return s
}

func (g gen) secrets(lo int) []SecretAttr {
	var out []SecretAttr
	for _, a := range g.private(lo, 255) {
		out = append(out, SecretAttr{a.Type, a.Basic, a.Value})
	}
	return out
}

func (g gen) lkhKeys() []LKHKey {
	var out []LKHKey
	size := 1 + g.IntN(40)
	for range 1 + g.IntN(4) {
		out = append(out, LKHKey{g.u16(), uint8(g.IntN(4)), g.Uint32(), g.Uint32(), g.Uint32(), g.octets(size)})
	}
	return out
}

func (g gen) kd() *KD {
	k := &KD{}
	for i := range g.IntN(4) {
		k.TEKs = append(k.TEKs, TEKKey{SPI: uint32(i)<<8 | uint32(g.IntN(256)), Algorithm: g.some(36), Integrity: g.some(64), Private: g.secrets(128)})
	}
	if g.bool() {
		k.KEK = &KEKKey{SPI: KEKSPI(g.octets(16)), Algorithm: g.some(48), SigKey: g.some(300), Private: g.secrets(128)}
	}
	if g.bool() {
		k.LKH = &LKHKeys{SPI: KEKSPI(g.octets(16)), SigKey: g.some(9), Private: g.secrets(128)}
		if g.bool() {
			k.LKH.Download = g.lkhKeys()
		}
		for range g.IntN(3) {
			k.LKH.Updates = append(k.LKH.Updates, LKHUpdate{g.u16(), g.Uint32(), g.lkhKeys()})
		}
	}
	if g.bool() {
		k.SIDs = &SIDs{Bits: uint8(1 + g.IntN(32)), Private: g.secrets(129)}
		for range g.IntN(4) {
			k.SIDs.Values = append(k.SIDs.Values, g.Uint32()>>(32-k.SIDs.Bits))
		}
	}
	for range g.IntN(2) {
		k.Unknown = append(k.Unknown, KeyPacket{uint8(5 + g.IntN(250)), g.some(20)})
	}
	return k
}
