package ks

// A group that goes on after its process ended: what of its saved state can be used,
// how much time has passed, what members must hear first.
//
//	no state                  the group begins with its first member
//	refused                   the same, and why is told: the file (another machine or key,
//	                          damaged, rolled back), the group (another identity), the
//	                          clock (set back over a reboot)
//	Sender IDs unsure         the ledger wasn't closed in order, or this may not be its
//	                          last end, or their width has changed: new keys and a clean
//	                          slate at once; members are told under the old KEK to come
//	                          for them within a minute
//	else                      same keys, same KEK, the next number; a rekey tells members
//	                          what they may have missed or what the configuration changed

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"getvpn/gdoi"
	"getvpn/model/event"
)

const (
	// clockSlack is how far the wall clock may be behind the one that state was saved
	// under, after a reboot: drift, and a first step by NTP.
	clockSlack = time.Minute
	// longAway is how old state must be for numbers to be skipped, one a second: it may
	// have been put back, and its later self may have used them.
	longAway = 10 * time.Minute
)

var (
	errForm  = errors.New("the group has another identity or form on the wire")
	errClock = errors.New("the clock is set to before the state was saved")
)

// resume takes up saved state and returns it; nil when the group begins anew.
func (g *Group) resume() (*durable, error) {
	if g.s.o.State == nil {
		return nil, nil
	}
	d, ok, err := g.s.o.State.load(g.Name())
	if err == nil && !ok || err == nil && !d.active() {
		return nil, nil
	}
	var away time.Duration
	if err == nil {
		away, err = g.away(&d)
	}
	if err == nil && d.Form != g.setup.form() {
		err = errForm
	}
	if err != nil {
		g.refuseState(err)
		d.zero()
		return nil, nil
	}
	l, why, err := g.resumeLedger(&d)
	if err != nil {
		return nil, err
	}
	d.shift(g.s.o.Clock.Now().Round(0).Sub(d.At.Add(away)))
	now := g.now()
	if g.unkept, err = g.restore(d, now); err != nil {
		g.refuseState(err)
		return nil, nil
	}
	g.ledger, g.slated = l, why
	if away > longAway {
		for _, k := range g.keks {
			k.seq.skip(uint32(min(away/time.Second, restoredSkip)))
		}
	}
	switch shared := d.Coop.Keys.Valid(); {
	case g.setup.Coop == nil && shared:
		g.aloneWith()
		g.roster.remove(func(m *member) bool { return m.origin.IsValid() })
	case g.setup.Coop == nil:
		g.owed = g.owes(&d, now)
	case !shared && d.counted():
		g.outside(sharedLedger{})
	}
	g.note(event.KSStateRestored{Group: g.Name(), Members: g.roster.len(), Away: away.Round(time.Second).String()})
	return &d, nil
}

func (g *Group) refuseState(err error) {
	g.rejected["state-refused"]++
	g.note(event.KSStateRefused{Group: g.Name(), Reason: err.Error()})
}

// active reports whether there were keys.
func (d *durable) active() bool {
	return slices.ContainsFunc(d.Entries, func(e durableEntry) bool { return len(e.TEKs) > 0 })
}

// away is how long ago state was saved. In the same boot the boot clock says it, which
// nobody can set; after a reboot the wall clock has to, and one that went back is
// believed within a small slack only: keys would live longer than they may.
func (g *Group) away(d *durable) (time.Duration, error) {
	if d.Machine == g.s.o.Machine {
		if e := g.s.o.Clock.Boot() - d.Boot; e >= 0 {
			return e, nil
		}
	}
	e := g.s.o.Clock.Now().Round(0).Sub(d.At)
	if e < -clockSlack {
		return 0, fmt.Errorf("%w: by %v", errClock, -e.Round(time.Second))
	}
	return max(0, e), nil
}

// shift moves the moments that keys depend on: what was saved under one wall clock is
// read under another.
func (d *durable) shift(by time.Duration) {
	d.At = d.At.Add(by)
	for _, e := range d.Entries {
		for i := range e.TEKs {
			t := &e.TEKs[i]
			t.Created, t.Expires = t.Created.Add(by), t.Expires.Add(by)
		}
	}
	for i := range d.KEKs {
		k := &d.KEKs[i]
		k.Created, k.Expires = k.Created.Add(by), k.Expires.Add(by)
	}
	for i := range d.Members {
		if m := &d.Members[i]; !m.Ends.IsZero() {
			m.Ends = m.Ends.Add(by)
		}
	}
}

