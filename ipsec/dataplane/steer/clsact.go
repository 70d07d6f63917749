package steer

// The clsact back end, for kernels before 6.6: a cls_bpf filter in direct-action
// mode at a fixed place (priority and handle), so that a replacement finds it, also
// after a crash. Filters need no pins; they live as long as their device.

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

type clsact struct{}

const (
	filterPriority = 1
	filterHandle   = 0x6776 // "gv"
	filterName     = "getvpn"
)

func (clsact) name() string { return "clsact" }

func (clsact) close() {}

func qdisc(ifindex int) *netlink.GenericQdisc {
	return &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
}

func filter(at point, p *ebpf.Program) *netlink.BpfFilter {
	f := &netlink.BpfFilter{Name: filterName, DirectAction: true, FilterAttrs: netlink.FilterAttrs{
		LinkIndex: at.ifindex, Parent: netlink.HANDLE_MIN_INGRESS, Handle: filterHandle,
		Protocol: unix.ETH_P_ALL, Priority: filterPriority}}
	if at.dir == egress {
		f.Parent = netlink.HANDLE_MIN_EGRESS
	}
	if p != nil {
		f.Fd = p.FD()
	}
	return f
}

func (clsact) attach(at point, p *ebpf.Program) error {
	if err := netlink.QdiscAdd(qdisc(at.ifindex)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("qdisc clsact: %w", err)
	}
	if err := netlink.FilterReplace(filter(at, p)); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	return nil
}

// find returns our filter at the hook.
func (clsact) find(at point) (netlink.Filter, error) {
	l := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: at.ifindex}}
	fs, err := netlink.FilterList(l, filter(at, nil).Parent)
	if err != nil {
		return nil, err
	}
	for _, f := range fs {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Name == filterName && b.Priority == filterPriority && b.Handle == filterHandle {
			return f, nil
		}
	}
	return nil, nil
}

func (c clsact) detach(at point) error {
	f, err := c.find(at)
	if err != nil || f == nil {
		return nil // no such device or no qdisc: nothing of ours hangs there
	}
	if err := netlink.FilterDel(f); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("steer: removing the filter: %w", err)
	}
	// The qdisc goes with the last filter, whoever's.
	l := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: at.ifindex}}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		if rest, err := netlink.FilterList(l, parent); err != nil || len(rest) > 0 {
			return nil
		}
	}
	if err := netlink.QdiscDel(qdisc(at.ifindex)); err != nil {
		return fmt.Errorf("steer: removing the qdisc: %w", err)
	}
	return nil
}

func (c clsact) alive(at point) bool {
	f, err := c.find(at)
	return err == nil && f != nil
}

// probeClsact hangs a program on lo for a moment, at a place of its own.
func probeClsact(p *ebpf.Program) error {
	q := qdisc(loopback)
	err := netlink.QdiscAdd(q)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("qdisc clsact: %w", err)
	}
	made := err == nil
	f := filter(point{ifindex: loopback, dir: egress}, p)
	f.Priority, f.Name = 0xfffe, "getvpn_probe"
	err = netlink.FilterAdd(f)
	if err == nil {
		err = netlink.FilterDel(f)
	}
	if made {
		err = errors.Join(err, netlink.QdiscDel(q))
	}
	return err
}
