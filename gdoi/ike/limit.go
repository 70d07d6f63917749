package ike

import (
	"maps"
	"net/netip"
	"sync"
	"time"
)

// This file bounds and counts: token buckets per source, a gate for events, the drop
// counters. Its maps have a fixed maximum.

// limiter is a set of token buckets, one a source; IPv6 sources count by their /64.
type limiter struct {
	mu     sync.Mutex
	rate   float64 // tokens a second
	burst  float64
	tidied time.Time
	size   int // most sources that are remembered
	m      map[netip.Addr]bucket
}

// sourcesMost is how many sources of first messages are told apart: more than send one in
// the time that a bucket takes to be full again.
const sourcesMost = 32768

type bucket struct {
	tokens float64
	at     time.Time
}

// left is how many tokens there are at a moment.
func (b bucket) left(rate, burst float64, now time.Time) float64 {
	return min(burst, b.tokens+rate*now.Sub(b.at).Seconds())
}

func newLimiter(rate float64, size int) *limiter {
	return &limiter{rate: rate, burst: max(2*rate, 1), size: size, m: map[netip.Addr]bucket{}}
}

// allow takes a token of a. When the table is full of sources that are all active,
// newcomers share one bucket.
func (l *limiter) allow(a netip.Addr, now time.Time) bool {
	if a.Is6() && !a.Is4In6() {
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.m[a]
	if !ok && len(l.m) >= l.size {
		if now.Sub(l.tidied) >= tidyInterval {
			l.tidied = now
			l.prune(now)
		}
		if len(l.m) >= l.size {
			a = netip.Addr{}
			b, ok = l.m[a]
		}
	}
	if !ok {
		b = bucket{l.burst, now}
	}
	b = bucket{b.left(l.rate, l.burst, now), now}
	if ok = b.tokens >= 1; ok {
		b.tokens--
	}
	l.m[a] = b
	return ok
}

// prune forgets the buckets that are full again.
func (l *limiter) prune(now time.Time) {
	for k, b := range l.m {
		if b.left(l.rate, l.burst, now) >= l.burst {
			delete(l.m, k)
		}
	}
}

// tidyInterval is the least time between two searches of a full table, so that a flood
// doesn't cost one at each packet.
const tidyInterval = 100 * time.Millisecond

// gate lets one event of a kind and peer through each interval.
type gate struct {
	mu     sync.Mutex
	last   map[gateKey]time.Time
	tidied time.Time
	pruned int // searches of the whole table
}

type gateKey struct {
	kind string
	peer netip.Addr
}

const (
	gateInterval = 30 * time.Second
	gateMax      = 4096
)

func (g *gate) pass(kind string, peer netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	k := gateKey{kind, peer}
	if t, ok := g.last[k]; ok && now.Sub(t) < gateInterval {
		return false
	}
	if g.last == nil {
		g.last = map[gateKey]time.Time{}
	}
	if len(g.last) >= gateMax && now.Sub(g.tidied) >= tidyInterval {
		g.tidied = now
		g.pruned++
		for k, t := range g.last {
			if now.Sub(t) >= gateInterval {
				delete(g.last, k)
			}
		}
	}
	if len(g.last) >= gateMax { // a flood: one event of each kind for all newcomers
		k.peer = netip.Addr{}
		if t, ok := g.last[k]; ok && now.Sub(t) < gateInterval {
			return false
		}
	}
	g.last[k] = now
	return true
}

// counters count drops by reason.
type counters struct {
	mu sync.Mutex
	m  map[DropReason]uint64
}

func (c *counters) add(r DropReason) { c.addN(r, 1) }

func (c *counters) addN(r DropReason, n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[DropReason]uint64{}
	}
	c.m[r] += n
}

func (c *counters) copy() map[DropReason]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.m)
}
