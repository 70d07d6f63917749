package policy

// From IPsec values to GDOI payloads: the key server's way.

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"getvpn/gdoi"
	"getvpn/ipsec"
)

// MaxACEs is how many entries of a list are honoured (guide, GDOI ACLs).
const MaxACEs = 100

// ErrPortRange reports a permit with a port range, which no SAT can carry
// (RFC 6407 §5.5.1 has one port).
var ErrPortRange = errors.New("policy: a permit can't name a port range")

// CheckACE reports why an entry can't be sent to members: what the key server
// refuses at configuration. interop: nothing private may be sent.
func CheckACE(e ipsec.ACE, interop bool) error {
	if e.Action == ipsec.Deny {
		return nil // not sent at all with interop, in full without
	}
	if e.SrcPort.Op == ipsec.PortRange || e.DstPort.Op == ipsec.PortRange {
		return ErrPortRange
	}
	if interop && needsExact(e) {
		return fmt.Errorf("policy: %q can't be sent to members in the RFC's form: only a contiguous mask, one port by eq and no ICMP type can", e)
	}
	return nil
}

// needsExact reports whether a SAT's own fields can't say what a permit says.
func needsExact(e ipsec.ACE) bool {
	port := func(p ipsec.PortMatch) bool {
		return p.Op != ipsec.PortAny && (p.Op != ipsec.PortEq || p.Lo == 0)
	}
	mask := func(m ipsec.AddrMatch) bool {
		_, ok := m.Prefix()
		return !m.IsAny() && !ok
	}
	return port(e.SrcPort) || port(e.DstPort) || mask(e.Src) || mask(e.Dst) || e.HasICMPType
}

// SA is the policy as an SA payload. With interop nothing private is in it, deny
// entries and anti-replay settings are left out.
func (o *Offer) SA(interop bool) (*gdoi.SA, error) {
	sa := &gdoi.SA{}
	if o.KEK != nil {
		sa.SAK = o.KEK.sak()
	}
	teks := map[uint32]*TEK{}
	for i := range o.TEKs {
		teks[o.TEKs[i].SPI] = &o.TEKs[i]
	}
	var denies []gdoi.WireACE
	for _, e := range o.Entries {
		if e.ACE.Action == ipsec.Deny {
			w := wireACE(e.ACE)
			w.Before = uint16(len(sa.SATs))
			denies = append(denies, w)
			continue
		}
		if err := CheckACE(e.ACE, interop); err != nil {
			return nil, err
		}
		for _, spi := range e.SPIs {
			t := teks[spi]
			if t == nil {
				return nil, fmt.Errorf("policy: no TEK with SPI %#x", spi)
			}
			s, err := t.sat(e.ACE, o.Clock, interop)
			if err != nil {
				return nil, err
			}
			sa.SATs = append(sa.SATs, s)
		}
	}
	if (len(denies) > 0 || o.Clock != nil) && !interop {
		sa.GAP = &gdoi.GAP{Denies: denies}
		if c := o.Clock; c != nil {
			sa.GAP.Pseudotime = &gdoi.Pseudotime{Value: c.Pseudotime, Tick: c.Tick, Header: uint8(c.Header)}
		}
	}
	if o.Activation > 0 || o.Deactivation > 0 {
		if sa.GAP == nil {
			sa.GAP = &gdoi.GAP{}
		}
		sa.GAP.ActivationDelay, sa.GAP.DeactivationDelay = delay(o.Activation), delay(o.Deactivation)
	}
	return sa, nil
}

// delay is a time of the GAP in whole seconds; nil when there is none.
func delay(d time.Duration) *uint16 {
	if d <= 0 {
		return nil
	}
	s := uint16(max(1, min(d/time.Second, 1<<16-1)))
	return &s
}

func (t *TEK) sat(e ipsec.ACE, c *Clock, interop bool) (gdoi.SAT, error) {
	s := gdoi.SAT{
		Protocol: gdoi.ProtoESP, IPProto: e.Proto,
		Src: identity(e.Src, e.SrcPort, e.Family), Dst: identity(e.Dst, e.DstPort, e.Family),
		SPI: t.SPI, Seconds: seconds(t.Lifetime), KeyBits: uint16(t.Transform.KeyBits),
		Encap: gdoi.EncapTunnel, Preservation: gdoi.PreserveBoth,
	}
	if t.Transform.Mode == ipsec.Transport {
		s.Encap, s.Preservation = gdoi.EncapTransport, 0
	}
	if t.Direction == ipsec.InboundOnly {
		s.Direction = gdoi.ReceiverOnly
	}
	var ok bool
	if s.Transform, s.Auth, ok = wireTransform(t.Transform); !ok {
		return s, fmt.Errorf("policy: no wire form for %v", t.Transform)
	}
	if interop {
		return s, nil
	}
	s.Replay = wireReplay(t.Replay)
	if n := t.header(c); n > 0 {
		s.Metadata = &gdoi.Metadata{Header: uint8(n), SGT: t.Tag}
	}
	if t.HasAge {
		age := uint32(t.Age / time.Second)
		s.Age = &age
	}
	if needsExact(e) {
		w := wireACE(e)
		s.Exact = &w
	}
	return s, nil
}

