package ks

// What an operator can do to a group: crypto gdoi ks rekey, clear crypto gdoi and its
// forms.

import (
	"slices"
	"time"

	"getvpn/gdoi"
	"getvpn/model/event"
)

// Rekey is "crypto gdoi ks rekey [replace-now]": every entry gets a new TEK, and the
// KEK is renewed when its configuration waits for that. replace: members end the TEKs
// that are replaced early (policy.Shortened); now: they delete them at once, which
// includes replace. Without either they live to their end.
func (g *Group) Rekey(replace, now bool) error {
	return g.call(func() error {
		t := g.now()
		switch {
		case !g.leads():
			return errNotPrimary
		case !g.ring.active():
			return errNoKeys
		case g.setup.Rekey == nil || g.ring.kek == nil:
			return errNoRekeys
		}
		o := order{teks: g.everyTEK(), kek: !g.ring.kek.same(g.ring.kspec), shorten: replace && !now, replace: now}
		if replace || now {
			o.mode = "with policy-replace "
		}
		return g.rekey(t, o)
	})
}

func (g *Group) everyTEK() []int {
	out := make([]int, len(g.setup.Entries))
	for i := range out {
		out[i] = i
	}
	return out
}

// ClearMembers is "clear crypto gdoi ks members [now]": members lose the KEK and so
// register again, with jitter, for new keys. Without now their TEKs live on for a
// while (policy.Shortened), so that traffic goes on while they come back; with now
// they delete them at once. Among cooperative key servers, the former waits until all
// are reachable.
func (g *Group) ClearMembers(now bool) error {
	return g.call(func() error {
		t := g.now()
		if err := g.primaryOnly(); err != nil {
			return err
		}
		if !g.ring.active() {
			g.dismiss()
			return nil
		}
		if !now && g.postpone(t) {
			return nil
		}
		return g.callMembers(now, t)
	})
}

// callMembers makes all members register again. On error nothing has changed.
func (g *Group) callMembers(now bool, t time.Time) error {
	ring, err := g.called(now, t)
	if err == nil {
		err = g.farewell(ring, gdoi.Delete{AllKEKs: true, AllTEKs: now}, t)
	}
	if err != nil {
		g.failed(t, err)
		return err
	}
	g.note(event.KSReinitFinish{Group: g.Name()})
	return nil
}

// called is the ring that members come for.
func (g *Group) called(now bool, t time.Time) (*keyring, error) {
	ring := g.ring.clone()
	for i := range ring.teks {
		if err := ring.renew(i, t); err != nil {
			return nil, err
		}
		if now {
			ring.replace(i)
		} else {
			ring.shorten(i, t)
		}
	}
	return ring, ring.renewKEK(t)
}

// farewell puts a ring in force that present members don't get by rekey: they are told
// to delete what they have, under the KEKs that they hold, and are off the list.
func (g *Group) farewell(ring *keyring, del gdoi.Delete, now time.Time) error {
	old, again := g.ring.kek, g.again
	g.again = false
	if err := g.commit(ring, now); err != nil {
		g.again = again
		return err
	}
	g.epoch++
	g.dismissWith(old, del, now)
	return nil
}

// dismissWith empties the list and tells who was on it to delete. Members of another side
// stay on it, for the rekey of the merge.
func (g *Group) dismissWith(top *kek, del gdoi.Delete, now time.Time) {
	list := slices.DeleteFunc(g.roster.all(), g.foreign)
	if top != nil && g.s.o.Push != nil && len(list) > 0 {
		g.start(&round{del: del, top: g.topmost(top), targets: list}, now)
		if l := g.keks[top.ord]; l != nil {
			n, every, _ := g.repeats()
			if t := now.Add(time.Duration(n+1)*every + ackWait + kekGrace); t.Before(l.until) {
				l.until = t // it is used for nothing else any more
			}
		}
	} else if g.round != nil {
		g.round = nil
	}
	g.late, g.lateAt = nil, time.Time{}
	g.dismiss()
	if r := g.round; r != nil {
		for _, m := range r.targets {
			g.book.put(m.row.Addr, m.slot) // until they have answered
		}
	}
	g.unsaved(now)
}

// ClearPolicy is "clear crypto gdoi ks policy": all keys are made anew and sent, the
// old ones deleted; the member list stays.
func (g *Group) ClearPolicy() error {
	return g.call(func() error {
		if err := g.primaryOnly(); err != nil {
			return err
		}
		if !g.ring.active() {
			return errNoKeys
		}
		if !g.rekeying() {
			// Members can't be told: those that register from now on get new keys.
			ring := g.ring.clone()
			for i := range ring.teks {
				if err := ring.renew(i, g.now()); err != nil {
					return err
				}
				ring.replace(i)
			}
			g.epoch++
			return g.commit(ring, g.now())
		}
		return g.rekey(g.now(), order{teks: g.everyTEK(), kek: true, replace: true, mode: "with policy-replace "})
	})
}

// Clear is "clear crypto gdoi" at a key server: policy and members are deleted, keys
// are made anew when the first member registers, and what waited for it is in force.
// Members aren't told: the operator clears them too.
func (g *Group) Clear() error {
	return g.call(func() error {
		now := g.now()
		if g.coop != nil {
			return g.clearCoop(now)
		}
		g.setup, g.again = g.want, false
		g.abandon()
		g.ring, g.pending = g.emptyRing(), nil
		g.epoch++
		g.version++
		g.pseudo, g.seen, g.lowSIDs = pseudoClock{}, false, false
		g.dismiss()
		g.note(event.KSClearRegister{Group: g.Name()})
		if err := g.save(); err != nil {
			g.unsaved(now)
			return err
		}
		return nil
	})
}

// abandon ends what is under way.
func (g *Group) abandon() {
	if g.job != nil {
		g.job.stop()
	}
	g.round, g.late, g.lateAt = nil, nil, time.Time{}
	for _, k := range g.keks {
		k.until = g.now()
	}
}

// ClearReplay is "clear crypto gdoi replay" at a key server: its counters of refused
// acknowledgements begin at zero, and with time-based anti-replay members hear the
// pseudotime at once. The pseudotime itself goes on: members would refuse one that
// steps back.
func (g *Group) ClearReplay() error {
	return g.call(func() error {
		for i := range g.book.drops {
			g.book.drops[i].Store(0)
		}
		g.note()
		if !g.rekeying() || !g.view(g.ring).timed {
			return nil
		}
		return g.rekey(g.now(), order{})
	})
}

// Retire tells the members of a group that this key server gives up: they lose the
// KEK and so look for another key server, their TEKs live on. It returns when they
// have been told once; the caller then ends the actor.
func (g *Group) Retire() {
	var j *job
	g.do(func() {
		if g.rekeying() && !g.others() {
			g.dismissWith(g.ring.kek, gdoi.Delete{AllKEKs: true}, g.now())
			j = g.job
		}
	})
	if j == nil {
		return
	}
	select {
	case <-j.done:
	case <-g.done:
	}
}
