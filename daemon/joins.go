package daemon

// Multicast groups that interfaces join by hand: "ip igmp join-group", "ipv6 mld
// join-group".

import (
	"maps"

	"getvpn/config"
)

// handJoin is one such line of an interface.
type handJoin struct {
	iface string
	config.Join
}

// applyJoins joins what c says and leaves what it doesn't say any more. A group that
// can't be joined is told of and tried again with the next change.
func (d *Daemon) applyJoins(c *config.Config) {
	want := map[handJoin]bool{}
	for _, i := range c.Interfaces {
		for _, j := range i.Joins {
			want[handJoin{i.Name, j}] = true
		}
	}
	for j, leave := range maps.Clone(d.joins) {
		if !want[j] {
			leave()
			delete(d.joins, j)
		}
	}
	if d.o.joiner == nil {
		return
	}
	for j := range want {
		if d.joins[j] != nil {
			continue
		}
		leave, err := d.o.joiner.Join(j.iface, j.Group, j.Source)
		if err != nil {
			d.log.Warn("joining a multicast group", "interface", j.iface, "group", j.Group, "error", err)
			continue
		}
		d.joins[j] = leave
	}
}

// leaveAll ends all of them.
func (d *Daemon) leaveAll() {
	for j, leave := range d.joins {
		leave()
		delete(d.joins, j)
	}
}
