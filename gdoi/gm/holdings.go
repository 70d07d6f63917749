package gm

// What a member holds: the newest downloaded list, and every TEK that has not ended,
// from whatever download or rekey. It decides which TEK each permit is sent with. A
// machine: time in, policy out. docs/rollover.md tells the rules and why they lose
// nothing.

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
	whole time.Duration // from its making to its end, as far as is known
	// from is when peers can be expected to have it: it isn't sent with before, while
	// there is another.
	from time.Time
	// retired: the key server has replaced it. It isn't sent with once a successor may
	// be.
	retired bool
	aces    []ipsec.ACE // permits it protects, without their Seq
}

// holdings of one group.
type holdings struct {
	entries []policy.Entry // of the newest download
	teks    []*held        // by end, earliest first
	newest  map[uint32]bool
	keys    policy.Keys // Sender IDs of the newest registration
	kek     *policy.KEK
	kekEnds time.Time
	kekLife time.Duration // that the newest download told
}

// sameKey takes two ends of one TEK for one when they differ by no more: lifetimes
// travel in whole seconds.
const sameKey = 2 * time.Second

// clone returns a copy that can be changed: to go back to the original when the
// dataplane refuses.
func (h *holdings) clone() holdings {
	n := *h
	n.teks = make([]*held, len(h.teks))
	for i, t := range h.teks {
		c := *t
		n.teks[i] = &c
	}
	return n
}

// apply takes a registration's download in. The offer was made between asked and at;
// now is the present.
//
// TEKs of earlier downloads stay until they end, also those that the offer doesn't
// name: a key server that restarted has new keys, but peers go on sending with the
// old ones. Their Sender IDs stay with them: new ones were given out for the keys of
// this download alone, and might be somebody else's under an older key.
func (h *holdings) apply(o *policy.Offer, keys policy.Keys, asked, at, now time.Time) {
	h.keys = keys
	h.take(o, &keys, asked, at, now, activation)
	if o.KEK == nil {
		h.kek = nil
		return
	}
	h.kek, h.kekLife, h.kekEnds = o.KEK, o.KEK.Lifetime, at.Add(o.KEK.Lifetime)
}

// take adds an offer's TEKs and takes its list. Without keys (a rekey, RFC 6407
// §5.6.4.4) a TEK that is new gets the member's present Sender IDs.
func (h *holdings) take(o *policy.Offer, keys *policy.Keys, asked, at, now time.Time, delay time.Duration) {
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
		n := &held{until: asked.Add(t.Lifetime), life: t.Lifetime, left: t.Lifetime, whole: t.Lifetime + t.Age, tek: ipsec.TEK{
			SPI: t.SPI, Transform: t.Transform, Key: t.Key, AuthKey: t.AuthKey,
			Lifetime: t.Lifetime, Expires: ends, Direction: t.Direction, Replay: t.Replay,
			Metadata: ipsec.Metadata{Header: t.Header, SGT: t.Tag},
		}}
		n.from = at.Add(delay - t.Age)
		if t.HasAge {
			n.tek.FirstSeq = policy.FirstSeq(t.Age+now.Sub(at), ends.Sub(now))
		}
		if t.Transform.Counter() {
			k := &h.keys
			if keys != nil {
				k = keys
			}
			n.tek.SIDBits, n.tek.SIDs = k.SIDBits, slices.Clone(k.SIDs)
		}
		for _, e := range o.Entries {
			if slices.Contains(e.SPIs, t.SPI) {
				n.aces = append(n.aces, plain(e.ACE))
			}
		}
		h.put(n, keys != nil)
	}
	h.sort()
}

// put adds a TEK in place of an older one of its SPI. personal: its Sender IDs are new.
func (h *holdings) put(n *held, personal bool) {
	i := slices.IndexFunc(h.teks, func(x *held) bool { return x.tek.SPI == n.tek.SPI })
	if i < 0 {
		h.teks = append(h.teks, n)
		return
	}
	// The same SPI with another key is another SA (RFC 6407 §5.5.1: the SPI is the key
	// server's choice); it takes the older one's place.
	if old := h.teks[i]; old.tek.Key.Equal(n.tek.Key) && old.tek.AuthKey.Equal(n.tek.AuthKey) {
		n.life, n.whole, n.retired = old.life, max(old.whole, n.whole), old.retired
		n.tek.Lifetime = old.tek.Lifetime
		if old.from.Before(n.from) {
			n.from = old.from
		}
		if !personal && len(old.tek.SIDs) > 0 {
			n.tek.SIDBits, n.tek.SIDs = old.tek.SIDBits, old.tek.SIDs
		}
		n.narrow(old)
		if old.retired { // what remains was cut here already
			n.end(old.tek.Expires)
		}
	}
	h.teks[i] = n
}

func (h *holdings) sort() {
	slices.SortStableFunc(h.teks, func(a, b *held) int { return a.tek.Expires.Compare(b.tek.Expires) })
}

// end makes the TEK end at that moment if it doesn't earlier.
func (t *held) end(at time.Time) {
	if at.Before(t.tek.Expires) {
		t.tek.Expires = at
	}
	if last := t.tek.Expires; last.Before(t.until) {
		t.until = last
	}
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

// pick is the TEK that the permit is sent with; nil when there is none:
//
//  1. of those that peers have and that weren't replaced, the one that ends first and
//     isn't at its change-over yet, else the one that ends last;
//  2. else, of the replaced ones, the one that peers have had for the shortest time;
//  3. else whichever peers will have first.
func (h *holdings) pick(e ipsec.ACE, now time.Time) *held {
	e = plain(e)
	var last, replaced, pending *held
	for _, t := range h.teks { // by end
		if !slices.Contains(t.aces, e) || !t.sends() || !now.Before(t.until) {
			continue
		}
		switch {
		case now.Before(t.from):
			if pending == nil || t.from.Before(pending.from) {
				pending = t
			}
		case t.retired:
			if replaced == nil || !t.from.Before(replaced.from) {
				replaced = t
			}
		case now.Before(t.switchAt()):
			return t
		default:
			last = t
		}
	}
	for _, t := range []*held{last, replaced, pending} {
		if t != nil {
			return t
		}
	}
	return nil
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
		for _, x := range []time.Time{t.from, t.switchAt(), t.until, t.tek.Expires} {
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
// download or rekey named counts: what it left out has no successor. The window is
// that of the life which it told, so a key server that had no successor yet is asked
// again after two thirds of what was left, not at once. Zero when the holdings are
// empty; never before now.
func (h *holdings) reRegister(now time.Time, random float64) (at time.Time) {
	window := func(ends time.Time, last, jitter time.Duration) {
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
			if h.newest[t.tek.SPI] && !t.retired && slices.Contains(t.aces, plain(e.ACE)) {
				newest = t
			}
		}
		if newest == nil { // it ended on its way here
			if x := now.Add(soon); at.IsZero() || x.Before(at) {
				at = x
			}
			continue
		}
		last, jitter := policy.Window(newest.left)
		window(newest.tek.Expires, last, jitter)
	}
	if h.kek != nil {
		last, jitter := kekWindow(h.kekLife)
		window(h.kekEnds, last, jitter)
	}
	if !at.IsZero() && at.Before(now) {
		at = now
	}
	return at
}

// kekWindow is policy.Window for a KEK. The key server replaces it 200 s before its end
// at the latest, so a member doesn't come before 120 s.
func kekWindow(life time.Duration) (last, jitter time.Duration) {
	return min(30*time.Second, life/10), min(90*time.Second, life/5)
}
