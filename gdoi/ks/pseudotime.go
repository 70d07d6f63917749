package ks

// The clock of time-based anti-replay: the time since the first member registered
// (guide, SAR clock), in boot time, which runs through a suspend and which nobody can
// set. Members only ever step forward to it, so the key server never goes back either:
// a restored clock goes on from where it may have been at most.

import (
	"time"

	"getvpn/ipsec"
)

const (
	// pseudoTick is how long packets carry the same stamp: small against the smallest
	// window, 1 s.
	pseudoTick = 100 * time.Millisecond
	// metadataLen is the metadata header that members are told to use, in octets.
	metadataLen = 12
)

// pseudoClock is a value: a copy tells the same time. The zero value hasn't started.
type pseudoClock struct {
	started bool
	origin  time.Time // on the server's time line
}

// start begins at now, if it hasn't begun.
func (p *pseudoClock) start(now time.Time) {
	if !p.started {
		p.started, p.origin = true, now
	}
}

// resume goes on from value.
func (p *pseudoClock) resume(value time.Duration, now time.Time) {
	p.started, p.origin = true, now.Add(-value)
}

// at is the pseudotime; 0 before it has started.
func (p pseudoClock) at(now time.Time) time.Duration {
	if !p.started {
		return 0
	}
	return max(0, now.Sub(p.origin))
}

func timeBased(r ipsec.Replay) bool { return r.Mode == ipsec.ReplayTime }

func permits(a ipsec.ACE) bool { return a.Action == ipsec.Permit }

// sliceOf is how long one signed message may be sent before its pseudotime is too old
// for the smallest window: a quarter of it, a second at most (0: it has none).
func (v *view) slice() time.Duration {
	if v == nil || !v.timed {
		return 0
	}
	d := time.Second
	for _, list := range v.teks {
		for _, t := range list {
			if timeBased(t.replay) {
				d = min(d, time.Duration(t.replay.Window)*time.Second/4)
			}
		}
	}
	return d
}
