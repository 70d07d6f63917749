package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Two key servers lose each other, and nobody else: both are primary and say so, each
// rekeys, and members lose nothing. When they hear each other again there is one primary,
// one KEK, one set of TEKs, and everybody decrypts everybody.
func Test_coop_01_SplitOfTwoKeyServersHeals(t *testing.T) {
	t.Parallel()
	l := newLeague(t, 2, coopTransports[0].p, quick)
	l.load(25)
	p := l.lead(1, 2)
	l.forget()
	begin := time.Now()
	l.split("udp dport { 848, 4500 }", side{ks: []int{1}}, side{ks: []int{2}})
	l.says(3-p, becamePrimary)
	l.figure("split of two: both are primary", time.Since(begin))
	l.says(1, unreachable)
	l.says(2, unreachable)
	for k := 1; k <= 2; k++ {
		m, err := l.model(l.ks[k])
		l.must(err)
		if c := m.KeyServers[0].Coop; c.Role != primary || c.Primary == "" || len(c.Peers) != 1 || c.Peers[0].Status != dead {
			t.Errorf("ks%d shows %+v", k, c)
		}
		_, err = l.ks[k].Show("crypto gdoi ks rekey")
		l.must(err)
	}
	if soak() {
		l.sends(25 * 180)
	}
	l.sends(50)
	l.merge(1)
	m, err := l.model(l.ks[1])
	l.must(err)
	for g, d := range l.gms {
		x, err := l.model(d)
		l.must(err)
		for _, spi := range m.teks() {
			if !slices.ContainsFunc(x.Members[0].TEKs, func(t tek) bool { return t.SPI == spi }) {
				t.Errorf("gm%d lacks the TEK %x", g, spi)
			}
		}
		if x.Members[0].KEK.SPI != m.KeyServers[0].KEK.SPI {
			t.Errorf("gm%d has another KEK", g)
		}
	}
	told := fmt.Sprint(l.told(p), l.told(3-p))
	if want := "[0 0 1 1] [1 1 1 1]"; told != want {
		t.Errorf("elections, primaries, unreachable and reachable peers told: %s, not %s", told, want)
	}
	l.judge("all")
}

// told counts what key server k has said of elections and peers.
func (l *league) told(k int) (n [4]int) {
	for i, text := range []string{election, becamePrimary, unreachable, reachable} {
		n[i] = l.heard(k, text)
	}
	return n
}
