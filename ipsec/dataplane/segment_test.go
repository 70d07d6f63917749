package dataplane

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// slowSum is the checksum as RFC 1071 writes it: 16-bit words, carries folded.
func slowSum(parts ...[]byte) uint16 {
	var acc uint32
	odd := false
	for _, p := range parts {
		for _, b := range p {
			if odd {
				acc += uint32(b)
			} else {
				acc += uint32(b) << 8
			}
			odd = !odd
		}
	}
	for acc>>16 != 0 {
		acc = acc>>16 + acc&0xffff
	}
	return uint16(acc)
}

func slowPseudo(ip []byte, l4 int, proto uint8) []byte {
	n := len(ip) - l4
	if ip[0]>>4 == 4 {
		return append(append([]byte(nil), ip[12:20]...), 0, proto, byte(n>>8), byte(n))
	}
	return append(append([]byte(nil), ip[8:40]...), 0, 0, byte(n>>8), byte(n), 0, 0, 0, proto)
}

// checkPacket reports what a receiver would refuse.
func checkPacket(t *testing.T, ip []byte) {
	t.Helper()
	var p packet
	if !p.parse(ip) || p.len != len(ip) {
		t.Fatalf("no IP packet of %d octets: %x", len(ip), ip[:min(len(ip), 60)])
	}
	if !p.v6 && slowSum(ip[:p.l4]) != 0xffff {
		t.Fatal("IPv4 header checksum")
	}
	if p.proto == protoTCP || p.proto == protoUDP {
		if slowSum(slowPseudo(ip, p.l4, p.proto), ip[p.l4:]) != 0xffff {
			t.Fatal("transport checksum")
		}
		if p.proto == protoUDP && int(binary.BigEndian.Uint16(ip[p.l4+4:])) != len(ip)-p.l4 {
			t.Fatal("UDP length")
		}
	}
}

// build makes a packet with valid checksums. seq is TCP's, flags too.
func build(v6 bool, proto uint8, id uint16, seq uint32, flags byte, payload []byte) []byte {
	be := binary.BigEndian
	ip := make([]byte, 20, 2000)
	if v6 {
		ip = make([]byte, 40, 2000)
		copy(ip, []byte{0x60, 1, 2, 3, 0, 0, proto, 61})
		for i := range 32 {
			ip[8+i] = byte(i * 7)
		}
	} else {
		copy(ip, []byte{0x45, 0x28, 0, 0, byte(id >> 8), byte(id), 0x40, 0, 61, proto, 0, 0, 10, 1, 1, 10, 10, 2, 2, 10})
	}
	l4 := len(ip)
	if proto == protoTCP {
		ip = append(ip, 0x30, 0x39, 0, 80, 0, 0, 0, 0, 9, 9, 9, 9, 0x80, flags, 1, 2, 0, 0, 0, 0, 1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8)
		be.PutUint32(ip[l4+4:], seq)
	} else {
		ip = append(ip, 0x30, 0x39, 0, 80, 0, 0, 0, 0)
		be.PutUint16(ip[l4+4:], uint16(8+len(payload)))
	}
	ip = append(ip, payload...)
	if v6 {
		be.PutUint16(ip[4:], uint16(len(ip)-40))
	} else {
		be.PutUint16(ip[2:], uint16(len(ip)))
		be.PutUint16(ip[10:], ^slowSum(ip[:l4]))
	}
	at := l4 + 6
	if proto == protoTCP {
		at = l4 + 16
	}
	s := ^slowSum(slowPseudo(ip, l4, proto), ip[l4:])
	if s == 0 && proto == protoUDP {
		s = 0xffff
	}
	be.PutUint16(ip[at:], s)
	return ip
}

// gather is the frame that an item's write gives to the kernel.
func gather(c *coalescer, it *item) (vnet, ip []byte) {
	c.finish(it)
	var b []byte
	b = append(b, it.hdr[:vnetLen+etherLen]...)
	for i := it.first; i >= 0; i = c.pieces[i].next {
		b = append(b, c.pieces[i].b...)
	}
	return b[:vnetLen], b[vnetLen+etherLen:]
}

