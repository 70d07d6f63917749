package e2e

// Key servers die, stop, restart and lose each other, and members lose nothing. The short
// form is one course of events that has most of it; coop_matrix_test.go has all.

import (
	"testing"
	"time"
)

// coopTransports are the two ways of rekeys.
var coopTransports = []struct {
	name string
	p    policy
}{
	{"unicast", policy{transform: "esp-aes 128 esp-sha256-hmac", replay: "replay counter window-size 64",
		rekey: []string{"rekey authentication mypubkey rsa SIGN", "rekey transport unicast", "rekey retransmit 10 number 2"}}},
	{"multicast", policy{transform: "esp-aes 256 esp-sha256-hmac", replay: "replay counter window-size 64",
		rekey: []string{"rekey authentication mypubkey rsa SIGN", multicastRekey, "rekey retransmit 10 number 2"}}},
}

// The primary dies while the network is split in halves, and comes back on its side; both
// sides rekey; the network is whole again.
func TestKeyServersFailSplitAndMergeLosingNothing(t *testing.T) {
	t.Parallel()
	for _, c := range coopTransports {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLeague(t, 4, c.p, quick)
			l.load(25)
			p := l.lead(l.all()...)
			mate := (p+1)%4 + 1 // the other one on its side
			a, b := side{[]int{1, 3}, []int{1, 3}}, side{[]int{2, 4}, []int{2, 4}}
			if p%2 == 0 {
				a, b = b, a
			}
			l.forget()
			begin := time.Now()
			l.split("", a, b)
			l.must(l.ks[p].Kill())
			l.says(mate, becamePrimary)
			l.figure("the primary killed in a split network: its side has another", time.Since(begin))
			far := l.lead(b.ks...)
			l.figure("the primary killed in a split network: the other side has one", time.Since(begin))
			l.restart(p)
			l.agree(mate, a.ks...)
			l.rekeyed(mate, a.gm...)
			l.rekeyed(far, b.gm...)
			l.merge(min(mate, far))
			l.judge("all")
		})
	}
}

// figure prints a time that was measured.
func (l *league) figure(what string, d time.Duration) {
	l.Helper()
	l.Logf("MEASURED %s after %.1f s", what, d.Seconds())
}

// restart starts key server k again.
func (l *league) restart(k int) {
	l.Helper()
	d, err := l.start(k)
	l.must(err)
	l.ks[k] = d
}

// rekeyed orders a rekey at key server k, and waits until members gm have it.
func (l *league) rekeyed(k int, gm ...int) {
	l.Helper()
	_, err := l.ks[k].Show("crypto gdoi ks rekey")
	l.must(err)
	l.acknowledged(k, [16]byte{}, gm...)
}

// merge makes the network whole and waits for the merge that key server p wins.
func (l *league) merge(p int) {
	l.Helper()
	kek := l.kek(p)
	begin := time.Now()
	l.heal()
	l.acknowledged(p, kek, 1, 2, 3, 4)
	l.figure("merge: members have the keys of both sides", time.Since(begin))
	if l.unicast() {
		l.whole() // they answered
	}
	l.agree(p, l.all()...)
	l.switched(p, 1, 2, 3, 4)
	l.figure("merge: all send with one key", time.Since(begin))
	l.whole()
	l.sends(50)
}
