package machine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/internal/clock"
)

// tree is a file system of a made-up machine.
type tree struct {
	t    *testing.T
	root string
}

func newTree(t *testing.T) tree { return tree{t, t.TempDir()} }

func (x tree) write(path, text string) {
	x.t.Helper()
	p := filepath.Join(x.root, path)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		x.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		x.t.Fatal(err)
	}
}

func (x tree) genid(b byte) {
	x.write(fwcfgGenID, strings.Repeat("\x00", 40)+strings.Repeat(string(rune(b)), 16)+strings.Repeat("\x00", 4040))
}

func (x tree) rtc(at time.Time) { x.write(rtcEpoch, fmt.Sprintf("%d\n", at.Unix())) }

func (x tree) generation() Generation {
	x.t.Helper()
	g, err := ReadGeneration(x.t.Context(), x.root)
	if err != nil {
		x.t.Fatal(err)
	}
	return g
}

func TestGenerationFollowsWhatMakesAMachine(t *testing.T) {
	x := newTree(t)
	none := x.generation()
	if len(none.Sources) != 0 || len(none.Digest) != 32 {
		t.Errorf("of nothing: %+v", none)
	}
	seen := map[string]bool{none.Digest: true}
	for i, change := range []func(){
		func() { x.write("etc/machine-id", "0123\n") },
		func() { x.write("sys/class/dmi/id/product_uuid", "u1\n") },
		func() { x.write("sys/hypervisor/uuid", "h1\n") },
		func() { x.genid('a') },
		func() { x.write("etc/machine-id", "4567\n") },
		func() { x.write("sys/class/dmi/id/product_uuid", "u2\n") },
		func() { x.genid('b') },
	} {
		change()
		g := x.generation()
		if seen[g.Digest] {
			t.Errorf("change %d goes unnoticed", i)
		}
		seen[g.Digest] = true
	}
	g := x.generation()
	if want := []string{"machine-id", "dmi-uuid", "hypervisor-uuid", "vmgenid"}; !slices.Equal(g.Sources, want) {
		t.Errorf("sources %v", g.Sources)
	}
	// A reboot is no other machine.
	x.write("proc/sys/kernel/random/boot_id", "another\n")
	x.write("etc/machine-id", "4567") // nor is a line end
	if again := x.generation(); again.Digest != g.Digest {
		t.Error("another digest of the same machine")
	}
}

func TestGenerationEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ReadGeneration(ctx, t.TempDir()); err == nil {
		t.Error("no error")
	}
}

// world is a machine that is watched.
type world struct {
	tree
	clock   *clock.Fake
	events  chan []byte
	sources []string
	got     []Restored
}

func startWatch(t *testing.T, x tree) *world {
	w := &world{tree: x, clock: clock.NewFake(), events: make(chan []byte)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	watcher := &Watcher{Root: x.root, Clock: w.clock, Ready: func(s []string) { w.sources = s },
		Events: func(context.Context) (<-chan []byte, error) { return w.events, nil }}
	go func() {
		defer close(done)
		watcher.Run(ctx, func(r Restored) { w.got = append(w.got, r) })
	}()
	time.Sleep(time.Second / 2) // what the test does falls between two looks
	synctest.Wait()
	return w
}

// awake lets seconds pass with the hardware clock going.
func (w *world) awake(seconds int) {
	for range seconds {
		time.Sleep(time.Second)
		w.rtc(w.clock.Now())
	}
	synctest.Wait()
}

func (w *world) reports() []Restored {
	synctest.Wait()
	got := w.got
	w.got = nil
	return got
}

var newGenID = []byte("change@/devices/LNXSYSTM:00/VMGENCTR:00\x00ACTION=change\x00SUBSYSTEM=acpi\x00NEW_VMGENID=1\x00SEQNUM=7\x00")

func TestKernelsEventIsNoticedAtOnce(t *testing.T) {
	x := newTree(t)
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, x)
		start := time.Now()
		w.events <- []byte("change@/devices/x\x00ACTION=change\x00SEQNUM=6\x00")
		w.events <- []byte("add@/devices/x\x00NEW_VMGENID=1\x00")
		w.events <- []byte("NEW_VMGENID=1")
		w.events <- nil
		if got := w.reports(); got != nil {
			t.Errorf("reported %v", got)
		}
		w.events <- newGenID
		if got := w.reports(); len(got) != 1 || got[0].String() != "the kernel reports a new VM generation" {
			t.Errorf("reported %v", got)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("after %v", d)
		}
		if !slices.Equal(w.sources, []string{"uevent"}) {
			t.Errorf("sources %v", w.sources)
		}
		close(w.events) // the socket is gone: nothing spins, the comparisons go on
		w.rtc(w.clock.Now())
		w.awake(2)
		w.clock.Step(time.Minute)
		w.awake(1)
		time.Sleep(time.Second)
		if got := w.reports(); len(got) != 1 {
			t.Errorf("reported %v", got)
		}
	})
}

