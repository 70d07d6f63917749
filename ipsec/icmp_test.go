package ipsec

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

var (
	gw4 = netip.MustParseAddr("192.0.2.1")
	gw6 = netip.MustParseAddr("2001:db8:ff::1")
)

// icmpOK checks lengths and checksums of an ICMP packet and returns the message.
func icmpOK(t *testing.T, p []byte) []byte {
	t.Helper()
	f, l4, why := ParseFlow(p)
	if why != DropNone {
		t.Fatalf("%v: %x", why, p)
	}
	m := p[l4:]
	if f.Src.Is4() {
		if fold(sum16(0, p[:20])) != 0xffff || fold(sum16(0, m)) != 0xffff || f.Proto != protoICMP {
			t.Errorf("checksum of %x", p)
		}
	} else if fold(sum16(sum16(uint64(len(m))+protoICMPv6, p[8:40]), m)) != 0xffff || f.Proto != protoICMPv6 {
		t.Errorf("checksum of %x", p)
	}
	return m
}

func TestBuildTooBig(t *testing.T) {
	dst := make([]byte, ICMPMax)
	n := BuildTooBig(dst, ip4(1500), 1400, gw4)
	m := icmpOK(t, dst[:n])
	if n != 576 || m[0] != 3 || m[1] != 4 || binary.BigEndian.Uint32(m[4:]) != 1400 || !bytes.Equal(m[8:], ip4(1500)[:len(m)-8]) ||
		!bytes.Equal(dst[12:20], []byte{192, 0, 2, 1, 10, 1, 1, 10}) {
		t.Errorf("%d octets: %x", n, dst[:60])
	}
	n = BuildTooBig(dst, ip6(1500), 1400, gw6)
	m = icmpOK(t, dst[:n])
	if n != 1280 || m[0] != 2 || m[1] != 0 || binary.BigEndian.Uint32(m[4:]) != 1400 || !bytes.Equal(m[8:], ip6(1500)[:len(m)-8]) {
		t.Errorf("%d octets: %x", n, dst[:60])
	}
	change := func(p []byte, f func([]byte)) []byte { f(p); return p }
	for name, p := range map[string][]byte{
		"fragment":        change(ip4(1500), func(p []byte) { p[6], p[7] = 0, 4 }),
		"multicast":       change(ip4(1500), func(p []byte) { p[16] = 239 }),
		"broadcast":       change(ip4(1500), func(p []byte) { copy(p[16:], []byte{255, 255, 255, 255}) }),
		"no source":       change(ip4(1500), func(p []byte) { copy(p[12:16], make([]byte, 4)) }),
		"loopback":        change(ip4(1500), func(p []byte) { p[12] = 127 }),
		"class E source":  change(ip4(1500), func(p []byte) { p[12] = 240 }),
		"ICMP error":      change(ip4(1500), func(p []byte) { p[9], p[20] = 1, 3 }),
		"ICMPv6 error":    change(ip6(1500), func(p []byte) { p[6], p[40] = 58, 3 }),
		"not a packet":    {1, 2, 3},
		"truncated ICMP":  change(ip4(20), func(p []byte) { p[9] = 1 }),
		"multicast src 6": change(ip6(1500), func(p []byte) { p[8] = 0xff }),
	} {
		for _, from := range []netip.Addr{gw4, gw6} {
			if n := BuildTooBig(dst, p, 1400, from); n != 0 {
				t.Errorf("%s answered from %v", name, from)
			}
		}
	}
	if BuildTooBig(dst, change(ip4(1500), func(p []byte) { p[9], p[20] = 1, 8 }), 1400, gw4) == 0 {
		t.Error("a ping must be answered")
	}
	if BuildTooBig(dst, change(ip6(1500), func(p []byte) { p[24] = 0xff }), 1400, gw6) == 0 {
		t.Error("IPv6 multicast must be answered (RFC 4443 §2.4 (e.3))")
	}
}

// coreError is an ICMP error of a core router that quotes n octets of a sealed packet.
func coreError(sealed []byte, typ, code byte, word uint32, n int) []byte {
	dst := make([]byte, 2000)
	q := sealed[:min(n, len(sealed))]
	if sealed[0]>>4 == 4 {
		return dst[:putICMP4(dst, []byte{198, 51, 100, 7}, sealed[12:16], typ, code, word, q)]
	}
	from := gw6.As16()
	return dst[:putICMP6(dst, from[:], sealed[8:24], typ, code, word, q)]
}

