package clock

// Moments that count suspended time and that no step of the wall clock moves.

import "time"

// Timeline names moments of boot time by the wall time that they had, or will have,
// if nobody sets the clock after NewTimeline. Its values can be subtracted and
// compared with each other; mixed with time.Now they are as wrong as the wall clock
// was set since. Safe for concurrent use.
type Timeline struct {
	c    Clock
	base time.Time // boot time zero
}

// NewTimeline returns the timeline of c.
func NewTimeline(c Clock) *Timeline {
	return &Timeline{c: c, base: c.Now().Round(0).Add(-c.Boot())}
}

// Now is the present moment. It never goes back.
func (t *Timeline) Now() time.Time { return t.base.Add(t.c.Boot()) }

// Boot is the boot time of a moment.
func (t *Timeline) Boot(at time.Time) time.Duration { return at.Sub(t.base) }

// Wall is the moment in wall time as the clock is set at present, for people to read.
func (t *Timeline) Wall(at time.Time) time.Time { return t.c.Now().Round(0).Add(at.Sub(t.Now())) }

// At is the moment that present wall time calls w. The inverse of Wall.
func (t *Timeline) At(w time.Time) time.Time { return t.Now().Add(w.Round(0).Sub(t.c.Now().Round(0))) }

// Until is how long at is ahead: what to arm a timer with. The timer is late by
// whatever the machine sleeps meanwhile; see Watcher.
func (t *Timeline) Until(at time.Time) time.Duration { return at.Sub(t.Now()) }
