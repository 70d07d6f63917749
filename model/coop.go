package model

// Cooperative key servers of a group, as show commands and the MIB need them.

import (
	"net/netip"
	"time"
)

// CoopRole is a cooperative key server's part in its group.
type CoopRole uint8

// The order is that of the machine's roles.
const (
	CoopElecting CoopRole = iota // or not heard of yet
	CoopPrimary
	CoopSecondary
)

// String is the role as the device names it.
func (r CoopRole) String() string {
	switch r {
	case CoopPrimary:
		return "Primary"
	case CoopSecondary:
		return "Secondary"
	}
	return "Unknown"
}

// CoopStatus is whether a key server is there.
type CoopStatus uint8

const (
	CoopUnknown CoopStatus = iota // not heard since it was configured
	CoopAlive
	CoopDead // missed
)

// String is the status as the device names it.
func (s CoopStatus) String() string {
	switch s {
	case CoopAlive:
		return "Alive"
	case CoopDead:
		return "Dead"
	}
	return "Unknown"
}

// CoopGate is why a key server registers no new members now.
type CoopGate uint8

// The order is that of the machine's gates.
const (
	CoopOpen         CoopGate = iota
	CoopGateElection          // an election is under way, or its keys haven't come
	CoopGateStale             // no announcement with a valid pseudotime for long
	CoopGateSIDs              // Sender IDs overlap with a peer's: nobody gets counter-mode TEKs
)

// String names the reason for a person.
func (g CoopGate) String() string {
	switch g {
	case CoopGateElection:
		return "election"
	case CoopGateStale:
		return "no valid announcement"
	case CoopGateSIDs:
		return "Sender IDs overlap"
	}
	return "open"
}

// SIDRange is a range of Sender IDs; both ends belong to it.
type SIDRange struct{ Low, High uint32 }

// Coop is a group's life with other key servers, as this one sees it.
type Coop struct {
	Local    netip.Addr
	Priority int
	Role     CoopRole
	Primary  netip.Addr // whom it follows, itself included; invalid: none is known
	Version  [3]uint8   // of this software, as peers are told
	Protocol [3]uint8   // of announcements
	Refresh  time.Duration
	Periodic time.Duration
	Next     time.Time // a primary's next announcement, a secondary's next request; zero: none is due
	Retries  int       // requests without an answer
	Invalid  uint64    // announcements with a bad pseudotime, in a row
	Gate     CoopGate
	Sequence uint64 // of the last announcement sent
	Reinit   bool   // new keys must come before Sender IDs are given out again
	SIDs     []SIDRange
	OldSIDs  []SIDRange // given out before the ranges changed, under keys that are still used
	Peers    []CoopPeer // by address
}

// Overlap reports whether Sender IDs overlap with a peer's.
func (c *Coop) Overlap() bool {
	for i := range c.Peers {
		if c.Peers[i].Overlap {
			return true
		}
	}
	return false
}

// CoopPeer is another key server.
type CoopPeer struct {
	Addr       netip.Addr
	Role       CoopRole
	Status     CoopStatus
	Priority   int
	Version    [3]uint8 // of its software; zero: not heard yet
	Protocol   [3]uint8
	Optimize   bool   // both sides speak it
	Sequence   uint64 // of its last announcement
	IKE        bool   // there is a phase-1 SA
	Registered uint32 // members that registered there
	SIDs       []SIDRange
	Overlap    bool
	Counters   CoopCounters
}

// CoopCounters are of one peer since it was configured or they were cleared. Octets are
// those of messages, without headers.
type CoopCounters struct {
	AnnSent, AnnSentAsking uint64 // announcements; those that ask for an answer
	AnnRcvd, AnnRcvdAsking uint64
	SentDrops, RcvdDrops   uint64
	OctetsSent, OctetsRcvd uint64
	Resent                 uint64 // rows of members and parts of keys that were sent again
}
