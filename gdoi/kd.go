package gdoi

// The key download payload: key packets for TEKs, KEK and Sender IDs (RFC 6407
// §5.6); LKH arrays are in lkh.go.

import (
	"encoding/binary"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/secret"
)

// KD is a key download. What isn't known is kept: packets of unknown types as they
// came, private attributes in their packet.
type KD struct {
	TEKs    []TEKKey
	KEK     *KEKKey
	LKH     *LKHKeys
	SIDs    *SIDs
	Unknown []KeyPacket
}

// SecretAttr is an unknown attribute of a key packet: it may be a key.
type SecretAttr struct {
	Type  uint16
	Basic bool
	Value secret.Bytes
}

// TEKKey holds the keys of a data SA. Algorithm is cipher key then salt
// (RFC 6407 §5.6.1.1).
type TEKKey struct {
	SPI        uint32
	Algorithm  secret.Bytes
	Integrity  secret.Bytes
	SourceAuth secret.Bytes
	Private    []SecretAttr
}

// KEKKey holds the keys of the rekey SA. Algorithm is IV then key (§5.6.2.1);
// SigKey the public key that verifies rekeys, DER SubjectPublicKeyInfo.
type KEKKey struct {
	SPI       KEKSPI
	Algorithm secret.Bytes
	SigKey    []byte
	Private   []SecretAttr
}

// SIDs are Sender IDs for the member's exclusive use (§5.6.4), Bits wide each.
type SIDs struct {
	Bits    uint8
	Values  []uint32
	Private []SecretAttr
}

// MaxSIDBits is the widest Sender ID that has a use: the IV has 64 bits and SIDs
// travel in 4 octets at most.
const MaxSIDBits = 32

// KeyPacket is a key packet of a type that isn't known: body is all behind the
// length field.
type KeyPacket struct {
	Type uint8
	Body secret.Bytes
}

const maxKeyPackets = isakmp.MaxNested

// ParseKD reads a KD payload's body. At most one KEK, one LKH and one SID packet,
// and one packet a TEK, are allowed.
func ParseKD(body []byte, d Dialect) (*KD, error) {
	f := fields{b: body, payload: isakmp.PayloadKD}
	n, reserved := int(f.uint(2)), f.uint(2)
	switch {
	case f.err != nil:
		return nil, f.err
	case reserved != 0:
		return nil, malformed(isakmp.BadReserved, isakmp.PayloadKD, 2)
	case n > maxKeyPackets:
		return nil, malformed(isakmp.BadCount, isakmp.PayloadKD, 0)
	}
	k := &KD{}
	seen := map[uint32]bool{}
	for range n {
		start := f.off
		t, reserved, size := uint8(f.uint(1)), f.uint(1), int(f.uint(2))
		if f.err == nil && (reserved != 0 || t == 0) {
			f.fail(isakmp.BadReserved)
		}
		if f.err == nil && size < 4 {
			f.fail(isakmp.PayloadLengthBelowHeader)
		}
		packet := f.take(size - 4)
		if f.err != nil {
			return nil, f.err
		}
		p := keyPacket{fields{b: body[:f.off], off: f.off - len(packet), payload: isakmp.PayloadKD}, d}
		var err error
		switch {
		case t == kdTEK:
			var tek TEKKey
			if tek, err = p.tek(); err == nil && seen[tek.SPI] {
				err = malformed(isakmp.PayloadRepeated, isakmp.PayloadKD, start)
			}
			seen[tek.SPI] = true
			k.TEKs = append(k.TEKs, tek)
		case t == kdKEK && k.KEK == nil:
			k.KEK, err = p.kek()
		case t == kdLKH && k.LKH == nil:
			k.LKH, err = p.lkh()
		case t == kdSID && k.SIDs == nil:
			k.SIDs, err = p.sids()
		case t <= kdSID:
			err = malformed(isakmp.PayloadRepeated, isakmp.PayloadKD, start)
		default:
			k.Unknown = append(k.Unknown, KeyPacket{Type: t, Body: secret.Bytes(packet).Clone()})
		}
		if err != nil {
			return nil, err
		}
	}
	if f.off != len(body) {
		return nil, malformed(isakmp.TrailingBody, isakmp.PayloadKD, f.off)
	}
	return k, nil
}

