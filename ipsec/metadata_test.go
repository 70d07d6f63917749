package ipsec

// Metadata: the header alone, then inside packets of every transform, both modes and
// families, both sizes, whatever the receiver sends itself.

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestMetadataForm(t *testing.T) {
	for _, c := range []struct {
		m    metadata
		n    int
		want string
	}{
		{metadata{next: 4, stamp: 0x123456789a}, 12, "01040c0d123456789a000000"},
		{metadata{next: 41, stamp: 600006780, sgt: 0x1234, tagged: true}, 12, "01290c0d0023c3607c121234"},
		{metadata{next: 4, stamp: NoStamp, sgt: 7, tagged: true}, 16, "01041012000700000000000000000000"},
		{metadata{next: 17, stamp: NoStamp}, 12, "01110c000000000000000000"},
		{metadata{next: 4, stamp: 1, sgt: 0xffff, tagged: true}, 16, "0104100d000000000112ffff00000000"},
	} {
		b := bytes.Repeat([]byte{0xee}, c.n)
		c.m.put(b)
		if got := hex.EncodeToString(b); got != c.want {
			t.Errorf("%+v: %s, want %s", c.m, got, c.want)
		}
	}
}

func TestMetadataRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := metadata{next: rapid.Byte().Draw(rt, "next"), stamp: NoStamp}
		if rapid.Bool().Draw(rt, "stamped") {
			m.stamp = Stamp(rapid.Int64Range(0, maxStamp).Draw(rt, "stamp"))
		}
		if m.tagged = rapid.Bool().Draw(rt, "tagged"); m.tagged {
			m.sgt = rapid.Uint16().Draw(rt, "tag")
		}
		b := make([]byte, rapid.SampledFrom([]int{12, 16}).Draw(rt, "size"))
		m.put(b)
		var got metadata
		if n := got.parse(append(b, 0xaa, 0xbb)); n != len(b) || got != m {
			rt.Fatalf("%+v became %+v (%d octets)", m, got, n)
		}
		for n := range b {
			if got.parse(b[:n]) != 0 {
				rt.Fatalf("the first %d octets parse", n)
			}
		}
	})
}

// TestMetadataPage: the page's examples are what is written.
func TestMetadataPage(t *testing.T) {
	page, err := os.ReadFile("../docs/protocol/metadata.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(page), " ", "")
	for _, c := range []struct {
		m metadata
		n int
	}{{metadata{next: 4, stamp: 123456}, 12}, {metadata{next: 41, stamp: 123456, sgt: 0xbeef, tagged: true}, 16}} {
		b := make([]byte, c.n)
		if c.m.put(b); !strings.Contains(text, "`"+hex.EncodeToString(b)+"`") {
			t.Errorf("the page lacks %x", b)
		}
	}
}

func TestMetadataRefused(t *testing.T) {
	for name, s := range map[string]string{
		"version":           "02040c0d1234567890000000",
		"size 8":            "0104080d1234567890000000",
		"size 14":           "01040e0d12345678900000000000",
		"size beyond":       "0104100d1234567890000000",
		"option beyond":     "01040c17111111111111110d",
		"stamp twice":       "0104100d12345678900d1234567890000000"[:32],
		"tag twice":         "01040c120001120002000000",
		"stamp of 4 octets": "01040c0c1234567800000000",
		"tag of 3 octets":   "01040c131234560000000000",
		"padding not zero":  "01040c0d1234567890000001",
		"options behind 0":  "01040c001200010000000000",
	} {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		var m metadata
		if n := m.parse(b); n != 0 {
			t.Errorf("%s: %d octets, %+v", name, n, m)
		}
	}
	// An option that nobody knows yet is passed over.
	b, _ := hex.DecodeString("01041022abcd0d00000000051200090000")
	var m metadata
	if n := m.parse(b[:16]); n != 16 || m.stamp != 5 || m.sgt != 9 {
		t.Errorf("with an unknown option: %d octets, %+v", n, m)
	}
}

func FuzzMetadata(f *testing.F) {
	for _, s := range []string{"01040c0d1234567890000000", "01291012123400000000000000000000", "01041022abcd0d000000000512000900"} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m metadata
		n := m.parse(b)
		if n == 0 {
			return
		}
		if n != MetadataShort && n != MetadataLong || n > len(b) || m.stamp < NoStamp || m.stamp > maxStamp || !m.tagged && m.sgt != 0 {
			t.Fatalf("%d octets, %+v of %x", n, m, b)
		}
		again := make([]byte, n)
		m.put(again)
		var m2 metadata
		if m2.parse(again) != n || m2 != m {
			t.Fatalf("%+v written and read is %+v", m, m2)
		}
	})
}

