package daemon

// A tracked object of "client status active-sa track N": a file DIR/N that holds "up" or
// "down", for routing daemons and monitors to watch, and a program that is told of each
// change. docs/track.md shows both with a routing daemon.

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// hookTime is how long the program may take; it is killed then.
const hookTime = 10 * time.Second

// hookAgain is when a program that failed is run again: twice as late each time, up to
// hookSeldom. Routing that wasn't told would go on as if nothing had happened.
const (
	hookAgain  = 5 * time.Second
	hookSeldom = time.Minute
)

// trackers are the tracked objects of a daemon. Each number is one object, whoever sets
// it, so that the program hears its changes in order.
type trackers struct {
	dir   string
	hook  string // empty: none
	log   *slog.Logger
	again time.Duration // before the first repetition

	mu      sync.Mutex
	objects map[int]*tracker
	ending  chan struct{} // closed at the end
	running sync.WaitGroup
}

func newTrackers(dir, hook string, log *slog.Logger) *trackers {
	return &trackers{dir: dir, hook: hook, log: log, again: hookAgain, objects: map[int]*tracker{}, ending: make(chan struct{})}
}

// object returns the one of that number.
func (ts *trackers) object(id int) *tracker {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.objects[id]
	if t == nil {
		t = &tracker{trackers: ts, id: id}
		ts.objects[id] = t
	}
	return t
}

// Close waits until the program has been told of every object's newest state, or has
// failed to take it once. Nothing is set after it. A daemon may be stopped twice.
func (ts *trackers) Close() {
	ts.mu.Lock()
	select {
	case <-ts.ending:
	default:
		close(ts.ending)
	}
	ts.mu.Unlock()
	ts.running.Wait()
}

// tracker is a tracked object.
type tracker struct {
	*trackers
	id int

	mu      sync.Mutex
	state   string // wanted
	told    string // the program was
	running bool
}

// Set writes the state and starts the program, which is told of the newest state only.
func (t *tracker) Set(up bool) error {
	state := "down"
	if up {
		state = "up"
	}
	if err := t.write(state); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state = state
	if t.hook != "" && !t.running {
		if _, err := os.Stat(t.hook); err != nil {
			return nil // nobody wants to know
		}
		t.running = true
		t.trackers.running.Go(t.tell)
	}
	return nil
}

// write replaces the file as a whole: a reader sees the old state or the new one.
func (t *tracker) write(state string) error {
	if err := os.MkdirAll(t.dir, 0o755); err != nil {
		return fmt.Errorf("track object %d: %w", t.id, err)
	}
	f, err := os.CreateTemp(t.dir, ".new-")
	if err != nil {
		return fmt.Errorf("track object %d: %w", t.id, err)
	}
	_, err = f.WriteString(state + "\n")
	if e := f.Chmod(0o644); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(t.dir, strconv.Itoa(t.id)))
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("track object %d: %w", t.id, err)
	}
	return nil
}

// tell runs the program until it knows the newest state.
func (t *tracker) tell() {
	wait := t.again
	for {
		t.mu.Lock()
		state := t.state
		if state == t.told {
			t.running = false
			t.mu.Unlock()
			return
		}
		t.mu.Unlock()
		if err := t.run(state); err == nil {
			wait = t.again
			t.mu.Lock()
			t.told = state
			t.mu.Unlock()
			continue
		}
		select {
		case <-t.ending:
			if t.newest() == state {
				return
			}
		case <-time.After(wait):
			wait = min(2*wait, hookSeldom)
		}
	}
}

func (t *tracker) newest() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

// run runs the program once.
func (t *tracker) run(state string) error {
	ctx, cancel := context.WithTimeout(context.Background(), hookTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.hook, strconv.Itoa(t.id), state)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.log.Warn("track hook", "id", t.id, "state", state, "error", err, "output", string(out[:min(len(out), 200)]))
	}
	return err
}
