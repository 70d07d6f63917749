package e2e

// Everything that can happen to four key servers, one after the other, under one load.

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Each key server is killed, stopped and started again; each split of the network into two
// parts, with members along and for key servers only, with a rekey on both sides.
func TestKeyServersInEveryFailure(t *testing.T) {
	if !soak() {
		t.Skip("long: TestKeyServersFailSplitAndMergeLosingNothing is the short form")
	}
	t.Parallel()
	for _, c := range coopTransports {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLeague(t, 4, c.p, quick)
			l.load(25)
			for k := 1; k <= 4; k++ {
				l.failed(k, "killed", func() error { return l.ks[k].Kill() })
				l.failed(k, "stopped", func() error { return l.ks[k].Stop() })
			}
			p := l.lead(l.all()...)
			l.failed(p, "stopped", func() error { return l.ks[p].Stop() })
			for _, part := range [][]int{{1}, {2}, {3}, {4}, {1, 2}, {1, 3}, {1, 4}} {
				l.parted(part, true)
				l.parted(part, false)
			}
			l.judge("the end")
		})
	}
}

// The times that a configuration without any has.
func TestKeyServersWithDefaultTimes(t *testing.T) {
	if !soak() {
		t.Skip("long")
	}
	t.Parallel()
	l := newLeague(t, 4, coopTransports[0].p, nil)
	l.load(25)
	l.failed(1, "killed", func() error { return l.ks[1].Kill() })
	l.parted([]int{1, 2}, true)
	p := l.lead(l.all()...)
	l.failed(p, "stopped", func() error { return l.ks[p].Stop() })
	l.judge("the end")
}

// failed ends key server k, waits until the others have a primary and members a rekey, and
// starts it again.
func (l *league) failed(k int, how string, end func() error) {
	l.Helper()
	what := fmt.Sprintf("ks%d, a secondary, %s", k, how)
	p := l.lead(l.all()...)
	if p == k {
		what = fmt.Sprintf("ks%d, the primary, %s", k, how)
	}
	others := slices.DeleteFunc(l.all(), func(o int) bool { return o == k })
	begin := time.Now()
	l.must(end())
	if p == k {
		l.until(3*time.Minute, func() error {
			for _, o := range others {
				if m, err := l.model(l.ks[o]); err != nil || m.KeyServers[0].Coop.Role == primary {
					return err
				}
			}
			return fmt.Errorf("%s: nobody is primary", what)
		})
		l.figure(what+": another is primary", time.Since(begin))
	}
	p = l.lead(others...)
	l.rekeyed(p, 1, 2, 3, 4)
	l.figure(what+": all members have a rekey", time.Since(begin))
	begin = time.Now()
	l.restart(k)
	l.agree(p, l.all()...)
	l.figure(fmt.Sprintf("ks%d started again: it has the keys", k), time.Since(begin))
	l.rekeyed(p, 1, 2, 3, 4)
	l.count(what)
}

// parted splits the network so that these key servers are apart from the others, with the
// members of the same numbers or without any; both sides rekey, and merge.
func (l *league) parted(part []int, along bool) {
	l.Helper()
	rest := slices.DeleteFunc(l.all(), func(k int) bool { return slices.Contains(part, k) })
	p := l.lead(l.all()...)
	what := fmt.Sprintf("%v | %v, of the key servers only, primary ks%d", part, rest, p)
	a, b := side{ks: part}, side{ks: rest}
	if along {
		what = fmt.Sprintf("%v | %v, with members, primary ks%d", part, rest, p)
		a.gm, b.gm = part, rest
	}
	l.Logf("%s", what)
	begin := time.Now()
	l.split("", a, b)
	x, y := l.lead(part...), l.lead(rest...)
	l.figure("split "+what+": both sides have a primary", time.Since(begin))
	if along {
		l.rekeyed(x, a.gm...)
		l.rekeyed(y, b.gm...)
	} else {
		for _, k := range []int{x, y} {
			_, err := l.ks[k].Show("crypto gdoi ks rekey")
			l.must(err)
		}
	}
	l.sends(50)
	l.merge(min(x, y))
	l.count(what)
}
