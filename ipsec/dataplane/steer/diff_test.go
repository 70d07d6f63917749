package steer

// Program and Go matcher must agree: random rulesets, random packets, both judged.

import (
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"getvpn/ipsec"
)

var seedFlag = flag.Uint64("steer.seed", 0, "seed of the differential test (0: by time)")

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// rng draws from small sets, so that rules and packets meet.
type rng struct{ *rand.Rand }

// seeded draws by the flag or by time, and says which seed it was.
func seeded(t testing.TB) rng {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-steer.seed=%d", seed)
	return rng{rand.New(rand.NewPCG(seed, 1))}
}

func pick[T any](r rng, v ...T) T { return v[r.IntN(len(v))] }

func (r rng) addr(v6 bool) netip.Addr {
	if !v6 {
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), pick[byte](r, 0, 1, 128), byte(r.IntN(4))})
	}
	var a [16]byte
	a[0], a[1], a[7], a[15] = 0x20, 0x01, byte(r.IntN(3)), byte(r.IntN(4))
	a[r.IntN(16)] ^= byte(r.IntN(2))
	return netip.AddrFrom16(a)
}

func (r rng) match(v6 bool) ipsec.AddrMatch {
	a := r.addr(v6)
	switch r.IntN(4) {
	case 0:
		return ipsec.AddrMatch{}
	case 1: // a wildcard that isn't contiguous
		w := make([]byte, a.BitLen()/8)
		for i := range w {
			w[i] = pick[byte](r, 0, 0, 255, 1, 0x80, 3)
		}
		x, _ := netip.AddrFromSlice(w)
		return ipsec.MatchWildcard(a, x)
	}
	return ipsec.MatchPrefix(netip.PrefixFrom(a, r.IntN(a.BitLen()+1)))
}

func (r rng) port() ipsec.PortMatch {
	if r.IntN(3) > 0 {
		return ipsec.PortMatch{}
	}
	lo := pick[uint16](r, 0, 1, 22, 80, 443, 65535)
	return ipsec.PortMatch{Op: ipsec.PortOp(r.IntN(6)), Lo: lo, Hi: lo + uint16(r.IntN(100))}
}

func (r rng) ace() ipsec.ACE {
	v6 := r.IntN(2) == 1
	e := ipsec.ACE{Family: ipsec.IPv4, Action: ipsec.Action(r.IntN(2)), Src: r.match(v6), Dst: r.match(v6)}
	if v6 {
		e.Family = ipsec.IPv6
	}
	e.Proto = pick[uint8](r, 0, 0, 1, 6, 17, 58, 132, 136, 50, 47)
	if r.IntN(2) == 0 {
		e.SrcPort, e.DstPort = r.port(), r.port()
	}
	if r.IntN(6) == 0 {
		e.HasICMPType, e.ICMPType = true, pick[uint8](r, 0, 3, 8, 128, 135)
	}
	return e
}

func (r rng) ruleset(v ...ipsec.Verdict) ipsec.Ruleset {
	var s ipsec.Ruleset
	n := r.IntN(40)
	for i := range n {
		u := ipsec.Rule{ACE: r.ace(), Verdict: pick(r, v...)}
		switch u.Verdict {
		case ipsec.Drop:
			u.Reason = pick(r, ipsec.DropClearInbound, ipsec.DropLocalPermit)
		case ipsec.Next:
			u.Goto = i + 1 + r.IntN(n-i)
		}
		s.Rules = append(s.Rules, u)
	}
	for s.Default = ipsec.Next; s.Default == ipsec.Next; {
		s.Default = pick(r, v...)
	}
	s.DefaultReason = ipsec.DropFailClose
	return s
}

