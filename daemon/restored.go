package daemon

// What a daemon does when its machine turns out to be restored from a snapshot, or a
// clone: members stop sending under counter modes and register again, key servers make
// new keys, and both do so over new ISAKMP SAs.

import (
	"context"
	"log/slog"
	"net/netip"

	"getvpn/internal/machine"
)

// watchMachine starts to watch for restores. The watch ends with unwatch.
func (d *Daemon) watchMachine() {
	ctx, cancel := context.WithCancel(context.Background())
	d.unwatch = cancel
	if d.o.watch == nil {
		return
	}
	d.sinks.Go(func() { d.o.watch(ctx, d.log, func(r machine.Restored) { d.restored(r.String()) }) })
}

// restored tells every engine.
func (d *Daemon) restored(source string) {
	d.log.Warn("this machine was restored from a snapshot or cloned", "noticed", source)
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
	d.srv.Restored(source)
}

// kernelWatch is the watch of the machine that we run on.
func kernelWatch(ctx context.Context, log *slog.Logger, report func(machine.Restored)) {
	w := machine.Watcher{Ready: func(sources []string) {
		if len(sources) == 0 {
			log.Warn("nothing here tells when the machine is restored from a snapshot")
			return
		}
		log.Info("restores of the machine are noticed", "by", sources)
	}}
	w.Run(ctx, report)
}
