package daemon

// Multicast groups that interfaces join by hand: "ip igmp join-group", "ipv6 mld
// join-group".

import (
	"getvpn/config"
	"getvpn/gdoi/gm"
)

// applyJoins joins what c says and leaves what it doesn't say any more. A group that
// can't be joined is told of and tried again with the next change.
func (d *Daemon) applyJoins(c *config.Config) {
	want := map[gm.Membership]bool{}
	for _, i := range c.Interfaces {
		for _, j := range i.Joins {
			want[gm.Membership{Interface: i.Name, Group: j.Group, Source: j.Source}] = true
		}
	}
	d.joins.Follow(d.o.joiner, want, func(m gm.Membership, err error) {
		d.log.Warn("joining a multicast group", "interface", m.Interface, "group", m.Group, "error", err)
	})
}

// leaveAll ends all of them.
func (d *Daemon) leaveAll() { d.joins.Follow(d.o.joiner, nil, nil) }
