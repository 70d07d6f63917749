package ipsec

// The SAs that this process has, by SPI. Everything that installs a TEK goes through
// here: a known (SPI, key) merges into the object that owns its counters, whatever
// group or interface brings it, and that object is kept until the key can't be used
// any more.

import (
	"sync"
	"time"
)

// SADB holds SAs. The zero value is empty and ready. Safe for concurrent use.
type SADB struct {
	mu sync.Mutex
	m  map[uint32][]*SA // several keys may have drawn one SPI
}

// Install returns the SA of t: the one there is, merged, or a new one. An expired TEK
// is refused, also one that is known.
func (d *SADB) Install(t TEK, now time.Time) (*SA, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, sa := range d.m[t.SPI] {
		if sa.Is(t) {
			return sa, sa.Merge(t, now)
		}
	}
	sa, err := NewSA(t, now)
	if err != nil {
		return nil, err
	}
	if d.m == nil {
		d.m = map[uint32][]*SA{}
	}
	d.m[t.SPI] = append(d.m[t.SPI], sa)
	return sa, nil
}

// Sweep forgets SAs that expired before now less keep. keep must be longer than any
// delay with which a key server may still hand out an expired TEK with a later end:
// an hour is plenty. It returns the forgotten ones, whose keys may be wiped when no
// worker uses them.
func (d *SADB) Sweep(now time.Time, keep time.Duration) (gone []*SA) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for spi, all := range d.m {
		var left []*SA
		for _, sa := range all {
			if sa.Expired(now.Add(-keep)) {
				gone = append(gone, sa)
			} else {
				left = append(left, sa)
			}
		}
		if len(left) == 0 {
			delete(d.m, spi)
		} else {
			d.m[spi] = left
		}
	}
	return gone
}
