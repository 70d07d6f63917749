package dataplane

// Several groups' policies at once, for a start: the first Install on an interface
// takes the place of all that an earlier process left there.

import (
	"errors"
	"fmt"
	"maps"

	"getvpn/ipsec"
)

// InstallAll is Install for several groups. Those of one interface come into force in
// one step. On an error the interface concerned has its earlier policy; the others have
// the new one.
func (d *Dataplane) InstallAll(policies []ipsec.GroupPolicy) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	before := map[string]map[string]ipsec.GroupPolicy{}
	for _, g := range policies {
		p := d.port(g.Interface)
		if before[p.name] == nil {
			before[p.name] = maps.Clone(p.groups)
		}
		p.groups[g.Group] = d.timed(g)
	}
	var errs []error
	for name, was := range before {
		p := d.port(name)
		var err error
		if p.run == nil {
			err = p.reconcile()
		}
		if err == nil {
			err = p.install()
		}
		if err != nil {
			p.groups = was
			errs = append(errs, fmt.Errorf("interface %s: %w", name, err))
		}
	}
	d.schedule()
	return errors.Join(errs...)
}
