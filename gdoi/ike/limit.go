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
	mu    sync.Mutex
	rate  float64 // tokens a second
	burst float64
	size  int // most sources that are remembered
	m     map[netip.Addr]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
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
		l.prune(now)
		if len(l.m) >= l.size {
			a = netip.Addr{}
			b, ok = l.m[a]
		}
	}
	if !ok {
		b = bucket{l.burst, now}
	}
	b.tokens = min(l.burst, b.tokens+l.rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.tokens < 1 {
		l.m[a] = b
		return false
	}
	b.tokens--
	l.m[a] = b
	return true
}

// prune forgets the buckets that are full again.
func (l *limiter) prune(now time.Time) {
	for k, b := range l.m {
		if b.tokens+l.rate*now.Sub(b.at).Seconds() >= l.burst {
			delete(l.m, k)
		}
	}
}

// gate lets one event of a kind and peer through each interval.
type gate struct {
	mu   sync.Mutex
	last map[gateKey]time.Time
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
	if len(g.last) >= gateMax {
		for k, t := range g.last {
			if now.Sub(t) >= gateInterval {
				delete(g.last, k)
			}
		}
		if len(g.last) >= gateMax {
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

func (c *counters) add(r DropReason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[DropReason]uint64{}
	}
	c.m[r]++
}

func (c *counters) copy() map[DropReason]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.m)
}
