package dataplane

// What anti-replay did in a group, over SAs that come and go: every look adds what an
// SA's counters have risen since the one before.

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

const (
	// failuresKept bounds a group's history of refused stamps, of which at most
	// failuresMinute are taken a minute.
	failuresKept   = 32
	failuresMinute = 10
)

// groupStats are one group's sums.
type groupStats struct {
	counter        uint64 // refused by counter windows
	time           ipsec.TimeCounters
	input, output  uint64
	maxDelta       time.Duration
	lastFailure    ipsec.TimeFailure // of all its SAs, the newest
	lastSPI        uint32
	history        []model.TimeFailure // newest first
	minute, inThis int64
	spi            uint32 // of the SA that counter refusals rose at last
}

// sharedStats are what of an SA has been added already.
type sharedStats struct {
	group    string
	seen     ipsec.Counters
	failures uint64
}

// collect brings the sums up to date. The caller holds the lock.
func (d *Dataplane) collect(now time.Time) {
	for sa, s := range d.sharing {
		c, was := sa.Counters(), s.stats.seen
		if c == was || s.stats.group == "" {
			continue
		}
		s.stats.seen = c
		g := d.groupStats(s.stats.group)
		timed := func(c *ipsec.Counters) uint64 { return c.Time.TooOld + c.Time.TooNew }
		if n := (c.ReplayDrops - timed(&c)) - (was.ReplayDrops - timed(&was)); n > 0 {
			g.counter += n
			g.spi = sa.SPI()
		}
		g.time.Accepted += c.Time.Accepted - was.Time.Accepted
		g.time.TooOld += c.Time.TooOld - was.Time.TooOld
		g.time.TooNew += c.Time.TooNew - was.Time.TooNew
		g.time.Missing += c.Time.Missing - was.Time.Missing
		g.time.NotSent += c.Time.NotSent - was.Time.NotSent
		if sa.Replay().Mode == ipsec.ReplayTime {
			g.input += c.DecapPackets - was.DecapPackets
			g.output += c.EncapPackets - was.EncapPackets
		}
		if c.Time.MaxLate > was.Time.MaxLate || c.Time.MaxEarly > was.Time.MaxEarly {
			g.maxDelta = max(g.maxDelta, c.Time.MaxLate, c.Time.MaxEarly)
		}
		if timed(&c) == timed(&was) {
			continue
		}
		if f := sa.LastTimeFailure(); f.Count > s.stats.failures {
			s.stats.failures = f.Count
			g.lastFailure, g.lastSPI = f, sa.SPI()
			g.sample(now, &f)
		}
	}
}

// sample remembers a refused packet, if there weren't too many this minute.
func (g *groupStats) sample(now time.Time, f *ipsec.TimeFailure) {
	if m := now.Unix() / 60; m != g.minute {
		g.minute, g.inThis = m, 0
	}
	if g.inThis++; g.inThis > failuresMinute {
		return
	}
	g.history = slices.Insert(g.history, 0, model.TimeFailure{At: now, Source: f.Source, Mine: f.Mine, Peer: f.Peer})
	g.history = g.history[:min(len(g.history), failuresKept)]
}

func (d *Dataplane) groupStats(group string) *groupStats {
	g := d.stats[group]
	if g == nil {
		g = &groupStats{}
		d.stats[group] = g
	}
	return g
}

// ClearReplay sets a group's anti-replay counters and history to zero. Windows and
// sequence numbers stay: they protect.
func (d *Dataplane) ClearReplay(group string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.collect(time.Now())
	delete(d.stats, group)
	for k := range d.alarms {
		if k.where == group && (k.why == ipsec.DropReplay || k.why == ipsec.DropReplayOld) {
			delete(d.alarms, k)
		}
	}
}

// TimeReplay tells what time-based anti-replay does in a group; false if the group has
// no SA with it.
func (d *Dataplane) TimeReplay(group string) (model.TimeReplay, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.collect(time.Now())
	for _, name := range d.order {
		if g, ok := d.ports[name].groups[group]; ok {
			if t, ok := d.timeReplay(&g); ok {
				return t, true
			}
		}
	}
	return model.TimeReplay{}, false
}

func (d *Dataplane) timeReplay(g *ipsec.GroupPolicy) (model.TimeReplay, bool) {
	i := slices.IndexFunc(g.TEKs, func(k ipsec.TEK) bool { return k.Replay.Mode == ipsec.ReplayTime })
	if i < 0 {
		return model.TimeReplay{}, false
	}
	s := d.groupStats(g.Group)
	t := model.TimeReplay{Group: g.Group, Window: time.Duration(g.TEKs[i].Replay.Window) * time.Second,
		Input: s.input, Output: s.output, TooOld: s.time.TooOld, TooNew: s.time.TooNew, Missing: s.time.Missing, OutputErrors: s.time.NotSent,
		MaxDelta: s.maxDelta, Failures: slices.Clone(s.history)}
	if p := g.Pseudo; p != nil {
		t.Known, t.Pseudotime, t.Tick = true, p.At(d.clock.Boot()), p.Tick
	}
	return t, true
}

// timeReplays are all groups with time-based anti-replay. The caller holds the lock.
func (d *Dataplane) timeReplays() (l []model.TimeReplay) {
	d.collect(time.Now())
	seen := map[string]bool{}
	for _, name := range d.order {
		for _, g := range d.ports[name].policies() {
			if t, ok := d.timeReplay(&g); ok && !seen[g.Group] {
				seen[g.Group] = true
				l = append(l, t)
			}
		}
	}
	slices.SortFunc(l, func(a, b model.TimeReplay) int { return cmp.Compare(a.Group, b.Group) })
	return l
}

// reportReplays tells of refused copies.
func (d *Dataplane) reportReplays(now time.Time) {
	for group, g := range d.stats {
		if n := d.alarms.due(alarmKey{why: ipsec.DropReplay, where: group}, g.counter, now); n > 0 {
			d.emit(event.ReplayFailed{Group: group, Packets: n})
			notice := Notice{Kind: Replayed, Group: group, SPI: g.spi, Packets: n}
			notice.Interface, notice.Source = d.whereabouts(g.spi, ipsec.DropReplay)
			d.notify(notice)
		}
		if n := d.alarms.due(alarmKey{why: ipsec.DropReplayOld, where: group}, g.time.TooOld+g.time.TooNew, now); n > 0 {
			f := &g.lastFailure
			d.emit(event.TimeReplayFailed{Group: group, Src: f.Source, MyPST: seconds(f.Mine), Peer: seconds(f.Peer),
				Window: int(f.Window / time.Second), Packets: n})
			notice := Notice{Kind: OutOfTime, Group: group, SPI: g.lastSPI, Source: f.Source, Packets: n, Mine: f.Mine, Peer: f.Peer, Window: f.Window}
			notice.Interface, _ = d.whereabouts(g.lastSPI, ipsec.DropReplayOld)
			d.notify(notice)
		}
	}
}

// whereabouts are the first interface with an SA, and who sent what it refused last.
func (d *Dataplane) whereabouts(spi uint32, why ipsec.DropReason) (iface string, src netip.Addr) {
	for _, name := range d.order {
		if sa := d.ports[name].sas[spi]; sa != nil {
			return name, sa.LastSource(why)
		}
	}
	return "", netip.Addr{}
}

// seconds is a pseudotime as the vendor prints it.
func seconds(t time.Duration) string { return strconv.FormatFloat(t.Seconds(), 'f', 2, 64) }
