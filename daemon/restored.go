package daemon

// What a daemon does when its machine turns out to be restored from a snapshot, or a
// clone: members stop sending under counter modes and register again, key servers make
// new keys, and both do so over new ISAKMP SAs. And when it was suspended: members look
// at once what they have missed, since their timers slept too.

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"getvpn/internal/clock"
	"getvpn/internal/machine"
)

// reports is where a watch tells what it sees.
type reports struct {
	restored  func(machine.Restored)
	suspended func(clock.Suspended)
	stepped   func(clock.Stepped)
}

// watchMachine starts to watch the machine. The watch ends with unwatch.
func (d *Daemon) watchMachine() {
	ctx, cancel := context.WithCancel(context.Background())
	d.unwatch = cancel
	if d.o.watch == nil {
		return
	}
	to := reports{
		restored:  func(r machine.Restored) { d.restored(r.String()) },
		suspended: func(s clock.Suspended) { d.suspended(s.For) },
		stepped:   func(s clock.Stepped) { d.log.Warn("the clock was set", "by", s.By) }, // no lifetime hangs on it
	}
	d.sinks.Go(func() { d.o.watch(ctx, d.log, to) })
}

// suspended tells every member.
func (d *Daemon) suspended(dur time.Duration) {
	d.log.Warn("this machine was suspended", "for", dur)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.members {
		m.member.Slept(dur)
	}
}

// restored tells every engine.
func (d *Daemon) restored(source string) {
	d.log.Warn("this machine was restored from a snapshot or cloned", "noticed", source)
	if err := d.random.Stir(); err != nil {
		d.log.Error("the restored machine's random numbers may repeat", "error", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ep == nil {
		return
	}
	// SAs with key servers are our former self's too. Those of members with us they
	// replace when they need one. First: a member that is told dials at once.
	for _, sa := range d.ep.SAs(netip.Addr{}) {
		if sa.Peer().Initiator {
			sa.Close()
		}
	}
	for _, m := range d.members {
		m.member.Restored(source)
	}
	if err := d.useState(d.cfg); err != nil { // it is another machine now
		d.log.Error("key server state", "error", err)
	}
	d.srv.Restored(source)
}

// kernelWatch watches the machine that we run on, and its clocks.
func kernelWatch(ctx context.Context, log *slog.Logger, to reports) {
	m := machine.Watcher{Ready: func(sources []string) {
		if len(sources) == 0 {
			log.Warn("nothing here tells when the machine is restored from a snapshot")
			return
		}
		log.Info("restores of the machine are noticed", "by", sources)
	}}
	c := clock.Watcher{Suspended: to.suspended, Stepped: to.stepped}
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	m.Run(ctx, to.restored)
	wg.Wait()
}
