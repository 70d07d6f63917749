package dataplane

// Joins consecutive segments of a flow to one super-packet before it is written to
// the TAP, the opposite of segment.go. A packet joins only if cutting the result
// again would give back what came: same headers, right checksum, next in sequence.
// The payloads aren't copied: an item is a list of pieces of the receive ring, which
// one writev gathers.

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const (
	vlanLen       = 4
	etherVLAN     = 0x8100
	coalesceFlows = 64 // direct-mapped; a collision only ends an item early
	maxPieces     = 128
)

// piece is a part of a super-packet: a whole first packet, or a later one's payload.
type piece struct {
	b    []byte
	next int32 // index of the following piece, -1 at the end
}

// item is what one write to the TAP carries.
type item struct {
	hdr         [vnetLen + etherLen + vlanLen]byte
	first, last int32
	ip          []byte // first packet
	meta        packet
	size        int    // payload octets a segment
	total       int    // octets of the IP packet so far
	count       int    // packets
	seq         uint32 // TCP: next sequence number
	open        bool   // may grow
	sgt         uint16 // security group tag, 0 for none
}

// coalescer gathers one batch. It keeps no reference after reset.
type coalescer struct {
	items  []item
	pieces []piece
	flows  [coalesceFlows]int32 // index of the flow's open item + 1
	udp    bool                 // join UDP datagrams too
	iov    []unix.Iovec
}

// newCoalescer makes one for batches of n packets.
func newCoalescer(n int) *coalescer {
	return &coalescer{items: make([]item, 0, n), pieces: make([]piece, 0, n), udp: true,
		iov: make([]unix.Iovec, maxPieces+2)}
}

func (c *coalescer) reset() {
	c.items, c.pieces = c.items[:0], c.pieces[:0]
	c.flows = [coalesceFlows]int32{}
}

// add takes a packet that p describes, cut to its length, with the Ethernet header
// to write in front of it, and its security group tag. Packets of one flow leave in the
// order of add.
func (c *coalescer) add(eth []byte, ip []byte, p *packet, sgt uint16) {
	slot := -1
	if hdr, size, ok := c.joinable(ip, p); ok {
		slot = flowSlot(ip, p)
		if at := c.flows[slot]; at > 0 && c.items[at-1].sgt == sgt && c.join(&c.items[at-1], ip, p, hdr, size) {
			return
		}
		c.flows[slot] = int32(len(c.items)) + 1
		c.push(eth, ip, p, sgt)
		it := &c.items[len(c.items)-1]
		it.open, it.size = true, size
		if p.proto == protoTCP {
			it.seq = binary.BigEndian.Uint32(ip[p.l4+4:]) + uint32(size)
			it.open = ip[p.l4+13]&0x08 == 0 // PSH ends a super-packet
		}
		return
	}
	if p.proto == protoTCP || p.proto == protoUDP {
		// A packet that can't join must not be overtaken by its flow's next ones.
		c.flows[flowSlot(ip, p)] = 0
	}
	c.push(eth, ip, p, sgt)
}

func (c *coalescer) push(eth, ip []byte, p *packet, sgt uint16) {
	n := int32(len(c.pieces))
	c.pieces = append(c.pieces, piece{ip, -1})
	c.items = append(c.items, item{first: n, last: n, ip: ip, meta: *p, total: len(ip), count: 1, sgt: sgt})
	copy(c.items[len(c.items)-1].hdr[vnetLen:], eth)
}

// joinable reports whether a packet may be part of a super-packet, with the length
// of its headers and payload.
func (c *coalescer) joinable(ip []byte, p *packet) (hdr, size int, ok bool) {
	if !p.plain || p.frag || len(ip) < p.l4+8 || !p.v6 && fold(sum(0, ip[:20])) != 0xffff {
		return
	}
	// Multicast forwarding drops what is longer than the MTU and has DF set without
	// asking whether it is a super-packet; the kernel counts it as FragFails.
	if p.v6 && ip[24] == 0xff || !p.v6 && ip[16]>>4 == 0xe {
		return
	}
	t := ip[p.l4:]
	switch {
	case p.proto == protoTCP:
		if len(t) < 20 || t[13]&^0x08 != 0x10 { // ACK, with or without PSH
			return
		}
		hdr = int(t[12]>>4) * 4
	case p.proto == protoUDP && c.udp:
		if int(binary.BigEndian.Uint16(t[4:])) != len(t) || t[6] == 0 && t[7] == 0 {
			return
		}
		hdr = 8
	default:
		return
	}
	size = len(t) - hdr
	if size <= 0 || p.proto == protoTCP && hdr < 20 {
		return
	}
	return p.l4 + hdr, size, fold(sum(pseudo(p.addrs(ip), p.proto, len(t)), t)) == 0xffff
}