// Cutting what was joined gives back what came, octet for octet, for every stream of
// TCP and UDP packets in any mixture; and each flow's packets stay in order.
func TestSegmentUndoesCoalesce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	joined := 0
	for range 300 {
		var in [][]byte
		seq, id := rng.Uint32(), uint16(rng.Uint32())
		v6, proto := rng.IntN(2) == 0, []uint8{protoTCP, protoUDP}[rng.IntN(2)]
		mss := 1 + rng.IntN(1400)
		for range 1 + rng.IntN(90) {
			n, flags := mss, byte(0x10)
			switch rng.IntN(12) {
			case 0:
				n = 1 + rng.IntN(mss)
			case 1:
				flags = 0x18
			case 2:
				seq += uint32(rng.IntN(3)) // a hole, or none
			case 3:
				flags = []byte{0x11, 0x02, 0x90, 0x14}[rng.IntN(4)]
			}
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			in = append(in, build(v6, proto, id, seq, flags, b))
			seq += uint32(n)
			id++
		}
		c := newCoalescer(128)
		eth := make([]byte, etherLen)
		want := make([][]byte, len(in))
		for i, ip := range in {
			want[i] = bytes.Clone(ip)
			var p packet
			if !p.parse(ip) {
				t.Fatal("test packet")
			}
			c.add(eth, ip, &p, 0)
		}
		var got [][]byte
		for i := range c.items {
			v, ip := gather(c, &c.items[i])
			if c.items[i].count > 1 {
				joined++
			}
			var s segmenter
			if err := s.start(v, ip); err != nil {
				t.Fatalf("item of %d packets: %v", c.items[i].count, err)
			}
			for {
				dst := make([]byte, s.largest())
				n := s.next(dst)
				if n == 0 {
					break
				}
				checkPacket(t, dst[:n])
				got = append(got, dst[:n])
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%d packets became %d", len(want), len(got))
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				// PSH inside a run ends it, so that even flags must agree.
				t.Fatalf("packet %d of %d (v6 %v proto %d mss %d):\n got %x\nwant %x", i, len(want), v6, proto, mss, got[i][:60], want[i][:60])
			}
		}
	}
	if joined < 200 {
		t.Errorf("only %d super-packets", joined)
	}
}

// A packet whose checksum is wrong is delivered as it came, never repaired by
// joining it.
func TestCoalesceKeepsDamage(t *testing.T) {
	c := newCoalescer(8)
	var all [][]byte
	for i := range 3 {
		ip := build(false, protoTCP, uint16(i), uint32(i*100), 0x10, bytes.Repeat([]byte{byte(i)}, 100))
		if i == 1 {
			ip[60] ^= 1
		}
		all = append(all, bytes.Clone(ip))
		var p packet
		p.parse(ip)
		c.add(make([]byte, etherLen), ip, &p, 0)
	}
	if len(c.items) != 3 {
		t.Fatalf("%d items, want 3", len(c.items))
	}
	for i := range c.items {
		if v, ip := gather(c, &c.items[i]); v[0] != 0 || !bytes.Equal(ip, all[i]) {
			t.Errorf("packet %d was changed", i)
		}
	}
}

// A checksum left to be completed is completed, UDP's zero written as ones.
func TestSegmentCompletesChecksum(t *testing.T) {
	for _, proto := range []uint8{protoTCP, protoUDP} {
		for n := range 200 {
			want := build(false, proto, 1, 2, 0x10, make([]byte, n))
			ip := bytes.Clone(want)
			at := 6
			if proto == protoTCP {
				at = 16
			}
			binary.BigEndian.PutUint16(ip[20+at:], slowSum(slowPseudo(ip, 20, proto)))
			v := make([]byte, vnetLen)
			v[0] = vnetNeedsCsum
			binary.NativeEndian.PutUint16(v[6:], 34)
			binary.NativeEndian.PutUint16(v[8:], uint16(at))
			var s segmenter
			if err := s.start(v, ip); err != nil {
				t.Fatal(err)
			}
			dst := make([]byte, s.largest())
			if got := dst[:s.next(dst)]; !bytes.Equal(got, want) || s.next(dst) != 0 {
				t.Fatalf("proto %d, %d octets", proto, n)
			}
		}
	}
}

