package ipsec

import (
	"time"

	"getvpn/internal/secret"
)

// Direction of a group SA (RFC 6407 §5.5.1.1.2 and the vendor's receive-only).
type Direction uint8

const (
	Both Direction = iota
	InboundOnly
	InboundOptional // sends encrypted, accepts clear and encrypted ("passive")
)

func (d Direction) String() string {
	return [...]string{"Both", "Inbound Only", "Inbound Optional"}[d]
}

// ReplayMode says how an SA refuses copies.
type ReplayMode uint8

const (
	ReplayNone ReplayMode = iota
	ReplayCounter
	ReplayTime
)

// Replay is the anti-replay policy of an SA: Window counts packets for
// ReplayCounter (64…1024) and seconds for ReplayTime.
type Replay struct {
	Mode   ReplayMode
	Window int
}

// TEK is a downloaded data SA: what every member of the group shares, plus this
// member's own Sender ID. The pair (SPI, Key) names it: installing a known pair
// again keeps its counters and window.
type TEK struct {
	SPI       uint32
	Transform Transform
	Key       secret.Bytes // TEK_ALGORITHM_KEY: cipher key, salt last
	AuthKey   secret.Bytes // TEK_INTEGRITY_KEY
	Lifetime  time.Duration
	Expires   time.Time
	Direction Direction
	Replay    Replay
	// Sender IDs of this member, for counter modes (RFC 6054). SIDBits is the
	// width; a counter-mode TEK without a SID is never used for sending.
	SIDBits int
	SIDs    []uint32
	// Metadata in front of the payload. With ReplayTime or SGT a Header of 0 means the
	// short one.
	Metadata Metadata
	// FirstSeq is the sequence number that sending starts with (0 means 1). A member
	// that joins or restarts in the middle of a TEK's life starts at the elapsed
	// share of the number space, so that its peers' counter windows don't take its
	// packets for copies of those that it sent before.
	FirstSeq uint32
}

// PolicyState is the state of a group at a member; there is never a fourth
// (design: three states).
type PolicyState uint8

const (
	// Unregistered: with an active fail-close map its list passes and all else
	// drops, without one everything passes (the vendor's default).
	Unregistered PolicyState = iota
	// Registered: local deny, then the downloaded list; the rest in clear. A
	// permit whose SA has expired or isn't there drops.
	Registered
)

// Entry is one downloaded ACE in its order. SPI is the TEK that a member sends a
// permit with at present; 0 when none is valid, which drops.
type Entry struct {
	ACE ACE
	SPI uint32
}

// FailClose is a crypto map's fail-close setting: entries pass when they deny and
// drop when they permit; a packet that matches none is dropped.
type FailClose struct {
	Active bool
	ACEs   []ACE
}

// GroupPolicy is all that the dataplane needs of one group on one interface. It
// is a value: Install replaces the group's earlier one as a whole.
type GroupPolicy struct {
	Group     string
	Interface string // Linux name or altname
	MapSeq    int    // order among the groups of one crypto map
	State     PolicyState
	FailClose FailClose
	Local     []ACE   // the map's own match address list
	Entries   []Entry // downloaded
	TEKs      []TEK   // all that are still valid for receiving, whatever they protect
	Passive   bool    // accept clear packets that match a permit
	// ReceiveOnly: what a permit matches leaves in clear and is accepted in clear; ESP
	// is opened. The TEKs say InboundOnly then.
	ReceiveOnly bool
	// Pseudo is the group's clock for time-based anti-replay. Without it a TEK with
	// ReplayTime neither sends nor receives.
	Pseudo *Pseudotime
}