// Kernel event and another generation ID at one time are one restore.
func TestOneRestoreIsOneReport(t *testing.T) {
	x := newTree(t)
	x.genid('a')
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, x)
		w.awake(3)
		w.genid('b')
		w.events <- newGenID
		w.awake(3)
		if got := w.reports(); len(got) != 1 || len(got[0].Sources) != 2 {
			t.Errorf("reported %v", got)
		}
		w.genid('c')
		w.awake(3)
		if got := w.reports(); len(got) != 1 || !strings.Contains(got[0].String(), "QEMU") {
			t.Errorf("reported %v", got)
		}
	})
}

// A generation ID that becomes readable while we watch is a baseline.
func TestSourceThatAppearsLater(t *testing.T) {
	x := newTree(t)
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, x)
		w.awake(2)
		w.genid('a')
		w.awake(2)
		if got := w.reports(); got != nil {
			t.Errorf("reported %v", got)
		}
		w.genid('b')
		w.awake(2)
		if got := w.reports(); len(got) != 1 {
			t.Errorf("reported %v", got)
		}
	})
}

func TestHardwareClockAgainstBootTime(t *testing.T) {
	x := newTree(t)
	synctest.Test(t, func(t *testing.T) {
		x.rtc(time.Now())
		w := startWatch(t, x)
		if !slices.Equal(w.sources, []string{"uevent", "rtc"}) {
			t.Errorf("sources %v", w.sources)
		}
		w.awake(30)
		w.clock.Suspend(time.Hour) // boot time and hardware clock both went on
		w.rtc(w.clock.Now())
		w.awake(2)
		w.rtc(w.clock.Now().Add(-time.Hour)) // set back
		time.Sleep(time.Second)
		w.write(rtcEpoch, "rubbish")
		time.Sleep(time.Second)
		os.Remove(filepath.Join(x.root, rtcEpoch))
		time.Sleep(time.Second)
		w.rtc(w.clock.Now().Add(-time.Hour))
		time.Sleep(time.Second)
		if got := w.reports(); got != nil {
			t.Errorf("reported %v", got)
		}
		// The machine stood still for an hour without knowing.
		w.awake(2)
		if got := w.reports(); len(got) != 1 || !strings.Contains(got[0].String(), "1h0m") {
			t.Errorf("reported %v", got)
		}
		w.awake(10)
		if got := w.reports(); got != nil {
			t.Errorf("again: %v", got)
		}
	})
}

// The kernel's socket opens without a privilege and ends with its context.
func TestKernelEventsOpenAndClose(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c, err := kernelEvents(ctx)
	if err != nil {
		t.Skip(err)
	}
	cancel()
	for range c {
	}
}

func FuzzNewGeneration(f *testing.F) {
	f.Add(newGenID)
	f.Add([]byte("change@\x00"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if isNewGeneration(b) && !strings.Contains(string(b), "\x00NEW_VMGENID=1") {
			t.Errorf("%q", b)
		}
	})
}
