package dataplane

// How long an SA is used. All moments here are boot time on one Timeline: a TEK's life
// runs on while the machine is suspended, and no step of the wall clock moves its end.
// Workers look at boot time once a batch and refuse what has ended by themselves; the
// timer, which is late by what the machine slept, only tidies up behind them.

import (
	"slices"
	"time"

	"getvpn/ipsec"
)

const (
	// lingers is how long an SA that an Install took away before its end is still received
	// with. Its packets are in the ring, and on their way from members who hear later of
	// the same change: without this they would be lost one by one at every replacement.
	lingers = 2 * time.Second
	// keepUnused is how long an SA that no group has any more keeps its windows and
	// keys: a member that clears a group and registers again finds them.
	keepUnused = 5 * time.Minute
	// keepExpired is how long it is known how far a TEK was used after its life, lest a
	// late copy of it starts its counters anew.
	keepExpired = time.Hour
)

// leavingSA is an SA that is received with until that moment, and not sent with.
type leavingSA struct {
	*portSA
	until time.Time
}

// timed is the policy with the ends of its TEKs on the dataplane's line of time: as far
// from now as the caller's are.
func (d *Dataplane) timed(g ipsec.GroupPolicy) ipsec.GroupPolicy {
	g.TEKs = slices.Clone(g.TEKs)
	for i := range g.TEKs {
		if k := &g.TEKs[i]; !k.Expires.IsZero() {
			k.Expires = d.line.Now().Add(time.Until(k.Expires))
		}
	}
	return g
}

// left returns the SAs that have no TEK in the new policy but whose packets may be on
// their way: those that lose theirs now, and those that did a moment ago. A group that
// has no policy any more receives nothing.
func (p *port) left(groups []ipsec.GroupPolicy, sas map[uint32]*portSA, now time.Time) map[uint32]leavingSA {
	all := map[uint32]leavingSA{}
	keep := func(spi uint32, l leavingSA) {
		registered := slices.ContainsFunc(groups, func(g ipsec.GroupPolicy) bool { return g.Group == l.group && g.State == ipsec.Registered })
		if sas[spi] == nil && registered && now.Before(l.until) && !l.Expired(now) {
			all[spi] = l
		}
	}
	for spi, l := range p.leaving {
		keep(spi, l)
	}
	for spi, sa := range p.sas {
		l := leavingSA{sa, now.Add(lingers)}
		if e := sa.Expires(); !e.IsZero() && e.Before(l.until) {
			l.until = e
		}
		keep(spi, l)
	}
	return all
}

// schedule sets the timer for the next SA that ends.
func (d *Dataplane) schedule() {
	var next time.Time
	now := d.line.Now()
	sooner := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, p := range d.ports {
		for _, g := range p.groups {
			for _, k := range g.TEKs {
				sooner(k.Expires)
			}
		}
		for _, l := range p.leaving {
			sooner(l.until)
		}
	}
	if d.expiry != nil {
		d.expiry.Stop()
	}
	if d.ending = next; !next.IsZero() {
		d.expiry = time.AfterFunc(d.line.Until(next)+time.Millisecond, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.expire()
		})
	}
}

// expireLate does what the timer should have done while the machine slept.
func (d *Dataplane) expireLate() {
	if !d.ending.IsZero() && !d.line.Now().Before(d.ending) {
		d.expire()
	}
}

// expire takes out what has ended: its SPI is nobody's from now on. The caller holds the
// lock.
func (d *Dataplane) expire() {
	if d.closed {
		return
	}
	now := d.line.Now()
	for _, p := range d.ports {
		ended := false
		for _, l := range p.leaving {
			ended = ended || !now.Before(l.until)
		}
		for name, g := range p.groups {
			var left []ipsec.TEK
			for _, k := range g.TEKs {
				if !k.Expires.IsZero() && !now.Before(k.Expires) {
					d.notify(Notice{Kind: SAExpired, Group: name, Interface: p.name, SPI: k.SPI})
					ended = true
					continue
				}
				left = append(left, k)
			}
			g.TEKs = left
			p.groups[name] = g
		}
		if ended {
			p.fail(p.install())
		}
	}
	d.schedule()
}

// retire lets go of SAs that no group has had for a while.
func (d *Dataplane) retire(now time.Time) {
	used := map[*ipsec.SA]bool{}
	for _, p := range d.ports {
		for _, s := range p.sas {
			used[s.SA] = true
		}
		for _, s := range p.leaving {
			used[s.SA] = true
		}
	}
	for _, sa := range d.sas.Retire(func(sa *ipsec.SA) bool { return used[sa] }, now, keepUnused, keepExpired) {
		delete(d.sharing, sa)
	}
}
