package dataplane

// LAN ports with security group tags in their frames ("cts manual"): steering puts the
// tag into the mark, where the protected interfaces look for it, and takes the header out.

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"getvpn/ipsec/dataplane/steer"
)

// Inline is how an interface takes tags from frames.
type Inline struct {
	// TagMask is the bits of the mark; see InterfaceSettings.
	TagMask uint32
	// Static is the tag of frames without one ("policy static sgt"), 0 for none, and of
	// all frames unless Trusted ones keep theirs.
	Static  uint16
	Trusted bool
}

// SetInline names the interfaces that take tags from frames; those that it doesn't name
// no longer do. One that doesn't exist is followed and served when it appears; one that is
// protected isn't served as long as it is.
func (d *Dataplane) SetInline(ports map[string]Inline) error {
	for name, in := range ports {
		if _, ok := tagBits(in.TagMask); !ok {
			return fmt.Errorf("dataplane: tag mask %#x of %s isn't up to 16 bits in a row", in.TagMask, name)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	d.inline = maps.Clone(ports)
	d.inlineErr = d.followInline()
	return d.inlineErr
}

// followInline brings the programs to where the interfaces are. The caller holds the lock.
func (d *Dataplane) followInline() error {
	want := map[int]Inline{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(d.inline)) {
		l, err := findLink(name, 0)
		if err != nil || l == nil {
			errs = append(errs, err)
			continue
		}
		if l.Attrs().EncapType != "ether" {
			errs = append(errs, fmt.Errorf("dataplane: %s: its frames have no Ethernet header", name))
			continue
		}
		if !d.steering.attached(l.Attrs().Index) {
			want[l.Attrs().Index] = d.inline[name]
		}
	}
	for index := range d.inlineOn {
		if _, ok := want[index]; !ok {
			errs = append(errs, d.steering.s.DetachInline(index))
			delete(d.inlineOn, index)
		}
	}
	for index, in := range want {
		if was, ok := d.inlineOn[index]; ok && was == in && d.steering.s.InlineAlive(index) {
			continue
		}
		tag, _ := tagBits(in.TagMask)
		if err := d.steering.s.AttachInline(index, steer.Inline{Tag: tag, Static: in.Static, Replace: in.Static != 0 && !in.Trusted}); err != nil {
			errs = append(errs, fmt.Errorf("dataplane: tags in frames: %w", err))
			continue
		}
		d.inlineOn[index] = in
	}
	return errors.Join(errs...)
}

// dropInline makes room on an interface that is to be protected. The caller holds the lock.
func (d *Dataplane) dropInline(index int) error {
	if _, ok := d.inlineOn[index]; !ok {
		return nil
	}
	delete(d.inlineOn, index)
	return d.steering.s.DetachInline(index)
}

// closeInline lets go of all of them.
func (d *Dataplane) closeInline() error {
	d.inline = nil
	return d.followInline()
}
