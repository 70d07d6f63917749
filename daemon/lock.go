package daemon

// What happens without a running daemon: interfaces closed at boot, and what an earlier
// process left on a host that protects none any more.

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"getvpn/gdoi/gm"
	"getvpn/ipsec"
	"getvpn/ipsec/dataplane"
	"getvpn/model"
	"getvpn/model/event"
)

// LockOnly closes the interfaces whose crypto map has an active fail-close block, or
// what their groups' last lists permit, and ends: until a daemon attaches there nothing
// leaves them but what the block, or the lists, pass (and GDOI). For the time between
// boot and the daemon's start.
func LockOnly(o Options) error {
	if o.Console == nil {
		o.Console = io.Discard
	}
	c, err := load(o.ConfigFile, o.Console)
	if err != nil {
		return err
	}
	setups, err := memberSetups(c)
	if err != nil {
		return err
	}
	// A running daemon's interfaces would lose their traffic.
	if err := unused(o.StateDir); err != nil {
		return err
	}
	closed, err := dataplane.LockInterfaces(atStart(o.StateDir, setups))
	for _, name := range closed {
		fmt.Fprintf(o.Console, "%s is closed until getvpnd attaches to it\n", name)
	}
	return err
}

// unused reports whether no daemon owns the state directory. It creates nothing there:
// who runs this needn't be the daemon's user.
func unused(dir string) error {
	f, err := os.Open(filepath.Join(dir, "lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("state directory: a daemon uses %s", dir)
	}
	return nil
}

// atStart is the policy that members have before their first registration.
func atStart(dir string, setups []memberSetup) (out []ipsec.GroupPolicy) {
	for _, s := range setups {
		m := gm.New(gm.Options{Setup: gm.Setup{Group: s.Group, Attach: s.Attach}, Store: model.NewStore(model.Snapshot{}), Events: event.NewBus(),
			Memory: newMemory(dir, &s.Group)})
		out = append(out, m.Prepare()...)
	}
	return out
}

// removeLeftovers is for a configuration without members. Not being allowed to is no
// error: a key server needs no such rights.
func (d *Daemon) removeLeftovers() {
	if d.o.cleanUp == nil {
		return
	}
	if err := d.o.cleanUp(dataplane.Options{BPFDir: d.o.BPFDir}); err != nil {
		d.log.Warn("removing what an earlier process left", "error", err)
	}
}
