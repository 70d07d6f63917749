package ipsec

// Sealing and opening together: every transform, family, mode and size; refusals;
// allocations; speed.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestRoundTrip seals and opens with every transform, and checks SealedLen and
// ClearMTU against what Seal makes, for every size from the smallest to 9200.
func TestRoundTrip(t *testing.T) {
	for _, tr := range allTransforms() {
		t.Run(trName(tr), func(t *testing.T) {
			t.Parallel()
			sa := mustSA(t, testTEK(tr, 1))
			s, o := mustSealer(t, sa), mustOpener(t, sa)
			big4, big6 := ip4(9200), ip6(9200)
			buf := make([]byte, Headroom+9200+Tailroom)
			for _, f := range []Family{IPv4, IPv6} {
				prev := 0
				for n := headerLen(f); n <= 9200; n++ {
					if tr.Cipher == Cipher3DES && n > 300 && n%16 != 1 {
						continue // slow: some of the large sizes
					}
					in := buf[Headroom : Headroom+n]
					want := big4
					if f == IPv6 {
						want = big6
					}
					copy(in, want)
					if f == IPv6 {
						binary.BigEndian.PutUint16(in[4:], uint16(n-40))
					} else {
						binary.BigEndian.PutUint16(in[2:], uint16(n))
						putHeaderSum(in[:20])
					}
					start, l, why := s.Seal(buf, Headroom, n)
					if why != DropNone {
						t.Fatalf("%d: %v", n, why)
					}
					if l != tr.SealedLen(n, f, 0) || l != n+tr.Overhead(n, f) {
						t.Fatalf("%d octets sealed to %d, SealedLen %d, Overhead %d", n, l, tr.SealedLen(n, f, 0), tr.Overhead(n, f))
					}
					// With a link of l-1 octets n must not fit, with l it must.
					if c := sa.ClearMTU(l, f); c < n {
						t.Fatalf("ClearMTU(%d) = %d but %d fits", l, c, n)
					}
					if c := sa.ClearMTU(l-1, f); c >= n {
						t.Fatalf("ClearMTU(%d) = %d but %d needs %d", l-1, c, n, l)
					}
					if l < prev {
						t.Fatalf("%d octets seal to less than %d", n, n-1)
					}
					prev = l
					if n%61 != 0 && n > 200 {
						continue // opening some is enough
					}
					sealed := bytes.Clone(buf[start : start+l])
					got, why := o.Open(sealed)
					if why != DropNone {
						t.Fatalf("%d: open: %v", n, why)
					}
					if len(got) != n || !bytes.Equal(got[headerLen(f):], want[headerLen(f):n]) || !bytes.Equal(got[12:20], want[12:20]) {
						t.Fatalf("%d octets came out otherwise", n)
					}
					if f == IPv4 && fold(sum16(0, got[:20])) != 0xffff {
						t.Fatalf("%d: checksum", n)
					}
				}
			}
			if c := sa.Counters(); c.EncapPackets < 1000 || c.SeqHigh != c.EncapPackets || c.DecapPackets == 0 || c.OtherDrops+c.ICVDrops+c.ReplayDrops != 0 {
				t.Errorf("counters %+v", c)
			}
		})
	}
}

// TestAnyFlippedBitIsRefused flips each bit from the SPI on.
func TestAnyFlippedBitIsRefused(t *testing.T) {
	for _, tr := range allTransforms() {
		sa := mustSA(t, testTEK(tr, 2))
		s, o := mustSealer(t, sa), mustOpener(t, sa)
		sealed := sealOne(t, s, ip4(60))
		for bit := 20 * 8; bit < len(sealed)*8; bit++ {
			b := bytes.Clone(sealed)
			b[bit/8] ^= 1 << (bit % 8)
			got, why := o.Open(b)
			want := DropICV
			if bit < 24*8 {
				want = DropUnknownSPI
			}
			if bit >= 24*8 && bit < 28*8 && why == DropReplay {
				continue // sequence number 0
			}
			if why != want || got != nil {
				t.Fatalf("%v: bit %d flipped: %v", trName(tr), bit, why)
			}
		}
		// No forgery has left a trace: the genuine packet still opens.
		if _, why := o.Open(bytes.Clone(sealed)); why != DropNone {
			t.Fatalf("%v: after forgeries: %v", trName(tr), why)
		}
		if _, why := o.Open(bytes.Clone(sealed)); why != DropReplay {
			t.Fatalf("%v: copy: %v", trName(tr), why)
		}
		c := sa.Counters()
		if c.ICVDrops == 0 || c.ReplayDrops == 0 || c.DecapPackets != 1 {
			t.Errorf("%v: counters %+v", trName(tr), c)
		}
	}
}

