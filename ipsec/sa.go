package ipsec

// The SA at run time. An SA object owns the sending counter, the IV space and the
// replay windows of one (SPI, transform, key); installing the same TEK again merges
// into it and never sets anything back, because a counter that starts anew under a
// known key repeats nonces.

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"getvpn/internal/secret"
)

// What NewSA and Merge refuse.
var (
	ErrKeyLength   = errors.New("ipsec: key length doesn't fit the transform")
	ErrSID         = errors.New("ipsec: Sender IDs don't fit their width")
	ErrReplay      = errors.New("ipsec: anti-replay setting not supported")
	ErrExpired     = errors.New("ipsec: TEK has expired")
	ErrOtherSA     = errors.New("ipsec: TEK is of another SA")
	ErrMetadata    = errors.New("ipsec: metadata form not supported")
	ErrReservedSPI = errors.New("ipsec: SPI is reserved")
)

// SA is a group SA at this member. All methods may be called from any goroutine;
// Sealer and Opener, which do the work, belong to one goroutine each.
type SA struct {
	spi     uint32
	tr      Transform
	key     secret.Bytes
	authKey secret.Bytes
	sidBits atomic.Int32

	mu    sync.Mutex // serialises Merge
	terms atomic.Pointer[terms]
	send  sendState
	recv  senderTable
	stats stats
}

// terms are the parts of a TEK that a later install may change; immutable.
type terms struct {
	expires   time.Time
	direction Direction
	replay    Replay
	meta      Metadata
	sids      []*sidState // usable ones, first preferred
}

// stats counts what happened to packets of the SA.
type stats struct {
	encapPackets, encapOctets atomic.Uint64
	_                         [48]byte // senders and receivers on different cache lines
	decapPackets, decapOctets atomic.Uint64
	replay, icv, other        atomic.Uint64
	maxLate                   atomic.Uint32 // counter windows: see Counters
	time                      timeStats
	last                      refusals
}

// Counters count one SA since its installation. Packets and octets are of the inner
// packets.
type Counters struct {
	EncapPackets, EncapOctets uint64
	DecapPackets, DecapOctets uint64
	SeqHigh                   uint64 // last number assigned, 0 if none
	ReplayDrops, ICVDrops     uint64
	OtherDrops                uint64 // of received packets
	// MaxLate is, of counter windows, the largest distance behind a sender's highest
	// number that was refused.
	MaxLate uint32
	// Time-based anti-replay. ReplayDrops has TooOld and TooNew too.
	Time TimeCounters
}

// NewSA makes the run-time object of a TEK. A TEK whose (SPI, key) has one already
// must go to its Merge instead: a second object would start its counters anew (SADB
// sees to it).
func NewSA(t TEK, now time.Time) (*SA, error) { return newSA(t, now, nil) }

func newSA(t TEK, now time.Time, left *grave) (*SA, error) {
	if err := t.Transform.Validate(); err != nil {
		return nil, err
	}
	if t.SPI < 256 { // RFC 4303 §2.1
		return nil, fmt.Errorf("%w: %d", ErrReservedSPI, t.SPI)
	}
	if len(t.Key) != t.Transform.CipherKeyLen() || len(t.AuthKey) != t.Transform.AuthKeyLen() {
		return nil, fmt.Errorf("%w: %v has %d and %d octets", ErrKeyLength, t.Transform, len(t.Key), len(t.AuthKey))
	}
	sa := &SA{spi: t.SPI, tr: t.Transform, key: t.Key.Clone(), authKey: t.AuthKey.Clone()}
	sa.send.init(t.FirstSeq)
	if left != nil {
		sa.send.revive(left)
	}
	sa.recv.init(&sa.stats.maxLate)
	if err := sa.merge(t, now); err != nil {
		return nil, err
	}
	return sa, nil
}

// Is reports whether t is this SA: same SPI, transform and keys.
func (sa *SA) Is(t TEK) bool {
	return sa.spi == t.SPI && sa.tr == t.Transform && sa.key.Equal(t.Key) && sa.authKey.Equal(t.AuthKey)
}

// Merge takes over what a later install of the same TEK may change: end of life,
// direction, replay policy, and Sender IDs. Counters and windows stay as they are; a
// Sender ID that the SA has had before goes on where it was, a new one starts its own
// sub-counter. No Sender IDs in t leave the present ones in use (a rekey message
// carries none, RFC 6407 §5.6.4). On error nothing has changed.
func (sa *SA) Merge(t TEK, now time.Time) error {
	if !sa.Is(t) {
		return ErrOtherSA
	}
	return sa.merge(t, now)
}

