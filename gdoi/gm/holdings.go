package gm

// What a member holds: the newest downloaded list, and every TEK that has not ended,
// from whatever download. It decides which TEK each permit is sent with. A machine:
// time in, policy out.

import (
	"slices"
	"time"

	"getvpn/gdoi/policy"
	"getvpn/ipsec"
)

// held is a TEK with what it protects.
type held struct {
	tek ipsec.TEK // Expires is the latest moment at which it may end
	// until is the earliest such moment: sending and change-over go by it. The key
	// server counted the remaining life somewhere between our question and its answer,
	// which a lost message sets seconds apart; a member that sends by its latest
	// guess would meet peers that have let the key go.
	until time.Time
	life  time.Duration // that remained when it was first downloaded
	left  time.Duration // that remained when it was last downloaded
	aces  []ipsec.ACE   // permits it protects, without their Seq
}

// holdings of one group.
type holdings struct {
	entries []policy.Entry // of the newest download
	teks    []*held        // by end, earliest first
	newest  map[uint32]bool
	kek     *policy.KEK
	kekEnds time.Time
	kekLife time.Duration // that the newest download told
}

// sameKey takes two ends of one TEK for one when they differ by no more: lifetimes
// travel in whole seconds.
const sameKey = 2 * time.Second

// apply takes a download in. The offer was made between asked and at; now is the
// present.
//
// TEKs of earlier downloads stay until they end, also those that the offer doesn't
// name: a key server that restarted has new keys, but peers go on sending with the
// old ones. Their Sender IDs stay with them: new ones were given out for the keys of
// this download alone, and might be somebody else's under an older key.
func (h *holdings) apply(o *policy.Offer, keys policy.Keys, asked, at, now time.Time) {
	h.expire(now)
	h.entries = slices.Clone(o.Entries)
	h.newest = map[uint32]bool{}
	for i := range o.TEKs {
		t := &o.TEKs[i]
		ends := at.Add(t.Lifetime)
		if !now.Before(ends) {
			continue
		}
		h.newest[t.SPI] = true
		n := &held{until: asked.Add(t.Lifetime), life: t.Lifetime, left: t.Lifetime, tek: ipsec.TEK{
			SPI: t.SPI, Transform: t.Transform, Key: t.Key, AuthKey: t.AuthKey,
			Lifetime: t.Lifetime, Expires: ends, Direction: t.Direction, Replay: t.Replay,
		}}
		if t.HasAge {
			n.tek.FirstSeq = policy.FirstSeq(t.Age+now.Sub(at), ends.Sub(now))
		}
		if t.Transform.Counter() {
			n.tek.SIDBits, n.tek.SIDs = keys.SIDBits, slices.Clone(keys.SIDs)
		}
		for _, e := range o.Entries {
			if slices.Contains(e.SPIs, t.SPI) {
				n.aces = append(n.aces, plain(e.ACE))
			}
		}
		// The same SPI with another key is another SA (RFC 6407 §5.5.1: the SPI is
		// the key server's choice); it takes the older one's place.
		if i := slices.IndexFunc(h.teks, func(x *held) bool { return x.tek.SPI == t.SPI }); i >= 0 {
			old := h.teks[i]
			if old.tek.Key.Equal(t.Key) && old.tek.AuthKey.Equal(t.AuthKey) {
				n.life = old.life
				n.tek.Lifetime = old.tek.Lifetime
				n.narrow(old)
			}
			h.teks[i] = n
			continue
		}
		h.teks = append(h.teks, n)
	}
	slices.SortStableFunc(h.teks, func(a, b *held) int { return a.tek.Expires.Compare(b.tek.Expires) })

	if o.KEK == nil {
		h.kek = nil
		return
	}
	h.kek, h.kekLife, h.kekEnds = o.KEK, o.KEK.Lifetime, at.Add(o.KEK.Lifetime)
}

// plain is the entry as a key: its place in the list doesn't matter.
func plain(e ipsec.ACE) ipsec.ACE {
	e.Seq = 0
	return e
}

