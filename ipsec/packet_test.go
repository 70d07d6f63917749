package ipsec

// Fragments, reassembly, ICMP, ParseFlow and header preservation.

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestFragmentAndReassemble: any packet, any MTU, fragmented again, any order, gives
// the packet back; no fragment is too long.
func TestFragmentAndReassemble(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		v6 := rapid.Bool().Draw(rt, "v6")
		n := rapid.IntRange(100, 9000).Draw(rt, "length")
		mtu := rapid.IntRange(120, 3000).Draw(rt, "mtu")
		pkt := ip4(n)
		if v6 {
			pkt = ip6(n)
		} else {
			pkt[6] = 0
			if rapid.Bool().Draw(rt, "options") { // one that is copied, one that isn't
				pkt[0] = 0x48
				copy(pkt[20:], []byte{0x94, 4, 0, 0, 7, 7, 4, 1, 2, 3, 4, 0})
			}
			putHeaderSum(pkt[:int(pkt[0]&15)*4])
		}
		cut := func(p []byte, mtu int) (out [][]byte) {
			var f Fragmenter
			if why := f.Start(p, mtu, FragmentOptions{OwnIPv6: true, ID: 77}); why != DropNone {
				rt.Fatalf("start: %v", why)
			}
			buf := make([]byte, mtu)
			for l := f.Next(buf); l > 0; l = f.Next(buf) {
				if l > mtu {
					rt.Fatalf("%d octets for MTU %d", l, mtu)
				}
				out = append(out, bytes.Clone(buf[:l]))
			}
			return out
		}
		frags := cut(pkt, mtu)
		if !v6 {
			var again [][]byte
			for _, p := range frags {
				again = append(again, cut(p, mtu-rapid.IntRange(0, 40).Draw(rt, "smaller"))...)
				if fold(sum16(0, p[:int(p[0]&15)*4])) != 0xffff {
					rt.Fatal("checksum")
				}
			}
			frags = again
		}
		if len(frags) > maxFragments {
			return
		}
		frags = rapid.Permutation(frags).Draw(rt, "order")
		r := NewReassembler(0)
		var whole []byte
		for i, p := range frags {
			w, why := r.Add(p, t0)
			if why != DropNone || (w != nil) != (i == len(frags)-1) {
				rt.Fatalf("fragment %d of %d: %v, %d octets", i, len(frags), why, len(w))
			}
			whole = w
		}
		if !bytes.Equal(whole, pkt) {
			rt.Fatalf("got  %x\nwant %x", whole, pkt)
		}
		if r.Held() != 0 {
			rt.Fatalf("%d octets still held", r.Held())
		}
	})
}

