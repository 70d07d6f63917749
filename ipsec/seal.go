package ipsec

// Sealing: RFC 4303 §3.3 in place, in buffers of the caller. A Sealer holds all that
// a packet needs besides its own octets (cipher modes, hash state, nonce, random
// IVs), so that sealing allocates nothing and takes no lock.

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
)

// DFMode says what the outer IPv4 header's DF bit is (RFC 4301 §5.1.2.1 note 4).
type DFMode uint8

const (
	DFCopy DFMode = iota
	DFClear
	DFSet
)

// ivBatch is how many octets of random IVs are fetched at a time. They come from the
// kernel's generator and not from one of our own: nothing to seed, to fork or to find
// twice in a restored snapshot but these few.
const ivBatch = 1024

// Sealer seals packets of one SA for one goroutine.
type Sealer struct {
	// DF of the outer IPv4 header.
	DF DFMode
	// Sent, if set, remembers each packet for RewriteICMP.
	Sent *SentRing
	// Stamp is the pseudotime that packets carry, read once a batch (Pseudotime.Stamp);
	// NoStamp at first. SGT is the next packet's security group tag, 0 for none. Each
	// matters to SAs whose metadata has it.
	Stamp Stamp
	SGT   uint16

	sa   *SA
	eng  engine
	num  numbers
	last uint32
	rand io.Reader
	ivs  []byte // unused random octets
	pool [ivBatch]byte
}

// NewSealer makes a Sealer. random gives CBC's unpredictable IVs (RFC 3602 §3) and
// may be nil for crypto/rand.
func (sa *SA) NewSealer(random io.Reader) (*Sealer, error) {
	if random == nil {
		random = rand.Reader
	}
	s := &Sealer{sa: sa, rand: random, Stamp: NoStamp}
	if err := s.eng.init(sa, true); err != nil {
		return nil, fmt.Errorf("ipsec: sealer: %w", err)
	}
	return s, nil
}

// SA that the Sealer belongs to.
func (s *Sealer) SA() *SA { return s.sa }

// LastSeq is the sequence number that the last successful Seal used.
func (s *Sealer) LastSeq() uint32 { return s.last }

// Seal turns the IP packet buf[off:off+n] into the ESP packet buf[start:start+length],
// with at least Headroom octets before and Tailroom behind it in buf. It uses the next
// number of the reservation and reserves one if there is none. On a drop the packet is
// as it was.
func (s *Sealer) Seal(buf []byte, off, n int) (start, length int, why DropReason) {
	if off < Headroom || n < ipv4Len || off+n+Tailroom > len(buf) {
		return 0, 0, DropMalformed
	}
	in := buf[off : off+n]
	tr := &s.sa.tr
	tunnel := tr.Mode == Tunnel
	v6 := in[0]>>4 == 6
	next := byte(protoIPIP)
	keep := 0 // octets of in that stay in front of ESP
	if v6 {
		next = protoIPv6
		if n < ipv6Len || ipv6Len+int(binary.BigEndian.Uint16(in[4:])) != n {
			return 0, 0, DropMalformed
		}
	} else if in[0]>>4 != 4 || in[0]&15 < 5 || int(in[0]&15)*4 > n || int(binary.BigEndian.Uint16(in[2:])) != n {
		return 0, 0, DropMalformed
	}
	nextAt := 9
	if !tunnel {
		var ok bool
		if v6 {
			keep, nextAt, ok = transportHeaders(in)
		} else {
			keep, ok = int(in[0]&15)*4, binary.BigEndian.Uint16(in[6:])&0x3fff == 0
		}
		if !ok { // RFC 4303 §3.3.4: never a fragment
			return 0, 0, DropFragment
		}
		next = in[nextAt]
	}

	terms := s.sa.terms.Load()
	if terms.replay.Mode == ReplayTime && s.Stamp == NoStamp {
		s.sa.stats.time.notSent.Add(1)
		return 0, 0, DropNoPseudotime
	}
	iv, block, icv := tr.ivLen(), tr.blockLen(), tr.icvLen()
	pay := off + keep - terms.meta.Header
	payLen := n - keep + terms.meta.Header
	padded := (payLen + 2 + block - 1) / block * block
	esp := pay - iv - espHeaderLen
	outer := keep
	if tunnel {
		outer = ipv4Len
		if v6 {
			outer = ipv6Len
		}
	}
	start = esp - outer
	length = outer + espHeaderLen + iv + padded + icv
	if length > maxPacket {
		return 0, 0, DropTooBig
	}
	if s.num.left == 0 {
		if _, why := s.Reserve(1); why != DropNone {
			return 0, 0, why
		}
	}
	if len(s.ivs) < iv && s.sa.tr.needsRandomIV() {
		if _, err := io.ReadFull(s.rand, s.pool[:]); err != nil {
			return 0, 0, DropNoRandom
		}
		s.ivs = s.pool[:]
	}
	num := s.num
	s.last = num.seq
	s.num.seq++
	s.num.iv++
	s.num.left--

	if s.Sent != nil {
		s.Sent.Remember(s.sa.spi, num.seq, in)
	}
	// The header first: in transport mode it stands where SPI and IV come.
	if tunnel {
		outerHeader(buf[start:esp], in, length, uint16(num.seq), s.DF, v6)
	} else {
		moveHeader(buf[start:esp], in[:keep], length, protoESP, nextAt, v6)
	}
	if h := terms.meta.Header; h != 0 {
		m := metadata{next: next, stamp: NoStamp, sgt: s.SGT, tagged: terms.meta.SGT && s.SGT != 0}
		if terms.replay.Mode == ReplayTime {
			m.stamp = s.Stamp
		}
		m.put(buf[pay : pay+h])
		next = protoMetadata
	}
	if field := buf[esp+espHeaderLen : pay]; tr.Counter() {
		binary.BigEndian.PutUint64(field, num.iv)
	} else {
		s.ivs = s.ivs[copy(field, s.ivs):]
	}
	binary.BigEndian.PutUint32(buf[esp:], s.sa.spi)
	binary.BigEndian.PutUint32(buf[esp+4:], num.seq)
	p := pay + payLen
	for i := 1; i <= padded-payLen-2; i++ {
		buf[p] = byte(i)
		p++
	}
	buf[p], buf[p+1] = byte(padded-payLen-2), next
	s.eng.seal(buf, esp, pay, pay+padded)
	s.sa.stats.encapPackets.Add(1)
	s.sa.stats.encapOctets.Add(uint64(n))
	return start, length, DropNone
}
