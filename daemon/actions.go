package daemon

// What an operator asks of engines and dataplane: rekeys, directions, clears; and
// changes of the configuration from the command line.

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"getvpn/cli"
	"getvpn/config"
	"getvpn/gdoi/gm"
	"getvpn/gdoi/ks"
	"getvpn/ipsec"
	"getvpn/model/event"
)

// changed is who put the configuration in force that is.
type changed struct {
	by cli.Caller
	at time.Time
}

// Apply puts next in force if base still is; else the error is a *cli.Changed. What
// can't work is refused before anything is touched.
func (d *Daemon) Apply(base, next *config.Config, by cli.Caller) error {
	if err := config.Problems("configuration", next); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if base != d.cfg {
		return &cli.Changed{By: d.last.by, At: d.last.at}
	}
	if err := d.apply(next); err != nil {
		return err
	}
	d.last = changed{by, time.Now()}
	d.bus.Emit(event.ConfigChanged{Source: by.Source, User: by.User})
	return nil
}

// Save writes the configuration in force to the startup file, in its canonical form:
// whole or not at all, readable for this user only.
func (d *Daemon) Save(by cli.Caller) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.o.ConfigFile == "" {
		return errors.New("there is no startup file")
	}
	if err := (ks.Disk{}).WriteFile(d.o.ConfigFile, []byte(config.Render(d.cfg))); err != nil {
		return fmt.Errorf("startup file: %w", err)
	}
	d.log.Info("configuration saved", "file", d.o.ConfigFile, "user", by.User, "source", by.Source)
	return nil
}

// engines are the running actors of a group, or of all with an empty name, in order.
// They may end at any time after.
func (d *Daemon) engines(group string) (servers []*ks.Group, members []*gm.Member, plane Plane, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(d.groups)) {
		if group == "" || n == group {
			servers = append(servers, d.groups[n].group)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(d.members)) {
		if group == "" || n == group {
			members = append(members, d.members[n].member)
		}
	}
	if group != "" && len(servers)+len(members) == 0 {
		err = fmt.Errorf("group %s doesn't exist", group)
	}
	return servers, members, d.plane, err
}

// Act does what an operator asks, and logs who did.
func (d *Daemon) Act(a cli.Action, by cli.Caller) error {
	servers, members, plane, err := d.engines(a.Group)
	if err != nil {
		return err
	}
	var errs []error
	each := func(f func(*ks.Group) error) {
		for _, g := range servers {
			if err := f(g); err != nil {
				errs = append(errs, fmt.Errorf("group %s: %w", g.Name(), err))
			}
		}
	}
	var only error // of commands that one kind of device has
	switch a.Verb {
	case cli.ActRekey:
		only = need(len(servers), "key server")
		// Members that aren't told to delete keep the replaced TEKs for a while.
		each(func(g *ks.Group) error { return g.Rekey(true, a.Now) })
	case cli.ActDirection:
		only = need(len(members), "member")
		dir, ok := map[string]ipsec.Direction{"both": ipsec.Both, "inbound optional": ipsec.InboundOptional, "inbound only": ipsec.InboundOnly}[a.Direction]
		if !ok {
			return fmt.Errorf("there is no direction %q", a.Direction)
		}
		for _, m := range members {
			m.Direction(dir)
		}
	case cli.ActClearGroup:
		for _, m := range members {
			m.Clear()
		}
		each((*ks.Group).Clear)
	case cli.ActClearMembers:
		only = need(len(servers), "key server")
		each(func(g *ks.Group) error { return g.ClearMembers(a.Now) })
	case cli.ActClearCoopRole:
		only = need(len(servers), "key server")
		each((*ks.Group).ClearRole)
	case cli.ActClearCoopCounters:
		only = need(len(servers), "key server")
		each((*ks.Group).ClearCoopCounters)
	case cli.ActClearPolicy:
		only = need(len(servers), "key server")
		each((*ks.Group).ClearPolicy)
	case cli.ActClearReplay:
		for _, m := range members {
			m.ClearReplay()
		}
		each((*ks.Group).ClearReplay)
		d.clearReplay(plane, a.Group)
	case cli.ActClearCounters:
		only = need(len(members), "member")
		d.clearCounters(a.Group)
	case cli.ActClearSA:
		only = need(len(members), "member")
		for _, m := range members {
			m.ClearSAs()
		}
	case cli.ActClearISAKMP:
		errs = append(errs, d.clearISAKMP(a.Conn))
	default:
		return fmt.Errorf("unknown command %d", a.Verb)
	}
	if err := errors.Join(append(errs, only)...); err != nil {
		return err
	}
	d.log.Info("operator's command", "verb", a.Verb, "group", a.Group, "now", a.Now, "user", by.User, "source", by.Source)
	return nil
}

func need(n int, what string) error {
	if n == 0 {
		return fmt.Errorf("this device isn't a %s of the group", what)
	}
	return nil
}

// clearReplay sets the dataplane's anti-replay counters to zero.
func (d *Daemon) clearReplay(plane Plane, group string) {
	if plane == nil {
		return
	}
	for _, g := range d.store.Load().Members {
		if group == "" || g.Name == group {
			plane.ClearReplay(g.Name)
		}
	}
}

// clearISAKMP ends phase-1 SAs; peers make new ones when they need them.
func (d *Daemon) clearISAKMP(conn uint32) error {
	d.mu.Lock()
	ep := d.ep
	d.mu.Unlock()
	if ep == nil {
		return nil
	}
	found := conn == 0
	for _, sa := range ep.SAs(netip.Addr{}) {
		if conn == 0 || sa.ID() == conn {
			sa.Close()
			found = true
		}
	}
	if !found {
		return fmt.Errorf("there is no connection %d", conn)
	}
	return nil
}
