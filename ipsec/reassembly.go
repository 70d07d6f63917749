package ipsec

// Reassembly of IPv4 and IPv6 fragments: what a core router made of an ESP packet.
// Memory and time are bounded. Overlapping fragments condemn their datagram and what
// still comes of it (RFC 5722); an exact copy of a fragment is ignored.

import (
	"bytes"
	"container/list"
	"encoding/binary"
	"time"
)

// Bounds of a Reassembler.
const (
	// ReassemblyTimeout is how long a datagram waits for its missing fragments.
	ReassemblyTimeout = 30 * time.Second
	// ReassemblyMemory is the default for held octets, each fragment and datagram
	// counted with its bookkeeping.
	ReassemblyMemory = 4 << 20

	maxFragments = 256 // of one datagram
	pieceCost    = 64
	partialCost  = 256
)

// ReassemblyCounters count datagrams that were given up, by reason, and ignored copies
// of fragments.
type ReassemblyCounters struct {
	Timeout, Overlap, Memory, TooLong, Malformed, TooMany uint64
	Duplicates                                            uint64
	Whole                                                 uint64
}

// Reassembler holds fragments. One goroutine uses it.
type Reassembler struct {
	Counters ReassemblyCounters

	limit int
	used  int
	m     map[fragmentKey]*list.Element
	queue list.List // *partial, oldest first
}

type fragmentKey struct {
	src, dst [16]byte
	id       uint32
	proto    uint8 // of IPv4; the key of IPv6 has none (RFC 8200 §4.5)
	v6       bool
}

type partial struct {
	key    fragmentKey
	born   time.Time
	header []byte // of the first fragment, without a fragment header
	nextAt int    // IPv6: octet to hold proto
	next   uint8
	pieces []piece // by offset
	have   int     // octets of payload
	total  int     // -1: the last fragment isn't there yet
	cost   int
	ce     bool
	dead   bool
}

type piece struct {
	off  int
	data []byte
}

// NewReassembler makes a Reassembler that holds up to memory octets; 0 means
// ReassemblyMemory.
func NewReassembler(memory int) *Reassembler {
	if memory == 0 {
		memory = ReassemblyMemory
	}
	return &Reassembler{limit: memory, m: map[fragmentKey]*list.Element{}}
}

// fragmentInfo is what a fragment says of itself.
type fragmentInfo struct {
	key     fragmentKey
	whole   bool // not a fragment
	off     int
	more    bool
	payload []byte
	header  []byte
	nextAt  int
	next    uint8
	ce      bool
}

// parseFragment reads a packet's fragment header.
func parseFragment(pkt []byte) (f fragmentInfo, ok bool) {
	_, l4, why := ParseFlow(pkt)
	if why != DropNone {
		return f, false
	}
	if pkt[0]>>4 == 4 {
		h := int(pkt[0]&15) * 4
		fo := binary.BigEndian.Uint16(pkt[6:])
		f.whole = fo&(flagMF|0x1fff) == 0
		f.off, f.more = int(fo&0x1fff)*8, fo&flagMF != 0
		f.header, f.payload = pkt[:h], pkt[h:binary.BigEndian.Uint16(pkt[2:])]
		copy(f.key.src[12:], pkt[12:16])
		copy(f.key.dst[12:], pkt[16:20])
		f.key.id, f.key.proto = uint32(binary.BigEndian.Uint16(pkt[4:])), pkt[9]
		f.ce = pkt[1]&3 == ecnCE
		return f, true
	}
	end := ipv6Len + int(binary.BigEndian.Uint16(pkt[4:]))
	at, nextAt := ipv6Len, 6
	for pkt[nextAt] != extFragment {
		n, isExt := extensionLen(pkt[nextAt], pkt[at:end])
		if !isExt || at >= l4 {
			f.whole = true
			return f, true
		}
		nextAt, at = at, at+n
	}
	x := pkt[at : at+8] // ParseFlow walked over it
	f.key.v6 = true
	copy(f.key.src[:], pkt[8:24])
	copy(f.key.dst[:], pkt[24:40])
	f.key.id = binary.BigEndian.Uint32(x[4:])
	fo := binary.BigEndian.Uint16(x[2:])
	f.off, f.more = int(fo&^7), fo&1 != 0
	f.header, f.nextAt, f.next = pkt[:at], nextAt, x[0]
	f.payload = pkt[at+8 : end]
	f.ce = pkt[1]>>4&3 == ecnCE
	return f, true
}

