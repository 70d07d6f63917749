package ipsec

// Anti-replay by time: the verdict on a packet's stamp, and what is remembered of
// verdicts. There is no state for a packet: a copy within the window is taken, which
// is the price for any number of senders whose clocks one key server keeps.

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// TimeCounters count the verdicts of time-based anti-replay.
type TimeCounters struct {
	Accepted       uint64
	TooOld, TooNew uint64
	Missing        uint64 // without a stamp
	NotSent        uint64 // for want of a clock
	// MaxLate and MaxEarly are the largest distances of an accepted stamp behind and
	// ahead of the receiver's clock: how much of the window is used.
	MaxLate, MaxEarly time.Duration
}

// TimeFailure is a packet that was refused for its stamp.
type TimeFailure struct {
	Source     netip.Addr
	Mine, Peer time.Duration // pseudotimes: the receiver's, the packet's
	Window     time.Duration
	Count      uint64 // of refused packets, this one included
}

type timeStats struct {
	accepted, old, new, missing atomic.Uint64
	notSent                     atomic.Uint64
	late, early                 atomic.Int64 // in StampUnit
}

// refusals remembers the last packet of each kind of refusal.
type refusals struct {
	mu          sync.Mutex
	replay, icv netip.Addr
	time        TimeFailure
}

func (t *timeStats) counters() TimeCounters {
	return TimeCounters{Accepted: t.accepted.Load(), TooOld: t.old.Load(), TooNew: t.new.Load(), Missing: t.missing.Load(), NotSent: t.notSent.Load(),
		MaxLate: Stamp(t.late.Load()).Duration(), MaxEarly: Stamp(t.early.Load()).Duration()}
}

// raise makes v the value of m if it is larger.
func raise(m *atomic.Int64, v int64) {
	for was := m.Load(); v > was && !m.CompareAndSwap(was, v); was = m.Load() {
	}
}

// LastTimeFailure is the last packet that was refused for its stamp; Count is 0 if
// there was none.
func (sa *SA) LastTimeFailure() TimeFailure {
	sa.stats.last.mu.Lock()
	defer sa.stats.last.mu.Unlock()
	return sa.stats.last.time
}

// LastSource is the source of the last packet refused as DropReplay or DropICV (the
// latter's is whoever's it says); the zero Addr if there was none.
func (sa *SA) LastSource(why DropReason) netip.Addr {
	sa.stats.last.mu.Lock()
	defer sa.stats.last.mu.Unlock()
	if why == DropICV {
		return sa.stats.last.icv
	}
	return sa.stats.last.replay
}

// refusedFrom remembers the source of a packet whose outer header was found whole.
func (s *refusals) refusedFrom(a *netip.Addr, outer []byte) {
	s.mu.Lock()
	*a = sourceOf(outer)
	s.mu.Unlock()
}

func sourceOf(ip []byte) netip.Addr {
	if ip[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(ip[8:24]))
	}
	return netip.AddrFrom4([4]byte(ip[12:16]))
}

// inTime judges the stamp of a packet that is authentic: window is how far it may be
// from the receiver's clock, on either side, both ends included.
func (o *Opener) inTime(outer []byte, window Stamp) DropReason {
	t := &o.sa.stats.time
	if o.meta.stamp == NoStamp {
		t.missing.Add(1)
		return DropMetadataMissing
	}
	late := int64(o.Now - o.meta.stamp)
	switch {
	case late > int64(window):
		t.old.Add(1)
		o.outOfTime(outer, window)
		return DropReplayOld
	case -late > int64(window):
		t.new.Add(1)
		o.outOfTime(outer, window)
		return DropReplayNew
	case late > 0:
		raise(&t.late, late)
	case late < 0:
		raise(&t.early, -late)
	}
	t.accepted.Add(1)
	return DropNone
}

func (o *Opener) outOfTime(outer []byte, window Stamp) {
	l := &o.sa.stats.last
	l.mu.Lock()
	l.time = TimeFailure{Source: sourceOf(outer), Mine: o.Now.Duration(), Peer: o.meta.stamp.Duration(),
		Window: window.Duration(), Count: l.time.Count + 1}
	l.mu.Unlock()
}