func TestSumAgainstSlow(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		b := make([]byte, rng.IntN(300))
		for i := range b {
			b[i] = byte(rng.Uint32()) | byte(rng.IntN(2)*255)
		}
		var out [2]byte
		putSum(out[:], sum(0, b))
		if want := ^slowSum(b); binary.BigEndian.Uint16(out[:]) != want && len(b) > 0 {
			t.Fatalf("%x: %x, want %04x", b, out, want)
		}
	}
}

// Whatever the header and the packet claim, nothing is read or written outside, and
// every packet cut from a super-packet is one that a receiver accepts.
func FuzzSegment(f *testing.F) {
	v := make([]byte, vnetLen)
	f.Add(v, build(false, protoTCP, 1, 1, 0x10, make([]byte, 100)))
	v = []byte{1, gsoTCPv4, 66, 0, 10, 0, 34, 0, 16, 0}
	f.Add(v, build(false, protoTCP, 1, 1, 0x19, make([]byte, 100)))
	f.Add([]byte{1, gsoUDP, 42, 0, 10, 0, 34, 0, 6, 0}, build(false, protoUDP, 1, 1, 0, make([]byte, 100)))
	f.Add([]byte{1, gsoTCPv6, 86, 0, 10, 0, 54, 0, 16, 0}, build(true, protoTCP, 1, 1, 0x10, make([]byte, 100)))
	f.Add([]byte{0, gsoTCPv4 | gsoECN, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{0x45})
	f.Fuzz(func(t *testing.T, v, ip []byte) {
		var s segmenter
		if s.start(v, ip) != nil {
			return
		}
		dst := make([]byte, s.largest())
		total := 0
		for n := s.next(dst); n > 0; n = s.next(dst) {
			if n > s.largest() {
				t.Fatalf("%d octets, largest is %d", n, s.largest())
			}
			if s.kind != gsoNone {
				total += n - s.hdr
				if !s.v6 && s.plain || s.v6 && s.plain {
					checkPacket(t, dst[:n])
				}
			}
		}
		if s.kind != gsoNone && total != s.len-s.hdr {
			t.Fatalf("%d payload octets became %d", s.len-s.hdr, total)
		}
	})
}

// Joining never loses, invents or reorders octets, whatever packets come.
func FuzzCoalesce(f *testing.F) {
	f.Add(build(false, protoTCP, 1, 1, 0x10, make([]byte, 30)), build(false, protoTCP, 2, 31, 0x10, make([]byte, 30)))
	f.Add(build(true, protoUDP, 1, 1, 0, make([]byte, 30)), build(true, protoUDP, 2, 31, 0, make([]byte, 3)))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		c := newCoalescer(8)
		n := 0
		for _, ip := range [][]byte{bytes.Clone(a), bytes.Clone(b)} {
			var p packet
			if p.parse(ip) {
				c.add(make([]byte, etherLen), ip[:p.len], &p, 0)
				n++
			}
		}
		got := 0
		for i := range c.items {
			v, ip := gather(c, &c.items[i])
			got += c.items[i].count
			if c.items[i].count == 1 {
				continue
			}
			var s segmenter
			if err := s.start(v, ip); err != nil {
				t.Fatal(err)
			}
			for _, want := range [][]byte{a, b} {
				dst := make([]byte, s.largest())
				var p packet
				p.parse(want)
				if m := s.next(dst); !bytes.Equal(dst[:m], want[:p.len]) {
					t.Fatalf("got %x want %x", dst[:m], want[:p.len])
				}
			}
		}
		if got != n {
			t.Fatalf("%d packets became %d", n, got)
		}
	})
}
