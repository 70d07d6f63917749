// Package clock tells time in the three ways that a key's life needs: boot time, which
// runs on while the machine is suspended and which nobody can set; wall time, which is
// shown; and what the two did to each other (a suspend, a step of the wall clock).
//
// Go's timers and the monotonic part of a time.Time stand still while Linux is
// suspended, and a time.Time without that part jumps when somebody sets the clock.
// Lifetimes must do neither, so
// an actor that keeps lifetimes
//
//   - takes every "now" from a Timeline and compares its values with each other only,
//   - arms its timers for the difference of two of them, and
//   - arms them anew when a Watcher reports Suspended: the timer slept too.
//
// For people, Timeline.Wall turns such a moment into wall time as it is set now.
package clock

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is a source of time.
type Clock interface {
	// Boot is the time since the machine started, suspended time included. It never
	// goes back and nobody can set it.
	Boot() time.Duration
	// Now is wall time. Its monotonic part, if any, doesn't count suspended time.
	Now() time.Time
}

// System is the machine's clock.
type System struct{}

// Boot reads CLOCK_BOOTTIME.
func (System) Boot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		// Every kernel since 2.6.39 has it; going on with another clock would make
		// keys live too long without a word.
		panic(fmt.Sprintf("clock: CLOCK_BOOTTIME: %v", err))
	}
	return time.Duration(t.Nano())
}

// Now is time.Now.
func (System) Now() time.Time { return time.Now() }

// Fake follows time.Now, and so the fake time of a testing/synctest bubble, until a
// test suspends it or steps it.
type Fake struct {
	start time.Time

	mu        sync.Mutex
	suspended time.Duration
	stepped   time.Duration
}

// NewFake returns a clock of a machine that starts now.
func NewFake() *Fake { return &Fake{start: time.Now()} }

// NewFakeAt returns a clock of a machine that has run for boot, awake all the time, and
// takes it to be wall now: one that was put back to an earlier moment.
func NewFakeAt(boot time.Duration, wall time.Time) *Fake {
	return &Fake{start: time.Now().Add(-boot), stepped: time.Until(wall)}
}

// Boot is the time since NewFake, and all of Suspend.
func (f *Fake) Boot() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.start) + f.suspended
}

// Now is wall time as suspends and steps have left it, without a monotonic part.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.suspended + f.stepped).Round(0)
}

// Awake is Boot without Suspend.
func (f *Fake) Awake() time.Duration { return time.Since(f.start) }

// Hardware is a clock that ran on through suspends and that nobody has set.
func (f *Fake) Hardware() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.suspended).Round(0)
}

// Suspend lets d pass as a suspended machine sees it: boot time and wall time go on,
// timers don't.
func (f *Fake) Suspend(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.suspended += d
}

// Step sets the wall clock ahead by d, or back.
func (f *Fake) Step(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stepped += d
}
