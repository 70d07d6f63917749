package policy

// From GDOI payloads to IPsec values: the member's way. It refuses what this
// implementation can't do, and says what.

import (
	"net/netip"
	"slices"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/isakmp"
	"getvpn/ipsec"
)

// Decode turns an SA payload into policy, without keys. The error is a *RejectError.
func Decode(sa *gdoi.SA) (*Offer, error) {
	o, err := decodeSA(sa)
	if err == nil && len(o.TEKs) == 0 {
		err = reject("no data SA in the policy")
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

// decodeSA is Decode for a policy that may have no data SA.
func decodeSA(sa *gdoi.SA) (*Offer, error) {
	o := &Offer{}
	if sa.SAK != nil {
		k, err := decodeSAK(sa.SAK)
		if err != nil {
			return nil, err
		}
		o.KEK = k
	}
	var denies []gdoi.WireACE
	if sa.GAP != nil {
		denies = sa.GAP.Denies
	}
	// A permit belongs to a SAT: without one it has no key and could only drop.
	if slices.ContainsFunc(denies, func(w gdoi.WireACE) bool { return fromWire(w).Action == ipsec.Permit }) {
		return nil, reject("a permit among the deny entries")
	}
	for i := range sa.SATs {
		denies = o.denies(denies, i)
		if err := o.sat(&sa.SATs[i]); err != nil {
			return nil, err
		}
	}
	o.denies(denies, len(sa.SATs))
	if err := o.clock(sa.GAP); err != nil {
		return nil, err
	}
	if g := sa.GAP; g != nil {
		if d := g.ActivationDelay; d != nil {
			o.Activation = time.Duration(*d) * time.Second
		}
		if d := g.DeactivationDelay; d != nil {
			o.Deactivation = time.Duration(*d) * time.Second
		}
	}
	for i := range o.Entries {
		o.Entries[i].ACE.Seq = 10 * (i + 1)
	}
	return o, nil
}

// clock takes up the pseudotime, which a TEK with time-based anti-replay needs.
func (o *Offer) clock(g *gdoi.GAP) error {
	if g != nil && g.Pseudotime != nil {
		p := g.Pseudotime
		o.Clock = &Clock{Pseudotime: p.Value, Tick: p.Tick, Header: int(p.Header)}
	}
	for i := range o.TEKs {
		t := &o.TEKs[i]
		switch {
		case t.Replay.Mode != ipsec.ReplayTime:
		case o.Clock == nil:
			return reject("time-based anti-replay at SPI %#x without pseudotime", t.SPI)
		case t.Header == 0:
			t.Header = o.Clock.Header
		}
	}
	return nil
}

// denies takes up the entries that stand before SAT number n.
func (o *Offer) denies(list []gdoi.WireACE, n int) (rest []gdoi.WireACE) {
	for len(list) > 0 && int(list[0].Before) <= n {
		o.Entries = append(o.Entries, Entry{ACE: fromWire(list[0])})
		list = list[1:]
	}
	return list
}

func (o *Offer) sat(s *gdoi.SAT) error {
	if s.Opaque != nil || s.Protocol != gdoi.ProtoESP {
		return unsupported("data SA of protocol %d", s.Protocol)
	}
	t, err := decodeTEK(s)
	if err != nil {
		return err
	}
	ace, err := selector(s)
	if err != nil {
		return err
	}
	switch i := slices.IndexFunc(o.TEKs, func(x TEK) bool { return x.SPI == t.SPI }); {
	case i < 0:
		o.TEKs = append(o.TEKs, t)
	case o.TEKs[i].Lifetime != t.Lifetime: // the rest was held against each other by gdoi.CheckSA
		return reject("SPI %#x with two lifetimes", t.SPI)
	}
	// An entry that comes again never matches a packet: it adds its SPI to the first.
	for i := range o.Entries {
		if o.Entries[i].ACE == ace {
			if !slices.Contains(o.Entries[i].SPIs, s.SPI) {
				o.Entries[i].SPIs = append(o.Entries[i].SPIs, s.SPI)
			}
			return nil
		}
	}
	o.Entries = append(o.Entries, Entry{ACE: ace, SPIs: []uint32{s.SPI}})
	return nil
}

func decodeTEK(s *gdoi.SAT) (TEK, error) {
	t := TEK{SPI: s.SPI, Lifetime: time.Duration(s.Life()) * time.Second}
	switch {
	case s.ESN:
		return t, unsupported("extended sequence numbers at SPI %#x", s.SPI)
	case s.Kilobytes != 0:
		return t, unsupported("lifetime in kilobytes at SPI %#x", s.SPI)
	case s.EffectivePreservation() != gdoi.PreserveBoth && s.Encap != gdoi.EncapTransport:
		return t, unsupported("tunnel without address preservation at SPI %#x", s.SPI)
	}
	switch s.Encap {
	case 0, gdoi.EncapTunnel:
	case gdoi.EncapTransport:
		t.Transform.Mode = ipsec.Transport
	default:
		return t, unsupported("encapsulation mode %d at SPI %#x", s.Encap, s.SPI)
	}
	switch s.EffectiveDirection() {
	case gdoi.Symmetric:
	case gdoi.ReceiverOnly:
		t.Direction = ipsec.InboundOnly
	default:
		return t, unsupported("direction %d at SPI %#x", s.Direction, s.SPI)
	}
	if !t.transform(s) {
		return t, unsupported("transform %d with authentication %d and %d-bit key at SPI %#x", s.Transform, s.Auth, s.KeyBits, s.SPI)
	}
	if r := s.Replay; r != nil {
		switch r.Mode {
		case gdoi.ReplayCounter:
			t.Replay = ipsec.Replay{Mode: ipsec.ReplayCounter, Window: int(r.Window)}
		case gdoi.ReplayTime:
			t.Replay = ipsec.Replay{Mode: ipsec.ReplayTime, Window: int(r.Window)}
		}
	}
	if m := s.Metadata; m != nil {
		t.Header, t.Tag = int(m.Header), m.SGT
	}
	if s.Age != nil {
		t.Age, t.HasAge = time.Duration(*s.Age)*time.Second, true
	}
	return t, nil
}

func (t *TEK) transform(s *gdoi.SAT) bool {
	x := &t.Transform
	x.KeyBits = int(s.KeyBits)
	switch s.Transform {
	case gdoi.ESPNull:
		x.Cipher = ipsec.CipherNull
	case gdoi.ESP3DES:
		x.Cipher = ipsec.Cipher3DES
	case gdoi.ESPAESCBC:
		x.Cipher = ipsec.CipherAESCBC
	case gdoi.ESPAESGCM8, gdoi.ESPAESGCM12, gdoi.ESPAESGCM16:
		x.Cipher = ipsec.CipherAESGCM
		x.ICVLen = map[gdoi.ESPTransform]int{gdoi.ESPAESGCM8: 8, gdoi.ESPAESGCM12: 12, gdoi.ESPAESGCM16: 16}[s.Transform]
	case gdoi.ESPGMAC:
		x.Cipher = ipsec.CipherAESGMAC
	default:
		return false
	}
	switch s.Auth {
	case 0:
	case gdoi.AuthHMACSHA1:
		x.Auth = ipsec.AuthSHA1
	case gdoi.AuthHMACSHA256:
		x.Auth = ipsec.AuthSHA256
	case gdoi.AuthHMACSHA384:
		x.Auth = ipsec.AuthSHA384
	case gdoi.AuthHMACSHA512:
		x.Auth = ipsec.AuthSHA512
	default:
		return false
	}
	return x.Validate() == nil
}

// selector is the permit that a SAT stands for.
func selector(s *gdoi.SAT) (ipsec.ACE, error) {
	if s.Exact != nil {
		e := fromWire(*s.Exact)
		if e.Action != ipsec.Permit {
			return e, reject("the entry of SPI %#x is a deny", s.SPI)
		}
		return e, nil
	}
	e := ipsec.ACE{Action: ipsec.Permit, Proto: s.IPProto}
	var err error
	if e.Src, err = match(s.Src, &e.Family, s.Src.IsAny()); err != nil {
		return e, err
	}
	if e.Dst, err = match(s.Dst, &e.Family, false); err != nil {
		return e, err
	}
	e.SrcPort, e.DstPort = port(s.Src.Port), port(s.Dst.Port)
	if e.NamesPorts() && e.Proto != 6 && e.Proto != 17 && e.Proto != 132 {
		return e, unsupported("a port with IP protocol %d at SPI %#x", e.Proto, s.SPI)
	}
	return e, nil
}

func match(id gdoi.Identity, family *ipsec.Family, anySender bool) (ipsec.AddrMatch, error) {
	if anySender {
		return ipsec.AddrMatch{}, nil // the destination names the family
	}
	addr, mask, ok := id.Mask()
	if !ok {
		return ipsec.AddrMatch{}, unsupported("identity of type %d in a data SA", id.Type)
	}
	f := ipsec.IPv4
	if id.Type == isakmp.IDIPv6 || id.Type == isakmp.IDIPv6Subnet {
		f = ipsec.IPv6
	}
	if *family != 0 && *family != f {
		return ipsec.AddrMatch{}, reject("source and destination of different families")
	}
	*family = f
	if mask.IsUnspecified() {
		return ipsec.AddrMatch{}, nil
	}
	return ipsec.AddrMatch{Addr: addr, Mask: mask}, nil
}

func port(p uint16) ipsec.PortMatch {
	if p == 0 {
		return ipsec.PortMatch{}
	}
	return ipsec.PortMatch{Op: ipsec.PortEq, Lo: p}
}

func fromWire(w gdoi.WireACE) ipsec.ACE {
	e := ipsec.ACE{
		Family: ipsec.IPv4, Proto: w.Proto, Src: ipsec.AddrMatch(w.Src), Dst: ipsec.AddrMatch(w.Dst),
		SrcPort:     ipsec.PortMatch{Op: ipsec.PortOp(w.SrcPort.Op), Lo: w.SrcPort.Lo, Hi: w.SrcPort.Hi},
		DstPort:     ipsec.PortMatch{Op: ipsec.PortOp(w.DstPort.Op), Lo: w.DstPort.Lo, Hi: w.DstPort.Hi},
		HasICMPType: w.HasICMPType, ICMPType: w.ICMPType,
	}
	if w.Permit {
		e.Action = ipsec.Permit
	}
	if w.IPv6 {
		e.Family = ipsec.IPv6
	}
	return e
}

func decodeSAK(s *gdoi.SAK) (*KEK, error) {
	switch {
	case s.Protocol != 17:
		return nil, reject("rekeys by IP protocol %d", s.Protocol)
	case s.Algorithm != gdoi.KEKAESCBC && s.Algorithm != gdoi.KEK3DES:
		return nil, unsupported("KEK algorithm %d", s.Algorithm)
	case s.SigAlgorithm != gdoi.SigRSA && (s.SigAlgorithm < gdoi.SigECDSA256 || s.SigAlgorithm > gdoi.SigECDSA521):
		return nil, unsupported("rekey signature algorithm %d", s.SigAlgorithm)
	case s.SigHash != 0 && (s.SigHash < gdoi.SigHashSHA1 || s.SigHash > gdoi.SigHashSHA512):
		return nil, unsupported("rekey signature hash %d", s.SigHash)
	}
	if _, _, ok := s.KeyOctets(); !ok {
		return nil, unsupported("KEK of %d bits", s.KeyBits)
	}
	k := &KEK{SPI: s.SPI, Cipher: s.Algorithm, KeyBits: int(s.KeyBits), Lifetime: time.Duration(s.Lifetime) * time.Second,
		SigHash: s.SigHash, SigAlg: s.SigAlgorithm, SigBits: int(s.SigKeyBits), Ack: s.Ack}
	if a, m, ok := s.Src.Mask(); ok && s.Src.Type == isakmp.AddrID(a).Type && m.IsValid() {
		k.Src = addrPort(a, s.Src.Port)
	}
	a, _, ok := s.Dst.Mask()
	if !ok || s.Dst.Type != isakmp.AddrID(a).Type {
		return nil, reject("rekeys don't go to an address")
	}
	k.Dst = addrPort(a, s.Dst.Port)
	if k.Lifetime == 0 {
		k.Lifetime = 24 * time.Hour // the vendor's default; RFC 6407 §5.3 doesn't require the attribute
	}
	return k, nil
}

// AddKeys gives the policy its keys; gdoi.Match must have held them against it. seq
// is the rekey sequence number of the SEQ payload.
func (o *Offer) AddKeys(kd *gdoi.KD, seq uint32) Keys {
	for i := range o.TEKs {
		for _, k := range kd.TEKs {
			if k.SPI == o.TEKs[i].SPI {
				o.TEKs[i].Key, o.TEKs[i].AuthKey = k.Algorithm, k.Integrity
			}
		}
	}
	if o.KEK != nil && kd.KEK != nil {
		n := 16
		if o.KEK.Cipher == gdoi.KEK3DES {
			n = 8
		}
		if b := kd.KEK.Algorithm; len(b) > n {
			o.KEK.IV, o.KEK.Key = b[:n], b[n:]
		}
		o.KEK.Public, o.KEK.Seq = kd.KEK.SigKey, seq
	}
	if kd.SIDs == nil {
		return Keys{}
	}
	return Keys{SIDBits: int(kd.SIDs.Bits), SIDs: kd.SIDs.Values}
}

func addrPort(a netip.Addr, p uint16) netip.AddrPort { return netip.AddrPortFrom(a, p) }
