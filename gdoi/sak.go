package gdoi

// SA KEK payload: the policy of the rekey SA (RFC 6407 §5.3, RFC 8263 §2).

import "getvpn/gdoi/isakmp"

// KEKSPI names a rekey SA: both cookies of its GROUPKEY-PUSH headers.
type KEKSPI [16]byte

// Cookies splits the SPI (RFC 6407 §5.3).
func (s KEKSPI) Cookies() (initiator, responder isakmp.Cookie) {
	return isakmp.Cookie(s[:8]), isakmp.Cookie(s[8:])
}

// SAK is the policy of the rekey SA. Zero means absent. KeyBits counts the key
// alone, without IV. Lifetime is in seconds. Management must be absent in PULL and
// is ignored there.
type SAK struct {
	Protocol     uint8 // IP protocol of GROUPKEY-PUSH: 17
	Src, Dst     Identity
	SPI          KEKSPI
	Management   uint16
	Algorithm    KEKAlgorithm
	KeyBits      uint16
	Lifetime     uint32
	SigHash      SigHash
	SigAlgorithm SigAlgorithm
	SigKeyBits   uint16
	Ack          AckRequest
	Private      []isakmp.Attr // classes 128-255, kept as they came
}

// KeyOctets returns how long IV and key of the KEK are; ok is false when the
// algorithm isn't known or the length isn't one of its own (RFC 6407 §5.3.3,
// §5.6.2.1).
func (s *SAK) KeyOctets() (iv, key int, ok bool) {
	switch s.Algorithm {
	case KEKDES:
		return 8, 8, s.KeyBits == 0 || s.KeyBits == 64 || s.KeyBits == 56
	case KEK3DES:
		return 8, 24, s.KeyBits == 0 || s.KeyBits == 192 || s.KeyBits == 168
	case KEKAESCBC:
		return 16, int(s.KeyBits) / 8, s.KeyBits == 128 || s.KeyBits == 192 || s.KeyBits == 256
	}
	return 0, 0, false
}

// parseSAK reads a SAK's body. The RFC has 1-octet ID lengths and 4 reserved
// octets; peers exist with 2-octet lengths and with 6 reserved octets. The RFC's
// reading is tried first and names the error when none fits.
func parseSAK(body []byte, d Dialect) (*SAK, error) {
	var first error
	for _, layout := range [...]struct{ width, reserved int }{{1, 4}, {1, 6}, {2, 4}, {2, 6}} {
		s, err := parseSAKAs(body, layout.width, layout.reserved, d)
		if err == nil {
			return s, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func parseSAKAs(body []byte, width, reserved int, d Dialect) (*SAK, error) {
	f := fields{b: body, payload: isakmp.PayloadSAK}
	s := &SAK{Protocol: uint8(f.uint(1))}
	s.Src = f.identity(width, true, false)
	s.Dst = f.identity(width, false, false)
	copy(s.SPI[:], f.take(16))
	for _, c := range f.take(reserved) {
		if c != 0 {
			f.off -= reserved
			f.fail(isakmp.BadReserved)
		}
	}
	if f.err != nil {
		return nil, f.err
	}
	list, off := f.rest()
	if err := s.attributes(isakmp.NewAttrDecoder(isakmp.PayloadSAK, list, off), d); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *SAK) attributes(dec *isakmp.AttrDecoder, d Dialect) error {
	var seen classSet
	for a, ok := dec.Next(); ok; a, ok = dec.Next() {
		if !privateGAP(a.Type) && seen.again(a.Type) {
			dec.Fail(isakmp.AttributeRepeated, a)
		}
		switch a.Type {
		case sakManagement:
			s.Management = nonZero(dec, a)
		case sakAlgorithm:
			s.Algorithm = KEKAlgorithm(nonZero(dec, a))
		case sakKeyLength:
			s.KeyBits = nonZero(dec, a)
		case sakKeyLifetime:
			if s.Lifetime = dec.Uint32(a); s.Lifetime == 0 {
				dec.Fail(isakmp.AttributeValue, a)
			}
		case sakSigHash:
			s.SigHash = SigHash(nonZero(dec, a))
		case sakSigAlgorithm:
			s.SigAlgorithm = SigAlgorithm(nonZero(dec, a))
		case sakSigKeyLength:
			s.SigKeyBits = nonZero(dec, a)
		case sakOakleyGroup: // RFC 3547 §5.3.9; reserved now
		case sakAckRequested:
			s.Ack = AckRequest(nonZero(dec, a))
		default:
			keepPrivate(dec, a, privateGAP(a.Type), d, &s.Private)
		}
	}
	if dec.Err() != nil {
		return dec.Err()
	}
	switch {
	case s.Algorithm == 0:
		return missing(sakAlgorithm)
	case s.SigAlgorithm == 0:
		return missing(sakSigAlgorithm)
	}
	return nil
}

func missing(class uint16) error {
	return &isakmp.MalformedError{Reason: isakmp.AttributeMissing, Payload: isakmp.PayloadSAK, Attr: class}
}

// nonZero reads a 16-bit integer whose value 0 is reserved.
func nonZero(dec *isakmp.AttrDecoder, a isakmp.Attr) uint16 {
	v := dec.Uint16(a)
	if v == 0 {
		dec.Fail(isakmp.AttributeValue, a)
	}
	return v
}

// keepPrivate keeps an attribute of a private range; unknown IANA ones, and in a
// strict dialect private ones too, are refused (RFC 6407 §5.3.2, §5.4).
func keepPrivate(dec *isakmp.AttrDecoder, a isakmp.Attr, private bool, d Dialect, to *[]isakmp.Attr) {
	switch {
	case !private:
		dec.Fail(isakmp.AttributeUnknown, a)
	case d.Strict:
		dec.Fail(isakmp.AttributePrivate, a)
	default:
		*to = append(*to, cloneAttr(a))
	}
}

func cloneAttr(a isakmp.Attr) isakmp.Attr {
	a.Value = append([]byte(nil), a.Value...)
	return a
}

func (s *SAK) body(d Dialect) []byte {
	b := []byte{s.Protocol}
	b = s.Src.appendTo(b, d.WideIDs)
	b = s.Dst.appendTo(b, d.WideIDs)
	b = append(b, s.SPI[:]...)
	b = append(b, 0, 0, 0, 0)
	if d.LongReserved {
		b = append(b, 0, 0)
	}
	b = appendNonZero(b, sakManagement, s.Management)
	b = appendNonZero(b, sakAlgorithm, uint16(s.Algorithm))
	b = appendNonZero(b, sakKeyLength, s.KeyBits)
	if s.Lifetime != 0 {
		b = isakmp.AppendVar32(b, sakKeyLifetime, s.Lifetime)
	}
	b = appendNonZero(b, sakSigHash, uint16(s.SigHash))
	b = appendNonZero(b, sakSigAlgorithm, uint16(s.SigAlgorithm))
	b = appendNonZero(b, sakSigKeyLength, s.SigKeyBits)
	b = appendNonZero(b, sakAckRequested, uint16(s.Ack))
	return appendAttrs(b, s.Private)
}

func appendNonZero(b []byte, class, v uint16) []byte {
	if v == 0 {
		return b
	}
	return isakmp.AppendBasic(b, class, v)
}

func appendAttrs(b []byte, attrs []isakmp.Attr) []byte {
	for _, a := range attrs {
		b = isakmp.AppendAttr(b, a)
	}
	return b
}
