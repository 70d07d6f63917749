package coop

// What the machine is told and what it gives back.

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"getvpn/internal/secret"
)

// Role is a key server's part in its group. Electing is also the role of a peer that
// wasn't heard yet.
type Role uint8

const (
	Electing Role = iota
	Primary
	Secondary
)

// String is the role as show commands print it.
func (r Role) String() string {
	switch r {
	case Primary:
		return "Primary"
	case Secondary:
		return "Secondary"
	}
	return "Unknown"
}

// Limits of a group.
const (
	// MaxPeers is how many key servers a group may have beside this one.
	MaxPeers = 7
	// maxKeys is how large the octets of Keys may be.
	maxKeys = 256 << 10
	// maxRows is how many members a key server takes from its peers.
	maxRows = 65536
	// maxRow is how large a member's octets may be.
	maxRow = 512
	// maxKEKs is how many KEKs are synchronised: those that members may hold.
	maxKEKs = 8
	// maxHad is how many former KEKs are remembered: most of them don't come again.
	maxHad = 64
)

// Item is one part of the configuration that must be the same at all key servers.
type Item struct {
	Name   string // as COOP_CONFIG_MISMATCH says it
	Digest [16]byte
}

// SIDRange is a range of Sender IDs, both ends included.
type SIDRange struct{ Low, High uint32 }

// Config is what a machine is to do.
type Config struct {
	Group    []byte     // wire identity, the same at all key servers
	Self     netip.Addr // our address as peers have it
	Priority uint8
	Peers    []netip.Addr
	// Refresh is between a primary's announcements (20 s), Periodic how long a
	// secondary waits for one (30 s), Retransmit between its requests then (10 s).
	Refresh, Periodic, Retransmit time.Duration
	Optimize                      bool // protocol version optimize
	// Skew is how far pseudotime may lie behind: min(window, 30 s).
	Skew       time.Duration
	Items      []Item
	SigningKey [32]byte // fingerprint of the key that signs rekeys; zero: none
	SIDs       []SIDRange
	MTU        int      // of one message; 0: 1200
	Software   [3]uint8 // major, minor, patch
}

// SPI names a KEK.
type SPI [16]byte

// KEK is what key servers must agree on about one KEK: the number used last and who
// may ever send under it, in the order of their leases. Holders[0] made it.
type KEK struct {
	SPI     SPI
	Last    uint32 // used last by anybody, as far as is known
	Base    uint32 // … by the leader, as every holder knows
	Holders []netip.Addr
	Void    bool // our lease was left to another key server
}

// KeysID names one version of a group's keys. The zero value is no keys.
type KeysID struct {
	Maker   netip.Addr
	Epoch   uint64 // rises with each new primary
	Version uint64 // rises with each change
}

// Valid reports whether there are keys.
func (k KeysID) Valid() bool { return k.Maker.IsValid() }

// Keys are a group's keys as the primary made them. KEKs are those that members may
// hold, the one in force last.
type Keys struct {
	ID   KeysID
	KEKs []SPI
	Blob secret.Bytes
}

// Member is a registration. The newest of an address counts, wherever it was made.
type Member struct {
	Addr  netip.Addr
	Stamp uint64 // orders registrations of one member over all key servers: Unix milliseconds
	Gone  bool   // it left or was taken off the list
	Blob  []byte // what the key server knows of it
}

func (m Member) newer(o Member) bool { return m.Stamp > o.Stamp }

func (m Member) equal(o Member) bool {
	return m.Stamp == o.Stamp && m.Gone == o.Gone && bytes.Equal(m.Blob, o.Blob)
}

// Send is a message to a peer, for a protected notify.
type Send struct {
	To   netip.Addr
	Data []byte
}

// Output is what follows from an input, in order.
type Output struct {
	Send    []Send
	Results []Result
}

func (o *Output) tell(r Result) { o.Results = append(o.Results, r) }

// Reason is why a message was refused.
type Reason string

const (
	Malformed    Reason = "coop-malformed"
	WrongGroup   Reason = "coop-wrong-group"
	Unconfigured Reason = "coop-unconfigured-peer"
	Incompatible Reason = "coop-version"
	Replayed     Reason = "coop-replayed"
	TooLarge     Reason = "coop-too-large"
	Unexpected   Reason = "coop-unexpected"
)

// Error is a refused message. Nothing of the machine has changed but its counters.
type Error struct {
	Reason Reason
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("coop: %s: %v", e.Reason, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func refuse(r Reason, format string, a ...any) error {
	return &Error{r, fmt.Errorf(format, a...)}
}

var errConfig = errors.New("coop: configuration")
