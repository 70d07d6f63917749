package gm

// The group's clock for time-based anti-replay: set by a registration, kept by rekeys.
// It runs on boot time, so suspending the machine or setting its clock changes nothing.
// Rules of the vendor's guide, "rekey pseudotime check": ahead of ours is adopted,
// behind by no more than the skew too; behind by more, the rekey is an old one that
// somebody kept, and is dropped.

import (
	"time"

	"getvpn/gdoi/policy"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

// groupClock is a pseudotime that held at a moment of boot time and runs since.
type groupClock struct {
	valid bool
	value time.Duration
	at    time.Time // of the member's timeline
	boot  time.Duration
	tick  time.Duration
}

func (c *groupClock) now(now time.Time) time.Duration { return c.value + now.Sub(c.at) }

// adoptClock takes an offer's pseudotime.
func (m *Member) adoptClock(o *policy.Offer, now time.Time) {
	if o.Clock == nil {
		m.clock = groupClock{}
		return
	}
	m.clock = groupClock{valid: true, value: o.Clock.Pseudotime, at: now, boot: m.boot(), tick: o.Clock.Tick}
}

// timely judges a rekey's pseudotime.
func (m *Member) timely(o *policy.Offer, now time.Time) bool {
	if o.Clock == nil || !m.clock.valid {
		return true
	}
	window := m.h.window()
	for i := range o.TEKs {
		if r := o.TEKs[i].Replay; r.Mode == ipsec.ReplayTime {
			window = max(window, time.Duration(r.Window)*time.Second)
		}
	}
	skew, ours, theirs := policy.Skew(window), m.clock.now(now), o.Clock.Pseudotime
	switch {
	case theirs-ours > skew:
		m.o.Events.Emit(event.GMPseudotimeLarge{KS: seconds(theirs), GM: seconds(ours), Group: m.o.Group.Name})
	case ours-theirs > skew:
		m.o.Events.Emit(event.GMPseudotimeTooOld{Group: m.o.Group.Name, GM: seconds(ours), Peer: seconds(theirs), Skew: seconds(skew)})
		return false
	}
	return true
}

func seconds(d time.Duration) uint64 { return uint64(max(0, d/time.Second)) }

// pseudo is the clock for the dataplane; nil: there is none.
func (m *Member) pseudo() *ipsec.Pseudotime {
	if !m.clock.valid {
		return nil
	}
	return &ipsec.Pseudotime{Boot: m.clock.boot, Value: m.clock.value, Tick: m.clock.tick}
}

// pseudoModel is the clock as shown.
func (m *Member) pseudoModel() *model.Pseudotime {
	if !m.clock.valid {
		return nil
	}
	return &model.Pseudotime{Value: m.clock.value, At: m.wall(m.clock.at), Window: m.h.window(), Tick: m.clock.tick}
}