// packet makes a frame: often good, sometimes a fragment, with options or extension
// headers, sometimes cut or with wrong lengths.
func (r rng) packet() []byte {
	proto := pick[uint8](r, 1, 6, 17, 58, 132, 136, 50, 47)
	l4 := make([]byte, r.IntN(30))
	for i := range l4 {
		l4[i] = byte(r.IntN(256))
	}
	if r.IntN(8) > 0 {
		for len(l4) < 8 {
			l4 = append(l4, 0)
		}
		binary.BigEndian.PutUint16(l4, pick[uint16](r, 0, 1, 22, 80, 443, 65535))
		binary.BigEndian.PutUint16(l4[2:], pick[uint16](r, 0, 1, 22, 80, 443, 848, 65535))
		if proto == 1 || proto == 58 {
			l4[0] = pick[byte](r, 0, 3, 8, 128, 133, 135, 137)
		}
	}
	eth := make([]byte, 14)
	var p []byte
	if r.IntN(2) == 0 {
		binary.BigEndian.PutUint16(eth[12:], etherIPv4)
		h := make([]byte, 20+4*pick(r, 0, 0, 0, 1, 5, 10))
		h[0], h[8], h[9] = byte(0x40|len(h)/4), 64, proto
		binary.BigEndian.PutUint16(h[6:], pick[uint16](r, 0, 0, 0, 0x4000, 0x2000, 0x2001, 1, 0x8000))
		s, d := r.addr(false).As4(), r.addr(false).As4()
		copy(h[12:], s[:])
		copy(h[16:], d[:])
		p = append(h, l4...)
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		if r.IntN(10) == 0 {
			p[0] = byte(r.IntN(256))
		}
		if r.IntN(10) == 0 {
			p[3] = byte(r.IntN(80))
		}
	} else {
		binary.BigEndian.PutUint16(eth[12:], etherIPv6)
		h := make([]byte, 40)
		h[0], h[7] = 0x60, pick[byte](r, 255, 64)
		s, d := r.addr(true).As16(), r.addr(true).As16()
		copy(h[8:], s[:])
		copy(h[24:], d[:])
		next := 6
		for range pick(r, 0, 0, 0, 1, 2, 3, 8, 9) {
			kind := pick[byte](r, 0, 43, 44, 44, 60)
			x := make([]byte, 8)
			if kind == 44 {
				binary.BigEndian.PutUint16(x[2:], pick[uint16](r, 0, 1, 8, 9))
			} else {
				x[1] = byte(r.IntN(2))
				x = append(x, make([]byte, 8*int(x[1]))...)
			}
			h[next] = kind
			next = len(h)
			h = append(h, x...)
		}
		h[next] = proto
		p = append(h, l4...)
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
		if r.IntN(10) == 0 {
			p[5] = byte(r.IntN(80))
		}
		if r.IntN(20) == 0 {
			p[0] = byte(r.IntN(256))
		}
	}
	// Below a whole IP header the kernel's test run refuses the frame.
	least := min(len(p), 20)
	if eth[12] == etherIPv6>>8 {
		least = 40
	}
	if r.IntN(10) == 0 {
		p = p[:least+r.IntN(len(p)-least+1)]
	} else if r.IntN(4) == 0 {
		p = append(p, make([]byte, r.IntN(20))...) // Ethernet padding
	}
	return append(eth, p...)
}

// expect is the Go side of a frame: answer and rule (-1 default, -2 no rule).
func expect(s *ipsec.Ruleset, frame []byte) (answer int32, rule int) {
	p, v6 := frame[14:], binary.BigEndian.Uint16(frame[12:]) == etherIPv6
	f, l4, why := ipsec.ParseFlow(p)
	if why == ipsec.DropNone && f.Src.Is6() != v6 {
		why = ipsec.DropMalformed
	}
	if why != ipsec.DropNone {
		return verdictDrop, -2
	}
	if v6 && p[6] == protoICMPv6 && p[7] == 255 && !f.Frag && l4 == 40 && f.ICMPType >= 133 && f.ICMPType <= 137 {
		return verdictNext, -2
	}
	v, n := s.Match(&f)
	return map[ipsec.Verdict]int32{ipsec.Pass: verdictNext, ipsec.Drop: verdictDrop, ipsec.Protect: verdictRedirect}[v], n
}

func run(t testing.TB, p *ebpf.Program, frame []byte, ctx any) int32 {
	t.Helper()
	ret, err := p.Run(&ebpf.RunOptions{Data: frame, Context: ctx})
	if err != nil {
		t.Fatalf("test run: %v (frame %x)", err, frame)
	}
	return int32(ret)
}

