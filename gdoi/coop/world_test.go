package coop

// A world for tests: key servers with their machines and a small engine each, members,
// a network that loses, delays, repeats and splits, one clock. Everything follows from
// a seed.

import (
	"container/heap"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

type world struct {
	*testing.T
	rng   *rand.Rand
	now   time.Time
	queue events
	order int
	ks    []*server
	gm    []*client
	part  []int           // partition of each key server; members stand by their home
	mute  map[[2]int]bool // from one key server to another nothing comes through
	links map[[2]int]int  // session of each pair; 0: none
	sess  uint64

	loss, dup float64
	delay     time.Duration
	wordy     bool // what happens is kept in trace
	quiet     bool // nobody registers, nothing is rekeyed
	teks      int
	keks      int
	contents  map[string]string // SPI, number: what was sent
	sids      map[string]int    // key, SID: who has it
	mutes     int               // members that the last rekey couldn't reach: no number was left
	failed    []string
	trace     []string
}

type occurrence struct {
	at    time.Time
	order int
	f     func()
}

type events []occurrence

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	if !e[i].at.Equal(e[j].at) {
		return e[i].at.Before(e[j].at)
	}
	return e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(occurrence)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

// server is a key server: its machine and what a key server keeps.
type server struct {
	w       *world
	i       int
	addr    netip.Addr
	m       *Machine
	up      bool
	woken   time.Time
	keep    *kept // over a restart; nil: nothing was kept
	keys    ring
	members map[netip.Addr]*client // own
	foreign map[netip.Addr]bool
	nextSID int
	life    int
	first   bool          // the next rekey is the first after a change of roles
	skew    time.Duration // how far its clock has stepped …
	wall    time.Duration // … and how wrong the time of day is
	prio    uint8
	gone    bool // not one of the key servers any more
	began   time.Time
}

type kept struct {
	ring ring
	keys Keys
	nums []KEK
	time pseudo
	at   time.Time
}

// ring is what an engine makes of keys: names instead of octets.
type ring struct {
	TEKs []string // oldest first; the last one sends
	Old  []string // received only
	KEKs []string
	Used map[string]uint32
}

// client is a member.
type client struct {
	i    int
	addr netip.Addr
	home *server // where it stands
	kek  string
	seq  uint32
	send string
	teks map[string]bool
}

func newWorld(t *testing.T, seed uint64, servers, members int) *world {
	w := &world{T: t, rng: rand.New(rand.NewPCG(seed, 77)), now: time.Unix(1e9, 0), links: map[[2]int]int{}, mute: map[[2]int]bool{}, contents: map[string]string{}, sids: map[string]int{}, delay: 30 * time.Millisecond}
	for i := range servers {
		w.ks = append(w.ks, &server{w: w, i: i, addr: netip.AddrFrom4([4]byte{172, 16, 0, byte(i + 1)}), prio: uint8(100 - i%3*10)})
		w.part = append(w.part, 0)
	}
	for i := range members {
		w.gm = append(w.gm, &client{i: i, addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), teks: map[string]bool{}})
	}
	return w
}

func (w *world) after(d time.Duration, f func()) {
	w.order++
	heap.Push(&w.queue, occurrence{w.now.Add(d), w.order, f})
}

func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for len(w.queue) > 0 && !w.queue[0].at.After(end) {
		o := heap.Pop(&w.queue).(occurrence)
		w.now = o.at
		o.f()
	}
	w.now = end
}

func (w *world) fail(format string, a ...any) {
	if len(w.failed) < 5 {
		w.failed = append(w.failed, fmt.Sprintf("%7.2fs ", w.now.Sub(time.Unix(1e9, 0)).Seconds())+fmt.Sprintf(format, a...))
	}
}

func (w *world) note(format string, a ...any) {
	if !w.wordy {
		return
	}
	w.trace = append(w.trace, fmt.Sprintf("%7.2fs ", w.now.Sub(time.Unix(1e9, 0)).Seconds())+fmt.Sprintf(format, a...))
}

// skew is the tolerance of pseudotimes.
const skew = 10 * time.Second