// timeTEK is a TEK with time-based anti-replay, a window of seconds and metadata.
func timeTEK(tr Transform, seed byte, window, header int, sgt bool) TEK {
	tek := testTEK(tr, seed)
	tek.Replay = Replay{Mode: ReplayTime, Window: window}
	tek.Metadata = Metadata{Header: header, SGT: sgt}
	return tek
}

// TestMetadataInPackets: what one member seals with either size another opens that
// sends the other size; lengths and the clear-text MTU count it to the octet.
func TestMetadataInPackets(t *testing.T) {
	for _, tr := range allTransforms() {
		t.Run(trName(tr), func(t *testing.T) {
			t.Parallel()
			for _, header := range []int{MetadataShort, MetadataLong} {
				sa := mustSA(t, timeTEK(tr, 1, 5, header, true))
				far := mustSA(t, timeTEK(tr, 1, 5, MetadataShort+MetadataLong-header, true))
				s, o := mustSealer(t, sa), mustOpener(t, far)
				s.Stamp, o.Now = 7000, 7500
				buf := make([]byte, Headroom+2000+Tailroom)
				for _, f := range []Family{IPv4, IPv6} {
					for n := headerLen(f); n <= 1600; n++ {
						if n > 120 && n%13 != 0 && n < 1380 {
							continue
						}
						want := ip4(n)
						if f == IPv6 {
							want = ip6(n)
						}
						copy(buf[Headroom:], want)
						s.SGT = uint16(n)
						start, l, why := s.Seal(buf, Headroom, n)
						if why != DropNone {
							t.Fatalf("%d: %v", n, why)
						}
						if l != sa.SealedLen(n, f) {
							t.Fatalf("%d octets sealed to %d, SealedLen %d", n, l, sa.SealedLen(n, f))
						}
						if sa.ClearMTU(l, f) < n || sa.ClearMTU(l-1, f) >= n {
							t.Fatalf("%d octets need %d: ClearMTU %d, with one less %d", n, l, sa.ClearMTU(l, f), sa.ClearMTU(l-1, f))
						}
						got, why := o.Open(buf[start : start+l])
						if why != DropNone || !bytes.Equal(got, want) || o.SGT() != uint16(n) {
							t.Fatalf("%d octets, header %d: %v, tag %d\n%x\n%x", n, header, why, o.SGT(), got, want)
						}
					}
				}
				if c := far.Counters().Time; c.Accepted == 0 || c.MaxLate != 500*time.Millisecond || c.MaxEarly != 0 {
					t.Errorf("counters %+v", c)
				}
			}
		})
	}
}

