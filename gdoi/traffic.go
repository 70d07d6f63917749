package gdoi

// The identities inside SAK and SAT (RFC 6407 §5.3, §5.5.1): type, port, length,
// data, and what they mean as addresses.

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"getvpn/gdoi/isakmp"
)

// Identity is a source or destination inside a SAK or SAT. Port 0 means any. A
// source of type 0 or without data, or with three zero octets, is any sender.
type Identity struct {
	Type isakmp.IDType
	Port uint16
	Data []byte
}

// AddrIdentity names one address.
func AddrIdentity(a netip.Addr, port uint16) Identity {
	id := isakmp.AddrID(a)
	return Identity{Type: id.Type, Port: port, Data: id.Data}
}

// MaskIdentity names the addresses that agree with addr in the bits of mask, which
// needn't be contiguous. A mask of ones gives the address form.
func MaskIdentity(addr, mask netip.Addr, port uint16) Identity {
	a, m := addr.AsSlice(), mask.AsSlice()
	if bytes.Count(m, []byte{0xff}) == len(m) {
		return AddrIdentity(addr, port)
	}
	t := isakmp.IDIPv4Subnet
	if len(a) == 16 {
		t = isakmp.IDIPv6Subnet
	}
	return Identity{Type: t, Port: port, Data: append(a, m...)}
}

// IsAny reports whether the identity is the RFC's "any sender".
func (id Identity) IsAny() bool {
	return len(id.Data) == 0 || len(id.Data) == 3 && bytes.Equal(id.Data, []byte{0, 0, 0})
}

// Mask returns address and mask of an address or subnet identity, host bits
// cleared; false for other types and for any sender.
func (id Identity) Mask() (addr, mask netip.Addr, ok bool) {
	if len(id.Data) == 0 || len(id.Data) != id.Type.DataLen() {
		return addr, mask, false
	}
	switch id.Type {
	case isakmp.IDIPv4, isakmp.IDIPv6:
		addr, _ = netip.AddrFromSlice(id.Data)
		mask, _ = netip.AddrFromSlice(bytes.Repeat([]byte{0xff}, len(id.Data)))
	case isakmp.IDIPv4Subnet, isakmp.IDIPv6Subnet:
		n := len(id.Data) / 2
		a := make([]byte, n)
		for i := range a {
			a[i] = id.Data[i] & id.Data[n+i]
		}
		addr, _ = netip.AddrFromSlice(a)
		mask, _ = netip.AddrFromSlice(id.Data[n:])
	default:
		return addr, mask, false
	}
	return addr, mask, true
}

// Range returns first and last address of a range identity.
func (id Identity) Range() (first, last netip.Addr, ok bool) {
	if id.Type != isakmp.IDIPv4Range && id.Type != isakmp.IDIPv6Range || len(id.Data) != id.Type.DataLen() {
		return first, last, false
	}
	n := len(id.Data) / 2
	first, _ = netip.AddrFromSlice(id.Data[:n])
	last, _ = netip.AddrFromSlice(id.Data[n:])
	return first, last, true
}

func (id Identity) appendTo(b []byte, wide bool) []byte {
	b = append(b, byte(id.Type))
	b = binary.BigEndian.AppendUint16(b, id.Port)
	if wide {
		b = binary.BigEndian.AppendUint16(b, uint16(len(id.Data)))
	} else {
		b = append(b, byte(len(id.Data)))
	}
	return append(b, id.Data...)
}

// fields reads fixed fields of a body with a sticky error.
type fields struct {
	b       []byte
	off     int
	payload isakmp.PayloadType
	err     error
}

func (f *fields) take(n int) []byte {
	if f.err != nil {
		return nil
	}
	if n > len(f.b)-f.off {
		f.fail(isakmp.ShortBody)
		return nil
	}
	f.off += n
	return f.b[f.off-n : f.off]
}

func (f *fields) fail(r isakmp.Reason) {
	if f.err == nil {
		f.err = malformed(r, f.payload, f.off)
	}
}

func (f *fields) uint(n int) uint32 {
	var v uint32
	for _, c := range f.take(n) {
		v = v<<8 | uint32(c)
	}
	return v
}

// rest returns what is left and its offset.
func (f *fields) rest() ([]byte, int) {
	if f.err != nil {
		return nil, f.off
	}
	return f.b[f.off:], f.off
}

// identity reads an Identity with a length field of width octets. Types of fixed
// length must have it; source allows the forms of any sender. With onlyAddrs other
// types are refused.
func (f *fields) identity(width int, source, onlyAddrs bool) Identity {
	id := Identity{Type: isakmp.IDType(f.uint(1)), Port: uint16(f.uint(2))}
	at := f.off
	n := int(f.uint(width))
	id.Data = bytes.Clone(f.take(n))
	if f.err != nil || source && id.IsAny() {
		return id
	}
	want := id.Type.DataLen()
	unknown := id.Type == 0 || id.Type > isakmp.IDOID
	if want != 0 && n != want || want == 0 && (onlyAddrs || unknown || n == 0) {
		f.off = at
		f.fail(isakmp.BadID)
	}
	return id
}
