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

// tracker is a tracked object.
type tracker struct {
	dir  string
	id   int
	hook string // empty: none
	log  *slog.Logger

	mu      sync.Mutex
	state   string // wanted
	told    string // the program was
	running bool
}

func newTracker(dir string, id int, hook string, log *slog.Logger) *tracker {
	return &tracker{dir: dir, id: id, hook: hook, log: log}
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
		go t.tell()
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
	for {
		t.mu.Lock()
		state := t.state
		if state == t.told {
			t.running = false
			t.mu.Unlock()
			return
		}
		t.told = state
		t.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), hookTime)
		cmd := exec.CommandContext(ctx, t.hook, strconv.Itoa(t.id), state)
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			t.log.Warn("track hook", "id", t.id, "state", state, "error", err, "output", string(out[:min(len(out), 200)]))
		}
	}
}
