package steer

// Ingress and ring filter, packet by packet in the kernel's test run.

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"getvpn/ipsec"
)

// v4 makes an Ethernet frame with an IPv4 packet; frag is the flags and offset field.
func v4(proto byte, src, dst string, frag, id uint16, l4 ...byte) []byte {
	p := make([]byte, 34, 34+len(l4))
	binary.BigEndian.PutUint16(p[12:], etherIPv4)
	h := p[14:]
	h[0], h[8], h[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(l4)))
	binary.BigEndian.PutUint16(h[4:], id)
	binary.BigEndian.PutUint16(h[6:], frag)
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	copy(h[12:], s[:])
	copy(h[16:], d[:])
	return append(p, l4...)
}

func v6(next, hop byte, src, dst string, body ...byte) []byte {
	p := make([]byte, 54, 54+len(body))
	binary.BigEndian.PutUint16(p[12:], etherIPv6)
	h := p[14:]
	h[0], h[6], h[7] = 0x60, next, hop
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	s, d := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	copy(h[8:], s[:])
	copy(h[24:], d[:])
	return append(p, body...)
}

func udp(port uint16) []byte { return []byte{0x12, 0x34, byte(port >> 8), byte(port), 0, 8, 0, 0} }

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

var (
	ourSPI     = []byte{0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1}
	foreignSPI = []byte{0x55, 0x66, 0x77, 0x88, 0, 0, 0, 1}
)

// dropAll is policy under which only what isn't judged passes.
var dropAll = ipsec.Ruleset{Default: ipsec.Drop, DefaultReason: ipsec.DropClearInbound}

// skb is the head of struct __sk_buff that a test run takes.
type skb struct {
	Len, PktType, Mark, Queue, Protocol, VlanPresent, VlanTCI, VlanProto, Priority uint32
	Rest                                                                           [39]uint32
}