// join appends a packet to an item of the same flow, if it is its continuation.
func (c *coalescer) join(it *item, ip []byte, p *packet, hdr, size int) bool {
	if !it.open || size > it.size || it.count >= maxPieces || it.total+size > 65535 ||
		p.proto != it.meta.proto || p.v6 != it.meta.v6 || p.l4 != it.meta.l4 {
		return false
	}
	be, a := binary.BigEndian, it.ip
	if p.v6 { // all but the payload length
		if !bytes.Equal(a[:4], ip[:4]) || !bytes.Equal(a[6:40], ip[6:40]) {
			return false
		}
	} else {
		if !bytes.Equal(a[:2], ip[:2]) || !bytes.Equal(a[6:10], ip[6:10]) || !bytes.Equal(a[12:20], ip[12:20]) {
			return false
		}
		// Cutting counts the identification up; where DF is set it means nothing
		// (RFC 6864 §4.1).
		if !p.df && be.Uint16(ip[4:]) != be.Uint16(a[4:])+uint16(it.count) {
			return false
		}
	}
	x, y := a[p.l4:], ip[p.l4:]
	if !bytes.Equal(x[:4], y[:4]) {
		return false
	}
	if p.proto == protoTCP {
		// Acknowledgement, header length, window and options agree; sequence follows.
		if be.Uint32(y[4:]) != it.seq || !bytes.Equal(x[8:13], y[8:13]) || !bytes.Equal(x[14:16], y[14:16]) ||
			!bytes.Equal(x[18:hdr-p.l4], y[18:hdr-p.l4]) {
			return false
		}
		it.seq += uint32(size)
		if y[13]&0x08 != 0 {
			x[13] |= 0x08
			it.open = false
		}
	}
	n := int32(len(c.pieces))
	c.pieces = append(c.pieces, piece{ip[hdr:], -1})
	c.pieces[it.last].next = n
	it.last = n
	it.count++
	it.total += size
	if size < it.size {
		it.open = false
	}
	return true
}

// finish completes an item's headers and returns the vectors to write.
func (c *coalescer) finish(it *item) []unix.Iovec {
	if it.count > 1 {
		c.super(it)
	}
	hdr := it.hdr[:vnetLen+etherLen]
	if it.sgt != 0 {
		hdr = it.tag()
	}
	c.iov[0].Base = &hdr[0]
	c.iov[0].SetLen(len(hdr))
	n := 1
	for i := it.first; i >= 0; i = c.pieces[i].next {
		c.iov[n].Base = &c.pieces[i].b[0]
		c.iov[n].SetLen(len(c.pieces[i].b))
		n++
	}
	return c.iov[:n]
}

// tag gives the frame a VLAN tag that is the security group tag: the TAP's program
// makes a mark of it.
func (it *item) tag() []byte {
	be, ne, e := binary.BigEndian, binary.NativeEndian, it.hdr[vnetLen:]
	copy(e[16:], e[12:14])
	be.PutUint16(e[12:], etherVLAN)
	be.PutUint16(e[14:], it.sgt)
	if v := it.hdr[:vnetLen]; v[0]&vnetNeedsCsum != 0 { // offsets count from the frame's start
		ne.PutUint16(v[2:], ne.Uint16(v[2:])+vlanLen)
		ne.PutUint16(v[6:], ne.Uint16(v[6:])+vlanLen)
	}
	return it.hdr[:]
}

// super makes the first packet's headers those of the whole.
func (c *coalescer) super(it *item) {
	be, ne, ip, p := binary.BigEndian, binary.NativeEndian, it.ip, &it.meta
	if p.v6 {
		be.PutUint16(ip[4:], uint16(it.total-40))
	} else {
		be.PutUint16(ip[2:], uint16(it.total))
		putIPSum(ip[:p.l4])
	}
	t, n := ip[p.l4:], it.total-p.l4
	v := it.hdr[:vnetLen]
	v[0] = vnetNeedsCsum
	var sumAt, hl int
	if p.proto == protoUDP {
		v[1], sumAt, hl = gsoUDP, 6, 8
		be.PutUint16(t[4:], uint16(n))
	} else {
		v[1], sumAt, hl = gsoTCPv4, 16, int(t[12]>>4)*4
		if p.v6 {
			v[1] = gsoTCPv6
		}
	}
	// The kernel completes the sum: the field holds the pseudo header's alone.
	binary.LittleEndian.PutUint16(t[sumAt:], fold(pseudo(p.addrs(ip), p.proto, n)))
	ne.PutUint16(v[2:], uint16(etherLen+p.l4+hl))
	ne.PutUint16(v[4:], uint16(it.size))
	ne.PutUint16(v[6:], uint16(etherLen+p.l4))
	ne.PutUint16(v[8:], uint16(sumAt))
}

// flowSlot mixes addresses and ports to a slot.
func flowSlot(ip []byte, p *packet) int {
	var h uint64 = uint64(p.proto)
	a := p.addrs(ip)
	for i := 0; i+8 <= len(a); i += 8 {
		h = (h ^ binary.LittleEndian.Uint64(a[i:])) * 0x9e3779b97f4a7c15
	}
	if p.first && len(ip) >= p.l4+4 {
		h = (h ^ uint64(binary.LittleEndian.Uint32(ip[p.l4:]))) * 0x9e3779b97f4a7c15
	}
	return int(h >> 58)
}
