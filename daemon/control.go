package daemon

// What the command line asks of a running daemon, and the socket it asks through.

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"getvpn/cli"
	"getvpn/config"
	"getvpn/model"

	"golang.org/x/sys/unix"
)

var _ cli.Control = (*Daemon)(nil)

// Snapshot is the model as it is now, with the dataplane's counters of this moment,
// less what they were when they were cleared.
func (d *Daemon) Snapshot() *model.Snapshot {
	s := d.snapshot()
	d.mu.Lock()
	zero := d.zero
	d.mu.Unlock()
	zero.since(s)
	return s
}

// snapshot is a copy whose members' SAs may be changed.
func (d *Daemon) snapshot() *model.Snapshot {
	d.mu.Lock()
	p := d.plane
	d.mu.Unlock()
	if p == nil {
		s := *d.store.Load()
		s.At = time.Now()
		return &s
	}
	p.Publish()
	s := *d.store.Load()
	s.At = time.Now()
	s.Members = slices.Clone(s.Members)
	for i := range s.Members {
		g := &s.Members[i]
		g.TEKs = slices.Clone(g.TEKs)
		for j := range g.TEKs {
			g.TEKs[j].SA, _ = p.SACounters(g.TEKs[j].SPI)
		}
		hits := p.RuleHits(g.Name, g.Interface)
		g.DownloadedACEs = slices.Clone(g.DownloadedACEs)
		for j := range min(len(hits), len(g.DownloadedACEs)) {
			g.DownloadedACEs[j].Hits = hits[j]
		}
	}
	return &s
}

// RunningConfig is the configuration in force.
func (d *Daemon) RunningConfig() *config.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg
}

// listenControl opens the control socket, which only this user and group may use. One
// that a dead process left is replaced, a live one is respected.
func listenControl(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("control socket: another daemon answers at %s", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	old := unix.Umask(0o117)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// serveControl answers until the daemon stops.
func (d *Daemon) serveControl() {
	if d.control == nil {
		return
	}
	go func() {
		if err := cli.Serve(d.control, d); err != nil {
			d.log.Error("control socket", "error", err)
		}
	}()
}

// own makes this process the only one with the state directory, for as long as it
// lives: two would hand out the same Sender IDs.
func own(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("state directory: another daemon uses %s", dir)
	}
	return f, nil
}
