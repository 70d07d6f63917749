package dataplane

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"getvpn/internal/clock"
	"getvpn/ipsec"
)

// testPort is a port without an interface: a policy, its SAs, and a table.
func testPort(t testing.TB, queues int, edit func(*ipsec.GroupPolicy)) *port {
	t.Helper()
	d := &Dataplane{o: Options{Queues: queues}, sharing: map[*ipsec.SA]*sharedSA{}, ports: map[string]*port{}, stats: map[string]*groupStats{}, clock: clock.System{}, told: make(chan func(), 8)}
	d.line = clock.NewTimeline(d.clock)
	p := newPort(d, "test")
	a, b := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")
	g := ipsec.GroupPolicy{Group: "g", Interface: "test", State: ipsec.Registered,
		Entries: []ipsec.Entry{{ACE: ipsec.ACE{Action: ipsec.Permit, Family: ipsec.IPv4,
			Src: ipsec.MatchPrefix(a), Dst: ipsec.MatchPrefix(b)}, SPI: 4096}},
		TEKs: []ipsec.TEK{{SPI: 4096, Transform: ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: 128},
			Key: make([]byte, 20), Expires: time.Now().Add(time.Hour), SIDBits: 24, SIDs: []uint32{7}}}}
	if edit != nil {
		edit(&g)
	}
	p.groups["g"] = g
	if _, _, err := p.newTable(); err != nil {
		t.Fatal(err)
	}
	return p
}

func socketPair(t testing.TB) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4<<20)
		t.Cleanup(func() { unix.Close(fd) })
	}
	return fds[0], fds[1]
}

// superFrame is what the TAP gives for a TCP super-packet of n octets of payload.
func superFrame(n, mss int) []byte {
	ip := build(false, protoTCP, 1, 1, 0x10, make([]byte, n))
	b := make([]byte, vnetLen+etherLen, vnetLen+etherLen+len(ip))
	b[1] = gsoTCPv4
	binary.NativeEndian.PutUint16(b[4:], uint16(mss))
	return append(b, ip...)
}

// rig runs both pumps back to back, with a socket pair in place of the wire and
// another in place of the TAP.
type rig struct {
	out         *outWorker
	in          *inWorker
	wire        int // where frames arrive
	tap         int // where packets arrive
	frame       []byte
	read        []byte
	sent, taken int
	tag         uint16
}

func newRig(t testing.TB, payload int, edit func(*ipsec.GroupPolicy)) *rig {
	p := testPort(t, 1, edit)
	w, wire := socketPair(t)
	tw, tap := socketPair(t)
	s := &sender{fd: w, msgs: make([]mmsghdr, outBatch), iovs: make([]unix.Iovec, outBatch)}
	for i := range s.msgs {
		s.msgs[i].hdr.Iov = &s.iovs[i]
		s.msgs[i].hdr.SetIovlen(1)
	}
	const slots = 128
	r := &ring{fd: -1, mem: make([]byte, slots*2048), frame: 2048, perBlock: 32, n: slots}
	g := &rig{wire: wire, tap: tap, frame: superFrame(payload, 1360), read: make([]byte, 1<<17)}
	g.out = newOutWorker(p, 0, &ring{fd: -1}, -1, 1500, s, p.out[0])
	g.in = newInWorker(p, 0, r, tw, -1, [6]byte{}, p.in[0])
	g.in.lost = 1 << 62 // there is no socket to ask
	return g
}

// once carries one super-packet through both pumps.
func (g *rig) once() {
	g.out.begin()
	g.out.frame(g.frame, g.tag)
	g.out.flush()
	r := g.in.ring
	for k := 0; ; k++ {
		s := r.slot(r.at + k)
		n, e := rawRead(g.wire, s[80:])
		if e != 0 {
			break
		}
		h := (*unix.Tpacket2Hdr)(unsafe.Pointer(&s[0]))
		h.Mac, h.Snaplen, h.Len, h.Status = 80, uint32(n), uint32(n), unix.TP_STATUS_USER
		g.sent++
	}
	g.in.batch()
	for {
		n, e := rawRead(g.tap, g.read)
		if e != 0 {
			break
		}
		g.taken = n
	}
}

// timed gives a policy time-based anti-replay with a header of that size.
func timed(header int, sgt bool) func(*ipsec.GroupPolicy) {
	return func(g *ipsec.GroupPolicy) {
		g.TEKs[0].Replay = ipsec.Replay{Mode: ipsec.ReplayTime, Window: 5}
		g.TEKs[0].Metadata = ipsec.Metadata{Header: header, SGT: sgt}
		g.Pseudo = &ipsec.Pseudotime{Boot: clock.System{}.Boot(), Value: time.Hour, Tick: 10 * time.Millisecond}
	}
}

func counted(g *ipsec.GroupPolicy) {
	g.TEKs[0].Replay = ipsec.Replay{Mode: ipsec.ReplayCounter, Window: 64}
}

// forms are policies whose packets differ.
var forms = map[string]func(*ipsec.GroupPolicy){"plain": nil, "counter": counted, "time": timed(ipsec.MetadataShort, false), "time, long header and tag": timed(ipsec.MetadataLong, true)}

// A super-packet comes out at the other end as it went in, and nothing is allocated
// for it on the way.
func TestForwardingAllocatesNothing(t *testing.T) {
	for name, edit := range forms {
		t.Run(name, func(t *testing.T) { forwardsAndAllocatesNothing(t, edit) })
	}
}

func forwardsAndAllocatesNothing(t *testing.T, edit func(*ipsec.GroupPolicy)) {
	const payload = 1360*20 + 100
	g := newRig(t, payload, edit)
	g.once()
	if g.sent != 21 || g.taken != len(g.frame) {
		t.Fatalf("%d frames, %d octets out, want 21 and %d; drops %v %v", g.sent, g.taken, len(g.frame), dropsOf(g.out.c), dropsOf(g.in.c))
	}
	var s segmenter
	if err := s.start(g.read[:vnetLen], g.read[vnetLen+etherLen:g.taken]); err != nil || s.size != 1360 {
		t.Fatalf("what came out: %v, segments of %d", err, s.size)
	}
	if !bytes.Equal(g.read[vnetLen+etherLen+20+32:g.taken], g.frame[vnetLen+etherLen+20+32:]) {
		t.Fatal("payload changed")
	}
	if n := testing.AllocsPerRun(300, g.once); n != 0 {
		t.Errorf("%v allocations for 21 packets, want 0", n)
	}
}

func dropsOf(c *counters) map[string]uint64 {
	m := map[string]uint64{}
	for i := range c.drops {
		if n := c.drops[i].Load(); n > 0 {
			m[ipsec.DropReason(i).String()] = n
		}
	}
	return m
}

// BenchmarkForward is one packet's way through both pumps without the kernel's
// network; it fails when it allocates.
func BenchmarkForward(b *testing.B) {
	for _, f := range []struct {
		name string
		n    int
		edit func(*ipsec.GroupPolicy)
	}{
		{"small", 64, nil}, {"super", 1360 * 40, nil},
		{"small/counter", 64, counted}, {"super/counter", 1360 * 40, counted},
		{"small/time", 64, timed(12, false)}, {"super/time", 1360 * 40, timed(12, false)},
	} {
		b.Run(f.name, func(b *testing.B) {
			n, g := f.n, newRig(b, f.n, f.edit)
			g.once()
			b.SetBytes(int64(n))
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				g.once()
			}
			b.StopTimer()
			if a := testing.AllocsPerRun(100, g.once); a != 0 {
				b.Fatalf("%v allocations a packet", a)
			}
		})
	}
}
