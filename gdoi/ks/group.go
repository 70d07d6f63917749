package ks

// The actor of one group: it owns keys, Sender IDs and members.

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"sync/atomic"
	"time"

	"getvpn/config"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/model"
	"getvpn/model/event"
)

// Group is a group at its key server.
type Group struct {
	s     *Server
	setup *Setup
	box   chan mail
	ask   chan func() // from our own side: never dropped
	done  chan struct{}
	lost  atomic.Uint64 // mails that didn't fit

	// Below: the actor's own.
	ring     *keyring // in force; empty until the first member has registered
	pending  *keyring // offered to whoever registers first, until it has proved to be alive
	ledger   *Ledger
	members  []model.Member           // sorted by address; snapshots hold copies
	ends     map[netip.Addr]time.Time // when a member that doesn't register again goes
	ageing   time.Time                // no member goes before this; zero: nobody is there
	limit    int                      // of members
	seen     bool                     // a first member was announced
	counters model.KSCounters
	rejected map[string]uint64
	changed  bool          // since the last flush
	events   []event.Event // to be emitted after the next flush
}

// mail is a datagram for a registration; nil when message 1 has been read.
type mail struct {
	c        *conversation
	datagram []byte
}

// mailbox is how many datagrams wait for a group, at most.
const mailbox = 1024

func newGroup(s *Server, setup *Setup) (*Group, error) {
	g := &Group{s: s, setup: setup, box: make(chan mail, mailbox), ask: make(chan func()), done: make(chan struct{}),
		rejected: map[string]uint64{}, ends: map[netip.Addr]time.Time{}, limit: maxMembers}
	g.ring = g.emptyRing()
	if g.needsSIDs() {
		// Keys don't outlive the process, so whatever the ledger says is of keys that
		// are gone: the generation is a fresh one and the first registration resets.
		var fresh Generation
		if _, err := io.ReadFull(s.o.Rand, fresh[:]); err != nil {
			return nil, fmt.Errorf("ks: group %s: %w", setup.Group.Name, err)
		}
		l, _, err := OpenLedger(s.o.Files, LedgerPath(s.o.Dir, setup.Group.Name), s.o.Machine, fresh, setup.SIDBits)
		if err != nil {
			return nil, fmt.Errorf("ks: group %s: %w", setup.Group.Name, err)
		}
		g.ledger = l
	}
	return g, nil
}

func (g *Group) emptyRing() *keyring {
	var specs []keySpec
	for _, e := range g.setup.Entries {
		specs = append(specs, keySpec{e.Transform, e.Lifetime})
	}
	return newKeyring(specs, g.setup.Rekey.kekSpec(), g.s.o.Rand)
}

// needsSIDs reports whether members send in a counter mode.
func (g *Group) needsSIDs() bool {
	for _, e := range g.setup.Entries {
		if e.Transform.Counter() {
			return true
		}
	}
	return false
}

// Name is the group's name.
func (g *Group) Name() string { return g.setup.Group.Name }

// Dropped counts datagrams that found the mailbox full.
func (g *Group) Dropped() uint64 { return g.lost.Load() }

// post never blocks.
func (g *Group) post(c *conversation, datagram []byte) bool {
	select {
	case g.box <- mail{c, datagram}:
		return true
	default:
		g.lost.Add(1)
		return false
	}
}

// Run serves the group until ctx ends, then closes the ledger.
func (g *Group) Run(ctx context.Context) {
	defer close(g.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if w := g.wake(); w.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(w))
		}
		select {
		case <-ctx.Done():
			if g.ledger != nil {
				if err := g.ledger.Close(); err != nil {
					g.s.o.Log.Warn("Sender ID ledger", "group", g.Name(), "error", err)
				}
			}
			return
		case m := <-g.box:
			g.advance(time.Now())
			if m.datagram == nil {
				g.first(m.c)
			} else {
				g.third(m.c, m.datagram)
			}
		case f := <-g.ask:
			f()
		case <-timer.C:
			g.advance(time.Now())
		}
		if len(g.box) == 0 || len(g.events) >= flushAt {
			g.flush()
		}
	}
}

// flushAt is how many events wait, at most, while more datagrams do: publishing costs
// as much as there are members, so a crowd that registers is published in groups.
const flushAt = 128

// note says that the group has changed, and what is to be told once that is published.
func (g *Group) note(events ...event.Event) {
	g.changed = true
	g.events = append(g.events, events...)
}

// flush publishes, then emits.
func (g *Group) flush() {
	if g.changed {
		g.publish(time.Now())
	}
	for _, e := range g.events {
		g.s.o.Events.Emit(e)
	}
	clear(g.events)
	g.changed, g.events = false, g.events[:0]
}

// do runs f in the actor and waits; false when the group has ended.
func (g *Group) do(f func()) bool {
	ran := make(chan struct{})
	select {
	case g.ask <- func() { f(); g.flush(); close(ran) }:
		<-ran
		return true
	case <-g.done:
		return false
	}
}

// ClearMembers empties the member list ("clear crypto gdoi" at a key server). Keys
// stay; members are listed again as they register.
func (g *Group) ClearMembers() {
	g.do(func() {
		for _, m := range g.members {
			g.note(event.GMDeleted{GM: m.Addr, Group: g.Name()})
		}
		g.members, g.ageing = nil, time.Time{}
		clear(g.ends)
	})
}

// wake is when advance has something to do next; zero: never.
func (g *Group) wake() time.Time {
	w := g.ring.wake()
	if w.IsZero() || !g.ageing.IsZero() && g.ageing.Before(w) {
		w = g.ageing
	}
	return w
}

// advance rolls the keys over and takes members off the list that are gone.
func (g *Group) advance(now time.Time) {
	changed, err := g.ring.advance(now)
	if err != nil {
		g.s.o.Log.Error("new keys", "group", g.Name(), "error", err)
	}
	if changed {
		g.note()
	}
	g.age(now)
}

// reject counts, tells the member why if notify isn't 0, and ends the exchange.
func (g *Group) reject(c *conversation, reason string, notify isakmp.NotifyType, ev event.Event) {
	g.rejected[reason]++
	g.counters.PullsFailed++
	g.s.o.Log.Info("registration refused", "group", g.Name(), "peer", c.peer.Remote, "reason", reason)
	g.s.tell(c, notify)
	g.s.end(c)
	g.note()
	if ev != nil {
		g.note(ev)
	}
}

func identity(g *config.Group) model.GroupID {
	if g.HasNumber {
		return model.GroupID{Number: g.Number}
	}
	return model.GroupID{Addr: g.Address}
}

// version is the member's version as show commands print it.
func version(p ike.Peer) string {
	if c := capability(p); c != nil {
		return c.Version()
	}
	return "unknown"
}

func localAddr(p ike.Peer, l *config.LocalServer) netip.Addr {
	if l.Address.IsValid() {
		return l.Address
	}
	return p.Local.Addr()
}
