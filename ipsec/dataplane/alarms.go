package dataplane

// Events about refused packets. Workers and programs only count; once a second this
// looks at what rose and says so, once in a while for each subject, so that a flood
// makes a line and not a flood of lines.

import (
	"fmt"
	"time"

	"getvpn/ipsec"
	"getvpn/model/event"
)

const (
	// alarmTick is how often counters are looked at.
	alarmTick = time.Second
	// alarmEvery is how long a subject is silent after an event.
	alarmEvery = 30 * time.Second
	// alarmKept is how long a silent subject is remembered.
	alarmKept = time.Hour
)

// alarmKey is what an event is about.
type alarmKey struct {
	why   ipsec.DropReason
	where string // the interface, or the group
	spi   uint32 // of integrity failures
}

// alarms remembers what has been told of growing counters.
type alarms map[alarmKey]*alarm

type alarm struct {
	told uint64
	at   time.Time // of the last event
	used time.Time
}

// due returns how many packets an event at now shall report, 0 for none. Packets of a silent
// time are reported when it is over.
func (a alarms) due(k alarmKey, total uint64, now time.Time) uint64 {
	x := a[k]
	if x == nil {
		if total == 0 {
			return 0
		}
		x = &alarm{}
		a[k] = x
	}
	x.used = now
	if total < x.told {
		x.told = 0 // another attachment counts anew
	}
	n := total - x.told
	if n == 0 || !x.at.IsZero() && now.Sub(x.at) < alarmEvery {
		return 0
	}
	x.told, x.at = total, now
	return n
}

// sweep forgets subjects that are gone.
func (a alarms) sweep(now time.Time) {
	for k, x := range a {
		if now.Sub(x.used) > alarmKept {
			delete(a, k)
		}
	}
}

// watchRefused runs until the dataplane is closed.
func (d *Dataplane) watchRefused() {
	tick := time.NewTicker(alarmTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.mu.Lock()
			if !d.closed {
				d.reportRefused(time.Now())
			}
			d.mu.Unlock()
		case <-d.ending:
			return
		}
	}
}

func (d *Dataplane) reportRefused(now time.Time) {
	counts, err := d.steering.refusals()
	replays, failures := map[string]uint64{}, map[uint32]uint64{}
	for _, p := range d.ports {
		// An SA that two interfaces have counts once.
		for spi, sa := range p.sas {
			c := sa.Counters()
			if _, twice := failures[spi]; !twice {
				failures[spi] = c.ICVDrops
				replays[sa.group] += c.ReplayDrops
			}
		}
		if err != nil {
			p.fail(err)
			continue
		}
		c := counts[p.link.index]
		if n := d.alarms.due(alarmKey{why: ipsec.DropClearInbound, where: p.name}, c.clear, now); n > 0 {
			r, _, err := d.steering.s.TakeRefused(p.link.index, false)
			p.fail(err)
			d.emit(event.ClearPacketReceived{Dst: r.Dst, Src: r.Src, Proto: r.Proto, Packets: n})
		}
		if n := d.alarms.due(alarmKey{why: ipsec.DropUnknownSPI, where: p.name}, c.esp, now); n > 0 {
			r, ok, err := d.steering.s.TakeRefused(p.link.index, true)
			p.fail(err)
			if ok { // a fragment alone doesn't tell
				d.emit(event.InvalidSPI{Dst: r.Dst, Src: r.Src, SPI: fmt.Sprintf("0x%X(%d)", r.SPI, r.SPI), Packets: n})
			}
		}
	}
	for group, n := range replays {
		if n := d.alarms.due(alarmKey{why: ipsec.DropReplay, where: group}, n, now); n > 0 {
			d.emit(event.ReplayFailed{Group: group, Packets: n})
		}
	}
	for spi, n := range failures {
		if n := d.alarms.due(alarmKey{why: ipsec.DropICV, spi: spi}, n, now); n > 0 {
			d.emit(event.ICVFailed{ID: spi, Packets: n})
		}
	}
	d.alarms.sweep(now)
}
