package clock

// Watching boot, monotonic and wall time drift apart: that is how a process learns
// that its machine slept or that somebody set the clock.

import (
	"context"
	"time"
)

// Suspended says that the machine slept: timers are late by For. A change of less than
// the Watcher's tolerance isn't reported.
type Suspended struct{ For time.Duration }

// Stepped says that the wall clock was set ahead by By, or back.
type Stepped struct{ By time.Duration }

// Watcher compares the clocks every Interval and reports what happened. Reports come
// from one goroutine, in order; a nil function isn't called.
type Watcher struct {
	Clock     Clock         // nil: System
	Interval  time.Duration // 0: 1 s
	Tolerance time.Duration // 0: 200 ms; less is slew or scheduling

	Suspended func(Suspended)
	Stepped   func(Stepped)
}

// sample is the three clocks, read as close together as a process can.
type sample struct {
	boot time.Duration
	wall time.Time
	mono time.Time
}

// attempts bounds the search for a sample that no scheduling tore apart.
const attempts = 4

// read takes the sample whose readings lie closest together: a goroutine that loses the
// processor between two of them would see a jump that never was.
func read(c Clock) sample {
	var best sample
	for i, least := 0, time.Duration(0); i < attempts; i++ {
		before := time.Now()
		s := sample{boot: c.Boot(), wall: c.Now().Round(0)}
		took := time.Since(before)
		s.mono = before.Add(took / 2)
		if i == 0 || took < least {
			best, least = s, took
		}
		if least < time.Millisecond {
			break
		}
	}
	return best
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	c, interval, tolerance := w.Clock, w.Interval, w.Tolerance
	if c == nil {
		c = System{}
	}
	if interval <= 0 {
		interval = time.Second
	}
	if tolerance <= 0 {
		tolerance = 200 * time.Millisecond
	}
	last := read(c)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := read(c)
		slept, step := last.compare(s)
		if slept > tolerance && w.Suspended != nil {
			w.Suspended(Suspended{slept})
		}
		if step.Abs() > tolerance && w.Stepped != nil {
			w.Stepped(Stepped{step})
		}
		// What is below the tolerance isn't carried on: the kernel slews wall time by up
		// to 0.5 ms a second for as long as it takes.
		last = s
	}
}

// compare returns how long the machine slept between the samples and how far the wall
// clock was set.
func (a sample) compare(b sample) (slept, step time.Duration) {
	boot := b.boot - a.boot
	return boot - b.mono.Sub(a.mono), b.wall.Sub(a.wall) - boot
}