// TestCase_esp_05: a core router with MTU 1400 answers the host; the host is told what
// it may send in clear, about its own packet.
func TestCase_esp_05(t *testing.T) {
	for _, tr := range allTransforms() {
		if tr.Mode == Transport {
			continue
		}
		for _, clear := range [][]byte{ip4(1400), ip6(1400)} {
			f := IPv4
			if clear[0]>>4 == 6 {
				f = IPv6
			}
			sa := mustSA(t, testTEK(tr, 1))
			s := mustSealer(t, sa)
			s.Sent = NewSentRing(16)
			sealed := sealOne(t, s, clear)
			mtu := func(spi uint32, link int, f Family) int {
				if spi != sa.SPI() {
					t.Errorf("asked about SPI %x", spi)
				}
				return sa.ClearMTU(link, f)
			}
			dst := make([]byte, ICMPMax)
			typ, code := byte(3), byte(4)
			if f == IPv6 {
				typ, code = 2, 0
			}
			pkt := coreError(sealed, typ, code, 1400, 1200)
			if f == IPv4 {
				pkt = coreError(sealed, typ, code, 1400, 28) // all that RFC 792 promises
			}
			n, ours := RewriteICMP(dst, pkt, s.Sent, mtu)
			if !ours || n == 0 {
				t.Fatalf("%v: %d %v", trName(tr), n, ours)
			}
			m := icmpOK(t, dst[:n])
			got := int(binary.BigEndian.Uint32(m[4:]))
			if m[0] != typ || m[1] != code || got != max(sa.ClearMTU(1400, f), map[Family]int{IPv4: 68, IPv6: 1280}[f]) ||
				!bytes.Equal(m[8:], clear[:sentHead]) {
				t.Errorf("%v: MTU %d, message %x", trName(tr), got, m)
			}
			if tr.SealedLen(got, f, 0) > 1400 && got > 1280 {
				t.Errorf("a packet of %d seals to more than 1400", got)
			}
		}
	}
}

func TestRewriteICMPJudges(t *testing.T) {
	sa := mustSA(t, testTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1))
	s := mustSealer(t, sa)
	s.Sent = NewSentRing(16)
	clear := ip4(1400)
	sealed := sealOne(t, s, clear)
	mtu := func(_ uint32, link int, f Family) int { return sa.ClearMTU(link, f) }
	dst := make([]byte, ICMPMax)
	edit := func(p []byte, f func(p []byte)) []byte {
		p = bytes.Clone(p)
		f(p)
		p[22], p[23] = 0, 0
		binary.BigEndian.PutUint16(p[22:], ^fold(sum16(0, p[20:])))
		return p
	}
	good := coreError(sealed, 3, 4, 1400, 28)
	for _, c := range []struct {
		name  string
		pkt   []byte
		ours  bool
		wrote bool
	}{
		{"good", good, true, true},
		{"time exceeded", coreError(sealed, 11, 0, 0, 28), true, true},
		{"host unreachable", coreError(sealed, 3, 1, 0, 28), true, true},
		{"no MTU", coreError(sealed, 3, 4, 0, 28), true, true},
		{"MTU that would have sufficed", coreError(sealed, 3, 4, 1500, 28), true, false},
		{"redirect", coreError(sealed, 5, 0, 0, 28), true, false},
		{"another sequence number", edit(good, func(p []byte) { p[28+27]++ }), true, false},
		{"another SPI", edit(good, func(p []byte) { p[28+20]++ }), true, false},
		{"another source", edit(good, func(p []byte) { p[28+15]++ }), true, false},
		{"to another host", edit(good, func(p []byte) { p[19]++ }), true, false},
		{"wrong checksum", append(bytes.Clone(good[:22]), append([]byte{1, 2}, good[24:]...)...), true, false},
		{"quotes UDP", edit(good, func(p []byte) { p[28+9] = 17 }), false, false},
		{"echo", edit(good, func(p []byte) { p[20] = 8 }), false, false},
		{"quotes a later fragment", edit(good, func(p []byte) { p[28+7] = 1 }), false, false},
		{"not ICMP", clear, false, false},
		{"junk", []byte{0x45, 0}, false, false},
	} {
		n, ours := RewriteICMP(dst, c.pkt, s.Sent, mtu)
		if ours != c.ours || n > 0 != c.wrote {
			t.Errorf("%s: %d, %v", c.name, n, ours)
		}
		if n > 0 {
			m := icmpOK(t, dst[:n])
			if !bytes.Equal(m[8:], clear[:sentHead]) || !bytes.Equal(dst[12:20], c.pkt[12:20]) {
				t.Errorf("%s: %x", c.name, m)
			}
		}
	}
	// The ring forgets.
	for range 16 {
		sealOne(t, s, clear)
	}
	if n, ours := RewriteICMP(dst, good, s.Sent, mtu); n != 0 || !ours {
		t.Errorf("forgotten packet: %d %v", n, ours)
	}
}