func (s *server) config() Config {
	c := Config{Group: []byte("G"), Self: s.addr, Priority: s.prio, Skew: skew, SIDs: []SIDRange{{uint32(s.i) << 8, uint32(s.i)<<8 | 255}}, Software: [3]uint8{1, 0, 0}}
	for _, o := range s.w.ks {
		if !o.gone {
			c.Peers = append(c.Peers, o.addr)
		}
	}
	return c
}

// clock is the server's own: boot clocks drift apart by steps of what they are read at.
func (s *server) clock() time.Time { return s.w.now.Add(s.skew) }

type noise struct{ *rand.Rand }

func (n noise) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(n.Uint32())
	}
	return len(b), nil
}

func (s *server) start() {
	if s.up {
		return
	}
	s.up, s.life, s.began = true, s.life+1, s.w.now
	s.members, s.foreign, s.first = map[netip.Addr]*client{}, map[netip.Addr]bool{}, false
	m, out, err := New(s.config(), noise{s.w.rng}, s.clock())
	if err != nil {
		s.w.Fatal(err)
	}
	s.m = m
	s.keys = ring{Used: map[string]uint32{}}
	s.do(out)
	if k := s.keep; k != nil {
		s.keys = k.ring.clone()
		out, _ := s.m.SetKeys(k.keys, k.used(), s.clock())
		s.m.Restore(k.nums)
		s.do(out)
		s.do(s.m.SetPseudotime(k.time.value+uint64(s.w.now.Sub(k.at)/time.Millisecond), k.time.running, s.clock()))
	}
	for j := range s.w.ks {
		s.w.connect(s.i, j)
	}
	s.tick()
}

func (k *kept) used() map[SPI]uint32 {
	out := map[SPI]uint32{}
	for n, v := range k.ring.Used {
		out[spiOf(n)] = v
	}
	return out
}

func (r ring) clone() ring {
	return ring{slices.Clone(r.TEKs), slices.Clone(r.Old), slices.Clone(r.KEKs), maps.Clone(r.Used)}
}

func spiOf(name string) (s SPI) { copy(s[:], name); return s }

// stop ends a server; state says whether it keeps what it has.
func (s *server) stop(state bool) {
	if !s.up {
		return
	}
	s.up = false
	s.keep = nil
	if state && len(s.keys.KEKs) > 0 {
		k := s.m.keys
		k.Blob = slices.Clone(k.Blob)
		s.keep = &kept{s.keys.clone(), k, s.m.Numbers(), pseudo{s.m.pseudo.running, s.m.pseudo.read(s.clock()), s.clock()}, s.w.now}
	}
	for j := range s.w.ks {
		s.w.disconnect(s.i, j, 500*time.Millisecond)
	}
}

func pair(i, j int) [2]int { return [2]int{min(i, j), max(i, j)} }

// way reports whether what i sends can come to j.
func (w *world) way(i, j int) bool { return w.part[i] == w.part[j] && !w.mute[[2]int{i, j}] }

// connect makes an SA where there is a way, in both directions.
func (w *world) connect(i, j int) {
	if i == j || !w.ks[i].up || !w.ks[j].up || !w.way(i, j) || !w.way(j, i) || w.links[pair(i, j)] != 0 {
		return
	}
	w.sess++
	w.links[pair(i, j)] = int(w.sess)
	w.ks[i].do(w.ks[i].m.Session(w.ks[j].addr, w.sess, true, w.ks[i].clock()))
	w.ks[j].do(w.ks[j].m.Session(w.ks[i].addr, w.sess, true, w.ks[j].clock()))
}

// disconnect lets both sides find out later, and not at once.
func (w *world) disconnect(i, j int, d time.Duration) {
	n := w.links[pair(i, j)]
	if n == 0 {
		return
	}
	delete(w.links, pair(i, j))
	for _, x := range [][2]int{{i, j}, {j, i}} {
		life := w.ks[x[0]].life
		w.after(d+time.Duration(w.rng.IntN(3000))*time.Millisecond, func() {
			if s := w.ks[x[0]]; s.up && s.life == life {
				s.do(s.m.Session(w.ks[x[1]].addr, uint64(n), false, s.clock()))
			}
		})
	}
}

