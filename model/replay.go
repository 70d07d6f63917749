package model

import (
	"net/netip"
	"time"
)

// TimeReplay is what time-based anti-replay has done in a group at this member since it
// was configured or cleared, over all of its SAs.
type TimeReplay struct {
	Group          string
	Pseudotime     time.Duration // now; 0 when it isn't known
	Known          bool          // the key server has told a pseudotime
	Tick, Window   time.Duration
	Input, Output  uint64 // packets opened and sealed
	TooOld, TooNew uint64 // refused for their stamp
	Missing        uint64 // refused without a stamp
	OutputErrors   uint64 // not sent because the pseudotime isn't known
	// MaxDelta is the largest difference, either way, of an accepted stamp to the clock.
	MaxDelta time.Duration
	Failures []TimeFailure // newest first, samples: at most ten a minute
}

// TimeFailure is a packet that was refused for its stamp.
type TimeFailure struct {
	At         time.Time
	Source     netip.Addr
	Mine, Peer time.Duration // pseudotimes
}