// keyPacket reads one packet behind its length.
type keyPacket struct {
	fields
	d Dialect
}

// spi reads the SPI, which must have the size.
func (p *keyPacket) spi(size int) []byte {
	if n := int(p.uint(1)); p.err == nil && n != size {
		p.off--
		p.fail(isakmp.BadSPISize)
	}
	return p.take(size)
}

// attrs calls known for each attribute; false from it means that the attribute
// isn't one of the packet's own.
func (p *keyPacket) attrs(private func(uint16) bool, keep *[]SecretAttr, known func(*isakmp.AttrDecoder, isakmp.Attr) bool) error {
	list, off := p.rest()
	if p.err != nil {
		return p.err
	}
	dec := isakmp.NewAttrDecoder(isakmp.PayloadKD, list, off)
	for a, ok := dec.Next(); ok; a, ok = dec.Next() {
		if known(dec, a) {
			continue
		}
		switch {
		case !private(a.Type):
			dec.Fail(isakmp.AttributeUnknown, a)
		case p.d.Strict:
			dec.Fail(isakmp.AttributePrivate, a)
		default:
			*keep = append(*keep, SecretAttr{a.Type, a.Basic, secret.Bytes(a.Value).Clone()})
		}
	}
	return dec.Err()
}

// once stores a key that may come once and isn't empty.
func once(dec *isakmp.AttrDecoder, a isakmp.Attr, to *secret.Bytes) bool {
	switch {
	case *to != nil:
		dec.Fail(isakmp.AttributeRepeated, a)
	case len(a.Value) == 0:
		dec.Fail(isakmp.AttributeWidth, a)
	default:
		*to = secret.Bytes(a.Value).Clone()
	}
	return true
}

func (p *keyPacket) tek() (TEKKey, error) {
	var t TEKKey
	if spi := p.spi(4); spi != nil {
		t.SPI = binary.BigEndian.Uint32(spi)
	}
	err := p.attrs(privateGAP, &t.Private, func(dec *isakmp.AttrDecoder, a isakmp.Attr) bool {
		switch a.Type {
		case tekAlgorithmKey:
			return once(dec, a, &t.Algorithm)
		case tekIntegrityKey:
			return once(dec, a, &t.Integrity)
		case tekSourceAuthKey:
			return once(dec, a, &t.SourceAuth)
		}
		return false
	})
	return t, err
}

func (p *keyPacket) kek() (*KEKKey, error) {
	k := &KEKKey{}
	copy(k.SPI[:], p.spi(len(k.SPI)))
	var sig secret.Bytes
	err := p.attrs(privateGAP, &k.Private, func(dec *isakmp.AttrDecoder, a isakmp.Attr) bool {
		switch a.Type {
		case kekAlgorithmKey:
			return once(dec, a, &k.Algorithm)
		case kekSigAlgorithmKey:
			return once(dec, a, &sig)
		}
		return false
	})
	k.SigKey = sig
	return k, err
}

// sids reads Sender IDs of 1 to 4 octets each: RFC 6407 gives no width.
func (p *keyPacket) sids() (*SIDs, error) {
	s := &SIDs{}
	p.spi(0)
	err := p.attrs(privateSID, &s.Private, func(dec *isakmp.AttrDecoder, a isakmp.Attr) bool {
		switch a.Type {
		case sidBits:
			if s.Bits != 0 {
				dec.Fail(isakmp.AttributeRepeated, a)
			}
			v := nonZero(dec, a)
			if v > MaxSIDBits {
				dec.Fail(isakmp.AttributeValue, a)
				return true
			}
			s.Bits = uint8(v)
		case sidValue:
			s.Values = append(s.Values, dec.Uint32(a))
			if len(a.Value) > 4 {
				dec.Fail(isakmp.AttributeWidth, a)
			}
		default:
			return false
		}
		return true
	})
	return s, err
}