func TestIngressTellsOursFromClear(t *testing.T) {
	m, cfg := testMaps(t)
	s := &Steering{m: m}
	if err := s.AddSPIs(0x11223344); err != nil {
		t.Fatal(err)
	}
	if err := s.SetLocal([]netip.Addr{netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("2001:db8::1")}); err != nil {
		t.Fatal(err)
	}
	p, count, _ := loadRuleset(t, ingressSpec, m, cfg, &dropAll)
	spec, err := ringSpec(m, cfg)
	if err != nil {
		t.Fatal(err)
	}
	// A test run gives a socket filter the packet without its Ethernet header, which a
	// packet socket has; as a classifier the same instructions see it.
	spec.Type = ebpf.SchedCLS
	ring, err := load(spec)
	if err != nil {
		t.Fatalf("%+v", err)
	}

	const a, b, gm = "10.1.0.1", "10.2.0.1", "172.16.0.1"
	const a6, b6, gm6 = "2001:db8:1::1", "2001:db8:2::1", "2001:db8::1"
	quote := func(f []byte) []byte { return f[14:] }
	icmp := func(typ byte) []byte { return []byte{typ, 4, 0, 0, 0, 0, 5, 0} }
	frag6 := func(off uint16, next byte) []byte {
		return []byte{next, 0, byte(off >> 8), byte(off), 0, 0, 0, 9}
	}
	drop, pass, taken := ipsec.DropClearInbound, statControl, statTaken
	unknown := int32(ipsec.DropUnknownSPI)
	steps := []struct {
		name  string
		frame []byte
		ring  bool
		stat  int32
	}{
		{"our ESP", v4(50, a, b, 0, 1, ourSPI...), true, taken},
		{"foreign ESP", v4(50, a, b, 0, 1, foreignSPI...), false, unknown},
		{"ESP too short for an SPI", v4(50, a, b, 0, 1, 0x11, 0x22, 0x33), false, unknown},
		{"rest before first", v4(50, a, b, 0x0001, 7, 1, 2, 3, 4), true, unknown},
		{"first fragment", v4(50, a, b, 0x2000, 7, ourSPI...), true, taken},
		{"rest after first", v4(50, a, b, 0x2001, 7, 1, 2, 3, 4), true, taken},
		{"rest of another protocol", v4(17, a, b, 0x2001, 7, 1, 2, 3, 4), false, int32(drop)},
		{"rest of another datagram", v4(50, a, b, 0x2001, 8, 1, 2, 3, 4), true, unknown},
		{"too big about ours", v4(1, "9.9.9.9", a, 0, 1, join(icmp(3), quote(v4(50, a, b, 0, 1, ourSPI...)))...), true, taken},
		{"time exceeded about ours", v4(1, "9.9.9.9", a, 0, 1, join(icmp(11), quote(v4(50, a, b, 0, 1, ourSPI...)))...), true, taken},
		{"too big about foreign", v4(1, "9.9.9.9", a, 0, 1, join(icmp(3), quote(v4(50, a, b, 0, 1, foreignSPI...)))...), false, int32(drop)},
		{"redirect about ours", v4(1, "9.9.9.9", a, 0, 1, join(icmp(5), quote(v4(50, a, b, 0, 1, ourSPI...)))...), false, int32(drop)},
		{"GDOI", v4(17, b, gm, 0, 1, udp(848)...), false, pass},
		{"GDOI over NAT-T", v4(17, b, gm, 0, 1, udp(4500)...), false, pass},
		{"other UDP", v4(17, b, gm, 0, 1, udp(849)...), false, int32(drop)},
		{"GDOI to another host", v4(17, b, a, 0, 1, udp(848)...), false, int32(drop)},
		{"GDOI rest unseen", v4(17, b, gm, 0x0001, 3, 1, 2, 3, 4), false, int32(drop)},
		{"GDOI first", v4(17, b, gm, 0x2000, 3, udp(848)...), false, pass},
		{"GDOI rest", v4(17, b, gm, 0x0001, 3, 1, 2, 3, 4), false, pass},
		{"TCP in clear", v4(6, a, b, 0, 1, udp(80)...), false, int32(drop)},

		{"our ESP, IPv6", v6(50, 64, a6, b6, ourSPI...), true, taken},
		{"foreign ESP, IPv6", v6(50, 64, a6, b6, foreignSPI...), false, unknown},
		{"ESP behind options, IPv6", v6(60, 64, a6, b6, join([]byte{50, 0, 1, 4, 0, 0, 0, 0}, ourSPI)...), true, taken},
		{"first fragment, IPv6", v6(44, 64, a6, b6, join(frag6(1, 50), ourSPI)...), true, taken},
		{"rest, IPv6", v6(44, 64, a6, b6, join(frag6(8, 50), ourSPI)...), true, taken},
		{"packet too big about ours, IPv6", v6(58, 64, "2001:db8:9::9", a6, join(icmp(2), quote(v6(50, 64, a6, b6, ourSPI...)))...), true, taken},
		{"packet too big about our fragment, IPv6", v6(58, 64, "2001:db8:9::9", a6, join(icmp(2), quote(v6(44, 64, a6, b6, join(frag6(1, 50), ourSPI)...)))...), true, taken},
		{"echo quoting ours, IPv6", v6(58, 64, "2001:db8:9::9", a6, join(icmp(128), quote(v6(50, 64, a6, b6, ourSPI...)))...), false, int32(drop)},
		{"neighbour solicitation", v6(58, 255, a6, b6, icmp(135)...), false, pass},
		{"the same from afar", v6(58, 254, a6, b6, icmp(135)...), false, int32(drop)},
		{"GDOI, IPv6", v6(17, 64, b6, gm6, udp(848)...), false, pass},
		{"GDOI to another host, IPv6", v6(17, 64, b6, a6, udp(848)...), false, int32(drop)},
		{"ARP", append(make([]byte, 12), append([]byte{8, 6}, make([]byte, 28)...)...), false, pass},
		{"MPLS", append(make([]byte, 12), append([]byte{0x88, 0x47}, make([]byte, 28)...)...), false, int32(ipsec.DropEtherType)},
	}
	for _, x := range steps {
		before, err := readCount(count)
		if err != nil {
			t.Fatal(err)
		}
		// A ring sees a packet before the program does.
		if got := run(t, ring, x.frame, nil) != 0; got != x.ring {
			t.Errorf("%s: ring takes it: %v, want %v", x.name, got, x.ring)
		}
		answer := int32(verdictDrop)
		if x.stat == pass {
			answer = verdictNext
		}
		if got := run(t, p, x.frame, nil); got != answer {
			t.Errorf("%s: answer %d, want %d", x.name, got, answer)
		}
		after, err := readCount(count)
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(numStats) {
			want := before[i]
			if i == int(x.stat) {
				want++
			}
			if after[i] != want {
				t.Errorf("%s: counter %d went from %d to %d", x.name, i, before[i], after[i])
			}
		}
	}

	clear := v4(6, a, b, 0, 1, udp(80)...)
	esp := v4(50, a, b, 0, 1, ourSPI...)
	if got := run(t, p, clear, &skb{Mark: 0xdeadbeef}); got != verdictNext {
		t.Errorf("decrypted packet: answer %d", got)
	}
	var out skb
	if _, err := p.Run(&ebpf.RunOptions{Data: clear, Context: &skb{Mark: 0xdeadbeef}, ContextOut: &out}); err != nil || out.Mark != 0 {
		t.Errorf("mark after ingress 0x%x, %v", out.Mark, err)
	}
	if got := run(t, p, clear, &skb{Mark: 0xdeadbeee}); got != verdictDrop {
		t.Errorf("wrong mark: answer %d", got)
	}
	if err := s.RemoveSPIs(0x11223344, 5); err != nil {
		t.Fatal(err)
	}
	if got := run(t, p, esp, nil); got != verdictDrop {
		t.Errorf("ESP of a removed SPI: answer %d", got)
	}
	if got := run(t, ring, esp, nil); got != 0 {
		t.Errorf("ESP of a removed SPI: ring answers %d", got)
	}
}