// counted reports whether Sender IDs were given out under these keys: some may still be
// in use even when no TEK is in a counter mode now.
func (d *durable) counted() bool {
	return slices.ContainsFunc(d.Entries, func(e durableEntry) bool {
		return slices.ContainsFunc(e.TEKs, func(t durableTEK) bool { return t.Transform.Counter() })
	}) || slices.ContainsFunc(d.Members, func(m durableMember) bool { return len(m.Row.SIDs) > 0 })
}

// resumeLedger opens the ledger of the saved keys, nil when the group needs none. why
// says that its numbers can't be trusted, so that the keys can't either.
func (g *Group) resumeLedger(d *durable) (l *Ledger, why string, err error) {
	counted := d.counted()
	if !counted && !g.needsSIDs() {
		return nil, "", nil
	}
	l, why, err = g.ledgerStore().Open(d.Generation, g.setup.SIDBits)
	switch {
	case err != nil:
		return nil, "", err
	case why != "" && !counted:
		return l, "", l.Reset(d.Generation) // no number was given out under these keys
	}
	return l, why, nil
}

// owes is what members must be told after a restart: what they may have missed, and what
// the configuration says now that it didn't before. The rules are those of config's
// table of changes. nil: nothing.
func (g *Group) owes(d *durable, now time.Time) *order {
	o := &order{}
	owed := !d.Clean || g.unkept || d.Policy != g.setup.policy()
	for i, s := range g.ring.specs {
		newest := g.ring.teks[i][len(g.ring.teks[i])-1]
		if newest.transform != s.transform || newest.tag != s.tag || newest.replay.Mode != s.replay.Mode {
			o.teks, owed = append(o.teks, i), true
		}
	}
	if k, s := g.ring.kek, g.ring.kspec; k != nil && s != nil &&
		(k.cipher != s.cipher || k.keyBits != s.keyBits || k.hash != s.hash || k.multicast != s.multicast) {
		o.kek, owed = true, true
	}
	if !owed {
		return nil
	}
	return o
}

// begin is what a group that goes on does before anything else. Nothing leaves that
// isn't saved: while the disk refuses there are no keys.
func (g *Group) begin(now time.Time) {
	if g.coop != nil {
		g.slated, g.unkept = "", false // keys are the primary's affair, an unsure ledger that of listLedgers
		return
	}
	if g.slated != "" {
		g.rejected["state-unclean"]++
		g.note(event.KSStateUnclean{Group: g.Name(), Reason: g.slated})
		g.owed, g.slated, g.unkept = nil, "", false
		// Who has a Sender ID under the old keys is the only one that has it, and nobody
		// gets another: members use them, shortened, until all have the new ones.
		g.cleanSlate(gdoi.Delete{AllKEKs: true}, now)
		return
	}
	ring := g.ring
	if g.owed != nil && len(g.owed.teks) > 0 && !g.rekeying() {
		// Members can't be told: those that register from now on get the new keys.
		ring, g.unkept = ring.clone(), true
		for _, i := range g.owed.teks {
			if err := ring.renew(i, now); err != nil {
				g.failed(now, err)
				ring = g.ring
			}
		}
	}
	if g.unkept {
		if err := g.commit(ring, now); err != nil {
			g.failed(now, err)
			g.ring = g.emptyRing()
		}
		g.unkept = false
	}
	if !g.rekeying() {
		g.owed = nil
	}
}

// repay tells members what they are owed, and says whether it tried.
func (g *Group) repay(now time.Time) bool {
	if g.owed == nil {
		return false
	}
	if err := g.rekey(now, *g.owed); err != nil {
		g.failed(now, err)
		return true
	}
	g.owed = nil
	return true
}

// told reports whether members know everything that they were to be told.
func (g *Group) told() bool {
	if g.owed != nil || g.slated != "" || g.job != nil || len(g.late) > 0 {
		return false
	}
	r := g.round
	return r == nil || r.next.IsZero() || !slices.ContainsFunc(r.targets, r.waitsFor)
}
