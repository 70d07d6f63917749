package isakmp

// Data attributes (RFC 2408 §3.3). AttrDecoder is the only reader of them in this
// repository; it keeps its first error. Integers are taken in both forms, TV and
// TLV, since a variable one may be sent as TV when it fits (RFC 2409 App. A). The
// encoder sends a basic attribute as TV only and a variable one as TLV only.

import "encoding/binary"

// MaxAttributes is how many attributes one payload may have.
const MaxAttributes = 1024

const attrBasic = 0x8000

// Attr is one attribute. Value holds the 2 octets of a basic one.
type Attr struct {
	Type  uint16 // without the AF bit
	Basic bool   // came, or goes, as TV
	Value []byte
}

// BasicAttr makes a TV attribute.
func BasicAttr(t uint16, v uint16) Attr {
	return Attr{Type: t, Basic: true, Value: binary.BigEndian.AppendUint16(nil, v)}
}

// VarAttr makes a TLV attribute.
func VarAttr(t uint16, v []byte) Attr { return Attr{Type: t, Value: v} }

// VarAttr32 makes a TLV attribute of a 4-octet number.
func VarAttr32(t uint16, v uint32) Attr {
	return Attr{Type: t, Value: binary.BigEndian.AppendUint32(nil, v)}
}

// AppendAttr appends the attribute in its own form.
func AppendAttr(dst []byte, a Attr) []byte {
	if a.Basic {
		dst = binary.BigEndian.AppendUint16(dst, a.Type|attrBasic)
		return append(dst, a.Value[:2]...)
	}
	dst = binary.BigEndian.AppendUint16(dst, a.Type&^attrBasic)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(a.Value)))
	return append(dst, a.Value...)
}

// AppendBasic appends a TV attribute.
func AppendBasic(dst []byte, t uint16, v uint16) []byte {
	dst = binary.BigEndian.AppendUint16(dst, t|attrBasic)
	return binary.BigEndian.AppendUint16(dst, v)
}

// AppendVar appends a TLV attribute. A value above 65535 octets makes the payload
// too long for AppendChain, which then says so.
func AppendVar(dst []byte, t uint16, v []byte) []byte {
	return AppendAttr(dst, VarAttr(t, v))
}

// AppendVar32 appends a TLV attribute of a 4-octet number.
func AppendVar32(dst []byte, t uint16, v uint32) []byte {
	return AppendAttr(dst, VarAttr32(t, v))
}

// AttrDecoder walks a list of attributes that must end exactly at the end of its
// octets. Its zero value is an empty list.
type AttrDecoder struct {
	b       []byte
	off     int // of b within the payload's body
	payload PayloadType
	n       int
	at      int // offset of the current attribute
	err     error
}

// NewAttrDecoder reads b, which stands at offset in the body of a payload of type
// p (for errors).
func NewAttrDecoder(p PayloadType, b []byte, offset int) *AttrDecoder {
	return &AttrDecoder{b: b, off: offset, payload: p}
}

// Next returns the next attribute; false at the end and after any error.
func (d *AttrDecoder) Next() (Attr, bool) {
	if d.err != nil || len(d.b) == 0 {
		return Attr{}, false
	}
	d.at = d.off
	switch {
	case d.n == MaxAttributes:
		d.err = malformed(TooManyAttributes, d.payload, d.off)
		return Attr{}, false
	case len(d.b) < 4:
		d.err = malformed(ShortAttribute, d.payload, d.off)
		return Attr{}, false
	}
	d.n++
	t := binary.BigEndian.Uint16(d.b)
	if t&attrBasic != 0 {
		a := Attr{Type: t &^ attrBasic, Basic: true, Value: d.b[2:4:4]}
		d.b, d.off = d.b[4:], d.off+4
		return a, true
	}
	n := int(binary.BigEndian.Uint16(d.b[2:]))
	if n > len(d.b)-4 {
		d.err = &MalformedError{Reason: AttributeOverrun, Payload: d.payload, Offset: d.off, Attr: t}
		return Attr{}, false
	}
	a := Attr{Type: t, Value: d.b[4 : 4+n : 4+n]}
	d.b, d.off = d.b[4+n:], d.off+4+n
	return a, true
}

// Err is the first error.
func (d *AttrDecoder) Err() error { return d.err }

// Fail makes r the error at the attribute that Next returned last, unless there is
// one already.
func (d *AttrDecoder) Fail(r Reason, a Attr) {
	if d.err == nil {
		d.err = &MalformedError{Reason: r, Payload: d.payload, Offset: d.at, Attr: a.Type}
	}
}

// Uint reads a as an integer of at most max, in either form, of 1 to 8 octets.
// Anything else is an error.
func (d *AttrDecoder) Uint(a Attr, max uint64) uint64 {
	v, ok := a.Uint()
	if !ok || v > max {
		d.Fail(AttributeWidth, a)
		return 0
	}
	return v
}

// Uint16 reads a as a 16-bit integer.
func (d *AttrDecoder) Uint16(a Attr) uint16 { return uint16(d.Uint(a, 1<<16-1)) }

// Uint32 reads a as a 32-bit integer.
func (d *AttrDecoder) Uint32(a Attr) uint32 { return uint32(d.Uint(a, 1<<32-1)) }

// Uint returns the value as a big-endian integer; false unless it has 1 to 8
// octets.
func (a Attr) Uint() (uint64, bool) {
	if len(a.Value) == 0 || len(a.Value) > 8 {
		return 0, false
	}
	var v uint64
	for _, c := range a.Value {
		v = v<<8 | uint64(c)
	}
	return v, true
}

// ParseAttrs reads a whole list as it is.
func ParseAttrs(p PayloadType, b []byte, offset int) ([]Attr, error) {
	var attrs []Attr
	d := NewAttrDecoder(p, b, offset)
	for a, ok := d.Next(); ok; a, ok = d.Next() {
		attrs = append(attrs, a)
	}
	if d.err != nil {
		return nil, d.err
	}
	return attrs, nil
}
