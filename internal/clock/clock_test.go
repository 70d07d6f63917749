package clock

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestSystemBootTimeIsTheKernels(t *testing.T) {
	var c System
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	before := time.Duration(ts.Nano())
	got := c.Boot()
	if got < before || got-before > 10*time.Second {
		t.Errorf("boot time %v after the kernel said %v", got, before)
	}
	if d := time.Since(c.Now()).Abs(); d > 10*time.Second {
		t.Errorf("wall time is %v off", d)
	}
	if c.Boot() < got {
		t.Error("boot time went back")
	}
}

// A TEK of an hour ends after an hour of boot time, however much of it the machine
// slept and whatever the wall clock was set to.
func TestLifetimesCountSuspendedTimeAndNoSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFake()
		tl := NewTimeline(f)
		start := time.Now()
		ends := tl.Now().Add(time.Hour)
		if !tl.Now().Equal(start) {
			t.Errorf("a timeline starts at %v, wall time is %v", tl.Now(), start)
		}
		time.Sleep(10 * time.Minute)
		f.Suspend(30 * time.Minute)
		f.Step(-48 * time.Hour)
		if left := tl.Until(ends); left != 20*time.Minute {
			t.Errorf("%v left, want 20m", left)
		}
		if w, want := tl.Wall(ends), start.Add(time.Hour-48*time.Hour); !w.Equal(want) || !tl.At(w).Equal(ends) {
			t.Errorf("ends at %v of the wall clock, want %v", w, want)
		}
		f.Step(96 * time.Hour)
		if left := tl.Until(ends); left != 20*time.Minute {
			t.Errorf("%v left after a step, want 20m", left)
		}
		time.Sleep(20 * time.Minute)
		if now := tl.Now(); now.Before(ends) {
			t.Errorf("still %v left", ends.Sub(now))
		}
	})
}

type watched struct {
	suspended []time.Duration
	stepped   []time.Duration
}

func watch(t *testing.T, f *Fake) *watched {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	got := &watched{}
	w := &Watcher{Clock: f, Suspended: func(s Suspended) { got.suspended = append(got.suspended, s.For) },
		Stepped: func(s Stepped) { got.stepped = append(got.stepped, s.By) }}
	go w.Run(ctx)
	synctest.Wait()
	return got
}

func TestWatcherTellsSuspendFromStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFake()
		got := watch(t, f)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(got.suspended)+len(got.stepped) != 0 {
			t.Fatalf("something happened: %+v", got)
		}
		f.Suspend(40 * time.Second)
		time.Sleep(1500 * time.Millisecond)
		f.Step(-3 * time.Second)
		time.Sleep(1500 * time.Millisecond)
		f.Step(time.Hour) // both within one second
		f.Suspend(time.Minute)
		time.Sleep(1500 * time.Millisecond)
		f.Step(150 * time.Millisecond) // below the tolerance
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(got.suspended) != 2 || got.suspended[0] != 40*time.Second || got.suspended[1] != time.Minute {
			t.Errorf("suspends %v", got.suspended)
		}
		if len(got.stepped) != 2 || got.stepped[0] != -3*time.Second || got.stepped[1] != time.Hour {
			t.Errorf("steps %v", got.stepped)
		}
	})
}

// Slewing, which time daemons do for minutes, is neither.
func TestSlewIsNoStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFake()
		got := watch(t, f)
		for range 600 {
			time.Sleep(time.Second)
			f.Step(500 * time.Microsecond)
		}
		synctest.Wait()
		if len(got.suspended)+len(got.stepped) != 0 {
			t.Errorf("reported %+v", got)
		}
	})
}

// The machine's own clocks agree with each other while it is awake.
func TestWatcherIsQuietOnThisMachine(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	w := &Watcher{Interval: 5 * time.Millisecond, Suspended: func(s Suspended) { t.Errorf("slept %v", s.For) },
		Stepped: func(s Stepped) { t.Errorf("stepped %v", s.By) }}
	w.Run(ctx)
}
