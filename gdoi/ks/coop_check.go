package ks

// What keys of another key server may be, beyond being keys: it has shown that it knows
// the key of phase 1, not that it works. What can't come from a configuration is refused
// whole, before anything of it is held.

import (
	"fmt"
	"time"
)

const (
	// longestLife is the longest lifetime that can be configured for a TEK or a KEK.
	longestLife = 30 * 24 * time.Hour
	// longestPseudotime is how far a group's pseudotime can be.
	longestPseudotime = 100 * 365 * 24 * time.Hour
	// sharedTEKs is how many TEKs an entry may come with.
	sharedTEKs = 64
)

// shareable finds what no key server shares.
func (d *durable) shareable() error {
	end := d.At.Add(longestLife + time.Minute)
	for _, e := range d.Entries {
		if len(e.TEKs) > sharedTEKs {
			return fmt.Errorf("%w: %d TEKs of one entry", errCoded, len(e.TEKs))
		}
		for _, t := range e.TEKs {
			if t.Lifetime > longestLife || t.Expires.After(end) {
				return fmt.Errorf("%w: a TEK of %v", errCoded, t.Lifetime)
			}
		}
	}
	for _, k := range d.KEKs {
		if k.Lifetime > longestLife || k.Expires.After(end) {
			return fmt.Errorf("%w: a KEK of %v", errCoded, k.Lifetime)
		}
	}
	if len(d.KEKs) > sharedKEKs || len(d.Members) > 0 || len(d.Listed) > 4*mostLedgers || len(d.Contains) > mostGenerations || len(d.Ended) > mostGenerations {
		return fmt.Errorf("%w: %d KEKs, %d members, %d ledgers", errCoded, len(d.KEKs), len(d.Members), len(d.Listed))
	}
	if d.Pseudotime < 0 || d.Pseudotime > longestPseudotime {
		return fmt.Errorf("%w: a pseudotime of %v", errCoded, d.Pseudotime)
	}
	return nil
}

// renumber counts KEKs from 1: each key server counts them by itself, and nobody brings
// the count of another to its end.
func (d *durable) renumber() {
	for i := range d.KEKs {
		d.KEKs[i].Ord = uint32(i + 1)
	}
	d.Ord = uint32(len(d.KEKs))
}