func (sa *SA) merge(t TEK, now time.Time) error {
	if !t.Expires.IsZero() && !now.Before(t.Expires) {
		return ErrExpired
	}
	meta := t.Metadata
	switch t.Replay.Mode {
	case ReplayNone:
	case ReplayCounter:
		if t.Replay.Window < MinWindow || t.Replay.Window > MaxWindow {
			return fmt.Errorf("%w: window of %d packets", ErrReplay, t.Replay.Window)
		}
	case ReplayTime:
		if t.Replay.Window < 1 || t.Replay.Window > MaxTimeWindow {
			return fmt.Errorf("%w: window of %d s", ErrReplay, t.Replay.Window)
		}
	default:
		return fmt.Errorf("%w: mode %d", ErrReplay, t.Replay.Mode)
	}
	if err := meta.fill(t.Replay); err != nil {
		return err
	}
	sa.mu.Lock()
	defer sa.mu.Unlock()
	next := &terms{expires: t.Expires, direction: t.Direction, replay: t.Replay, meta: meta}
	if old := sa.terms.Load(); old != nil {
		next.sids = old.sids
	}
	if sa.tr.Counter() && t.SIDBits != 0 {
		sids, err := sa.send.sidStates(t.SIDBits, t.SIDs)
		if err != nil {
			return err
		}
		sa.sidBits.Store(int32(t.SIDBits))
		if len(sids) > 0 {
			next.sids = sids
		}
	} else if sa.tr.Counter() && len(t.SIDs) > 0 {
		return fmt.Errorf("%w: width 0", ErrSID)
	}
	sa.terms.Store(next)
	return nil
}

// SPI of the SA.
func (sa *SA) SPI() uint32 { return sa.spi }

// Transform of the SA.
func (sa *SA) Transform() Transform { return sa.tr }

// Direction as last installed.
func (sa *SA) Direction() Direction { return sa.terms.Load().direction }

// Expires is the end of the SA's life; the zero time if it has none.
func (sa *SA) Expires() time.Time { return sa.terms.Load().expires }

// Expired reports whether the SA's life is over: it neither sends nor receives then.
// Sealers and Openers have no clock; their owner asks once a batch.
func (sa *SA) Expired(now time.Time) bool {
	e := sa.terms.Load().expires
	return !e.IsZero() && !now.Before(e)
}

// ClearMTU is the largest clear packet whose sealed form, with its metadata, fits into
// linkMTU octets.
func (sa *SA) ClearMTU(linkMTU int, f Family) int {
	return sa.tr.clearMTU(linkMTU, f, 0, sa.terms.Load().meta.Header)
}

// SealedLen is the length of the IP packet that Seal makes of one of n octets with a
// plain header.
func (sa *SA) SealedLen(n int, f Family) int {
	return sa.tr.sealedLen(n, f, 0, sa.terms.Load().meta.Header)
}

// Metadata is what the SA's packets carry, as last installed.
func (sa *SA) Metadata() Metadata { return sa.terms.Load().meta }

// Replay is the anti-replay policy as last installed.
func (sa *SA) Replay() Replay { return sa.terms.Load().replay }

// Counters returns the counters; each is exact, together they are not a snapshot.
func (sa *SA) Counters() Counters {
	s := &sa.stats
	t := s.time.counters()
	return Counters{
		EncapPackets: s.encapPackets.Load(), EncapOctets: s.encapOctets.Load(),
		DecapPackets: s.decapPackets.Load(), DecapOctets: s.decapOctets.Load(),
		SeqHigh:     sa.send.high(),
		ReplayDrops: s.replay.Load() + t.TooOld + t.TooNew, ICVDrops: s.icv.Load(), OtherDrops: s.other.Load(),
		MaxLate: s.maxLate.Load(), Time: t,
	}
}

// Wipe zeroes the SA's copy of its keys when nothing uses it any more. No Sealer or
// Opener can be made afterwards.
func (sa *SA) Wipe() {
	sa.mu.Lock()
	defer sa.mu.Unlock()
	sa.key.Zero()
	sa.authKey.Zero()
	sa.key, sa.authKey = nil, nil
}