// Add takes a packet at the time now. It returns pkt itself if that isn't a fragment,
// a packet of its own when the last missing fragment arrived, and nil while others are
// missing. DropMalformed and DropReassembly say that pkt was thrown away; Counters
// tell why, and what became of older datagrams. pkt isn't kept.
func (r *Reassembler) Add(pkt []byte, now time.Time) (whole []byte, why DropReason) {
	r.Expire(now)
	f, ok := parseFragment(pkt)
	if !ok {
		return nil, DropMalformed
	}
	if f.whole {
		return pkt, DropNone
	}
	if len(f.payload) == 0 || f.more && len(f.payload)%8 != 0 {
		r.Counters.Malformed++
		return nil, DropReassembly
	}
	if f.off+len(f.payload) > maxPacket {
		r.Counters.TooLong++
		return nil, DropReassembly
	}
	if f.key.v6 && f.off == 0 && !f.more { // atomic fragment: alone (RFC 6946)
		p := &partial{key: f.key, total: len(f.payload), have: len(f.payload), pieces: []piece{{0, f.payload}}, ce: f.ce}
		p.keepHeader(&f)
		return r.finish(p)
	}
	e := r.m[f.key]
	if e == nil {
		e = r.queue.PushBack(&partial{key: f.key, born: now, total: -1})
		r.m[f.key] = e
		r.charge(e.Value.(*partial), partialCost)
	}
	p := e.Value.(*partial)
	if p.dead {
		return nil, DropReassembly
	}
	at := 0
	for at < len(p.pieces) && p.pieces[at].off < f.off {
		at++
	}
	end := f.off + len(f.payload)
	if at < len(p.pieces) && p.pieces[at].off == f.off && bytes.Equal(p.pieces[at].data, f.payload) {
		r.Counters.Duplicates++
		return nil, DropNone
	}
	overlap := at > 0 && p.pieces[at-1].off+len(p.pieces[at-1].data) > f.off ||
		at < len(p.pieces) && p.pieces[at].off < end
	// Two ends, or data behind the end, are an overlap's kin.
	if overlap || p.total >= 0 && (!f.more || end > p.total) || !f.more && at < len(p.pieces) {
		r.condemn(p, &r.Counters.Overlap)
		return nil, DropReassembly
	}
	if len(p.pieces) == maxFragments {
		r.condemn(p, &r.Counters.TooMany)
		return nil, DropReassembly
	}
	p.pieces = append(p.pieces, piece{})
	copy(p.pieces[at+1:], p.pieces[at:])
	p.pieces[at] = piece{f.off, bytes.Clone(f.payload)}
	p.have += len(f.payload)
	p.ce = p.ce || f.ce
	if !f.more {
		p.total = end
	}
	cost := pieceCost + len(f.payload)
	if f.off == 0 {
		p.keepHeader(&f)
		cost += len(p.header)
	}
	r.charge(p, cost)
	if p.have == p.total {
		r.forget(e)
		return r.finish(p)
	}
	for r.used > r.limit {
		oldest := r.queue.Front()
		if !oldest.Value.(*partial).dead {
			r.Counters.Memory++
		}
		r.forget(oldest)
	}
	if r.m[f.key] == nil {
		return nil, DropReassembly
	}
	return nil, DropNone
}

// Expire gives up datagrams that are older than ReassemblyTimeout; Add does it too.
func (r *Reassembler) Expire(now time.Time) {
	for e := r.queue.Front(); e != nil; e = r.queue.Front() {
		p := e.Value.(*partial)
		if now.Sub(p.born) < ReassemblyTimeout {
			return
		}
		if !p.dead {
			r.Counters.Timeout++
		}
		r.forget(e)
	}
}

// Held is the number of octets held, bookkeeping included.
func (r *Reassembler) Held() int { return r.used }

func (r *Reassembler) charge(p *partial, n int) {
	p.cost += n
	r.used += n
}

func (r *Reassembler) forget(e *list.Element) {
	p := e.Value.(*partial)
	r.used -= p.cost
	delete(r.m, p.key)
	r.queue.Remove(e)
}

// condemn frees a datagram's fragments and remembers that it is lost.
func (r *Reassembler) condemn(p *partial, counter *uint64) {
	*counter++
	r.used -= p.cost - partialCost
	p.cost, p.pieces, p.header, p.dead = partialCost, nil, nil, true
}

func (p *partial) keepHeader(f *fragmentInfo) {
	p.header, p.nextAt, p.next = bytes.Clone(f.header), f.nextAt, f.next
}

// finish puts the datagram together.
func (r *Reassembler) finish(p *partial) ([]byte, DropReason) {
	h := len(p.header)
	length := h + p.total
	if length > maxPacket {
		r.Counters.TooLong++
		return nil, DropReassembly
	}
	out := make([]byte, length)
	copy(out, p.header)
	for _, x := range p.pieces {
		copy(out[h+x.off:], x.data)
	}
	// Congestion on any fragment's way is the datagram's (RFC 3168 §5.3).
	if p.key.v6 {
		out[p.nextAt] = p.next
		binary.BigEndian.PutUint16(out[4:], uint16(length-ipv6Len))
		if p.ce && out[1]>>4&3 != 0 {
			out[1] |= ecnCE << 4
		}
	} else {
		binary.BigEndian.PutUint16(out[2:], uint16(length))
		out[6], out[7] = out[6]&0x40, 0
		if p.ce && out[1]&3 != 0 {
			out[1] |= ecnCE
		}
		putHeaderSum(out[:h])
	}
	r.Counters.Whole++
	return out, DropNone
}
