package dataplane

// The table is all that a worker looks at: rules, the SA of each, SPIs. It is made
// whole by Install, never changed, and read by one atomic load a batch.

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"getvpn/ipsec"
	"getvpn/ipsec/dataplane/steer"
)

// sharedSA is an SA with the lock that keeps its packets in order where several
// workers send with it.
type sharedSA struct {
	*ipsec.SA
	sending sync.Mutex
	stats   sharedStats // under the dataplane's lock
}

// portSA is an SA as one interface uses it: a sealer and an opener for each queue.
type portSA struct {
	*sharedSA
	group   string
	sealers []*ipsec.Sealer
	openers []*ipsec.Opener
}

// sendRule is what outbound needs of a rule.
type sendRule struct {
	sa      *portSA       // nil: no valid TEK
	ends    time.Duration // boot time
	ordered bool          // counter replay: numbers go out in order
	mtu     [2]int        // largest clear packet, IPv4 and IPv6
	group   int32
}

type recvSA struct {
	*portSA
	ends  time.Duration // boot time
	group int32
}

// table is immutable but for the counters of rules.
type table struct {
	gen  uint64
	out  ipsec.Ruleset
	send []sendRule // by rule of out
	hits []*atomic.Uint64
	spis map[uint32]*recvSA
	// clocks are the groups' pseudotimes, nil for a group without; timed says that some
	// SA needs one.
	clocks []*ipsec.Pseudotime
	names  []string // of the groups
	timed  bool
	tag    steer.TagBits // of marks, if some SA carries tags
	// Settings of the interface.
	mtu     int
	mss     uint16
	clearDF bool
}

// buildTable compiles the groups of one interface. sas are the interface's SAs by
// SPI, leaving those that still receive for a moment, boot tells the boot time at which
// a TEK ends.
func buildTable(gen uint64, groups []ipsec.GroupPolicy, out ipsec.Ruleset, sas map[uint32]*portSA, leaving map[uint32]leavingSA,
	boot func(time.Time) time.Duration, mtu int, s InterfaceSettings) (*table, error) {
	ends := func(t time.Time) time.Duration {
		if t.IsZero() {
			return math.MaxInt64
		}
		return boot(t)
	}
	t := &table{gen: gen, out: out, spis: map[uint32]*recvSA{}, mtu: mtu, mss: uint16(s.AdjustMSS), clearDF: s.ClearDF}
	byGroup := map[string]int32{}
	for i, g := range groups {
		byGroup[g.Group] = int32(i)
		t.clocks, t.names = append(t.clocks, g.Pseudo), append(t.names, g.Group)
		if g.State != ipsec.Registered {
			continue
		}
		for _, k := range g.TEKs {
			sa := sas[k.SPI]
			if sa == nil {
				return nil, fmt.Errorf("dataplane: no SA for SPI %#x of group %s", k.SPI, g.Group)
			}
			if k.Metadata.SGT {
				t.tag, _ = tagBits(s.TagMask)
			}
			t.timed = t.timed || k.Replay.Mode == ipsec.ReplayTime
			t.spis[k.SPI] = &recvSA{portSA: sa, ends: ends(k.Expires), group: int32(i)}
		}
	}
	for spi, l := range leaving {
		t.timed = t.timed || l.Replay().Mode == ipsec.ReplayTime
		t.spis[spi] = &recvSA{portSA: l.portSA, ends: ends(l.until), group: byGroup[l.group]}
	}
	t.send = make([]sendRule, len(out.Rules))
	for i := range out.Rules {
		r := &out.Rules[i]
		t.send[i].group = int32(r.Group)
		if r.Verdict != ipsec.Protect || r.Entry < 0 {
			continue
		}
		g := &groups[r.Group]
		spi := g.Entries[r.Entry].SPI
		k := t.spis[spi]
		if spi == 0 || k == nil || k.group != int32(r.Group) {
			continue
		}
		t.send[i].sa, t.send[i].ends = k.portSA, k.ends
		for j, f := range []ipsec.Family{ipsec.IPv4, ipsec.IPv6} {
			t.send[i].mtu[j] = k.ClearMTU(mtu, f)
		}
		for _, tek := range g.TEKs {
			if tek.SPI == spi {
				t.send[i].ordered = tek.Replay.Mode == ipsec.ReplayCounter
			}
		}
	}
	return t, nil
}
