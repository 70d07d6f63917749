package coop

// The guide's rules, one by one.

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// calm is a world without loss whose servers started together.
func calm(t *testing.T, servers, members int) *world {
	w := newWorld(t, 1, servers, members)
	w.wordy, w.delay = true, time.Millisecond
	for _, s := range w.ks {
		w.after(0, s.start)
	}
	w.run(10 * time.Second)
	return w
}

func (w *world) roles() string {
	var b strings.Builder
	for _, s := range w.ks {
		if s.m == nil || !s.up {
			b.WriteString("-")
			continue
		}
		b.WriteString(s.m.role.String()[:1])
	}
	return b.String()
}

func (w *world) expect(roles string) {
	w.Helper()
	if got := w.roles(); got != roles {
		w.Fatalf("roles %s, not %s\n%s", got, roles, strings.Join(w.trace, "\n"))
	}
}

// The highest priority is primary, then the highest address; a better one that comes
// later, or comes back, doesn't drive it out.
func TestElection(t *testing.T) {
	w := newWorld(t, 1, 4, 0) // priorities 100, 90, 80, 100
	w.delay = time.Millisecond
	for _, s := range w.ks[:3] {
		w.after(0, s.start)
	}
	w.run(34 * time.Second)
	w.expect("UUU-")
	w.run(3 * time.Second)
	w.expect("PSS-")
	w.ks[3].start() // the higher address
	w.run(5 * time.Second)
	w.expect("PSSS")
	w.ks[0].stop(false)
	w.run(3 * time.Second)
	w.expect("-SSS") // an SA that ends isn't a death yet
	w.run(12 * time.Second)
	w.expect("-SSP")
	w.ks[0].start()
	w.run(5 * time.Second)
	w.expect("SSSP")
}

// A silent primary is asked three times, ten seconds apart, after thirty seconds.
func TestSilentPrimaryIsAskedThreeTimes(t *testing.T) {
	w := calm(t, 2, 0)
	w.expect("PS")
	w.run(50 * time.Second)
	a, b := w.ks[0], w.ks[1]
	heard := b.m.peers[a.addr].heard
	a.up = false // without an end of the SA
	until := func(at time.Duration) { w.run(heard.Add(at).Sub(w.now)) }
	for i, at := range []time.Duration{30, 40, 50} {
		until(at*time.Second - time.Millisecond)
		if b.m.asked != i {
			t.Errorf("%d requests before %d s", b.m.asked, at)
		}
		until(at*time.Second + time.Millisecond)
		if b.m.asked != i+1 {
			t.Errorf("%d requests after %d s", b.m.asked, at)
		}
	}
	until(60*time.Second + time.Millisecond)
	if b.m.role != Electing {
		t.Errorf("%v after three requests", b.m.role)
	}
	w.run(4 * time.Second)
	if b.m.role != Primary {
		t.Errorf("%v", b.m.role)
	}
}

// A farewell needs no timer.
func TestLeave(t *testing.T) {
	w := calm(t, 3, 0)
	w.expect("PSS")
	w.ks[0].do(w.ks[0].m.Leave(w.ks[0].clock()))
	w.ks[0].up = false
	w.run(4 * time.Second)
	w.expect("-PS")
}

// The guide's example: 2 3 4 5, 6 at the first key server, 16 17 18 at the second, 28, 29
// at the first again.
func TestSequenceNumbersOfTheGuide(t *testing.T) {
	w := calm(t, 2, 1)
	w.expect("PS")
	a, b := w.ks[0], w.ks[1]
	kek := spiOf("K1")
	use := func(s *server, n int) (out []uint32) {
		for range n {
			l := s.m.Lease(kek)
			if l.Ends || l.Left() == 0 {
				t.Fatalf("lease %+v", l)
			}
			s.do(s.m.Used(kek, l.From, s.clock()))
			out = append(out, l.From)
			w.run(20 * time.Second) // key servers synchronise
		}
		return out
	}
	change := func(from, to *server) {
		c := from.config()
		c.Priority = 1
		out, err := from.m.Configure(c, from.clock())
		if err != nil {
			t.Fatal(err)
		}
		from.do(out)
		c = to.config()
		c.Priority = 200
		if out, err = to.m.Configure(c, to.clock()); err != nil {
			t.Fatal(err)
		}
		to.do(out)
		w.run(2 * time.Second)
		from.do(from.m.ClearRole(from.clock()))
		w.run(10 * time.Second)
		if to.m.role != Primary || from.m.role != Secondary {
			t.Fatalf("roles %s", w.roles())
		}
	}
	got := use(a, 1) // the initial value is 1
	got = append(got, use(a, 4)...)
	got = append(got, use(a, 1)...)
	change(a, b)
	got = append(got, use(b, 3)...)
	change(b, a)
	got = append(got, use(a, 2)...)
	if want := []uint32{1, 2, 3, 4, 5, 6, 16, 17, 18, 28, 29}; !slices.Equal(got, want) {
		t.Errorf("numbers %v, not %v", got, want)
	}
}

