package ike

import (
	"context"
	"net/netip"

	"getvpn/gdoi/isakmp"
)

// STUB while the rest is written.

// Endpoint owns the sockets and the SA database.
type Endpoint struct {
	opts Options
	rand interface{ Read([]byte) (int, error) }
}

// New binds the sockets and starts to serve.
func New(o Options) (*Endpoint, error) { return nil, Closed }

// Close ends everything, tells the peers, and waits for the goroutines.
func (e *Endpoint) Close() error { return nil }

// SetConfig swaps policies and keys. Live SAs and exchanges under way keep theirs.
func (e *Endpoint) SetConfig(c *Config) {}

// Connect returns a live SA with remote that we may use, or makes one. The error is a
// *ConnectError (or ctx's).
func (e *Endpoint) Connect(ctx context.Context, remote netip.AddrPort, o ConnectOptions) (*SA, error) {
	return nil, Closed
}

// HandlePull sets what gets the GROUPKEY-PULL messages that peers start: called for
// the first message of a new M-ID (whose HASH(1) the endpoint has verified) and for
// each later one that isn't a copy. It must not block; datagram is its own.
func (e *Endpoint) HandlePull(f func(x *Exchange, datagram []byte)) {}

// HandlePush registers who gets the GROUPKEY-PUSH datagrams of a cookie pair (a KEK's
// SPI); release ends it.
func (e *Endpoint) HandlePush(ci, cr isakmp.Cookie, f func(Datagram)) (release func()) {
	return func() {}
}

// Drops is a copy of the counters.
func (e *Endpoint) Drops() map[DropReason]uint64 { return nil }

func (e *Endpoint) removeSA(s *SA, tell bool, why string) {}
func (e *Endpoint) transmit(p path, d []byte) error       { return nil }
func (e *Endpoint) drop(r DropReason)                     {}

type path struct{ local, remote netip.AddrPort }
type session struct{}
type dpdState struct{}

func (d *dpdState) reset() {}
