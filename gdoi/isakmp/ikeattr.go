package isakmp

// Attributes of a phase 1 transform (RFC 2409 App. A; AES RFC 3602 §5; SHA-2
// RFC 4868 §4; groups RFC 3526, RFC 5903, RFC 5114).

// Classes of phase 1 attributes.
const (
	IKEEncryption   uint16 = 1
	IKEHash         uint16 = 2
	IKEAuth         uint16 = 3
	IKEGroup        uint16 = 4
	IKELifeType     uint16 = 11
	IKELifeDuration uint16 = 12
	IKEPRF          uint16 = 13
	IKEKeyLength    uint16 = 14
)

// Encryption algorithms (class 1).
const (
	IKEEncrDES    uint16 = 1
	IKEEncr3DES   uint16 = 5
	IKEEncrAESCBC uint16 = 7
)

// Hash algorithms (class 2).
const (
	IKEHashMD5    uint16 = 1
	IKEHashSHA1   uint16 = 2
	IKEHashSHA256 uint16 = 4
	IKEHashSHA384 uint16 = 5
	IKEHashSHA512 uint16 = 6
)

// Authentication methods (class 3).
const (
	IKEAuthPSK      uint16 = 1
	IKEAuthRSASig   uint16 = 3
	IKEAuthECDSA256 uint16 = 9
	IKEAuthECDSA384 uint16 = 10
	IKEAuthECDSA521 uint16 = 11
)

// Life types.
const (
	LifeSeconds   uint16 = 1
	LifeKilobytes uint16 = 2
)

// IKEAttrs is a phase 1 transform's content. Zero means absent. Lifetimes wider
// than 32 bits are taken as the greatest 32-bit value.
type IKEAttrs struct {
	Encryption, Hash, Auth, Group uint16
	KeyBits                       uint16
	PRF                           uint16
	Seconds, Kilobytes            uint32
	Other                         []Attr // classes that aren't known
}

// IKEAttrs decodes the transform's attributes. A class that comes twice (but for
// lifetimes, one of each type) is refused, as is a duration without its type.
func (t Transform) IKEAttrs() (IKEAttrs, error) {
	var x IKEAttrs
	var seen [16]bool
	var lifeType uint16
	var list []byte
	for _, a := range t.Attrs {
		list = AppendAttr(list, a)
	}
	d := NewAttrDecoder(PayloadTransform, list, 4)
	for a, ok := d.Next(); ok; a, ok = d.Next() {
		if a.Type < uint16(len(seen)) && a.Type != IKELifeType && a.Type != IKELifeDuration {
			if seen[a.Type] {
				d.Fail(AttributeRepeated, a)
			}
			seen[a.Type] = true
		}
		switch a.Type {
		case IKEEncryption:
			x.Encryption = d.Uint16(a)
		case IKEHash:
			x.Hash = d.Uint16(a)
		case IKEAuth:
			x.Auth = d.Uint16(a)
		case IKEGroup:
			x.Group = d.Uint16(a)
		case IKEKeyLength:
			x.KeyBits = d.Uint16(a)
		case IKEPRF:
			x.PRF = d.Uint16(a)
		case IKELifeType:
			lifeType = d.Uint16(a)
		case IKELifeDuration:
			d.Life(a, lifeType, &x.Seconds, &x.Kilobytes)
			lifeType = 0
		default:
			x.Other = append(x.Other, a)
		}
	}
	if d.err != nil {
		return IKEAttrs{}, d.err
	}
	return x, nil
}

// Life stores a life duration (1 to 8 octets) under the type that came before it
// (RFC 2407 §4.5, RFC 2409 App. A): one of each at most, type first. What doesn't
// fit 32 bits becomes the greatest value, since it is only ever a limit.
func (d *AttrDecoder) Life(a Attr, lifeType uint16, seconds, kilobytes *uint32) {
	v := min(d.Uint(a, 1<<64-1), 1<<32-1)
	to := seconds
	switch lifeType {
	case LifeSeconds:
	case LifeKilobytes:
		to = kilobytes
	default:
		d.Fail(AttributeValue, a)
		return
	}
	switch {
	case v == 0:
		d.Fail(AttributeValue, a)
	case *to != 0:
		d.Fail(AttributeRepeated, a)
	default:
		*to = uint32(v)
	}
}

// Attrs encodes the content in ascending class order.
func (x IKEAttrs) Attrs() []Attr {
	var out []Attr
	for _, b := range []struct{ class, value uint16 }{
		{IKEEncryption, x.Encryption}, {IKEHash, x.Hash}, {IKEAuth, x.Auth}, {IKEGroup, x.Group},
	} {
		if b.value != 0 {
			out = append(out, BasicAttr(b.class, b.value))
		}
	}
	if x.Seconds != 0 {
		out = append(out, BasicAttr(IKELifeType, LifeSeconds), VarAttr32(IKELifeDuration, x.Seconds))
	}
	if x.Kilobytes != 0 {
		out = append(out, BasicAttr(IKELifeType, LifeKilobytes), VarAttr32(IKELifeDuration, x.Kilobytes))
	}
	if x.PRF != 0 {
		out = append(out, BasicAttr(IKEPRF, x.PRF))
	}
	if x.KeyBits != 0 {
		out = append(out, BasicAttr(IKEKeyLength, x.KeyBits))
	}
	return append(out, x.Other...)
}
