package daemon

// Packet counters that an operator can set to zero: the dataplane's go on, what is
// shown is the difference to when they were cleared.

import (
	"maps"

	"getvpn/model"
)

// cleared are the counters at the moment they were cleared.
type cleared struct {
	sa    map[uint32]model.SACounters
	drops map[string]uint64
}

// clearCounters begins to count anew: the SAs of a group, or, with an empty name, all
// of them and the drops.
func (d *Daemon) clearCounters(group string) {
	s := d.snapshot()
	d.mu.Lock()
	defer d.mu.Unlock()
	was := cleared{sa: map[uint32]model.SACounters{}, drops: d.zero.drops}
	for i := range s.Members {
		g := &s.Members[i]
		for j := range g.TEKs {
			t := &g.TEKs[j]
			if group == "" || g.Name == group {
				was.sa[t.SPI] = t.SA
			} else if old, ok := d.zero.sa[t.SPI]; ok {
				was.sa[t.SPI] = old
			}
		}
	}
	if group == "" {
		was.drops = maps.Clone(s.Dataplane.Drops)
	}
	d.zero = was
}

// since takes off what was there when counters were cleared.
func (c *cleared) since(s *model.Snapshot) {
	for i := range s.Members {
		for j := range s.Members[i].TEKs {
			t := &s.Members[i].TEKs[j]
			if was, ok := c.sa[t.SPI]; ok {
				t.SA = minus(t.SA, was)
			}
		}
	}
	if len(c.drops) == 0 {
		return
	}
	drops := maps.Clone(s.Dataplane.Drops)
	for k, n := range drops {
		drops[k] = n - min(n, c.drops[k])
	}
	s.Dataplane.Drops = drops
}

// minus subtracts what only grows; the highest number and the largest distances aren't
// counters.
func minus(a, b model.SACounters) model.SACounters {
	for _, x := range []struct {
		a *uint64
		b uint64
	}{{&a.EncapPackets, b.EncapPackets}, {&a.EncapOctets, b.EncapOctets}, {&a.DecapPackets, b.DecapPackets}, {&a.DecapOctets, b.DecapOctets},
		{&a.ReplayDrops, b.ReplayDrops}, {&a.ICVDrops, b.ICVDrops}, {&a.OtherDrops, b.OtherDrops}, {&a.TooOld, b.TooOld}, {&a.TooNew, b.TooNew}} {
		*x.a -= min(*x.a, x.b)
	}
	return a
}