// split puts servers in partitions.
func (w *world) split(part []int) {
	w.note("partitions %v, mute %v", part, w.mute)
	w.part = part
	for i := range w.ks {
		for j := range i {
			if !w.way(i, j) || !w.way(j, i) {
				w.disconnect(i, j, time.Duration(5+w.rng.IntN(30))*time.Second)
			} else {
				w.after(time.Duration(w.rng.IntN(2000))*time.Millisecond, func() { w.connect(i, j) })
			}
		}
	}
}

func (s *server) tick() {
	if !s.up {
		return
	}
	wake := s.m.Wake()
	if wake.IsZero() || wake.Equal(s.woken) {
		return
	}
	s.woken = wake
	life := s.life
	s.w.after(max(0, wake.Sub(s.clock())), func() {
		if s.up && s.life == life && s.woken.Equal(wake) {
			s.woken = time.Time{}
			s.do(s.m.Tick(s.clock()))
		}
	})
}

// do carries out what a machine says.
func (s *server) do(out Output) {
	for _, x := range out.Send {
		s.w.carry(s, x)
	}
	for _, r := range out.Results {
		s.result(r)
	}
	s.tick()
}

func (w *world) carry(s *server, x Send) {
	if len(x.Data) > 1200 {
		w.fail("a message of %d octets", len(x.Data))
	}
	j := slices.IndexFunc(w.ks, func(o *server) bool { return o.addr == x.To })
	n := w.links[pair(s.i, j)]
	copies := 1
	if w.rng.Float64() < w.dup {
		copies = 2
	}
	for range copies {
		if n == 0 || w.rng.Float64() < w.loss {
			continue
		}
		w.after(time.Millisecond+time.Duration(w.rng.Int64N(int64(w.delay))), func() {
			o := w.ks[j]
			if o.up && w.way(s.i, j) && w.links[pair(s.i, j)] == n {
				out, _ := o.m.Receive(s.addr, uint64(n), x.Data, o.clock())
				o.do(out)
			}
		})
	}
}

func (s *server) result(r Result) {
	switch r := r.(type) {
	case RoleChanged:
		s.w.note("ks%d is %v (was %v), %v", s.i+1, r.Role, r.Previous, s.m.keys.ID)
		s.first = r.Role == Primary
		if r.Role == Primary {
			if len(s.keys.KEKs) == 0 {
				s.renewKEK()
				s.renewTEK()
				s.do(s.m.SetPseudotime(uint64(s.w.rng.IntN(1e6)), true, s.clock()))
			}
			s.set()
		}
	case TakeKeys:
		s.keys = ring{}
		if err := json.Unmarshal(r.Keys.Blob, &s.keys); err != nil {
			s.w.fail("ks%d: keys of %v: %v", s.i+1, r.From, err)
		}
		s.w.note("ks%d takes %v of %v", s.i+1, r.Keys.ID, r.From)
	case MergeKeys:
		var its ring
		if err := json.Unmarshal(r.Keys.Blob, &its); err != nil {
			s.w.fail("ks%d: keys of %v: %v", s.i+1, r.From, err)
		}
		s.w.note("ks%d merges %v of %v", s.i+1, r.Keys.ID, r.From)
		s.merge(its)
		s.set()
		s.rekey(false)
	case NumbersKnown:
		for n := range s.keys.Used {
			if spiOf(n) == r.SPI {
				s.keys.Used[n] = max(s.keys.Used[n], r.Last)
			}
		}
	case MembersChanged:
		for _, x := range r.Rows {
			if x.Gone {
				delete(s.foreign, x.Addr)
			} else {
				s.foreign[x.Addr] = true
				delete(s.members, x.Addr)
			}
		}
	case MemberMoved:
		delete(s.members, r.Addr)
	}
}

func add(l []string, x ...string) []string {
	for _, v := range x {
		if !slices.Contains(l, v) {
			l = append(l, v)
		}
	}
	return l
}