// After a crash the first rekey is ten on too, and brings a new KEK.
func TestNumbersAfterACrash(t *testing.T) {
	w := calm(t, 3, 1)
	a, b, c := w.ks[0], w.ks[1], w.ks[2]
	for seq := uint32(1); seq <= 6; seq++ {
		a.do(a.m.Used(spiOf("K1"), seq, a.clock()))
		w.run(2 * time.Second)
	}
	a.stop(false)
	w.run(20 * time.Second)
	if l := b.m.Lease(spiOf("K1")); l != (Lease{16, 25, true}) {
		t.Errorf("lease %+v", l)
	}
	b.stop(false)
	w.run(20 * time.Second)
	if l := c.m.Lease(spiOf("K1")); l != (Lease{36, 45, true}) {
		t.Errorf("lease %+v", l)
	}
}

// A holder's base isn't behind what it has confirmed, however often it starts again.
func TestBaseOutlivesRestarts(t *testing.T) {
	w := calm(t, 2, 1)
	a, b := w.ks[0], w.ks[1]
	for seq := uint32(1); seq <= 9; seq++ {
		a.do(a.m.Used(spiOf("K1"), seq, a.clock()))
		w.run(10 * time.Second)
		if seq%3 > 0 {
			continue
		}
		b.stop(true)
		w.run(time.Second)
		if k := b.keep.nums[0]; k.Base != seq || k.Holders[0] != a.addr {
			t.Errorf("kept %+v at %d", k, seq)
		}
		b.start()
		w.run(30 * time.Second)
		w.expect("PS")
	}
}

// pst is a pair of a machine and a peer whose announcements are made by hand.
type pst struct {
	*testing.T
	m    *Machine
	now  time.Time
	peer netip.Addr
	seq  uint64
	inc  uint64
	said []Result
}

func newPST(t *testing.T, priority uint8) *pst {
	p := &pst{T: t, now: time.Unix(1e9, 0), peer: netip.MustParseAddr("10.0.8.1"), inc: 1}
	m, _, err := New(Config{Group: []byte("G"), Self: netip.MustParseAddr("10.0.9.1"), Priority: priority, Peers: []netip.Addr{p.peer}, Skew: 30 * time.Second}, noise{rand.New(rand.NewPCG(1, 1))}, p.now)
	if err != nil {
		t.Fatal(err)
	}
	p.m = m
	p.m.Session(p.peer, 1, true, p.now)
	return p
}

// hear takes an announcement and returns its octets.
func (p *pst) hear(role Role, seconds int) ([]byte, error) {
	p.seq++
	a := announcement{role: role, priority: 100, running: true, pseudotime: uint64(seconds) * 1000}
	if role == Primary {
		a.primary = p.peer
	}
	w := newMessage(header{minor: Minor, kind: kindAnn, group: []byte("G"), incarnation: p.inc, seq: p.seq}, a.encode)
	return w, p.again(w)
}

func (p *pst) again(data []byte) error {
	out, err := p.m.Receive(p.peer, 1, data, p.now)
	p.said = out.Results
	return err
}

func (p *pst) mine() uint64 { return p.m.pseudo.read(p.now) / 1000 }

func (p *pst) expect(err error, refused bool, mine uint64, said string) {
	p.Helper()
	var s []string
	for _, r := range p.said {
		switch r := r.(type) {
		case PseudotimeChanged:
			if r.Large {
				s = append(s, fmt.Sprintf("large %d %d", r.Old/1000, r.Value/1000))
			}
		case TooOld:
			s = append(s, fmt.Sprintf("old %d %d %d", r.Mine/1000, r.Its/1000, r.Skew/1000))
		case SeqFailure:
			s = append(s, "replay")
		}
	}
	if got := strings.Join(s, ","); (err != nil) != refused || p.mine() != mine || got != said {
		p.Errorf("%v, pseudotime %d, said %q; should be refused %v, %d, %q", err, p.mine(), got, refused, mine, said)
	}
}

