package dataplane

// What the dataplane shows of itself.

import (
	"fmt"
	"slices"

	"getvpn/ipsec"
	"getvpn/model"
)

// fail remembers the last error of work that nobody waits for.
func (p *port) fail(err error) {
	if err != nil {
		p.lastErr.Store(&err)
	}
}

func (p *port) sendFailed(err error) { p.fail(fmt.Errorf("dataplane: %s: sending: %w", p.name, err)) }
func (p *port) tapFailed(err error)  { p.fail(fmt.Errorf("dataplane: %s: TAP: %w", p.name, err)) }

// LastError is the last failure of an interface's background work (send errors, an
// attachment that failed when the interface came back), or of following the ports that take
// tags from frames; nil if there was none.
func (d *Dataplane) LastError(iface string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.ports[iface]; p != nil {
		if e := p.lastErr.Load(); e != nil {
			return *e
		}
	}
	if _, ok := d.inline[iface]; ok {
		return d.inlineErr
	}
	return nil
}

// SACounters returns the counters of the SA with that SPI, summed over interfaces and,
// should groups share the SPI, of the first.
func (d *Dataplane) SACounters(spi uint32) (model.SACounters, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range d.order {
		if sa := d.ports[name].sas[spi]; sa != nil {
			c := sa.Counters()
			return model.SACounters{EncapPackets: c.EncapPackets, EncapOctets: c.EncapOctets,
				DecapPackets: c.DecapPackets, DecapOctets: c.DecapOctets, SeqHigh: c.SeqHigh,
				ReplayDrops: c.ReplayDrops, ICVDrops: c.ICVDrops, OtherDrops: c.OtherDrops, MaxLate: c.MaxLate,
				TooOld: c.Time.TooOld, TooNew: c.Time.TooNew, MaxDelta: max(c.Time.MaxLate, c.Time.MaxEarly)}, true
		}
	}
	return model.SACounters{}, false
}

// Senders returns what the anti-replay windows of the SA with that SPI have seen, by
// sender: the highest number, drops, and the largest lateness that was refused.
func (d *Dataplane) Senders(spi uint32) []ipsec.Sender {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range d.order {
		if sa := d.ports[name].sas[spi]; sa != nil {
			return slices.Collect(sa.Senders)
		}
	}
	return nil
}

// RuleHits returns how many packets the entries of a group's downloaded list decided
// outbound, in the list's order: super-packets count once.
func (d *Dataplane) RuleHits(group, iface string) []uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.ports[iface]
	if p == nil {
		return nil
	}
	g, ok := p.groups[group]
	if !ok {
		return nil
	}
	hits := make([]uint64, len(g.Entries))
	for i, e := range g.Entries {
		if c := p.hits[hitKey{group, false, e.ACE}]; c != nil {
			hits[i] = c.Load()
		}
	}
	return hits
}

// Model returns the dataplane's part of the snapshot as it is now.
func (d *Dataplane) Model() model.Dataplane {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := model.Dataplane{Backend: d.steering.backend(), Drops: map[string]uint64{}, TimeReplay: d.timeReplays()}
	for _, name := range d.order {
		i := d.ports[name].model()
		for r, n := range i.Drops {
			m.Drops[r] += n
		}
		m.Interfaces = append(m.Interfaces, i)
	}
	return m
}

func (p *port) model() model.Interface {
	var out, in totals
	for _, c := range p.out {
		out.add(c)
	}
	for _, c := range p.in {
		in.add(c)
	}
	i := model.Interface{Name: p.name, Index: p.link.index, MTU: p.link.mtu, Attached: p.run != nil,
		MapName: p.settings.MapName, LocalAddr: p.settings.LocalAddr,
		EncapPackets: out.packets, DecapPackets: in.packets, FragmentsSent: out.fragments, Reassembled: in.fragments,
		ICMPTooBigSent: out.tooBigSent, ICMPRewritten: in.icmpRewritten, Drops: map[string]uint64{}}
	if e := p.lastErr.Load(); e != nil {
		i.LastError = (*e).Error()
	}
	drops := out.drops
	for r, n := range in.drops {
		drops[r] += n
	}
	p.d.steering.count(p.link.index, &i, &drops)
	for r, n := range drops {
		if n > 0 {
			i.Drops[ipsec.DropReason(r).String()] = n
		}
	}
	return i
}
