package coop

// Machines of two to eight key servers under a random scheduler: nothing is used twice,
// and they always agree in the end.

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// live lets a world live through what its seed says and returns what went wrong.
func live(t *testing.T, seed uint64, wordy bool) (*world, []string) {
	n := 2 + int(seed%7)
	if seed%3 > 0 {
		n = 2 + int(seed%3)
	}
	w := newWorld(t, seed, n, 4+int(seed%5))
	w.wordy = wordy
	w.begin()
	w.run(60 * time.Second)
	for range 2 + w.rng.IntN(5) {
		w.upset()
		w.run(time.Duration(1+w.rng.IntN(120)) * time.Second)
		if w.rng.IntN(8) == 0 {
			w.apart()
		}
		if len(w.failed) > 0 {
			return w, w.failed
		}
	}
	w.heal()
	return w, w.failed
}

// begin sets the network and starts key servers, members and rekeys.
func (w *world) begin() {
	rng := w.rng
	w.loss, w.dup = rng.Float64()*0.2, rng.Float64()*0.2
	w.delay = time.Duration(1+rng.IntN(300)) * time.Millisecond
	for _, s := range w.ks {
		if rng.IntN(6) > 0 {
			w.after(time.Duration(rng.IntN(3000))*time.Millisecond, s.start)
		} else {
			w.after(time.Duration(rng.IntN(120))*time.Second, s.start)
		}
	}
	// Members come, move, come again; primaries rekey.
	var members, rekeys func()
	members = func() {
		if w.quiet {
			return
		}
		g, s := w.gm[rng.IntN(len(w.gm))], w.ks[rng.IntN(len(w.ks))]
		w.register(g, s)
		w.after(time.Duration(1+rng.IntN(20))*time.Second, members)
	}
	rekeys = func() {
		if w.quiet {
			return
		}
		for _, s := range w.ks {
			if s.up && rng.IntN(2) == 0 {
				s.rekey(rng.IntN(3) > 0)
			}
		}
		w.after(time.Duration(1+rng.IntN(15))*time.Second, rekeys)
	}
	w.after(45*time.Second, members)
	w.after(50*time.Second, rekeys)
}

// upset does one thing to the network or to a key server.
func (w *world) upset() {
	rng, n := w.rng, len(w.ks)
	s := w.ks[rng.IntN(n)]
	switch rng.IntN(12) {
	case 0, 1, 2:
		part := make([]int, n)
		for i := range part {
			part[i] = rng.IntN(2 + n/4)
		}
		w.split(part)
	case 3: // one way, or not between all
		for i := range n {
			for j := range n {
				if w.mute[[2]int{i, j}] = rng.IntN(4) == 0; rng.IntN(4) == 0 {
					w.mute[[2]int{j, i}] = w.mute[[2]int{i, j}]
				}
			}
		}
		w.split(w.part)
	case 4:
		clear(w.mute)
		w.split(make([]int, n))
	case 5, 6:
		w.note("ks%d stops", s.i+1)
		s.stop(rng.IntN(2) == 0)
		if s.keep != nil && rng.IntN(3) == 0 {
			s.keep = nil
		}
		w.after(time.Duration(rng.IntN(150))*time.Second, func() {
			if !s.up && !s.gone {
				w.note("ks%d starts, with state: %v", s.i+1, s.keep != nil)
				s.start()
			}
		})
	case 7, 8:
		if s.up {
			w.note("ks%d's role is cleared", s.i+1)
			s.do(s.m.ClearRole(s.clock()))
		}
	case 9:
		s.skew += time.Duration(rng.IntN(5000)) * time.Millisecond
		s.wall += time.Duration(rng.IntN(1200)-600) * time.Second
		w.note("ks%d's clock steps: %v, %v", s.i+1, s.skew, s.wall)
	case 10:
		s.prio = uint8(1 + rng.IntN(100))
		w.note("ks%d has priority %d", s.i+1, s.prio)
		w.configure()
	case 11:
		if s.gone {
			w.takeUp(s)
		} else if s.up && n > 2 {
			w.note("ks%d is removed", s.i+1)
			s.gone = true
			s.do(s.m.Leave(s.clock()))
			s.stop(false)
			w.configure()
		}
	}
}