// Case coop-05: TBAR window 100 s, so 30 s are allowed; the secondary is at 7000 s.
func Test_coop_05_Pseudotime(t *testing.T) {
	p := newPST(t, 1)
	p.m.SetPseudotime(7000_000, true, p.now)
	p.m.role, p.m.primary = Secondary, p.peer
	first, err := p.hear(Primary, 14000)
	p.expect(err, false, 14000, "large 7000 14000")
	p.expect(p.again(first), true, 14000, "replay")
	_, err = p.hear(Primary, 14000-29)
	p.expect(err, false, 14000-29, "")
	p.m.SetPseudotime(14000_000, true, p.now)
	_, err = p.hear(Primary, 14000-31)
	p.expect(err, true, 14000, "old 14000 13969 30")
	_, err = p.hear(Primary, 14000)
	p.expect(err, false, 14000, "")
	// An old message as of another incarnation, on the same SA.
	p.inc, p.seq = 2, 100
	_, err = p.hear(Primary, 20000)
	p.expect(err, true, 14000, "")
}

// Three requests without a valid announcement: registrations are refused, until a valid
// one comes.
func TestNoValidAnnouncement(t *testing.T) {
	p := newPST(t, 1)
	if _, err := p.hear(Primary, 100); err != nil {
		t.Fatal(err)
	}
	p.m.followed = true
	p.m.SetPseudotime(1000_000, true, p.now)
	expired := false
	for range 14 {
		p.now = p.now.Add(5 * time.Second)
		out := p.m.Tick(p.now)
		_, err := p.hear(Primary, 200)
		if err == nil {
			t.Fatal("taken")
		}
		for _, r := range out.Results {
			if _, ok := r.(AnnTimerExpired); ok {
				expired = true
			}
		}
	}
	if v := p.m.View(); !expired || v.Gate != GateStale || v.Role != Secondary || v.Invalid != 14 {
		t.Fatalf("expired %v, %+v", expired, v)
	}
	_, err := p.hear(Primary, 1080)
	p.expect(err, false, 1080, "")
	if v := p.m.View(); v.Gate != GateOpen || v.Invalid != 0 {
		t.Errorf("%+v", v)
	}
}

// A primary refuses what is too old of a secondary, and takes the larger pseudotime of
// another primary.
func TestPseudotimeAtThePrimary(t *testing.T) {
	p := newPST(t, 200)
	p.m.role, p.m.primary = Primary, p.m.c.Self
	p.m.SetPseudotime(1000_000, true, p.now)
	_, err := p.hear(Secondary, 975)
	p.expect(err, false, 1000, "")
	_, err = p.hear(Secondary, 969)
	p.expect(err, true, 1000, "old 1000 969 30")
	_, err = p.hear(Primary, 22772)
	p.expect(err, false, 22772, "large 1000 22772")
	if p.m.role != Primary {
		t.Error("it outranks the other")
	}
}

// Overlapping Sender IDs close the gate, other keys and configuration are told of once.
func TestContact(t *testing.T) {
	w := newWorld(t, 1, 2, 0)
	var told []Result
	for i, s := range w.ks {
		c := s.config()
		c.SIDs = []SIDRange{{uint32(i) * 255, uint32(i)*255 + 255}} // 0-255 and 255-510
		c.SigningKey = [32]byte{byte(i + 1)}
		c.Items = []Item{{"ACL", [16]byte{1}}, {"TBAR", [16]byte{byte(i)}}}
		m, out, err := New(c, noise{w.rng}, w.now)
		if err != nil {
			t.Fatal(err)
		}
		s.m, s.up, s.life = m, true, 1
		s.members, s.foreign, s.keys = map[netip.Addr]*client{}, map[netip.Addr]bool{}, ring{Used: map[string]uint32{}}
		s.do(out)
	}
	w.connect(0, 1)
	old := w.ks[1].m
	for range 40 {
		w.run(time.Second)
	}
	if v := old.View(); v.Gate != GateSIDs || !v.Peers[0].Overlap {
		t.Errorf("gate %v", v.Gate)
	}
	if p := old.peers[w.ks[0].addr]; !p.signing || !slices.Equal(p.differs, []string{"TBAR"}) {
		t.Errorf("signing key told %v, differs %v", p.signing, p.differs)
	}
	c := w.ks[1].config()
	c.SIDs = []SIDRange{{256, 511}}
	out, err := old.Configure(c, w.now)
	if err != nil {
		t.Fatal(err)
	}
	told = out.Results
	if !slices.ContainsFunc(told, func(r Result) bool { o, ok := r.(SIDsOverlap); return ok && o.Cleared }) {
		t.Errorf("%v", told)
	}
	if v := old.View(); v.Gate != GateOpen {
		t.Errorf("gate %v", v.Gate)
	}
}