func TestTruncatedNeverPanics(t *testing.T) {
	for _, tr := range allTransforms() {
		sa := mustSA(t, testTEK(tr, 3))
		s, o := mustSealer(t, sa), mustOpener(t, sa)
		for _, p := range [][]byte{ip4(100), ip6(100)} {
			sealed := sealOne(t, s, p)
			for n := range sealed {
				b := bytes.Clone(sealed[:n])
				if _, why := o.Open(b); why != DropMalformed {
					t.Fatalf("%v: %d of %d octets: %v", trName(tr), n, len(sealed), why)
				}
				// The same with a length field that fits.
				if sealed[0]>>4 == 4 && n >= 20 {
					binary.BigEndian.PutUint16(b[2:], uint16(n))
				} else if sealed[0]>>4 == 6 && n >= 40 {
					binary.BigEndian.PutUint16(b[4:], uint16(n-40))
				}
				if _, why := o.Open(b); why == DropNone {
					t.Fatalf("%v: %d of %d octets opened", trName(tr), n, len(sealed))
				}
			}
		}
	}
}

func TestNewSARefuses(t *testing.T) {
	gcm := Transform{Cipher: CipherAESGCM, KeyBits: 128}
	for name, c := range map[string]struct {
		change func(*TEK)
		want   error
	}{
		"short key":      {func(k *TEK) { k.Key = k.Key[1:] }, ErrKeyLength},
		"auth key":       {func(k *TEK) { k.AuthKey = k.Key }, ErrKeyLength},
		"reserved SPI":   {func(k *TEK) { k.SPI = 255 }, ErrReservedSPI},
		"expired":        {func(k *TEK) { k.Expires = t0 }, ErrExpired},
		"small window":   {func(k *TEK) { k.Replay.Window = 63 }, ErrReplay},
		"large window":   {func(k *TEK) { k.Replay.Window = 1025 }, ErrReplay},
		"time window":    {func(k *TEK) { k.Replay = Replay{Mode: ReplayTime, Window: 101} }, ErrReplay},
		"no time window": {func(k *TEK) { k.Replay = Replay{Mode: ReplayTime} }, ErrReplay},
		"replay mode":    {func(k *TEK) { k.Replay.Mode = 9 }, ErrReplay},
		"metadata":       {func(k *TEK) { k.Metadata.Header = 8 }, ErrMetadata},
		"SID too large":  {func(k *TEK) { k.SIDBits, k.SIDs = 8, []uint32{256} }, ErrSID},
		"SID width":      {func(k *TEK) { k.SIDBits = 33 }, ErrSID},
		"SID width zero": {func(k *TEK) { k.SIDBits = 0 }, ErrSID},
	} {
		tek := testTEK(gcm, 4)
		c.change(&tek)
		if _, err := NewSA(tek, t0); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	tek := testTEK(gcm, 4)
	tek.Transform.Auth = AuthSHA1
	if _, err := NewSA(tek, t0); err == nil {
		t.Error("GCM with HMAC accepted")
	}
}

func TestSealRefuses(t *testing.T) {
	tun := Transform{Cipher: CipherAESCBC, KeyBits: 128, Auth: AuthSHA1}
	sa := mustSA(t, testTEK(tun, 5))
	s := mustSealer(t, sa)
	for name, c := range map[string]struct {
		change   func(p []byte)
		off, cut int
		want     DropReason
	}{
		"no headroom":   {nil, Headroom - 1, 0, DropMalformed},
		"no tailroom":   {nil, Headroom + 1, 0, DropMalformed},
		"longer":        {nil, Headroom, 1, DropMalformed},
		"version":       {func(p []byte) { p[0] = 0x55 }, Headroom, 0, DropMalformed},
		"header length": {func(p []byte) { p[0] = 0x44 }, Headroom, 0, DropMalformed},
	} {
		b := roomFor(ip4(100))
		if c.change != nil {
			c.change(b[Headroom:])
		}
		if _, _, why := s.Seal(b, c.off, 100-c.cut); why != c.want {
			t.Errorf("%s: %v", name, why)
		}
	}
	// The outer packet would be longer than IP allows.
	if _, _, why := s.Seal(roomFor(ip4(65500)), Headroom, 65500); why != DropTooBig {
		t.Errorf("65500 octets: %v", why)
	}
	s.ivs, s.rand = nil, bytes.NewReader(nil)
	if _, _, why := s.Seal(roomFor(ip4(100)), Headroom, 100); why != DropNoRandom {
		t.Errorf("no random octets: %v", why)
	}
	if sa.Counters().EncapPackets != 0 {
		t.Error("refused packets counted as sealed")
	}
	// A fragment can't be sealed in transport mode (RFC 4303 §3.3.4), in tunnel mode it can.
	for _, m := range []Mode{Tunnel, Transport} {
		tr := tun
		tr.Mode = m
		p := ip4(100)
		p[6], p[7] = 0x20, 5
		_, _, why := mustSealer(t, mustSA(t, testTEK(tr, 5))).Seal(roomFor(p), Headroom, 100)
		if want := [...]DropReason{Tunnel: DropNone, Transport: DropFragment}[m]; why != want {
			t.Errorf("mode %d: fragment: %v", m, why)
		}
	}
}

// espBody builds an authentic NULL+HMAC packet around chosen plaintext.
func espBody(sa *SA, outer []byte, seq uint32, plain []byte) []byte {
	body := make([]byte, 8, 8+len(plain)+64)
	binary.BigEndian.PutUint32(body, sa.spi)
	binary.BigEndian.PutUint32(body[4:], seq)
	body = append(body, plain...)
	var e engine
	if err := e.init(sa, true); err != nil {
		panic(err)
	}
	body = append(body, e.tag(body)...)
	p := append(bytes.Clone(outer), body...)
	if outer[0]>>4 == 6 {
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
		p[6] = protoESP
	} else {
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		p[6], p[7], p[9] = 0, 0, protoESP
		putHeaderSum(p[:20])
	}
	return p
}

// TestOpenJudgesContent gives authentic packets of a misbehaving member.
func TestOpenJudgesContent(t *testing.T) {
	sa := mustSA(t, testTEK(Transform{Cipher: CipherNull, Auth: AuthSHA256}, 6))
	o := mustOpener(t, sa)
	in, out := ip4(62), ip4(62)[:20]
	in6 := ip6(62)
	cat := func(p []byte, tail ...byte) []byte { return append(bytes.Clone(p), tail...) }
	set := func(p []byte, at int, v byte) []byte { p = bytes.Clone(p); p[at] = v; return p }
	tfc := append(bytes.Clone(in), make([]byte, 100)...)
	for i, c := range []struct {
		name  string
		outer []byte
		plain []byte
		want  DropReason
	}{
		{"good", out, cat(in, 0, 4), DropNone},
		{"good, more padding", out, cat(in, 1, 2, 3, 4, 4, 4), DropNone},
		{"traffic flow padding", out, cat(tfc, 1, 2, 3, 3, 4)[:len(tfc)+2], DropPadding},
		{"traffic flow padding", out, cat(tfc, 0, 4), DropNone},
		{"padding zero", out, cat(in, 0, 0, 0, 0, 4, 4), DropPadding},
		{"padding from 0", out, cat(in, 0, 1, 2, 3, 4, 4), DropPadding},
		{"padding longer than packet", out, cat(in, 255, 4), DropPadding},
		{"dummy", out, cat(in, 0, 59), DropDummy},
		{"next header UDP", out, cat(in, 0, 17), DropMalformed},
		{"next header IPv6", out, cat(in, 0, 41), DropMalformed},
		{"inner IPv6", out, cat(in6, 0, 41), DropMalformed},
		{"inner version", out, cat(set(in, 0, 0x65), 0, 4), DropMalformed},
		{"inner header length", out, cat(set(in, 0, 0x44), 0, 4), DropMalformed},
		{"inner header beyond packet", out, cat(set(set(in, 0, 0x4f), 3, 59), 0, 4), DropMalformed},
		{"inner longer than payload", out, cat(set(in, 3, 63), 0, 4), DropMalformed},
		{"inner source", out, cat(set(in, 15, 11), 0, 4), DropInnerMismatch},
		{"inner destination", out, cat(set(in, 19, 11), 0, 4), DropInnerMismatch},
		{"misaligned", out, cat(in, 1, 1, 4), DropMalformed},
		{"v6 good", in6[:40], cat(in6, 0, 41), DropNone},
		{"v6 source", in6[:40], cat(set(in6, 23, 9), 0, 41), DropInnerMismatch},
		{"v6 destination", in6[:40], cat(set(in6, 39, 9), 0, 41), DropInnerMismatch},
		{"v6 longer", in6[:40], cat(set(in6, 5, 23), 0, 41), DropMalformed},
		{"v6 with inner IPv4", in6[:40], cat(in, 0, 4), DropMalformed},
	} {
		got, why := o.Open(espBody(sa, c.outer, uint32(i+1), c.plain))
		if why != c.want {
			t.Errorf("%s: %v, want %v", c.name, why, c.want)
		}
		if why == DropNone && len(got) != 62 {
			t.Errorf("%s: %d octets", c.name, len(got))
		}
	}
}

func TestDirectionAndExpiry(t *testing.T) {
	tek := testTEK(Transform{Cipher: CipherAESGCM, KeyBits: 256}, 7)
	tek.Direction = InboundOnly
	sa := mustSA(t, tek)
	s := mustSealer(t, sa)
	if _, _, why := s.Seal(roomFor(ip4(100)), Headroom, 100); why != DropReceiveOnly {
		t.Errorf("inbound only: %v", why)
	}
	if n, why := s.Reserve(5); n != 0 || why != DropReceiveOnly {
		t.Errorf("reserve: %d %v", n, why)
	}
	tek.Direction, tek.Expires = Both, t0.Add(2*time.Hour)
	if err := sa.Merge(tek, t0.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	sealOne(t, s, ip4(100))
	if sa.Expired(t0.Add(119*time.Minute)) || !sa.Expired(t0.Add(2*time.Hour)) || sa.Direction() != Both || !sa.Expires().Equal(tek.Expires) {
		t.Error("merge didn't take over the end of life")
	}
	if err := sa.Merge(tek, t0.Add(3*time.Hour)); !errors.Is(err, ErrExpired) {
		t.Errorf("merge of an expired TEK: %v", err)
	}
	other := testTEK(tek.Transform, 8)
	other.SPI = tek.SPI
	if err := sa.Merge(other, t0); !errors.Is(err, ErrOtherSA) {
		t.Errorf("merge of another key: %v", err)
	}
	sa.Wipe()
	if _, err := sa.NewSealer(nil); err == nil {
		t.Error("sealer with wiped keys")
	}
}

// TestIVsDontRepeat: CBC's IVs are all different and use the whole field.
func TestIVsDontRepeat(t *testing.T) {
	for _, tr := range []Transform{{Cipher: Cipher3DES, Auth: AuthSHA1}, {Cipher: CipherAESCBC, KeyBits: 128, Auth: AuthSHA1}} {
		s := mustSealer(t, mustSA(t, testTEK(tr, 9)))
		seen := map[string]bool{}
		for range 1000 {
			iv := string(sealOne(t, s, ip4(40))[28 : 28+tr.ivLen()])
			if seen[iv] {
				t.Fatal("IV repeated")
			}
			seen[iv] = true
		}
	}
}

// TestNoAllocations: sealing and opening allocate nothing, whatever the transform.
func TestNoAllocations(t *testing.T) {
	for _, tr := range allTransforms() {
		for _, p := range [][]byte{ip4(1400), ip6(1400)} {
			tek := testTEK(tr, 10)
			sa := mustSA(t, tek)
			s, o := mustSealer(t, sa), mustOpener(t, sa)
			s.Sent = NewSentRing(64)
			buf := roomFor(p)
			f := func() {
				copy(buf[Headroom:], p)
				start, n, why := s.Seal(buf, Headroom, len(p))
				if why != DropNone {
					t.Fatal(why)
				}
				if _, why := o.Open(buf[start : start+n]); why != DropNone {
					t.Fatal(why)
				}
			}
			f() // the sender's window, the hash's saved state
			if n := testing.AllocsPerRun(100, f); n != 0 {
				t.Errorf("%v: %v allocations", trName(tr), n)
			}
		}
	}
}

func benchTransforms() []Transform {
	return []Transform{
		{Cipher: CipherAESGCM, KeyBits: 128}, {Cipher: CipherAESGCM, KeyBits: 256}, {Cipher: CipherAESGCM, KeyBits: 128, ICVLen: 8},
		{Cipher: CipherAESGMAC, KeyBits: 128}, {Cipher: CipherAESCBC, KeyBits: 128, Auth: AuthSHA1},
		{Cipher: CipherAESCBC, KeyBits: 256, Auth: AuthSHA256}, {Cipher: CipherAESCBC, KeyBits: 256, Auth: AuthSHA512},
		{Cipher: Cipher3DES, Auth: AuthSHA1}, {Cipher: CipherNull, Auth: AuthSHA256},
	}
}

// BenchmarkSeal and BenchmarkOpen fail when a packet costs an allocation.
func BenchmarkSeal(b *testing.B) {
	for _, tr := range benchTransforms() {
		for _, n := range []int{64, 1400} {
			b.Run(trName(tr)+"/"+map[int]string{64: "64", 1400: "1400"}[n], func(b *testing.B) {
				s := mustSealer(b, mustSA(b, testTEK(tr, 11)))
				buf, p := roomFor(ip4(n)), ip4(n)
				run := func() {
					copy(buf[Headroom:], p)
					if _, _, why := s.Seal(buf, Headroom, n); why != DropNone {
						b.Fatal(why)
					}
				}
				run()
				if a := testing.AllocsPerRun(10, run); a != 0 {
					b.Fatalf("%v allocations", a)
				}
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					run()
				}
			})
		}
	}
}

// BenchmarkTBAR is both ends of a packet without metadata, with stamps, and with stamps
// and tags in the long form.
func BenchmarkTBAR(b *testing.B) {
	for _, n := range []int{64, 1400} {
		for name, tek := range map[string]TEK{
			"none":       testTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1),
			"time":       timeTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1, 100, MetadataShort, false),
			"time+tag16": timeTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1, 100, MetadataLong, true),
		} {
			b.Run(fmt.Sprint(name, "/", n), func(b *testing.B) {
				if tek.Replay.Mode == ReplayCounter {
					tek.Replay = Replay{}
				}
				sa := mustSA(b, tek)
				s, o := mustSealer(b, sa), mustOpener(b, sa)
				s.Stamp, o.Now, s.SGT = 1000, 1500, 7
				buf, p := roomFor(ip4(n)), ip4(n)
				b.ReportAllocs()
				for b.Loop() {
					copy(buf[Headroom:], p)
					start, l, why := s.Seal(buf, Headroom, n)
					if why != DropNone {
						b.Fatal(why)
					}
					if _, why := o.Open(buf[start : start+l]); why != DropNone {
						b.Fatal(why)
					}
				}
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, tr := range benchTransforms() {
		for _, n := range []int{64, 1400} {
			b.Run(trName(tr)+"/"+map[int]string{64: "64", 1400: "1400"}[n], func(b *testing.B) {
				tek := testTEK(tr, 12)
				tek.Replay = Replay{}
				sa := mustSA(b, tek)
				s, o := mustSealer(b, sa), mustOpener(b, sa)
				sealed := sealOne(b, s, ip4(n))
				buf := make([]byte, len(sealed))
				run := func() {
					copy(buf, sealed)
					if _, why := o.Open(buf); why != DropNone {
						b.Fatal(why)
					}
				}
				run()
				if a := testing.AllocsPerRun(10, run); a != 0 {
					b.Fatalf("%v allocations", a)
				}
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					run()
				}
			})
		}
	}
}
