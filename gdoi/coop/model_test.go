package coop

// Machines of two to eight key servers under a random scheduler: nothing is used twice,
// and they always agree in the end.

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// live lets a world live through what its seed says and returns what went wrong.
func live(t *testing.T, seed uint64, bug string) (*world, []string) {
	w := newWorld(t, seed, 2, 6)
	n := 2 + int(seed%7)
	if seed%3 > 0 {
		n = 2 + int(seed%3)
	}
	w = newWorld(t, seed, n, 4+w.rng.IntN(4))
	w.bug = bug
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
		g, s := w.gm[rng.IntN(len(w.gm))], w.ks[rng.IntN(n)]
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
	w.run(60 * time.Second)
	for range 2 + rng.IntN(5) {
		s := w.ks[rng.IntN(n)]
		switch rng.IntN(7) {
		case 0, 1, 2:
			part := make([]int, n)
			for i := range part {
				part[i] = rng.IntN(2 + n/4)
			}
			w.split(part)
		case 3:
			w.note("ks%d stops", s.i+1)
			s.stop(rng.IntN(2) == 0)
			if s.keep != nil && rng.IntN(3) == 0 {
				s.keep = nil
			}
			w.after(time.Duration(rng.IntN(150))*time.Second, func() {
				if !s.up {
					w.note("ks%d starts, with state: %v", s.i+1, s.keep != nil)
					s.start()
				}
			})
		case 4:
			if s.up {
				w.note("ks%d's role is cleared", s.i+1)
				s.do(s.m.ClearRole(s.clock()))
			}
		case 5:
			s.skew += time.Duration(rng.IntN(10000)) * time.Millisecond
		case 6:
			w.split(make([]int, n))
		}
		w.run(time.Duration(1+rng.IntN(120)) * time.Second)
	}
	// The network is whole and good again.
	w.note("whole")
	w.split(make([]int, n))
	w.loss, w.dup, w.delay = 0.01, 0.01, 30*time.Millisecond
	for _, s := range w.ks {
		if !s.up {
			s.start()
		}
	}
	for i := range w.ks {
		for j := range i {
			w.after(5*time.Second, func() { w.connect(i, j) })
		}
	}
	w.run(10 * time.Second)
	held := map[string]bool{}
	for _, s := range w.ks {
		for _, k := range s.keys.KEKs {
			held[k] = true
		}
	}
	w.run(140 * time.Second)
	w.quiet = true
	w.run(25 * time.Second)
	if bad := w.settled(); len(bad) > 0 {
		return w, append(w.failed, bad...)
	}
	w.reached(held)
	return w, w.failed
}

// TestModel is the model check. GETVPN_COOP_SEED=N replays one seed and tells what
// happened, GETVPN_COOP_SEEDS=N runs so many.
func TestModel(t *testing.T) {
	number := func(name string, def uint64) uint64 {
		v := os.Getenv(name)
		if v == "" {
			return def
		}
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if seed := number("GETVPN_COOP_SEED", 0); seed != 0 {
		w, bad := live(t, seed, "")
		t.Log("\n" + strings.Join(w.trace, "\n"))
		if len(bad) > 0 {
			t.Error(strings.Join(bad, "\n"))
		}
		return
	}
	n := number("GETVPN_COOP_SEEDS", modelSeeds)
	var next, failures atomic.Uint64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				seed := next.Add(1)
				if seed > n || failures.Load() > 1 {
					return
				}
				if _, bad := live(t, seed, ""); len(bad) > 0 {
					failures.Add(1)
					t.Errorf("GETVPN_COOP_SEED=%d: %s", seed, strings.Join(bad, "; "))
				}
			}
		})
	}
	wg.Wait()
}