func TestFragmentRules(t *testing.T) {
	var f Fragmenter
	df := ip4(1500)
	if why := f.Start(df, 1400, FragmentOptions{}); why != DropTooBig {
		t.Errorf("DF: %v", why)
	}
	if why := f.Start(ip6(1500), 1400, FragmentOptions{}); why != DropTooBig {
		t.Errorf("IPv6: %v", why)
	}
	if why := f.Start(df, 27, FragmentOptions{IgnoreDF: true}); why != DropFragment {
		t.Errorf("tiny MTU: %v", why)
	}
	if why := f.Start(df[:1499], 1400, FragmentOptions{}); why != DropMalformed {
		t.Errorf("short: %v", why)
	}
	if why := f.Start(df, 1400, FragmentOptions{IgnoreDF: true, ID: 0x1234}); why != DropNone {
		t.Fatal(why)
	}
	buf := make([]byte, 1400)
	l := f.Next(buf)
	if l != 1396 || binary.BigEndian.Uint16(buf[6:]) != flagMF || binary.BigEndian.Uint16(buf[4:]) != 0x1234 {
		t.Errorf("DF ignored: %x", buf[:20])
	}
	if why := f.Start(df, 1500, FragmentOptions{}); why != DropNone || f.Next(make([]byte, 1500)) != 1500 || f.Next(buf) != 0 {
		t.Error("a packet that fits must come out as it is")
	}
	if n := testing.AllocsPerRun(50, func() {
		f.Start(df, 600, FragmentOptions{IgnoreDF: true})
		for f.Next(buf) > 0 {
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// cut fragments for the reassembly tests.
func fragments(t *testing.T, pkt []byte, mtu int) (out [][]byte) {
	t.Helper()
	var f Fragmenter
	if why := f.Start(pkt, mtu, FragmentOptions{IgnoreDF: true, OwnIPv6: true, ID: 9}); why != DropNone {
		t.Fatal(why)
	}
	buf := make([]byte, mtu)
	for l := f.Next(buf); l > 0; l = f.Next(buf) {
		out = append(out, bytes.Clone(buf[:l]))
	}
	return out
}

func TestReassemblyRefuses(t *testing.T) {
	for _, pkt := range [][]byte{ip4(1000), ip6(1000)} {
		fr := fragments(t, pkt, 400)
		shift := func(p []byte, by int) []byte { // another offset
			p = bytes.Clone(p)
			at := 6
			if p[0]>>4 == 6 {
				at, by = 42, by*8
			}
			binary.BigEndian.PutUint16(p[at:], binary.BigEndian.Uint16(p[at:])+uint16(by))
			return p
		}
		// Overlap: the datagram is lost, the rest of it too.
		r := NewReassembler(0)
		r.Add(fr[0], t0)
		if _, why := r.Add(shift(fr[1], -1), t0); why != DropReassembly {
			t.Errorf("overlap: %v", why)
		}
		for _, p := range fr {
			if w, why := r.Add(p, t0); w != nil || why != DropReassembly {
				t.Errorf("after an overlap: %v", why)
			}
		}
		if r.Counters.Overlap != 1 {
			t.Errorf("%+v", r.Counters)
		}
		// An exact copy does no harm; another time the datagram is fine.
		r.Expire(t0.Add(ReassemblyTimeout))
		r.Add(fr[0], t0.Add(time.Minute))
		r.Add(fr[0], t0.Add(time.Minute))
		r.Add(fr[1], t0.Add(time.Minute))
		if w, why := r.Add(fr[2], t0.Add(time.Minute)); why != DropNone || !bytes.Equal(w[40:], pkt[40:]) || r.Counters.Duplicates != 1 {
			t.Errorf("after a copy: %v %+v", why, r.Counters)
		}
		// Time.
		r = NewReassembler(0)
		r.Add(fr[0], t0)
		r.Add(fr[1], t0.Add(ReassemblyTimeout-1))
		r.Expire(t0.Add(ReassemblyTimeout))
		if r.Held() != 0 || r.Counters.Timeout != 1 {
			t.Errorf("held %d, %+v", r.Held(), r.Counters)
		}
		// Memory: never above the limit, the oldest goes.
		r = NewReassembler(8000)
		for i := range 100 {
			p := bytes.Clone(fr[0])
			if p[0]>>4 == 6 {
				binary.BigEndian.PutUint32(p[44:], uint32(i))
			} else {
				binary.BigEndian.PutUint16(p[4:], uint16(i))
			}
			r.Add(p, t0)
			if r.Held() > 8000 {
				t.Fatalf("%d octets held", r.Held())
			}
		}
		if r.Counters.Memory < 80 {
			t.Errorf("%+v", r.Counters)
		}
		// Two ends.
		r = NewReassembler(0)
		r.Add(fr[2], t0)
		if _, why := r.Add(shift(fr[2], 40), t0); why != DropReassembly {
			t.Errorf("two ends: %v", why)
		}
	}
	r := NewReassembler(0)
	p := fragments(t, ip4(1000), 400)[0]
	binary.BigEndian.PutUint16(p[2:], 395)
	if _, why := r.Add(p, t0); why != DropReassembly || r.Counters.Malformed != 1 {
		t.Errorf("odd length: %v", why)
	}
	p = fragments(t, ip4(1000), 400)[0]
	binary.BigEndian.PutUint16(p[6:], 0x3fff)
	if _, why := r.Add(p, t0); why != DropReassembly || r.Counters.TooLong != 1 {
		t.Errorf("beyond 65535: %v", why)
	}
	if w, why := r.Add(ip4(100), t0); why != DropNone || len(w) != 100 {
		t.Errorf("not a fragment: %v", why)
	}
}

// TestReassembledESPOpens: what the core cut opens, congestion on one fragment's way
// reaches the inner packet.
func TestReassembledESPOpens(t *testing.T) {
	for _, pkt := range [][]byte{ip4(1400), ip6(1400)} {
		sa := mustSA(t, testTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1))
		s, o := mustSealer(t, sa), mustOpener(t, sa)
		fr := fragments(t, sealOne(t, s, pkt), 600)
		if _, why := o.Open(fr[0]); why != DropFragment {
			t.Errorf("a fragment: %v", why)
		}
		if pkt[0]>>4 == 4 {
			fr[1][1] |= ecnCE
		} else {
			fr[1][1] |= ecnCE << 4
		}
		r := NewReassembler(0)
		var w []byte
		for _, p := range fr {
			w, _ = r.Add(p, t0)
		}
		in, why := o.Open(w)
		if why != DropNone || len(in) != 1400 {
			t.Fatalf("open: %v", why)
		}
		if pkt[0]>>4 == 4 && in[1]&3 != ecnCE || pkt[0]>>4 == 6 && in[1]>>4&3 != ecnCE {
			t.Error("congestion got lost")
		}
	}
}

// TestHeaderPreservation is docs/header-preservation.md row by row.
func TestHeaderPreservation(t *testing.T) {
	sa := mustSA(t, testTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1))
	s, o := mustSealer(t, sa), mustOpener(t, sa)
	in := ip4(100)
	p := sealOne(t, s, in)
	if !bytes.Equal(p[12:20], in[12:20]) || p[1] != in[1] || p[8] != in[8] || p[9] != protoESP || p[0] != 0x45 ||
		binary.BigEndian.Uint16(p[6:]) != flagDF || binary.BigEndian.Uint16(p[4:]) != uint16(s.LastSeq()) ||
		int(binary.BigEndian.Uint16(p[2:])) != len(p) || fold(sum16(0, p[:20])) != 0xffff {
		t.Errorf("outer %x of inner %x", p[:20], in[:20])
	}
	for _, c := range []struct {
		mode DFMode
		in   uint16
		want uint16
	}{{DFCopy, 0, 0}, {DFCopy, flagDF, flagDF}, {DFClear, flagDF, 0}, {DFSet, 0, flagDF}, {DFSet, flagDF, flagDF},
		{DFCopy, flagMF | 3, 0}, {DFSet, flagMF | 3, flagDF}} { // an inner fragment: the outer is none
		s.DF = c.mode
		q := ip4(100)
		binary.BigEndian.PutUint16(q[6:], c.in)
		putHeaderSum(q[:20])
		p := sealOne(t, s, q)
		if got := binary.BigEndian.Uint16(p[6:]); got != c.want {
			t.Errorf("DF mode %d, inner %04x: outer %04x", c.mode, c.in, got)
		}
		if got, why := o.Open(p); why != DropNone || !bytes.Equal(got, q) {
			t.Errorf("inner fragment changed: %v", why)
		}
	}
	opt := ip4(100)
	opt[0] = 0x46
	copy(opt[20:], []byte{0x94, 4, 0, 0})
	putHeaderSum(opt[:24])
	if p := sealOne(t, s, opt); p[0] != 0x45 || len(p) != sa.tr.SealedLen(100, IPv4, 0) {
		t.Error("options must not be copied")
	}
	in6 := ip6(100)
	p = sealOne(t, s, in6)
	if !bytes.Equal(p[:4], in6[:4]) || p[6] != protoESP || !bytes.Equal(p[7:40], in6[7:40]) || int(binary.BigEndian.Uint16(p[4:]))+40 != len(p) {
		t.Errorf("outer %x of inner %x", p[:40], in6[:40])
	}
	// Opening: hops and congestion.
	for _, c := range []struct {
		inTTL, outTTL, inECN, outECN, wantTTL, wantECN byte
	}{
		{63, 60, 2, 2, 60, 2}, {63, 255, 2, 2, 63, 2}, {63, 63, 2, 3, 63, 3}, {63, 50, 1, 3, 50, 3},
		{63, 63, 0, 3, 63, 0}, {63, 63, 3, 3, 63, 3}, {63, 63, 3, 0, 63, 3}, {63, 63, 2, 1, 63, 2}, {63, 63, 2, 0, 63, 2},
	} {
		for _, q := range [][]byte{ip4(100), ip6(100)} {
			want := bytes.Clone(q)
			set := func(b []byte, ttl, ecn byte) {
				if b[0]>>4 == 4 {
					b[1], b[8] = b[1]&^3|ecn, ttl
					putHeaderSum(b[:20])
				} else {
					b[1], b[7] = b[1]&^0x30|ecn<<4, ttl
				}
			}
			set(q, c.inTTL, c.inECN)
			set(want, c.wantTTL, c.wantECN)
			p := sealOne(t, s, q)
			set(p, c.outTTL, c.outECN)
			if p[0]>>4 == 4 { // DSCP changed in the core stays outside
				p[1] ^= 0x20
			}
			got, why := o.Open(p)
			if why != DropNone || !bytes.Equal(got, want) {
				t.Errorf("%+v: %v, header %x, want %x", c, why, got[:20], want[:20])
			}
		}
	}
}

func TestTransportExtensionHeaders(t *testing.T) {
	tr := Transform{Cipher: CipherAESCBC, KeyBits: 256, Auth: AuthSHA256, Mode: Transport}
	sa := mustSA(t, testTEK(tr, 1))
	s, o := mustSealer(t, sa), mustOpener(t, sa)
	// Hop-by-hop, destination options before routing, routing, destination options, UDP.
	p := ip6(120)
	p[6] = extHopByHop
	for i, next := range []byte{extDest, extRouting, extDest, protoUDP} {
		copy(p[40+8*i:], []byte{next, 0, 1, 4, 0, 0, 0, 0})
	}
	sealed := sealOne(t, s, p)
	if len(sealed) != tr.SealedLen(120, IPv6, 64) || sealed[40+16] != protoESP {
		t.Fatalf("%d octets: %x", len(sealed), sealed[:80])
	}
	e, why := LocateESP(sealed)
	if why != DropNone || e.Off != 64 || e.SPI != sa.SPI() {
		t.Fatalf("%+v %v", e, why)
	}
	if got, why := o.Open(sealed); why != DropNone || !bytes.Equal(got, p) {
		t.Errorf("%v %x", why, got)
	}
	opt := ip4(100)
	opt[0] = 0x47
	copy(opt[20:], []byte{0x94, 4, 0, 0, 1, 1, 1, 1})
	putHeaderSum(opt[:28])
	sealed = sealOne(t, s, opt)
	if len(sealed) != tr.SealedLen(100, IPv4, 28) || tr.ClearMTUFor(len(sealed), IPv4, 28) < 100 {
		t.Errorf("%d octets", len(sealed))
	}
	if got, why := o.Open(sealed); why != DropNone || !bytes.Equal(got, opt) {
		t.Errorf("%v %x", why, got)
	}
}

func TestParseFlow(t *testing.T) {
	a4, b4 := netip.MustParseAddr("10.1.1.10"), netip.MustParseAddr("10.2.2.20")
	a6, b6 := netip.MustParseAddr("2001:db8:1::10"), netip.MustParseAddr("2001:db8:2::20")
	ext := ip6(120)
	ext[6] = extHopByHop
	copy(ext[40:], []byte{extRouting, 0, 1, 4, 0, 0, 0, 0})
	copy(ext[48:], []byte{extDest, 0, 1, 4, 0, 0, 0, 0})
	copy(ext[56:], []byte{protoTCP, 1, 1, 4, 0, 0, 0, 0})
	copy(ext[72:], []byte{0, 80, 1, 2})
	first, later := bytes.Clone(ext), bytes.Clone(ext)
	copy(first[48:], []byte{protoUDP, 0, 0, 1, 0, 0, 0, 9, 0, 53, 0, 54})
	first[40] = extFragment
	copy(later[48:], []byte{protoUDP, 0, 0, 8, 0, 0, 0, 9})
	later[40] = extFragment
	frag4 := ip4(100)
	frag4[7] = 1
	icmp := ip4(28)
	icmp[9], icmp[20] = protoICMP, 8
	short := ip4(23)
	for _, c := range []struct {
		name string
		pkt  []byte
		l4   int
		want Flow
	}{
		{"udp4", ip4(100), 20, Flow{Src: a4, Dst: b4, Proto: 17, SrcPort: 50000, DstPort: 50001}},
		{"udp6", ip6(100), 40, Flow{Src: a6, Dst: b6, Proto: 17, SrcPort: 50000, DstPort: 50001}},
		{"extensions", ext, 72, Flow{Src: a6, Dst: b6, Proto: 6, SrcPort: 80, DstPort: 258}},
		{"first fragment 6", first, 56, Flow{Src: a6, Dst: b6, Proto: 17, SrcPort: 53, DstPort: 54}},
		{"later fragment 6", later, 56, Flow{Src: a6, Dst: b6, Proto: 17, Frag: true}},
		{"later fragment 4", frag4, 20, Flow{Src: a4, Dst: b4, Proto: 17, Frag: true}},
		{"icmp", icmp, 20, Flow{Src: a4, Dst: b4, Proto: 1, ICMPType: 8}},
		{"too short for ports", short, 20, Flow{Src: a4, Dst: b4, Proto: 17, Frag: true}},
	} {
		f, l4, why := ParseFlow(c.pkt)
		if why != DropNone || l4 != c.l4 || f != c.want {
			t.Errorf("%s: %+v at %d, %v", c.name, f, l4, why)
		}
		if n := testing.AllocsPerRun(20, func() { ParseFlow(c.pkt) }); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
	for _, p := range [][]byte{nil, {0x45}, ip4(100)[:99], ip6(100)[:99], ext[:76], make([]byte, 100)} {
		if _, _, why := ParseFlow(p); why != DropMalformed {
			t.Errorf("%d octets: %v", len(p), why)
		}
	}
	loop := ip6(400)
	loop[6] = extDest
	for i := range 40 {
		copy(loop[40+8*i:], []byte{extDest, 0})
	}
	if _, _, why := ParseFlow(loop); why != DropMalformed {
		t.Errorf("endless extension headers: %v", why)
	}
}
