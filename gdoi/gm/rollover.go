package gm

// What a rekey does to the holdings: successors, shortened and deleted keys.

import (
	"slices"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/policy"
	"getvpn/ipsec"
)

const (
	// activation is how long after a TEK was made members begin to send with it when it
	// replaces another at once, unless the key server says (ACTIVATION_TIME_DELAY, RFC
	// 6407 §5.4.1): time for the rekey to reach everybody.
	activation = 5 * time.Second
	// lingering is how much longer than that a replaced TEK is received with: clocks in
	// whole seconds, packets on their way.
	lingering = 5 * time.Second
	// transit is how old a rekey's lifetimes may be when it arrives.
	transit = 2 * time.Second
)

// delays are a rekey's times: when its TEKs are sent with after they were made, and
// how long a TEK that it deletes is still received with.
func delays(o *policy.Offer) (activate, linger time.Duration) {
	if activate = o.Activation; activate <= 0 {
		activate = activation
	}
	if linger = o.Deactivation; linger <= 0 {
		linger = activate + lingering
	}
	return activate, linger
}

// rekey takes a rekey in that brings policy: what it names is held, what it deletes is
// retired, what a replaced policy left out is shortened.
func (h *holdings) rekey(r *policy.Rekey, at time.Time) {
	activate, linger := delays(r.Offer)
	h.take(r.Offer, nil, at.Add(-transit), at, at, activate)
	for _, t := range h.teks {
		named := h.newest[t.tek.SPI]
		switch {
		case slices.Contains(r.Delete.TEKs, t.tek.SPI), r.Delete.AllTEKs && !named:
			t.retired = true
			t.end(at.Add(linger))
		case r.Shorten && !named:
			t.retired = true
			t.shorten(at)
		}
	}
	h.sort()
}

// repeats reports whether a rekey says of TEKs and lists what is known already: the key
// server's repetitions have numbers of their own.
func (h *holdings) repeats(r *policy.Rekey) bool {
	for i := range r.Offer.TEKs {
		if t := h.find(r.Offer.TEKs[i].SPI); t == nil || t.tek.Direction != r.Offer.TEKs[i].Direction {
			return false
		}
	}
	for _, t := range h.teks {
		if !t.retired && (slices.Contains(r.Delete.TEKs, t.tek.SPI) || r.Delete.AllTEKs || r.Shorten) &&
			!slices.ContainsFunc(r.Offer.TEKs, func(x policy.TEK) bool { return x.SPI == t.tek.SPI }) {
			return false
		}
	}
	return slices.EqualFunc(h.entries, r.Offer.Entries, func(a, b policy.Entry) bool { return plain(a.ACE) == plain(b.ACE) })
}

// find is the TEK of an SPI, nil if it isn't held.
func (h *holdings) find(spi uint32) *held {
	for _, t := range h.teks {
		if t.tek.SPI == spi {
			return t
		}
	}
	return nil
}

// shorten cuts what remains, as for a policy that was replaced.
func (t *held) shorten(now time.Time) {
	t.end(now.Add(policy.Shortened(t.tek.Expires.Sub(now), t.whole)))
}

// remove takes away what a rekey without policy deletes.
func (h *holdings) remove(d gdoi.Delete) {
	h.teks = slices.DeleteFunc(h.teks, func(t *held) bool { return d.AllTEKs || slices.Contains(d.TEKs, t.tek.SPI) })
}

// shortenAll cuts every TEK, for a member that shall leave.
func (h *holdings) shortenAll(now time.Time) {
	for _, t := range h.teks {
		t.shorten(now)
	}
	h.sort()
}

// first is when the first TEK of the present list ends; zero: there is none.
func (h *holdings) first() time.Time {
	if len(h.teks) == 0 {
		return time.Time{}
	}
	return h.teks[0].until
}

// last is when the last TEK ends; zero: there is none.
func (h *holdings) last() (at time.Time) {
	for _, t := range h.teks {
		if t.tek.Expires.After(at) {
			at = t.tek.Expires
		}
	}
	return at
}

// needsSID reports whether a TEK that the newest rekey named can't be sent with for
// want of a Sender ID (RFC 6407 §4.4, §5.6.4.3).
func (h *holdings) needsSID() bool {
	return slices.ContainsFunc(h.teks, func(t *held) bool { return h.newest[t.tek.SPI] && !t.sends() })
}

// receiveOnly reports whether the newest policy has SAs for receiving alone.
func (h *holdings) receiveOnly() bool {
	n := 0
	for _, t := range h.teks {
		if h.newest[t.tek.SPI] {
			if t.tek.Direction != ipsec.InboundOnly {
				return false
			}
			n++
		}
	}
	return n > 0
}

// window is the time window of the newest policy's anti-replay; 0: none.
func (h *holdings) window() (w time.Duration) {
	for _, t := range h.teks {
		if h.newest[t.tek.SPI] && t.tek.Replay.Mode == ipsec.ReplayTime {
			w = max(w, time.Duration(t.tek.Replay.Window)*time.Second)
		}
	}
	return w
}