func (s *server) merge(its ring) {
	for _, t := range append(its.TEKs, its.Old...) {
		if !slices.Contains(s.keys.TEKs, t) {
			s.keys.Old = add(s.keys.Old, t)
		}
	}
	cur := s.keys.KEKs[len(s.keys.KEKs)-1]
	s.keys.KEKs = append(add(slices.DeleteFunc(s.keys.KEKs, func(k string) bool { return k == cur }), slices.DeleteFunc(slices.Clone(its.KEKs), func(k string) bool { return k == cur })...), cur)
	for k, v := range its.Used {
		s.keys.Used[k] = max(s.keys.Used[k], v)
	}
	s.bound()
}

const mostKEKs = maxKEKs

// bound lets the oldest end, as they would after their life.
func (s *server) bound() {
	if n := len(s.keys.Old) - 12; n > 0 {
		s.keys.Old = s.keys.Old[n:]
	}
	if n := len(s.keys.TEKs) - 6; n > 0 {
		s.keys.TEKs = s.keys.TEKs[n:]
	}
	if n := len(s.keys.KEKs) - mostKEKs; n > 0 {
		for _, k := range s.keys.KEKs[:n] {
			delete(s.keys.Used, k)
		}
		s.keys.KEKs = s.keys.KEKs[n:]
	}
}

func (s *server) renewKEK() {
	s.w.keks++
	k := fmt.Sprintf("K%d", s.w.keks)
	s.keys.KEKs = append(s.keys.KEKs, k)
	s.keys.Used[k] = 0
	s.bound()
}

func (s *server) renewTEK() {
	s.w.teks++
	s.keys.TEKs = append(s.keys.TEKs, fmt.Sprintf("T%d", s.w.teks))
	s.bound()
}

// set tells the machine what is in force.
func (s *server) set() {
	k := Keys{}
	for _, n := range s.keys.KEKs {
		k.KEKs = append(k.KEKs, spiOf(n))
	}
	k.Blob, _ = json.Marshal(s.keys)
	used := map[SPI]uint32{}
	for n, v := range s.keys.Used {
		used[spiOf(n)] = v
	}
	out, err := s.m.SetKeys(k, used, s.clock())
	if err != nil {
		s.w.fail("%v", err)
	}
	s.do(out)
}

// rekey tells all members that it reaches of what is in force.
func (s *server) rekey(tek bool) {
	if !s.up || s.m.role != Primary || len(s.keys.KEKs) == 0 {
		return
	}
	kek := s.keys.KEKs[len(s.keys.KEKs)-1]
	l := s.m.Lease(spiOf(kek))
	by := s.keys.KEKs
	if tek {
		s.renewTEK()
	}
	if l.Ends || l.Left() < 4 {
		s.renewKEK()
	}
	if tek || len(by) != len(s.keys.KEKs) {
		s.set()
	}
	s.first = false
	s.bound()
	s.broadcast(by)
}

// broadcast sends the policy under each KEK that members may hold.
func (s *server) broadcast(by []string) {
	for _, kek := range by {
		l := s.m.Lease(spiOf(kek))
		if l.Left() == 0 {
			continue
		}
		seq := max(l.From, s.keys.Used[kek]+1)
		if seq > l.To {
			continue
		}
		s.keys.Used[kek] = seq
		s.w.note("ks%d sends %s#%d of %d to %d", s.i+1, kek, seq, l.From, l.To)
		content := fmt.Sprintf("ks%d %v %v", s.i+1, s.keys.TEKs, s.keys.KEKs)
		id := fmt.Sprintf("%s#%d", kek, seq)
		if old, ok := s.w.contents[id]; ok && old != content {
			s.w.fail("%s is %q and %q", id, old, content)
		}
		s.w.contents[id] = content
		s.do(s.m.Used(spiOf(kek), seq, s.clock()))
		next := s.keys.clone()
		for _, g := range s.w.gm {
			if (s.members[g.addr] != nil || s.foreign[g.addr]) && g.home != nil && s.w.part[g.home.i] == s.w.part[s.i] && g.kek == kek && seq > g.seq {
				g.seq = seq
				g.install(next)
			}
		}
	}
}
