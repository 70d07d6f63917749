package steer

// The tcx back end: one link a hook, pinned, replaced with link.Update. A link
// outlives its device's flaps, not its device.

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

type tcx struct{ links map[point]link.Link }

func newTCX() *tcx { return &tcx{links: map[point]link.Link{}} }

func (t *tcx) name() string { return "tcx" }

func probeTCX(p *ebpf.Program) error {
	l, err := attachTCX(point{ifindex: loopback, dir: egress}, p)
	if err != nil {
		return err
	}
	return l.Close()
}

// attachTCX puts the program in front of others: policy judges a packet before
// anyone may redirect it, and others see only what it lets through.
func attachTCX(at point, p *ebpf.Program) (link.Link, error) {
	o := link.TCXOptions{Interface: at.ifindex, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()}
	if at.dir == egress {
		o.Attach = ebpf.AttachTCXEgress
	}
	return link.AttachTCX(o)
}

// find returns our link at the hook, from the pin of a dead process if need be; nil
// if there is none or its device is gone.
func (t *tcx) find(at point) link.Link {
	l := t.links[at]
	if l == nil && at.pin != "" {
		l, _ = link.LoadPinnedLink(at.pin, nil)
	}
	if l == nil {
		return nil
	}
	if info, err := l.Info(); err == nil {
		if x := info.TCX(); x != nil && int(x.Ifindex) == at.ifindex {
			t.links[at] = l
			return l
		}
	}
	delete(t.links, at)
	l.Unpin()
	l.Close()
	return nil
}

func (t *tcx) attach(at point, p *ebpf.Program) error {
	if l := t.find(at); l != nil {
		return l.Update(p)
	}
	l, err := attachTCX(at, p)
	if err != nil {
		return err
	}
	if at.pin != "" {
		os.Remove(at.pin)
		if err := l.Pin(at.pin); err != nil {
			l.Close()
			return fmt.Errorf("pinning the link: %w", err)
		}
	}
	t.links[at] = l
	return nil
}

func (t *tcx) detach(at point) error {
	l := t.find(at)
	if l == nil {
		return nil
	}
	delete(t.links, at)
	err := l.Detach()
	if errors.Is(err, unix.ENOLINK) {
		err = nil // the device went in this moment
	}
	if at.pin != "" {
		err = errors.Join(err, l.Unpin())
	}
	return errors.Join(err, l.Close())
}

func (t *tcx) alive(at point) bool { return t.find(at) != nil }

// close leaves pinned links in place; unpinned ones end.
func (t *tcx) close() {
	for _, l := range t.links {
		l.Close()
	}
	t.links = map[point]link.Link{}
}
