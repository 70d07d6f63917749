package gdoi

// Access list entries on the wire. RFC 6407 has a form for what is protected (a SAT)
// and none for what isn't, nor for arbitrary port comparisons. Ours, version 1:
//
//	version 1, reserved 1, count 2, then for each entry
//	before 2, flags 1, IP protocol 1, source port op 1, destination port op 1,
//	[source address, mask] [destination address, mask]    4 or 16 octets each
//	[source port low 2, high 2] [destination port low 2, high 2] [ICMP type 1]
//
// What stands in brackets is there when flags or op say so. One value has one
// encoding: unknown flags, trailing octets and bits outside a mask are refused.

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// WireACE is one access list entry. Before is how many of the SA's SATs stand in
// front of it: a list of denies and SATs in the order of their places is the key
// server's list. Entries with the same place keep their own order. Comparable.
type WireACE struct {
	Before           uint16
	Permit           bool
	IPv6             bool
	Proto            uint8 // 0: any
	Src, Dst         WireAddr
	SrcPort, DstPort WirePort
	HasICMPType      bool
	ICMPType         uint8
}

// WireAddr matches addresses that agree in the mask's bits. The zero value matches
// any. Bits of Addr outside the mask are zero.
type WireAddr struct{ Addr, Mask netip.Addr }

// PortOp compares a port.
type PortOp uint8

const (
	PortAny PortOp = iota
	PortEq
	PortNeq
	PortLt
	PortGt
	PortRange
)

// WirePort compares a port with Lo, and with Hi when Op is PortRange (else Hi is 0).
type WirePort struct {
	Op     PortOp
	Lo, Hi uint16
}

const (
	aceVersion = 1
	maxACEs    = 1024
)

const (
	acePermit byte = 1 << iota
	aceIPv6
	aceSrc
	aceDst
	aceICMP
	aceFlags = acePermit | aceIPv6 | aceSrc | aceDst | aceICMP
)

var errACE = errors.New("gdoi: malformed access list")

// AppendACEs appends the list.
func AppendACEs(dst []byte, list []WireACE) []byte {
	dst = append(dst, aceVersion, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(list)))
	for _, e := range list {
		dst = e.append(dst)
	}
	return dst
}

func (e WireACE) append(dst []byte) []byte {
	var flags byte
	set := func(on bool, f byte) {
		if on {
			flags |= f
		}
	}
	set(e.Permit, acePermit)
	set(e.IPv6, aceIPv6)
	set(e.Src.Addr.IsValid(), aceSrc)
	set(e.Dst.Addr.IsValid(), aceDst)
	set(e.HasICMPType, aceICMP)
	dst = binary.BigEndian.AppendUint16(dst, e.Before)
	dst = append(dst, flags, e.Proto, byte(e.SrcPort.Op), byte(e.DstPort.Op))
	for _, a := range [...]WireAddr{e.Src, e.Dst} {
		dst = append(dst, a.Addr.AsSlice()...)
		dst = append(dst, a.Mask.AsSlice()...)
	}
	for _, p := range [...]WirePort{e.SrcPort, e.DstPort} {
		if p.Op != PortAny {
			dst = binary.BigEndian.AppendUint16(dst, p.Lo)
			dst = binary.BigEndian.AppendUint16(dst, p.Hi)
		}
	}
	if e.HasICMPType {
		dst = append(dst, e.ICMPType)
	}
	return dst
}

// ParseACEs reads a list.
func ParseACEs(b []byte) ([]WireACE, error) {
	f := fields{b: b}
	version, reserved, n := f.uint(1), f.uint(1), int(f.uint(2))
	if f.err != nil || version != aceVersion || reserved != 0 || n > maxACEs {
		return nil, errACE
	}
	var list []WireACE
	for range n {
		e, ok := f.ace()
		if !ok || len(list) > 0 && e.Before < list[len(list)-1].Before {
			return nil, errACE
		}
		list = append(list, e)
	}
	if f.off != len(b) {
		return nil, errACE
	}
	return list, nil
}

func (f *fields) ace() (WireACE, bool) {
	e := WireACE{Before: uint16(f.uint(2))}
	flags := byte(f.uint(1))
	e.Permit, e.IPv6, e.HasICMPType = flags&acePermit != 0, flags&aceIPv6 != 0, flags&aceICMP != 0
	e.Proto = uint8(f.uint(1))
	e.SrcPort.Op, e.DstPort.Op = PortOp(f.uint(1)), PortOp(f.uint(1))
	size := 4
	if e.IPv6 {
		size = 16
	}
	ok := flags&^aceFlags == 0
	if flags&aceSrc != 0 {
		ok = f.maskedAddr(&e.Src, size) && ok
	}
	if flags&aceDst != 0 {
		ok = f.maskedAddr(&e.Dst, size) && ok
	}
	ok = f.port(&e.SrcPort) && f.port(&e.DstPort) && ok
	if e.HasICMPType {
		e.ICMPType = uint8(f.uint(1))
		ok = ok && (e.Proto == 1 || e.Proto == 58)
	}
	if e.SrcPort.Op != PortAny || e.DstPort.Op != PortAny {
		ok = ok && (e.Proto == 6 || e.Proto == 17 || e.Proto == 132)
	}
	return e, ok && f.err == nil
}

func (f *fields) maskedAddr(a *WireAddr, size int) bool {
	addr, mask := f.take(size), f.take(size)
	for i := range mask {
		if addr[i]&^mask[i] != 0 {
			return false
		}
	}
	a.Addr, _ = netip.AddrFromSlice(addr)
	a.Mask, _ = netip.AddrFromSlice(mask)
	return f.err == nil
}

func (f *fields) port(p *WirePort) bool {
	if p.Op == PortAny {
		return true
	}
	p.Lo, p.Hi = uint16(f.uint(2)), uint16(f.uint(2))
	switch p.Op {
	case PortRange:
		return p.Lo <= p.Hi
	case PortEq, PortNeq, PortLt, PortGt:
		return p.Hi == 0
	}
	return false
}
