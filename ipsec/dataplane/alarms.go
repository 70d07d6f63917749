package dataplane

// Events about refused packets. Workers and programs only count; once a second this
// looks at what rose and says so, once in a while for each subject, so that a flood
// makes a line and not a flood of lines.

import (
	"fmt"
	"net/netip"
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
				d.retire(d.line.Now())
				d.expireLate()
			}
			d.mu.Unlock()
		case <-d.done:
			return
		}
	}
}

// groupOf names the group that protects what goes between two addresses, in either
// direction; empty if none does.
func (p *port) groupOf(src, dst netip.Addr) string {
	t := p.table.Load()
	if t == nil {
		return ""
	}
	for _, f := range []ipsec.Flow{{Src: src, Dst: dst, Proto: protoESP, Frag: true}, {Src: dst, Dst: src, Proto: protoESP, Frag: true}} {
		if v, i := t.out.Match(&f); v == ipsec.Protect && i >= 0 {
			return t.names[t.send[i].group]
		}
	}
	return ""
}

func (d *Dataplane) reportRefused(now time.Time) {
	counts, err := d.steering.refusals()
	d.collect(now)
	failures := map[uint32]*portSA{}
	for _, p := range d.ports {
		// An SA that two interfaces have counts once.
		for spi, sa := range p.sas {
			failures[spi] = sa
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
				if g := p.groupOf(r.Src, r.Dst); g != "" {
					d.notify(Notice{Kind: BadSPI, Group: g, Interface: p.name, SPI: r.SPI, Source: r.Src, Packets: n})
				}
			}
		}
	}
	d.reportReplays(now)
	for spi, sa := range failures {
		if n := d.alarms.due(alarmKey{why: ipsec.DropICV, spi: spi}, sa.Counters().ICVDrops, now); n > 0 {
			d.emit(event.ICVFailed{ID: spi, Packets: n})
			notice := Notice{Kind: BadICV, Group: sa.group, SPI: spi, Packets: n}
			notice.Interface, notice.Source = d.whereabouts(spi, ipsec.DropICV)
			d.notify(notice)
		}
	}
	d.alarms.sweep(now)
}
