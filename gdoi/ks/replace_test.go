package ks

// Keys that replace others at once, near the next rekey.

import (
	"slices"
	"testing"
	"time"
)

// A message that replaces keys or sends members away is sent again however near the next
// rekey is: members change over at activation, which is after the second transmission.
func TestReplacementsDoNotGiveWay(t *testing.T) {
	for name, replace := range map[string]func(*life){
		"replace-now": func(l *life) { l.g.Rekey(true, true) },
		"replace":     func(l *life) { l.g.Rekey(true, false) },
		"policy":      func(l *life) { l.g.ClearPolicy() },
		"leave":       func(l *life) { l.g.ClearMembers(true) },
	} {
		t.Run(name, func(t *testing.T) {
			// Each half of the life new keys are due: always within 120 s.
			live(t, func() *Setup { return lifeSetup(2*time.Minute, unicast(1, 10*time.Second)) }, func(t *testing.T, l *life) {
				m := l.join(t, 0)
				old := m.spis()
				m.off.Store(true)
				replace(l)
				after(time.Second)
				m.off.Store(false)
				after(10 * time.Second)
				r := m.last()
				if r == nil || slices.Equal(m.spis(), old) {
					t.Fatalf("the second transmission didn't come: %v, %+v", m.spis(), r)
				}
				if r.Offer == nil {
					return
				}
				if a := r.Offer.Activation; a != 12*time.Second {
					t.Errorf("the new keys are sent with after %v", a)
				}
			})
		})
	}
}
