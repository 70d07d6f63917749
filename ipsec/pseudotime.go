package ipsec

// Pseudotime: the clock of time-based anti-replay. It counts from the group's first
// registration and is told by the key server; between two tellings a member goes on
// by CLOCK_BOOTTIME, which runs through a suspend and which nobody can set. Wall time
// has no part in it.

import "time"

// Pseudotime ties a group's clock to this machine's boot clock: the pseudotime was
// Value when CLOCK_BOOTTIME was Boot. All packets of one Tick carry the same stamp;
// 0 means StampUnit.
type Pseudotime struct {
	Boot  time.Duration
	Value time.Duration
	Tick  time.Duration
}

// Stamp is a pseudotime in units of StampUnit, as packets carry it.
type Stamp int64

// StampUnit is the resolution of Stamp; 40 bits of it last for 34 years.
const StampUnit = time.Millisecond

// MaxTimeWindow bounds Replay.Window of ReplayTime in seconds.
const MaxTimeWindow = 100

// NoStamp says that there is none: the group's pseudotime isn't known.
const NoStamp Stamp = -1

// At is the pseudotime at that boot time. It never is negative.
func (p *Pseudotime) At(boot time.Duration) time.Duration {
	return max(p.Value+boot-p.Boot, 0)
}

// Now is the receiver's reading at that boot time; NoStamp when p is nil.
func (p *Pseudotime) Now(boot time.Duration) Stamp {
	if p == nil {
		return NoStamp
	}
	return min(Stamp(p.At(boot)/StampUnit), maxStamp)
}

// Stamp is what packets sent at that boot time carry: the beginning of the tick.
func (p *Pseudotime) Stamp(boot time.Duration) Stamp {
	s := p.Now(boot)
	if p == nil || p.Tick < 2*StampUnit {
		return s
	}
	return s - s%Stamp(p.Tick/StampUnit)
}

// Duration is the pseudotime of a stamp; 0 for NoStamp.
func (s Stamp) Duration() time.Duration { return time.Duration(max(s, 0)) * StampUnit }