// TestMetadataCost: the header's octets are what the clear-text MTU loses, up to the
// cipher's block.
func TestMetadataCost(t *testing.T) {
	for _, c := range []struct {
		tr   Transform
		f    Family
		want [3]int // none, 12, 16
	}{
		{Transform{Cipher: CipherAESGCM, KeyBits: 128}, IPv4, [3]int{1446, 1434, 1430}},
		{Transform{Cipher: CipherAESGCM, KeyBits: 128}, IPv6, [3]int{1426, 1414, 1410}},
		{Transform{Cipher: CipherAESCBC, KeyBits: 256, Auth: AuthSHA1}, IPv4, [3]int{1438, 1426, 1422}},
		{Transform{Cipher: CipherAESCBC, KeyBits: 256, Auth: AuthSHA256}, IPv6, [3]int{1406, 1394, 1390}},
	} {
		for i, header := range []int{0, MetadataShort, MetadataLong} {
			tek := testTEK(c.tr, 1)
			tek.Metadata.Header = header
			if got := mustSA(t, tek).ClearMTU(1500, c.f); got != c.want[i] {
				t.Errorf("%v, IPv%d, header %d: clear-text MTU %d, want %d", c.tr, 4+2*int(c.f&1), header, got, c.want[i])
			}
		}
	}
	tek := testTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1)
	tek.Metadata.Header = MetadataLong
	if n := mustSA(t, tek).ClearMTU(60, IPv4); n != 0 {
		t.Errorf("a link of 60 octets carries %d", n)
	}
}

// TestTagWithoutTime: tags travel without stamps too, and are given to nobody that the
// policy doesn't allow to have them.
func TestTagWithoutTime(t *testing.T) {
	tr := Transform{Cipher: CipherAESGCM, KeyBits: 128}
	tek := testTEK(tr, 3)
	tek.Metadata = Metadata{SGT: true} // the short header by itself
	plain := testTEK(tr, 3)
	s, o := mustSealer(t, mustSA(t, tek)), mustOpener(t, mustSA(t, tek))
	blind := mustOpener(t, mustSA(t, plain))
	for _, tag := range []uint16{0, 1, 0xffff} {
		s.SGT = tag
		p := sealOne(t, s, ip4(100))
		if got, why := blind.Open(bytes.Clone(p)); why != DropNone || blind.SGT() != 0 || !bytes.Equal(got, ip4(100)) {
			t.Errorf("tag %d, at a member without tags: %v, tag %d", tag, why, blind.SGT())
		}
		if got, why := o.Open(p); why != DropNone || o.SGT() != tag || !bytes.Equal(got, ip4(100)) {
			t.Errorf("tag %d: %v, got %d", tag, why, o.SGT())
		}
	}
	// The other way round: what has no metadata has no tag.
	p := sealOne(t, mustSealer(t, mustSA(t, plain)), ip4(100))
	binary.BigEndian.PutUint32(p[24:], 99) // its ICV no longer fits
	if _, why := o.Open(p); why != DropICV {
		t.Error(why)
	}
	sealer := mustSealer(t, mustSA(t, plain))
	for range 5 {
		p = sealOne(t, sealer, ip4(100))
	}
	if _, why := o.Open(p); why != DropNone || o.SGT() != 0 {
		t.Errorf("without metadata: %v, tag %d", why, o.SGT())
	}
}

// TestTransportProtocol99: where an SA has no metadata, protocol 99 in transport mode is
// a payload like any other.
func TestTransportProtocol99(t *testing.T) {
	tek := testTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128, Mode: Transport}, 4)
	sa := mustSA(t, tek)
	p := ip4(100)
	p[9] = protoMetadata
	putHeaderSum(p[:20])
	if got, why := mustOpener(t, sa).Open(sealOne(t, mustSealer(t, sa), p)); why != DropNone || !bytes.Equal(got, p) {
		t.Errorf("%v", why)
	}
	// With metadata it is inside of that.
	tek.Metadata.Header = MetadataShort
	sa = mustSA(t, tek)
	if got, why := mustOpener(t, sa).Open(sealOne(t, mustSealer(t, sa), p)); why != DropNone || !bytes.Equal(got, p) {
		t.Errorf("with metadata: %v", why)
	}
}

func ExamplePseudotime() {
	p := &Pseudotime{Boot: time.Hour, Value: 600 * time.Second, Tick: 100 * time.Millisecond}
	at := time.Hour + 6789*time.Millisecond
	fmt.Println(p.At(at), p.Now(at), p.Stamp(at))
	// Output: 10m6.789s 606789 606700
}
