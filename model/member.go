package model

import (
	"net/netip"
	"time"
)

// GMLife is what a member shows of its life after a registration. Zero times mean
// never.
type GMLife struct {
	RekeysSinceRegistration uint64
	LastRekeyAt             time.Time
	LastRekeyTo             netip.Addr // this member, or the multicast group
	PreviousKEK             *KEK       // still opens rekeys, for a while after a rollover; SPI, Seq and Expires are set; nil: none
	AcksSent                uint64
	RekeysRefused           map[string]uint64 // by reason
	Joined                  []netip.Addr      // multicast groups that rekeys come to

	// DirectionUntil is when the direction changes by itself: the end of the passive
	// phase behind a conversion. DirectionByCommand: until the next rekey.
	DirectionUntil     time.Time
	DirectionByCommand bool

	Revert  bool      // client fail-close revert
	Removal time.Time // when the downloaded policy goes if no key server answers until then

	Track      GMTrack
	Recovery   GMRecovery
	Pseudotime *Pseudotime // nil: no time-based anti-replay

	// What the member takes of a key server, as written in the configuration; empty: any.
	AcceptCiphers, AcceptHashes, AcceptTransforms []string
}

// GMTrack is the tracked object of a group; ID 0: none.
type GMTrack struct {
	ID int
	Up bool
}

// GMRecovery is the watch over errors of the dataplane; Interval 0: off.
type GMRecovery struct {
	Interval            time.Duration
	Executed, Postponed uint64
}

// Pseudotime is the clock of time-based anti-replay: Value held at At and runs since.
type Pseudotime struct {
	Value  time.Duration
	At     time.Time
	Window time.Duration
	Tick   time.Duration
}
