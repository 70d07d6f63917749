package coop

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Defaults of a group.
const (
	DefaultRefresh    = 20 * time.Second
	DefaultPeriodic   = 30 * time.Second
	DefaultRetransmit = 10 * time.Second
	defaultMTU        = 1200
)

// complete fills in defaults and refuses what can't be served. Own address among the
// peers, as where all key servers share one list, is passed over.
func (c Config) complete() (Config, error) {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&c.Refresh, DefaultRefresh)
	set(&c.Periodic, DefaultPeriodic)
	set(&c.Retransmit, DefaultRetransmit)
	if c.MTU == 0 {
		c.MTU = defaultMTU
	}
	if !c.Self.IsValid() {
		return c, fmt.Errorf("%w: no local address", errConfig)
	}
	if len(c.Group) == 0 || len(c.Group) > 64 {
		return c, fmt.Errorf("%w: group identity of %d octets", errConfig, len(c.Group))
	}
	if c.MTU < 512 {
		return c, fmt.Errorf("%w: messages of %d octets are too short", errConfig, c.MTU)
	}
	if len(c.Items) > maxItems || len(c.SIDs) > maxRanges {
		return c, fmt.Errorf("%w: %d items, %d ranges", errConfig, len(c.Items), len(c.SIDs))
	}
	c.Peers = slices.DeleteFunc(slices.Clone(c.Peers), func(a netip.Addr) bool { return a == c.Self })
	slices.SortFunc(c.Peers, netip.Addr.Compare)
	c.Peers = slices.Compact(c.Peers)
	if len(c.Peers) > MaxPeers {
		return c, fmt.Errorf("%w: %d peers, at most %d", errConfig, len(c.Peers), MaxPeers)
	}
	c.SIDs = slices.Clone(c.SIDs)
	slices.SortFunc(c.SIDs, func(a, b SIDRange) int { return cmp.Compare(a.Low, b.Low) })
	return c, nil
}

// overlap is the first pair of ranges that share an ID.
func overlap(a, b []SIDRange) (x, y SIDRange, ok bool) {
	for _, x := range a {
		for _, y := range b {
			if x.Low <= y.High && y.Low <= x.High {
				return x, y, true
			}
		}
	}
	return SIDRange{}, SIDRange{}, false
}