// expire drops what has ended; changed reports whether a TEK did.
func (h *holdings) expire(now time.Time) (changed bool) {
	n := len(h.teks)
	h.teks = slices.DeleteFunc(h.teks, func(t *held) bool { return !now.Before(t.tek.Expires) })
	if h.kek != nil && !now.Before(h.kekEnds) {
		h.kek = nil
	}
	return len(h.teks) != n
}

// narrow uses what an earlier download of the same TEK said of its end, unless the key
// server has changed it since.
func (t *held) narrow(old *held) {
	if t.until.Sub(old.tek.Expires) >= sameKey || old.until.Sub(t.tek.Expires) >= sameKey {
		return
	}
	// Not each time a little less: whole seconds are cut off, never added.
	if old.tek.Expires.Before(t.tek.Expires.Add(sameKey)) {
		t.tek.Expires = old.tek.Expires
	}
	if old.until.After(t.until) {
		t.until = old.until
	}
	if t.until.After(t.tek.Expires) {
		t.until = t.tek.Expires
	}
}

// switchAt is when t isn't sent with any longer if there is another.
func (t *held) switchAt() time.Time { return t.until.Add(-policy.SwitchBefore(t.life)) }

// sends reports whether the TEK can be sent with at all: a counter mode needs a
// Sender ID (RFC 6407 §4.4).
func (t *held) sends() bool { return !t.tek.Transform.Counter() || len(t.tek.SIDs) > 0 }

// pick is the TEK that the permit is sent with: the one that ends first and isn't at
// its change-over yet, else the one that ends last. nil when there is none.
func (h *holdings) pick(e ipsec.ACE, now time.Time) (best *held) {
	e = plain(e)
	for _, t := range h.teks { // by end
		if !slices.Contains(t.aces, e) || !t.sends() || !now.Before(t.until) {
			continue
		}
		best = t
		if now.Before(t.switchAt()) {
			return t
		}
	}
	return best
}

// policy is what the dataplane needs of the holdings now.
func (h *holdings) policy(now time.Time) (entries []ipsec.Entry, teks []ipsec.TEK) {
	for _, e := range h.entries {
		x := ipsec.Entry{ACE: e.ACE}
		if e.ACE.Action == ipsec.Permit {
			if t := h.pick(e.ACE, now); t != nil {
				x.SPI = t.tek.SPI
			}
		}
		entries = append(entries, x)
	}
	for _, t := range h.teks {
		if now.Before(t.tek.Expires) {
			teks = append(teks, t.tek)
		}
	}
	return entries, teks
}

// changes is when policy says something else than now; zero: never.
func (h *holdings) changes(now time.Time) (at time.Time) {
	for _, t := range h.teks {
		for _, x := range []time.Time{t.switchAt(), t.until, t.tek.Expires} {
			if x.After(now) && (at.IsZero() || x.Before(at)) {
				at = x
			}
		}
	}
	return at
}

// soon is when to ask again for a permit that came without a usable TEK.
const soon = 5 * time.Second

// reRegister is when to register again: in the window of the entry whose newest TEK
// ends first, or of the KEK. random is a number in [0, 1). Only what the newest
// download named counts: what it left out has no successor. The window is that of
// the life which the newest download told, so a key server that had no successor yet
// is asked again after two thirds of what was left, not at once. Zero when the
// holdings are empty; never before now.
func (h *holdings) reRegister(now time.Time, random float64) (at time.Time) {
	window := func(ends time.Time, life time.Duration) {
		last, jitter := policy.Window(life)
		x := ends.Add(-last - time.Duration(random*float64(jitter)))
		if at.IsZero() || x.Before(at) {
			at = x
		}
	}
	for _, e := range h.entries {
		if e.ACE.Action != ipsec.Permit {
			continue
		}
		var newest *held
		for _, t := range h.teks {
			if h.newest[t.tek.SPI] && slices.Contains(t.aces, plain(e.ACE)) {
				newest = t
			}
		}
		if newest == nil { // it ended on its way here
			if x := now.Add(soon); at.IsZero() || x.Before(at) {
				at = x
			}
			continue
		}
		window(newest.tek.Expires, newest.left)
	}
	if h.kek != nil {
		window(h.kekEnds, h.kekLife)
	}
	if !at.IsZero() && at.Before(now) {
		at = now
	}
	return at
}
