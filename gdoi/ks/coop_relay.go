package ks

// Members that the primary can't reach itself, behind a NAT or because a rekey to them
// wasn't answered, get it from the key server where they registered: the datagram is
// the primary's, the path that key server's. Acknowledgements go to whoever sent the
// datagram; a secondary verifies them and passes them on.

import (
	"context"
	"net/netip"
	"time"

	"getvpn/gdoi/coop"
)

// relayed is a datagram to pass on to members of ours.
type relayed struct {
	datagram []byte
	to       []target
}

const (
	// relayQueue is how many datagrams to pass on wait, at most.
	relayQueue = 256
	// passMost is how many acknowledgements wait to be passed on, at most.
	passMost = 1 << 16
)

// passedAck is an acknowledgement that another key server waits for.
type passedAck struct {
	stamp uint64
	addr  netip.Addr
}

// relay says that a member is to be reached by way of the key server where it
// registered; direct that it is to be sent to from here too.
func (g *Group) relays(m *member) (relay, direct bool) {
	if g.coop == nil || !m.origin.IsValid() {
		return false, true
	}
	return m.nat || m.asked != 0, !m.nat // asked before in this round: it doesn't answer
}

// passOn asks other key servers to send a datagram to their members.
func (g *Group) passOn(datagram []byte, to map[netip.Addr][]netip.Addr) {
	if !g.leads() || g.coop == nil {
		return
	}
	for origin, members := range to {
		g.cooperate(g.coop.m.Relay(origin, datagram, members, g.now()))
	}
}

// relayThis sends a datagram of the primary to members of ours.
func (g *Group) relayThis(r coop.RelayThis) {
	x := relayed{datagram: r.Datagram}
	if len(r.Datagram) < len(coop.SPI{}) || g.kekOf(coop.SPI(r.Datagram)) == nil {
		g.rejected["coop-relay-unknown"]++ // no rekey under a KEK that a member may hold
		return
	}
	asked := map[netip.Addr]bool{}
	for _, a := range r.Members {
		if m := g.roster.find(a); m != nil && !m.origin.IsValid() && !asked[a] {
			asked[a] = true
			x.to = append(x.to, target{m.path, g.source(m), nil})
		}
	}
	if len(x.to) == 0 {
		return
	}
	select {
	case g.coop.relay <- x:
	default:
		g.rejected["coop-relay-full"]++
	}
}

// relayer sends what is to be passed on, beside the actor.
func (g *Group) relayer(ctx context.Context, box <-chan relayed) {
	for {
		select {
		case <-ctx.Done():
			return
		case x := <-box:
			for len(x.to) > 0 {
				n := 0
				var batch []netip.AddrPort
				for n < len(x.to) && n < loopSize && x.to[n].local == x.to[0].local {
					batch = append(batch, x.to[n].path)
					n++
				}
				if _, err := g.s.o.Push.SendPushBatch(x.datagram, x.to[0].local, batch); err != nil {
					g.s.o.Log.Debug("rekey passed on", "group", g.Name(), "error", err)
				}
				if x.to = x.to[n:]; len(x.to) > 0 && !pause(ctx, loopPause) {
					return
				}
			}
		}
	}
}

// pass keeps an acknowledgement for the primary; each once.
func (b *ackBook) pass(s *ackSlot, st uint64) ackDrop {
	for {
		old := s.acked.Load()
		if st <= old {
			return ackDuplicate
		}
		if s.acked.CompareAndSwap(old, st) {
			break
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.passed) >= passMost {
		return ackNotPassed
	}
	b.passed = append(b.passed, passedAck{st, s.addr})
	return ackPassed
}

// takePassed empties the list of what is to be passed on.
func (b *ackBook) takePassed() []passedAck {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.passed
	b.passed = nil
	return l
}

// passAcks passes acknowledgements on to the primary.
func (g *Group) passAcks(now time.Time) {
	if g.coop == nil {
		return
	}
	by := map[uint64][]netip.Addr{}
	for _, x := range g.book.takePassed() {
		by[x.stamp] = append(by[x.stamp], x.addr)
	}
	for st, members := range by {
		if k := g.keks[uint32(st>>32)]; k != nil && !g.leads() {
			g.cooperate(g.coop.m.Acked(coop.SPI(k.spi), uint32(st), members, now))
		}
	}
}

// acksArrived takes acknowledgements that another key server has verified.
func (g *Group) acksArrived(r coop.AcksArrived) {
	k := g.kekOf(r.SPI)
	if k == nil || !g.leads() {
		return
	}
	for _, a := range r.Members {
		if s := g.book.slot(a); s != nil {
			g.book.drops[s.take(stamp(k.ord, r.Seq))].Add(1)
		}
	}
	g.book.wake()
}