// configure gives all the configuration that is now theirs.
func (w *world) configure() {
	for _, s := range w.ks {
		if !s.up {
			continue
		}
		out, err := s.m.Configure(s.config(), s.clock())
		if err != nil {
			w.fail("%v", err)
			continue
		}
		s.do(out)
		for j := range w.ks {
			w.connect(s.i, j)
		}
	}
}

// takeUp adds a key server that was removed; it begins with nothing.
func (w *world) takeUp(s *server) {
	w.note("ks%d is added", s.i+1)
	s.gone = false
	w.configure()
	s.start()
}

// apart leaves the parts of a split network in peace until each must agree, and looks.
func (w *world) apart() {
	for _, cut := range w.mute {
		if cut {
			return // parts overlap: nothing can be said of them
		}
	}
	w.note("left in peace")
	loss, dup := w.loss, w.dup
	w.loss, w.dup = 0.01, 0.01
	w.connectAll()
	w.run(160 * time.Second)
	for i := 0; i < len(w.ks); i++ { // one that has only begun may still elect
		if left := w.ks[i].began.Add(100 * time.Second).Sub(w.now); left > 0 {
			w.run(left)
			i = -1
		}
	}
	for part := range 4 {
		for _, bad := range w.settled(part) {
			w.fail("part %d: %s", part, bad)
		}
	}
	w.loss, w.dup = loss, dup
}

// connectAll makes what SAs there can be, once what they replace has ended.
func (w *world) connectAll() {
	for i := range w.ks {
		for j := range i {
			w.after(5*time.Second, func() { w.connect(i, j) })
		}
	}
}

// heal makes the network whole and good again, and looks at what all that run make of it.
func (w *world) heal() {
	w.note("whole")
	clear(w.mute)
	w.split(make([]int, len(w.ks)))
	w.loss, w.dup, w.delay = 0.01, 0.01, 30*time.Millisecond
	for _, s := range w.ks {
		if s.gone && w.rng.IntN(2) == 0 {
			w.takeUp(s)
		}
		if !s.up && !s.gone {
			s.start()
		}
	}
	w.connectAll()
	w.run(10 * time.Second)
	held := map[string]bool{}
	for _, s := range w.ks {
		if w.in(s, 0) {
			for _, k := range s.keys.KEKs {
				held[k] = true
			}
		}
	}
	w.run(140 * time.Second)
	w.quiet = true
	w.run(25 * time.Second)
	if bad := w.settled(0); len(bad) > 0 {
		w.failed = append(w.failed, bad...)
		return
	}
	w.reached(0, held)
}

// asked is a number that the environment gives, or a default.
func asked(t *testing.T, name string, otherwise uint64) uint64 {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestModel is the model check. GETVPN_COOP_SEED=N replays one seed and tells what
// happened, GETVPN_COOP_SEEDS=N runs so many from GETVPN_COOP_FIRST on.
func TestModel(t *testing.T) {
	if seed := asked(t, "GETVPN_COOP_SEED", 0); seed != 0 {
		w, bad := live(t, seed, true)
		t.Log("\n" + strings.Join(w.trace, "\n"))
		if len(bad) > 0 {
			t.Error(strings.Join(bad, "\n"))
		}
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	first, n := asked(t, "GETVPN_COOP_FIRST", 1), asked(t, "GETVPN_COOP_SEEDS", modelSeeds)
	var next, failures, mutes atomic.Uint64
	var wg sync.WaitGroup
	began := time.Now()
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for failures.Load() == 0 {
				i := next.Add(1)
				if i > n {
					return
				}
				seed := first + i - 1
				w, bad := live(t, seed, false)
				mutes.Add(uint64(w.mutes))
				if len(bad) > 0 {
					failures.Add(1)
					t.Errorf("seed %d: %s\nto see what happened: GETVPN_COOP_SEED=%d go test -run 'TestModel$' -v ./gdoi/coop", seed, strings.Join(bad, "; "), seed)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	t.Logf("%d seeds from %d in %.1f s, %.1f a second; %d members were out of reach at the end", n, first, took, float64(n)/took, mutes.Load())
}