// header is the length of the metadata header in octets, 0 when there is none.
func (t *TEK) header(c *Clock) int {
	switch {
	case !t.Tag && t.Replay.Mode != ipsec.ReplayTime:
		return 0
	case t.Header > 0:
		return t.Header
	case c != nil:
		return c.Header
	}
	return int(gdoi.MetadataShort)
}

func seconds(d time.Duration) uint32 { return uint32(max(1, d/time.Second)) }

func identity(m ipsec.AddrMatch, p ipsec.PortMatch, f ipsec.Family) gdoi.Identity {
	var port uint16
	if p.Op == ipsec.PortEq {
		port = p.Lo
	}
	if m.IsAny() {
		any := netip.IPv4Unspecified()
		if f == ipsec.IPv6 {
			any = netip.IPv6Unspecified()
		}
		return gdoi.MaskIdentity(any, any, port)
	}
	return gdoi.MaskIdentity(m.Addr, m.Mask, port)
}

func wireTransform(t ipsec.Transform) (gdoi.ESPTransform, gdoi.AuthAlgorithm, bool) {
	auth, ok := map[ipsec.Auth]gdoi.AuthAlgorithm{
		ipsec.AuthNone: 0, ipsec.AuthSHA1: gdoi.AuthHMACSHA1, ipsec.AuthSHA256: gdoi.AuthHMACSHA256,
		ipsec.AuthSHA384: gdoi.AuthHMACSHA384, ipsec.AuthSHA512: gdoi.AuthHMACSHA512,
	}[t.Auth]
	if !ok || t.Validate() != nil {
		return 0, 0, false
	}
	switch t.Cipher {
	case ipsec.CipherNull:
		return gdoi.ESPNull, auth, true
	case ipsec.Cipher3DES:
		return gdoi.ESP3DES, auth, true
	case ipsec.CipherAESCBC:
		return gdoi.ESPAESCBC, auth, true
	case ipsec.CipherAESGMAC:
		return gdoi.ESPGMAC, auth, true
	case ipsec.CipherAESGCM:
		switch t.ICVLen {
		case 8:
			return gdoi.ESPAESGCM8, auth, true
		case 12:
			return gdoi.ESPAESGCM12, auth, true
		}
		return gdoi.ESPAESGCM16, auth, true
	}
	return 0, 0, false
}

func wireReplay(r ipsec.Replay) *gdoi.Replay {
	switch r.Mode {
	case ipsec.ReplayCounter:
		return &gdoi.Replay{Mode: gdoi.ReplayCounter, Window: uint16(r.Window)}
	case ipsec.ReplayTime:
		return &gdoi.Replay{Mode: gdoi.ReplayTime, Window: uint16(r.Window)}
	}
	return &gdoi.Replay{Mode: gdoi.ReplayNone}
}

func wireACE(e ipsec.ACE) gdoi.WireACE {
	return gdoi.WireACE{
		Permit: e.Action == ipsec.Permit, IPv6: e.Family == ipsec.IPv6, Proto: e.Proto,
		Src: gdoi.WireAddr(e.Src), Dst: gdoi.WireAddr(e.Dst),
		SrcPort:     gdoi.WirePort{Op: gdoi.PortOp(e.SrcPort.Op), Lo: e.SrcPort.Lo, Hi: e.SrcPort.Hi},
		DstPort:     gdoi.WirePort{Op: gdoi.PortOp(e.DstPort.Op), Lo: e.DstPort.Lo, Hi: e.DstPort.Hi},
		HasICMPType: e.HasICMPType, ICMPType: e.ICMPType,
	}
}

func (k *KEK) sak() *gdoi.SAK {
	return &gdoi.SAK{
		Protocol: 17, Src: gdoi.AddrIdentity(k.Src.Addr(), k.Src.Port()), Dst: gdoi.AddrIdentity(k.Dst.Addr(), k.Dst.Port()),
		SPI: k.SPI, Algorithm: k.Cipher, KeyBits: uint16(k.KeyBits), Lifetime: seconds(k.Lifetime),
		SigHash: k.SigHash, SigAlgorithm: k.SigAlg, SigKeyBits: uint16(k.SigBits), Ack: k.Ack,
	}
}

// KD is the key download of the policy, with the member's own Sender IDs.
func (o *Offer) KD(keys Keys) *gdoi.KD {
	kd := &gdoi.KD{}
	for _, t := range o.TEKs {
		kd.TEKs = append(kd.TEKs, gdoi.TEKKey{SPI: t.SPI, Algorithm: t.Key, Integrity: t.AuthKey})
	}
	if k := o.KEK; k != nil {
		kd.KEK = &gdoi.KEKKey{SPI: k.SPI, Algorithm: append(k.IV.Clone(), k.Key...), SigKey: k.Public}
	}
	if len(keys.SIDs) > 0 {
		kd.SIDs = &gdoi.SIDs{Bits: uint8(keys.SIDBits), Values: keys.SIDs}
	}
	return kd
}
