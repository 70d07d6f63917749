package ks

// Members that must leave their keys hear of it although their key servers were apart.

import (
	"testing"
	"time"
)

// Two sides of which both have left the keys that they began with meet again: every member
// hears of it, by the order to leave or by the rekey of the merge.
func TestOrderToLeaveOutlivesAMerge(t *testing.T) {
	among(t, 4, counting, func(t *testing.T, l *league) {
		after(15 * time.Second)
		for i := range 4 {
			l.join(i, l.ks[i])
		}
		after(5 * time.Second)
		l.apart(0, 1, 0, 1)
		l.ks[0].kill()
		after(90 * time.Second)
		l.ks[0].restart(l.ks[0].setup)
		after(30 * time.Second) // its ledger is another one: a clean slate at the third
		for _, i := range []int{0, 2} {
			l.join(i, l.ks[i])
		}
		after(30 * time.Second)
		l.apart(0, 0, 0, 0)
		after(2 * time.Minute)
		_, kek := l.ks[1].ring()
		for i, m := range l.gms {
			if got := m.kek(); got != kek && got != [16]byte{} {
				t.Errorf("member %d has the KEK %x, neither %x nor none; its TEKs are %x", i, got, kek, m.spis())
			}
		}
	})
}
