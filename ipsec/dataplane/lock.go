package dataplane

// The second lock of a protected interface (steer.LockName), and what a dead process
// left. Programs go with their device; the lock holds what a device of the same name
// would let out, and frees the one that has its programs. It outlives this process, as
// they do. A lock is made or tightened before programs are, and freed after they hang.

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"getvpn/ipsec"
	"getvpn/ipsec/dataplane/steer"
)

// nameLock is a lock as the kernel has it.
type nameLock struct {
	device  string // its name, which isn't always the configured one
	index   int    // of the free device; 0: none
	out, in ipsec.Ruleset
}

// deviceName says whether a device can have that name; an alternative name can be
// longer, and can't be locked before the device is known.
func deviceName(s string) bool {
	return s != "" && len(s) < unix.IFNAMSIZ && !strings.ContainsAny(s, "/: \t\n")
}

// lock makes the kernel's lock of the interface what it shall be; index is that of the
// device whose programs judge, 0 if there is none.
func (p *port) lock(index int, out, in *ipsec.Ruleset) error {
	want := nameLock{p.device, index, *out, *in}
	if want.device == "" {
		if !deviceName(p.name) {
			return nil
		}
		want.device = p.name
	}
	was := p.locked
	if was != nil && reflect.DeepEqual(*was, want) {
		return nil
	}
	if err := lockDevice(want.device, index, out, in); err != nil {
		return err
	}
	p.locked = &want
	if was != nil && was.device != want.device {
		return steer.UnlockName(was.device)
	}
	return nil
}

// relock keeps the policy of the lock, for another device or none.
func (p *port) relock(index int) error {
	if p.locked == nil {
		return nil
	}
	l := *p.locked
	return p.lock(index, &l.out, &l.in)
}

// restoreLock undoes a change. A first lock stays: an earlier process may have left
// one, and closed is the safe side of not knowing.
func (p *port) restoreLock(was *nameLock) error {
	if was == nil {
		return nil
	}
	return p.lock(was.index, &was.out, &was.in)
}

// locksChanged puts back what somebody took away, as services that reload a whole nft
// ruleset do.
func (d *Dataplane) locksChanged() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	names, err := steer.Locked()
	if err != nil {
		return // nobody knows what is there; the next change will tell
	}
	for _, p := range d.ports {
		l := p.locked
		if l == nil || open(&l.out) && open(&l.in) || slices.Contains(names, l.device) {
			continue
		}
		p.locked = nil
		p.fail(p.lock(l.index, &l.out, &l.in))
	}
}

func (p *port) unlock() error {
	name := p.device
	if p.locked != nil {
		name = p.locked.device
	}
	if name == "" && deviceName(p.name) {
		name = p.name
	}
	p.locked = nil
	if name == "" {
		return nil
	}
	return steer.UnlockName(name)
}

// lockDevice locks, or unlocks when policy passes everything.
func lockDevice(name string, index int, out, in *ipsec.Ruleset) error {
	if open(out) && open(in) {
		return steer.UnlockName(name)
	}
	return steer.LockName(name, index, *out, *in)
}

func open(r *ipsec.Ruleset) bool {
	return r.Default == ipsec.Pass && !slices.ContainsFunc(r.Rules, func(x ipsec.Rule) bool {
		return x.Verdict == ipsec.Drop || x.Verdict == ipsec.Protect
	})
}

// LockInterfaces closes interfaces before a dataplane runs, as after a reboot: what
// their policies don't pass is dropped until Install attaches them. It returns the
// interfaces that it closed. No dataplane may run meanwhile.
func LockInterfaces(policies []ipsec.GroupPolicy) ([]string, error) {
	by := map[string][]ipsec.GroupPolicy{}
	var order, closed []string
	for _, g := range policies {
		if by[g.Interface] == nil {
			order = append(order, g.Interface)
		}
		by[g.Interface] = append(by[g.Interface], g)
	}
	var errs []error
	for _, name := range order {
		out, in := ipsec.Compile(by[name])
		if open(&out) && open(&in) {
			continue
		}
		device := name
		l, err := findLink(name, 0)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case l != nil:
			device = l.Attrs().Name
		case !deviceName(name):
			errs = append(errs, fmt.Errorf("dataplane: no device has the name %s yet, and none can be locked by it", name))
			continue
		}
		if err := steer.LockName(device, 0, out, in); err != nil {
			errs = append(errs, err)
			continue
		}
		closed = append(closed, device)
	}
	return closed, errors.Join(errs...)
}

// RemoveLeftovers takes what an earlier process left out of the kernel: programs and
// maps pinned in o.BPFDir, locks, TAPs. For a process that protects no interface.
func RemoveLeftovers(o Options) error {
	pins, err := os.ReadDir(o.BPFDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("dataplane: %w", err)
	}
	if len(pins) == 0 {
		return errors.Join(removeLocks(nil), removeTaps(nil))
	}
	d, err := Open(o)
	if err != nil {
		return err
	}
	return d.Close(false)
}

// settleLocks removes locks and TAPs that no interface here needs. Locks stay when an
// interface is known by an alternative name alone: one of them may be its.
func (d *Dataplane) settleLocks() error {
	var locks, taps []string
	unknown := false
	for _, p := range d.ports {
		if len(p.groups) == 0 {
			continue
		}
		taps = append(taps, tapName(p.name))
		switch {
		case p.device != "":
			locks = append(locks, p.device)
		case deviceName(p.name):
			locks = append(locks, p.name)
		default:
			unknown = true
		}
	}
	if unknown {
		return removeTaps(taps)
	}
	return errors.Join(removeLocks(locks), removeTaps(taps))
}

func removeLocks(but []string) error {
	names, err := steer.Locked()
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		if !slices.Contains(but, n) {
			errs = append(errs, steer.UnlockName(n))
		}
	}
	return errors.Join(errs...)
}

// removeTaps deletes TAPs that look like ours and that no process has open.
func removeTaps(but []string) error {
	all, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("dataplane: interfaces: %w", err)
	}
	var errs []error
	for _, l := range all {
		a := l.Attrs()
		if l.Type() == "tuntap" && strings.HasPrefix(a.Name, tapPrefix) && a.MTU == tapMTU &&
			a.RawFlags&unix.IFF_LOWER_UP == 0 && !slices.Contains(but, a.Name) {
			errs = append(errs, netlink.LinkDel(l))
		}
	}
	return errors.Join(errs...)
}