// Hostile and foreign messages are refused by reason and change nothing.
func TestRefusals(t *testing.T) {
	w := calm(t, 2, 1)
	w.expect("PS")
	b := w.ks[1]
	var good []byte
	a := w.ks[0]
	out := a.m.Used(spiOf("K1"), 1, a.clock())
	if len(out.Send) == 0 {
		w.run(time.Second)
		out = a.m.Tick(a.clock().Add(20 * time.Second))
	}
	good = out.Send[0].Data
	session := w.sess
	was := b.m.View().Role
	change := func(i int, x byte) []byte { d := bytes.Clone(good); d[i] ^= x; return d }
	for _, c := range []struct {
		name    string
		from    netip.Addr
		session uint64
		data    []byte
		reason  Reason
	}{
		{"an unconfigured peer", netip.MustParseAddr("192.0.2.1"), session, good, Unconfigured},
		{"an SA that there isn't", a.addr, session + 1, good, Unexpected},
		{"another group", a.addr, session, change(5, 1), WrongGroup},
		{"another version", a.addr, session, change(0, 2), Incompatible},
		{"64 KiB of garbage", a.addr, session, append(bytes.Clone(good[:30]), bytes.Repeat([]byte{1}, 65536)...), Malformed},
		{"nothing", a.addr, session, nil, Malformed},
		{"a truncated one", a.addr, session, good[:len(good)-1], Malformed},
		{"another incarnation", a.addr, session, change(7, 1), Replayed},
	} {
		n := b.m.peers[a.addr].counters.RcvdDrops
		_, err := b.m.Receive(c.from, c.session, c.data, b.clock())
		e, ok := err.(*Error)
		if !ok || e.Reason != c.reason {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.from == a.addr && b.m.peers[a.addr].counters.RcvdDrops != n+1 {
			t.Errorf("%s isn't counted", c.name)
		}
		if b.m.View().Role != was {
			t.Errorf("%s changed the role", c.name)
		}
	}
	if _, err := b.m.Receive(a.addr, session, good, b.clock()); err != nil {
		t.Errorf("the good one: %v", err)
	}
	if _, err := b.m.Receive(a.addr, session, good, b.clock()); err == nil {
		t.Error("twice")
	}
}

// A key server that comes late has ten thousand members in seconds, every message is
// short, and what goes over the wire is little more than the state.
func TestTenThousandMembersSynchronise(t *testing.T) {
	w := calm(t, 2, 0)
	w.expect("PS")
	var rows []Member
	size := 0
	for i := range 10000 {
		m := member(i, 1)
		m.Blob = make([]byte, 60)
		size += 60 + 5 + 8
		rows = append(rows, m)
	}
	a := w.ks[0]
	w.loss = 0.01
	a.do(a.m.PutMembers(rows, a.clock()))
	late := newWorld(t, 1, 3, 0).ks[2]
	late.w = w
	w.ks = append(w.ks, late)
	w.part = append(w.part, 0)
	for _, s := range w.ks[:2] {
		out, err := s.m.Configure(s.config(), s.clock())
		if err != nil {
			t.Fatal(err)
		}
		s.do(out)
	}
	w.run(30 * time.Second)
	sent := a.m.peers[w.ks[1].addr].counters.OctetsSent
	start := w.now
	late.start()
	for late.m.Registered()[a.addr] < 10000 {
		w.run(100 * time.Millisecond)
		if w.now.Sub(start) > time.Minute {
			t.Fatalf("%d rows after a minute", late.m.Registered()[a.addr])
		}
	}
	took := w.now.Sub(start)
	octets := a.m.peers[late.addr].counters.OctetsSent
	t.Logf("%v, %d octets for a state of %d; to the other one %d", took, octets, size, sent)
	if octets > uint64(size)*3/2 {
		t.Errorf("%d octets for a state of %d", octets, size)
	}
	if bad := w.settled(0); len(bad) > 0 || len(w.failed) > 0 {
		t.Error(bad, w.failed)
	}
}
