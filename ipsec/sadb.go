package ipsec

// The SAs that this process has, by SPI. Everything that installs a TEK goes through
// here: a known (SPI, key) merges into the object that owns its counters, whatever
// group or interface brings it. An SA that nobody uses any more is buried after a
// while: keys and windows go, and what stays, a hundred octets under a fingerprint,
// is how far its numbers were used, so that the same TEK, should it come again within
// its life, goes on from there.

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"sync"
	"time"
)

// SADB holds SAs. The zero value is empty and ready. Safe for concurrent use.
type SADB struct {
	mu     sync.Mutex
	m      map[uint32][]*entry // several keys may have drawn one SPI
	graves map[fingerprint]grave
}

// entry is an SA and what is known of its use.
type entry struct {
	*SA
	last time.Time // the latest end of life that it ever had; zero: none
	idle time.Time // when it was first found unused; zero while it is used
}

// fingerprint names a TEK without its keys.
type fingerprint [16]byte

// grave is what is left of an SA.
type grave struct {
	forget time.Time // zero: never
	next   uint64
	bits   int
	sids   []buriedSID
}

type buriedSID struct {
	sid  uint32
	next uint64
}

// Install returns the SA of t: the one there is, merged, or a new one. An expired TEK
// is refused, also one that is known.
func (d *SADB) Install(t TEK, now time.Time) (*SA, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.m[t.SPI] {
		if !e.Is(t) {
			continue
		}
		if err := e.Merge(t, now); err != nil {
			return e.SA, err
		}
		e.idle = time.Time{}
		if !e.last.IsZero() && (t.Expires.IsZero() || t.Expires.After(e.last)) {
			e.last = t.Expires
		}
		return e.SA, nil
	}
	f := t.fingerprint()
	g, known := d.graves[f]
	var left *grave
	if known {
		left = &g
	}
	sa, err := newSA(t, now, left)
	if err != nil {
		return nil, err
	}
	delete(d.graves, f)
	if d.m == nil {
		d.m = map[uint32][]*entry{}
	}
	d.m[t.SPI] = append(d.m[t.SPI], &entry{SA: sa, last: t.Expires})
	return sa, nil
}

// Retire buries the SAs that used hasn't called used for longer than grace, and returns
// them, their keys wiped. Nobody may seal or open with them any more: whoever does it
// all the same gets no number. What is known of a TEK is forgotten when the latest end
// of life that it ever had is keep ago; keep must be longer than any delay with which a
// key server may still hand it out with a later end: an hour is plenty.
func (d *SADB) Retire(used func(*SA) bool, now time.Time, grace, keep time.Duration) (gone []*SA) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for spi, all := range d.m {
		var left []*entry
		for _, e := range all {
			if used(e.SA) {
				e.idle = time.Time{}
			} else if e.idle.IsZero() {
				e.idle = now
			}
			if !e.idle.IsZero() && now.Sub(e.idle) >= grace {
				d.bury(e, keep)
				gone = append(gone, e.SA)
				continue
			}
			left = append(left, e)
		}
		if len(left) == 0 {
			delete(d.m, spi)
		} else {
			d.m[spi] = left
		}
	}
	for f, g := range d.graves {
		if !g.forget.IsZero() && now.After(g.forget) {
			delete(d.graves, f)
		}
	}
	return gone
}

// Sweep buries the SAs that expired before now less keep, for an owner that has no
// table of those in use.
func (d *SADB) Sweep(now time.Time, keep time.Duration) (gone []*SA) {
	return d.Retire(func(sa *SA) bool { return !sa.Expired(now.Add(-keep)) }, now, 0, keep)
}

// Live is how many SAs have keys and counters, and Remembered of how many more it is
// known how far they were used.
func (d *SADB) Live() (live, remembered int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, all := range d.m {
		live += len(all)
	}
	return live, len(d.graves)
}

// bury takes an SA's numbers away, so that none is used behind the back of the grave,
// and wipes its keys.
func (d *SADB) bury(e *entry, keep time.Duration) {
	g := grave{}
	if !e.last.IsZero() {
		g.forget = e.last.Add(keep)
	}
	f := e.tek().fingerprint()
	e.mu.Lock()
	g.bits = e.send.bits
	g.next = e.send.next.Swap(math.MaxUint32)
	for _, s := range e.send.known {
		g.sids = append(g.sids, buriedSID{s.sid, s.next.Swap(s.last)})
	}
	e.mu.Unlock()
	e.Wipe()
	if d.graves == nil {
		d.graves = map[fingerprint]grave{}
	}
	d.graves[f] = g
}

// tek is the part of the SA's TEK that names it.
func (sa *SA) tek() *TEK {
	return &TEK{SPI: sa.spi, Transform: sa.tr, Key: sa.key, AuthKey: sa.authKey}
}

func (t *TEK) fingerprint() (f fingerprint) {
	h := sha256.New()
	var b [4 + 5 + 4]byte
	binary.BigEndian.PutUint32(b[:], t.SPI)
	tr := t.Transform
	b[4], b[5], b[6], b[7], b[8] = byte(tr.Cipher), byte(tr.KeyBits/8), byte(tr.ICVLen), byte(tr.Auth), byte(tr.Mode)
	binary.BigEndian.PutUint32(b[9:], uint32(len(t.Key)))
	h.Write(b[:])
	h.Write(t.Key)
	h.Write(t.AuthKey)
	copy(f[:], h.Sum(nil))
	return f
}

// revive goes on where a buried SA of the same TEK was.
func (s *sendState) revive(g *grave) {
	s.bits = g.bits
	s.next.Store(max(s.next.Load(), g.next))
	for _, b := range g.sids {
		st := newSID(b.sid, g.bits)
		st.next.Store(b.next)
		s.known[b.sid] = st
	}
}
