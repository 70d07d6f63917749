package ike

import (
	"io"
	"log/slog"
	"net/netip"
	"syscall"
	"time"

	"getvpn/model"
	"getvpn/model/event"
)

// This file holds what an endpoint is made with.

// Ports of GDOI and of NAT traversal.
const (
	Port     = 848
	PortNATT = 4500
)

// Options make an Endpoint. The zero value of each field has a meaning.
type Options struct {
	// Locals are the addresses to bind; empty: all, of both families.
	Locals []netip.Addr
	// Port to bind, default 848. NATTPort, default 4500, -1: no NAT traversal.
	Port, NATTPort int
	// Control is called for each socket before it is bound, so that the dataplane can
	// exempt it.
	Control func(syscall.RawConn) error
	// Listen replaces the kernel's UDP in tests.
	Listen func(local netip.AddrPort) (PacketConn, error)

	Config *Config // required
	// VendorIDs are sent in phase 1 beside NAT-T's and DPD's: the group protocol's
	// capability. What a peer sends is in Peer.VendorIDs. No hash covers vendor IDs:
	// what they say must be repeated under authentication before anything depends on it.
	VendorIDs [][]byte

	Store   *model.Store  // nil: nothing is published
	Events  event.Emitter // nil: nothing is emitted
	Log     *slog.Logger  // debug log; nil: none
	Rand    io.Reader     // default crypto/rand
	Retry   Retry
	Limits  Limits
	Workers int // Diffie-Hellman workers, default the number of processors
}

// Retry is how often and how fast a message is sent again: after First, then twice as
// long each time up to Max. Count is the number of transmissions, the first included.
type Retry struct {
	First, Max time.Duration // default 1 s, 16 s
	Count      int           // default 5
}

// Limits bound what unauthenticated peers can make us do.
type Limits struct {
	HalfOpen       int           // responder states, default 16384: a large group at once
	HalfOpenSource int           // of one source address, default 64
	HalfOpenAge    time.Duration // default 30 s
	NewPerSource   float64       // first messages a second and source, default 20
	NotifyPerSec   float64       // unauthenticated notifies a second, all peers, default 10
	Exchanges      int           // open phase-2 exchanges of one SA, default 32
	SAsPerAddress  int           // live SAs with one address, whatever identities, default 1024
}

func (o *Options) defaults() {
	if o.Port == 0 {
		o.Port = Port
	}
	if o.NATTPort == 0 {
		o.NATTPort = PortNATT
	}
	o.Retry.defaults()
	l := &o.Limits
	setDefault(&l.HalfOpen, 16384)
	setDefault(&l.HalfOpenSource, 64)
	setDefault(&l.HalfOpenAge, 30*time.Second)
	setDefault(&l.NewPerSource, 20)
	setDefault(&l.NotifyPerSec, 10)
	setDefault(&l.Exchanges, 32)
	setDefault(&l.SAsPerAddress, 1024)
}

func (r *Retry) defaults() {
	setDefault(&r.First, time.Second)
	setDefault(&r.Max, 16*time.Second)
	setDefault(&r.Count, 5)
}

// wait is the pause after transmission n (from 1).
func (r Retry) wait(n int) time.Duration {
	d := r.First
	for ; n > 1 && d < r.Max; n-- {
		d *= 2
	}
	return min(d, r.Max)
}

func setDefault[T int | float64 | time.Duration](p *T, v T) {
	if *p <= 0 {
		*p = v
	}
}

// ConnectOptions say how Connect goes about it.
type ConnectOptions struct {
	Local      netip.Addr // source address; zero: the route's
	Aggressive bool
	Fresh      bool // don't reuse a live SA
	// Retry replaces the endpoint's where set.
	Retry Retry
	// Config replaces the endpoint's where set.
	Config *Config
}

// Peer describes who is at the other end of an SA.
type Peer struct {
	Remote, Local netip.AddrPort
	Identity      Identity // as it said under the pre-shared key: who shares the key can say it too, so authorise by Remote
	VendorIDs     [][]byte // everything it sent
	ConnID        uint32
	Initiator     bool // we started phase 1
	NATT          bool
}