// Payload encodes the download: TEKs, KEK, LKH, SIDs, unknown ones.
func (k *KD) Payload() isakmp.Payload {
	b := make([]byte, 4)
	n := 0
	add := func(t uint8, spi []byte, attrs []byte) {
		b = appendPacketHeader(b, t, 1+len(spi)+len(attrs))
		b = append(b, byte(len(spi)))
		b = append(append(b, spi...), attrs...)
		n++
	}
	for i := range k.TEKs {
		t := &k.TEKs[i]
		a := appendKey(nil, tekAlgorithmKey, t.Algorithm)
		a = appendKey(a, tekIntegrityKey, t.Integrity)
		a = appendKey(a, tekSourceAuthKey, t.SourceAuth)
		add(kdTEK, binary.BigEndian.AppendUint32(nil, t.SPI), appendSecrets(a, t.Private))
	}
	if k.KEK != nil {
		a := appendKey(nil, kekAlgorithmKey, k.KEK.Algorithm)
		a = appendKey(a, kekSigAlgorithmKey, k.KEK.SigKey)
		add(kdKEK, k.KEK.SPI[:], appendSecrets(a, k.KEK.Private))
	}
	if k.LKH != nil {
		add(kdLKH, k.LKH.SPI[:], k.LKH.attrs())
	}
	if s := k.SIDs; s != nil {
		a := appendNonZero(nil, sidBits, uint16(s.Bits))
		for _, v := range s.Values {
			a = isakmp.AppendVar(a, sidValue, sidOctets(v, s.Bits))
		}
		add(kdSID, nil, appendSecrets(a, s.Private))
	}
	for _, u := range k.Unknown {
		b = append(appendPacketHeader(b, u.Type, len(u.Body)), u.Body...)
		n++
	}
	binary.BigEndian.PutUint16(b, uint16(n))
	return isakmp.Payload{Type: isakmp.PayloadKD, Body: b}
}

// sidOctets writes a Sender ID in as many octets as its bits need, big-endian.
func sidOctets(v uint32, bits uint8) []byte {
	n := (int(bits) + 7) / 8
	if n == 0 || n > 4 || n < 4 && v>>(8*n) != 0 {
		n = 4
	}
	return binary.BigEndian.AppendUint32(nil, v)[4-n:]
}

func appendPacketHeader(b []byte, t uint8, n int) []byte {
	b = append(b, t, 0)
	return binary.BigEndian.AppendUint16(b, uint16(4+n))
}

func appendKey(b []byte, class uint16, key []byte) []byte {
	if len(key) == 0 {
		return b
	}
	return isakmp.AppendVar(b, class, key)
}

func appendSecrets(b []byte, attrs []SecretAttr) []byte {
	for _, a := range attrs {
		b = isakmp.AppendAttr(b, isakmp.Attr{Type: a.Type, Basic: a.Basic, Value: a.Value})
	}
	return b
}

// Zero overwrites all keys, and what might be one.
func (k *KD) Zero() {
	for i := range k.TEKs {
		t := &k.TEKs[i]
		t.Algorithm.Zero()
		t.Integrity.Zero()
		t.SourceAuth.Zero()
		zeroSecrets(t.Private)
	}
	if k.KEK != nil {
		k.KEK.Algorithm.Zero()
		zeroSecrets(k.KEK.Private)
	}
	if k.LKH != nil {
		k.LKH.zero()
	}
	for _, u := range k.Unknown {
		u.Body.Zero()
	}
}

func zeroSecrets(attrs []SecretAttr) {
	for _, a := range attrs {
		a.Value.Zero()
	}
}