func testMaps(t testing.TB) (*maps, *ebpf.Map) {
	t.Helper()
	needRoot(t)
	m, err := openMaps("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	cfg, err := openMap("", &ebpf.MapSpec{Name: "cfg", Type: ebpf.Array, KeySize: 4, ValueSize: cfgSize, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cfg.Close() })
	if err := writeConfig(cfg, 0xdeadbeef, 1, 1, 0); err != nil {
		t.Fatal(err)
	}
	return m, cfg
}

type makeSpec func(*maps, *ebpf.Map, *ebpf.Map, *ipsec.Ruleset) (*ebpf.ProgramSpec, error)

func loadRuleset(t testing.TB, mk makeSpec, m *maps, cfg *ebpf.Map, s *ipsec.Ruleset) (*ebpf.Program, *ebpf.Map, int) {
	t.Helper()
	count, err := newCount(len(s.Rules))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := mk(m, cfg, count, s)
	if err != nil {
		t.Fatal(err)
	}
	p, err := load(spec)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	return p, count, len(spec.Instructions)
}

func TestProgramAgreesWithMatcher(t *testing.T) {
	m, cfg := testMaps(t)
	r := seeded(t)
	rulesets, packets := 240, 220
	if testing.Short() {
		rulesets = 40
	}
	seen := map[int32]int{}
	for n := range rulesets {
		mk, verdicts := makeSpec(egressSpec), []ipsec.Verdict{ipsec.Pass, ipsec.Drop, ipsec.Next, ipsec.Protect, ipsec.Protect}
		if n%3 == 2 {
			mk, verdicts = ingressSpec, []ipsec.Verdict{ipsec.Pass, ipsec.Drop, ipsec.Drop, ipsec.Next}
		}
		s := r.ruleset(verdicts...)
		if passesAll(&s) {
			continue
		}
		p, count, _ := loadRuleset(t, mk, m, cfg, &s)
		hits := make([]uint64, len(s.Rules)+1)
		for range packets {
			frame := r.packet()
			want, rule := expect(&s, frame)
			if rule == -1 {
				rule = len(s.Rules)
			}
			if rule >= 0 {
				hits[rule]++
			}
			seen[want]++
			if got := run(t, p, frame, nil); got != want {
				t.Fatalf("ruleset %d: program %d, matcher %d (rule %d) for %x\n%+v", n, got, want, rule, frame, s)
			}
		}
		got, err := readCount(count)
		if err != nil {
			t.Fatal(err)
		}
		for i, h := range hits {
			if got[int(numStats)+i] != h {
				t.Fatalf("ruleset %d: rule %d hit %d times, program counted %d", n, i, h, got[int(numStats)+i])
			}
		}
		p.Close()
		count.Close()
	}
	t.Logf("answers: %v", seen)
	for _, v := range []int32{verdictNext, verdictDrop, verdictRedirect} {
		if seen[v] == 0 {
			t.Errorf("no packet was answered %d: the test proves nothing", v)
		}
	}
}

// TestLongListsLoad: four times the vendor's limit of entries, each with everything,
// passes the verifier for both directions.
func TestLongListsLoad(t *testing.T) {
	m, cfg := testMaps(t)
	r := seeded(t)
	var out, in ipsec.Ruleset
	for range 400 {
		e := r.ace()
		e.Proto, e.SrcPort = protoUDP, ipsec.PortMatch{Op: ipsec.PortRange, Lo: 1, Hi: 9}
		e.DstPort = ipsec.PortMatch{Op: ipsec.PortGt, Lo: uint16(r.IntN(65536))}
		out.Rules = append(out.Rules, ipsec.Rule{ACE: e, Verdict: ipsec.Protect})
		in.Rules = append(in.Rules, ipsec.Rule{ACE: e.Mirror(), Verdict: ipsec.Drop, Reason: ipsec.DropClearInbound})
	}
	for _, x := range []struct {
		mk makeSpec
		r  *ipsec.Ruleset
	}{{egressSpec, &out}, {ingressSpec, &in}} {
		p, count, n := loadRuleset(t, x.mk, m, cfg, x.r)
		t.Logf("%d instructions", n)
		p.Close()
		count.Close()
	}
	out.Rules[0].Verdict, out.Rules[0].Goto = ipsec.Next, 0
	if err := check(&out); err == nil {
		t.Error("a ruleset that runs in circles is accepted")
	}
}
