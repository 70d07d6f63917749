package ipsec

// Fuzz targets of everything that reads octets from the wire.

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
)

// FuzzOpen opens octets with every transform. Nothing opens but what was sealed.
func FuzzOpen(f *testing.F) {
	all := allTransforms()
	var openers []*Opener
	genuine := map[string]bool{}
	for i, tr := range all {
		tek := testTEK(tr, 1)
		tek.Replay = Replay{}
		sa := mustSA(f, tek)
		// Fuzzing workers are processes of their own: the same IVs in each.
		s, err := sa.NewSealer(bytes.NewReader(bytes.Repeat([]byte{0x5a}, ivBatch)))
		if err != nil {
			f.Fatal(err)
		}
		openers = append(openers, mustOpener(f, sa))
		for _, p := range [][]byte{ip4(60), ip6(80)} {
			sealed := sealOne(f, s, p)
			genuine[string(sealed[espAt(sealed):])] = true
			f.Add(uint8(i), sealed)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, pkt []byte) {
		o := openers[int(which)%len(openers)]
		e, why := LocateESP(pkt)
		var esp string
		if why == DropNone {
			esp = string(pkt[e.Off:e.End])
		}
		before := bytes.Clone(pkt)
		in, why := o.Open(pkt)
		if why != DropNone {
			if in != nil {
				t.Fatal("octets with a drop")
			}
			return
		}
		if !genuine[esp] {
			t.Fatalf("%v opened %x", o.sa.tr, before)
		}
		if _, _, why := ParseFlow(in); why != DropNone && o.sa.tr.Mode == Tunnel {
			t.Fatalf("opened to %x", in)
		}
	})
}

func espAt(p []byte) int {
	if p[0]>>4 == 6 {
		return 40
	}
	return 20
}

func FuzzParseFlow(f *testing.F) {
	f.Add(ip4(60))
	f.Add(ip6(80))
	for _, ext := range []byte{0, 43, 44, 60} {
		p := ip6(80)
		p[6] = ext
		copy(p[40:], []byte{ext, 0, 0, 1, 0, 0, 0, 0, 17, 0, 0, 8})
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, pkt []byte) {
		fl, l4, why := ParseFlow(pkt)
		if why != DropNone {
			return
		}
		if l4 < 20 || l4 > len(pkt) || !fl.Src.IsValid() || !fl.Dst.IsValid() || fl.Src.Is4() != fl.Dst.Is4() {
			t.Fatalf("%+v at %d", fl, l4)
		}
		if fl.Frag && (fl.SrcPort|fl.DstPort != 0 || fl.ICMPType != 0) {
			t.Fatalf("ports of a fragment: %+v", fl)
		}
		// Whoever may be parsed may be sealed.
		buf := roomFor(pkt)
		s := mustSealer(t, mustSA(t, testTEK(Transform{Cipher: CipherNull, Auth: AuthSHA1}, 1)))
		if _, _, why := s.Seal(buf, Headroom, len(pkt)); why != DropNone && why != DropMalformed && why != DropTooBig {
			t.Fatal(why)
		}
	})
}

// FuzzReassembly feeds several packets, each with a length in front.
func FuzzReassembly(f *testing.F) {
	for _, p := range [][]byte{ip4(600), ip6(600)} {
		var in []byte
		var fr Fragmenter
		fr.Start(p, 256, FragmentOptions{IgnoreDF: true, OwnIPv6: true})
		buf := make([]byte, 256)
		for n := fr.Next(buf); n > 0; n = fr.Next(buf) {
			in = binary.BigEndian.AppendUint16(in, uint16(n))
			in = append(in, buf[:n]...)
		}
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReassembler(1 << 16)
		now := t0
		for len(in) > 2 {
			n := min(int(binary.BigEndian.Uint16(in)), len(in)-2)
			pkt := in[2 : 2+n]
			in = in[2+n:]
			whole, why := r.Add(pkt, now)
			now = now.Add(time.Second)
			if r.Held() > 1<<16 || r.Held() < 0 {
				t.Fatalf("%d octets held", r.Held())
			}
			if whole != nil && why != DropNone {
				t.Fatal("a packet and a drop")
			}
			if whole != nil && len(whole) > maxPacket+ipv6Len {
				t.Fatalf("%d octets", len(whole))
			}
		}
		r.Expire(now.Add(ReassemblyTimeout))
		if r.Held() != 0 || len(r.m) != 0 || r.queue.Len() != 0 {
			t.Fatalf("%d octets stay", r.Held())
		}
	})
}

func FuzzICMPRewrite(f *testing.F) {
	ring := NewSentRing(16)
	sa := mustSA(f, testTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1))
	s := mustSealer(f, sa)
	s.Sent = ring
	for _, p := range [][]byte{ip4(1400), ip6(1400)} {
		sealed := sealOne(f, s, p)
		if p[0]>>4 == 4 {
			f.Add(coreError(sealed, 3, 4, 1400, 28))
			f.Add(coreError(sealed, 11, 0, 0, 100))
		} else {
			f.Add(coreError(sealed, 2, 0, 1400, 1200))
			f.Add(coreError(sealed, 3, 0, 0, 60))
		}
	}
	dst := make([]byte, ICMPMax)
	f.Fuzz(func(t *testing.T, pkt []byte) {
		n, ours := RewriteICMP(dst, pkt, ring, func(_ uint32, m int, fam Family) int { return sa.ClearMTU(m, fam) })
		if n > 0 {
			if !ours {
				t.Fatal("written but not ours")
			}
			icmpOK(t, dst[:n])
		}
		for _, p := range [][]byte{pkt, dst[:n]} {
			if n := BuildTooBig(dst, p, 1400, gw4); n > 0 {
				icmpOK(t, dst[:n])
			}
			if n := BuildTooBig(dst, p, 1400, gw6); n > 0 {
				icmpOK(t, dst[:n])
			}
		}
	})
}

// FuzzFragment cuts and puts together again.
func FuzzFragment(f *testing.F) {
	f.Add(ip4(1500), uint16(600))
	f.Add(ip6(1500), uint16(1280))
	f.Fuzz(func(t *testing.T, pkt []byte, mtu uint16) {
		var fr Fragmenter
		m := int(mtu)%9000 + 28
		if fr.Start(pkt, m, FragmentOptions{IgnoreDF: true, OwnIPv6: true, ID: 1}) != DropNone {
			return
		}
		buf := make([]byte, max(m, 68))
		count := 0
		for n := fr.Next(buf); n > 0; n = fr.Next(buf) {
			if n > m {
				t.Fatalf("%d octets for %d", n, m)
			}
			if count++; count > 1<<14 {
				t.Fatal("endless")
			}
		}
	})
}
