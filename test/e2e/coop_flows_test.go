package e2e

// The load between the members of a league, and which of its datagrams must arrive.

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"getvpn/internal/lab"
)

// flow is a stream from one host to others.
type flow struct {
	*lab.Stream
	what  string
	from  int
	to    []int
	since []int // by receiver: from this number on all must arrive; -1: needn't now
	spans []span
}

// span are numbers of a flow that must arrive at a receiver.
type span struct{ receiver, from, to int }

// load starts streams between all hosts, by unicast and by multicast.
func (l *league) load(rate int) {
	l.Helper()
	add := func(s *lab.Stream, err error, what string, from int, to ...int) {
		l.Helper()
		l.must(err)
		l.flows = append(l.flows, &flow{Stream: s, what: what, from: from, to: to, since: make([]int, len(to))})
	}
	for a := 1; a <= 4; a++ {
		var others []int
		var hosts []string
		for b := 1; b <= 4; b++ {
			if a == b {
				continue
			}
			others, hosts = append(others, b), append(hosts, fmt.Sprintf("h%d", b))
			s, err := l.Stream(fmt.Sprintf("h%d", a), fmt.Sprintf("h%d", b), lab.Host(b), rate, 200)
			add(s, err, "unicast", a, b)
		}
		s, err := l.MulticastStream(fmt.Sprintf("h%d", a), rate, 200, hosts...)
		add(s, err, "multicast", a, others...)
	}
}

// sends waits until a flow has sent n more datagrams.
func (l *league) sends(n int) {
	l.Helper()
	f := l.flows[len(l.flows)-1]
	end := f.Mark() + n
	l.until(10*time.Minute, func() error {
		if f.Mark() < end {
			return errors.New("too few datagrams")
		}
		return nil
	})
}

// together reports whether two members are on one side.
func (l *league) together(a, b int) bool {
	for _, s := range l.sides {
		if slices.Contains(s.gm, a) != slices.Contains(s.gm, b) {
			return false
		}
	}
	return true
}

// split splits the network: match is what doesn't pass between sides.
func (l *league) split(match string, sides ...side) {
	l.Helper()
	l.sides = sides
	for _, f := range l.flows {
		for i, to := range f.to {
			if since := f.since[i]; since >= 0 && !l.together(f.from, to) {
				f.spans = append(f.spans, span{i, since, f.Mark()})
				f.since[i] = -1
			}
		}
	}
	var nodes [][]string
	for _, s := range sides {
		nodes = append(nodes, s.nodes())
	}
	l.must(l.Split(match, nodes...))
}

// heal makes the network whole. What was lost between sides may be until whole.
func (l *league) heal() {
	l.Helper()
	l.must(l.Heal())
	l.sides = nil
}

// whole: from now on everything must arrive.
func (l *league) whole() {
	for _, f := range l.flows {
		for i, since := range f.since {
			if since < 0 {
				f.since[i] = f.Mark()
			}
		}
	}
}

// count looks at all that had to arrive so far, while the load goes on: it has, once.
func (l *league) count(what string) {
	l.Helper()
	l.finish(func(f *flow) int { return f.Mark() }, what)
}

// finish closes all spans at the number that end says, and judges them.
func (l *league) finish(end func(*flow) int, what string) {
	l.Helper()
	for _, f := range l.flows {
		for i, since := range f.since {
			if since >= 0 {
				n := end(f)
				f.spans = append(f.spans, span{i, since, n})
				f.since[i] = n
			}
		}
	}
	owed := 0
	for _, f := range l.flows {
		for _, s := range f.spans {
			owed += s.to - s.from
		}
	}
	lab.Until(10*time.Second, func() error { // what is on its way arrives
		for _, f := range l.flows {
			for _, s := range f.spans {
				if f.Lost(s.from, s.to)[s.receiver] != 0 {
					return errors.New("lost")
				}
			}
		}
		return nil
	})
	lost := 0
	for _, f := range l.flows {
		for _, s := range f.spans {
			if n := f.Lost(s.from, s.to)[s.receiver]; n != 0 {
				lost += n
				l.Errorf("%s: %s from gm%d to gm%d: %d of the datagrams %d to %d lost", what, f.what, f.from, f.to[s.receiver], n, s.from, s.to)
			}
		}
		f.spans = nil
		if refused, copies, damaged := f.Faults(); refused+copies+damaged != 0 {
			l.Errorf("%s: %s from gm%d: %d refused, %d copies, %d damaged", what, f.what, f.from, refused, copies, damaged)
		}
	}
	l.Logf("%s: %d datagrams had to arrive, %d are lost", what, owed, lost)
}

// judge stops the load: all that had to arrive has, and nothing was in clear.
func (l *league) judge(what string) {
	l.Helper()
	var wg sync.WaitGroup
	for _, f := range l.flows {
		wg.Go(func() { f.Stop() })
	}
	wg.Wait()
	l.finish(func(f *flow) int { return f.Mark() }, what)
	l.flows = nil
	l.noneInClear()
	for _, d := range l.gms {
		m, err := l.model(d)
		l.must(err)
		l.Logf("%s: dropped %v, registered %d times", d.Node, m.Dataplane.Drops, m.Members[0].Succeeded)
	}
}
