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

	"getvpn/ipsec"
	"getvpn/ipsec/dataplane"
)

// LockOnly closes the interfaces whose crypto map has an active fail-close block and
// ends: nothing but what the block passes (and GDOI) leaves them until a daemon attaches
// there. For the time between boot and the daemon's start.
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
	closed, err := dataplane.LockInterfaces(unregistered(setups))
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

// unregistered is the policy of members before their first registration.
func unregistered(setups []memberSetup) (out []ipsec.GroupPolicy) {
	for _, s := range setups {
		for _, a := range s.Attach {
			out = append(out, ipsec.GroupPolicy{Group: s.Group.Name, Interface: a.Interface, MapSeq: a.MapSeq,
				State: ipsec.Unregistered, FailClose: a.FailClose, Local: a.Local})
		}
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
