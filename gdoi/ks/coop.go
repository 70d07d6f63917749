package ks

// Cooperative key servers: the group's actor owns a coop.Machine, which says who is
// primary and carries keys, members and numbers between key servers. This file joins
// the two: what the machine is told, and what it sends. What follows from its results is
// in coop_role.go and its neighbours. A group without cooperative key servers has no
// machine and leads itself.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"getvpn/gdoi/coop"
	"getvpn/gdoi/policy"
	"getvpn/model"
	"getvpn/model/event"
)

// CoopSetup is a group's part among cooperative key servers.
type CoopSetup struct {
	Self     netip.Addr // our address as peers have it
	Priority uint8
	Peers    []netip.Addr
	// Refresh, Periodic, Retransmit are the protocol's timers; 0: the vendor's.
	Refresh, Periodic, Retransmit time.Duration
	Optimize                      bool
	// SIDs are the Sender IDs that this key server may give out.
	SIDs     []coop.SIDRange
	Software [3]uint8
}

// ranges are the Sender IDs that are given out; none: all.
func (c *CoopSetup) ranges() []coop.SIDRange {
	if c == nil {
		return nil
	}
	return c.SIDs
}

// Peers is the way to other key servers: phase-1 SAs, which several groups share.
type Peers interface {
	// Keep keeps an SA with a peer up until stop. state hears of each one once up and
	// once down, in order; identifiers rise with each new SA.
	Keep(peer, local netip.Addr, state func(session uint64, up bool)) (stop func())
	// Inform sends a message over the newest SA with the peer. It doesn't block.
	Inform(peer, local netip.Addr, data []byte) error
}

// cooperation is a group among others.
type cooperation struct {
	self  netip.Addr
	m     *coop.Machine
	box   *peerBox
	keeps map[netip.Addr]func()
	role  coop.Role
	keys  coop.KeysID // that the ring is

	began   coop.Output // of the machine's making, until the actor runs
	outbox  []coop.Send
	depth   int
	kept    [32]byte // of the numbers that are saved
	unsaved bool     // keys that were taken aren't saved yet: nobody may hear of them
	wrong   bool     // keys that came can't be used
	untaken *untaken // nor, perhaps, their KEK; nil: all can
	owes    bool     // a new primary hasn't put keys in force yet
	merging *merging
	relay   chan relayed
	stop    context.CancelFunc       // of what runs beside the actor
	late    bool                     // a new primary must tell members that the pseudotime has stepped
	ledgers map[netip.Addr]ledgerRow // of other key servers
	reset   bool                     // an operator has reset the role of the primary
	strange time.Time                // when an unknown peer was last told of
	zero    map[netip.Addr]model.CoopCounters
	refused map[coop.Reason]uint64

	loud, seqs, olds telling // refused messages
}

// coopConfig is what the machine is to do.
func (s *Setup) coopConfig() coop.Config {
	c := s.Coop
	k := coop.Config{Group: policy.GroupID(identity(&s.Group)).Body(), Self: c.Self, Priority: c.Priority, Peers: c.Peers,
		Refresh: c.Refresh, Periodic: c.Periodic, Retransmit: c.Retransmit, Optimize: c.Optimize, SIDs: c.SIDs, Software: c.Software,
		Skew: s.skew(), Items: s.coopItems()}
	if s.Rekey != nil && s.Rekey.Signer != nil {
		k.SigningKey = sha256.Sum256(s.Rekey.Signer.Public)
	}
	return k
}

// itemTBAR names the anti-replay policy among items.
const itemTBAR = "TBAR"

// skew is how far behind an announcement's pseudotime may be; 0: isn't looked at.
func (s *Setup) skew() (d time.Duration) {
	for _, e := range s.Entries {
		if w := policy.Skew(time.Duration(e.Replay.Window) * time.Second); timeBased(e.Replay) && (d == 0 || w < d) {
			d = w
		}
	}
	return d
}

// coopItems are the parts of the configuration that must be the same at all key servers.
func (s *Setup) coopItems() []coop.Item {
	var acl, profile, life, replay, rekey bytes.Buffer
	for _, e := range s.Entries {
		fmt.Fprintf(&acl, "%d %d %d\n", e.Seq, e.Direction, len(e.ACEs))
		for _, a := range e.ACEs {
			fmt.Fprintf(&acl, "%+v\n", a)
		}
		fmt.Fprintf(&profile, "%d %+v %v\n", e.Seq, e.Transform, e.Tag)
		fmt.Fprintf(&life, "%d %d\n", e.Seq, e.Lifetime)
		fmt.Fprintf(&replay, "%d %+v\n", e.Seq, e.Replay)
	}
	if r := s.Rekey; r != nil {
		fmt.Fprintf(&rekey, "%v %v %v %v %v %v %v %v %v", r.Cipher, r.KeyBits, r.Hash, r.Lifetime, r.Multicast, r.Ack, r.Retransmits, r.Interval, r.Periodic)
	}
	item := func(name string, b []byte) coop.Item {
		h := sha256.Sum256(b)
		return coop.Item{Name: name, Digest: [16]byte(h[:16])}
	}
	return []coop.Item{item("ACL", acl.Bytes()), item("profile", profile.Bytes()), item("lifetime", life.Bytes()),
		item(itemTBAR, replay.Bytes()), item("rekey", rekey.Bytes()), item("group size", fmt.Append(nil, s.SIDBits))}
}

// openCoop makes the machine of a group that has cooperative key servers.
func (g *Group) openCoop(d *durable) error {
	if g.setup.Coop == nil {
		return nil
	}
	m, out, err := coop.New(g.setup.coopConfig(), g.s.o.Rand, g.now())
	if err != nil {
		return err
	}
	c := &cooperation{self: g.setup.Coop.Self, m: m, box: newPeerBox(), keeps: map[netip.Addr]func(){}, began: out, refused: map[coop.Reason]uint64{}, zero: map[netip.Addr]model.CoopCounters{}, ledgers: map[netip.Addr]ledgerRow{},
		relay: make(chan relayed, relayQueue), stop: func() {}}
	g.coop = c
	g.inbox.Store(c.box)
	g.book.passing.Store(true)
	if d != nil && g.ring.active() {
		return g.recall(d)
	}
	return nil
}

// leads reports whether the group's keys are made here.
func (g *Group) leads() bool { return g.coop == nil || g.coop.role == coop.Primary }

// beginCoop takes up the peers.
func (g *Group) beginCoop() {
	if c := g.coop; c != nil {
		out := c.began
		c.began = coop.Output{}
		g.cooperate(out)
		g.keepPeers()
		g.tellLedger(g.now())
		g.retellMembers()
		if g.s.o.Push != nil {
			ctx, cancel := context.WithCancel(g.ctx)
			c.stop = cancel
			go g.relayer(ctx, c.relay)
		}
	}
}

// keepPeers keeps SAs with the peers that are configured, and no others.
func (g *Group) keepPeers() {
	c := g.coop
	if g.s.o.Peers == nil {
		return
	}
	want := map[netip.Addr]bool{}
	for _, p := range c.m.View().Peers {
		want[p.Addr] = true
		if a := p.Addr; c.keeps[a] == nil {
			c.keeps[a] = g.s.o.Peers.Keep(a, g.coop.self, func(id uint64, up bool) {
				c.box.put(peerMail{peer: a, session: id, up: up})
			})
		}
	}
	for a, stop := range c.keeps {
		if !want[a] {
			stop()
			delete(c.keeps, a)
		}
	}
}

// endCoop says farewell.
func (g *Group) endCoop() {
	if c := g.coop; c != nil {
		g.cooperate(c.m.Leave(g.now()))
		for _, stop := range c.keeps {
			stop()
		}
		clear(c.keeps)
		c.stop()
	}
}

// peers is ready when something has come from peers.
func (g *Group) peers() <-chan struct{} {
	if g.coop == nil {
		return nil
	}
	return g.coop.box.ready
}

// tickCoop does what is due in the machine.
func (g *Group) tickCoop(now time.Time) {
	if c := g.coop; c != nil {
		if w := c.m.Wake(); !w.IsZero() && !now.Before(w) {
			g.cooperate(c.m.Tick(now))
			g.note() // counters and timers, at least
		}
	}
}

// heard takes what has come from peers.
func (g *Group) heard() {
	c := g.coop
	for _, x := range c.box.take() {
		now := g.now()
		if x.data == nil {
			if x.up && g.leads() {
				g.restate(now)
			}
			g.cooperate(c.m.Session(x.peer, x.session, x.up, now))
			continue
		}
		if x.foreign && !slices.ContainsFunc(c.m.View().Peers, func(p coop.PeerView) bool { return p.Addr == x.peer }) {
			c.refused[coop.Unconfigured]++ // perhaps of another group
			continue
		}
		out, err := c.m.Receive(x.peer, x.session, x.data, now)
		if err != nil {
			g.refusedPeer(x.peer, err)
		}
		g.cooperate(out)
		g.mergeNow(now)
		g.hasten(now)
	}
	g.note() // counters, at least
}

// cooperate carries out what the machine says: results, then what is to be sent, which
// leaves once everything that it tells of is saved.
func (g *Group) cooperate(out coop.Output) {
	c := g.coop
	c.outbox = append(c.outbox, out.Send...)
	c.depth++
	for _, r := range out.Results {
		g.result(r)
	}
	if c.depth--; c.depth > 0 || len(c.outbox) == 0 && !c.unsaved {
		return
	}
	send := c.outbox
	c.outbox = nil
	if err := g.saveCoop(); err != nil {
		g.dirty = g.now().Add(retryAfter)
		g.s.o.Log.Error("state", "group", g.Name(), "error", err)
		return // peers ask again for what they miss
	}
	for _, x := range send {
		if g.s.o.Peers == nil {
			return
		}
		if err := g.s.o.Peers.Inform(x.To, g.coop.self, x.Data); err != nil {
			g.s.o.Log.Debug("message to a key server", "group", g.Name(), "peer", x.To, "error", err)
			if errors.Is(err, syscall.EMSGSIZE) {
				g.note(event.CoopPacketDropped{Octets: uint64(len(x.Data))})
			}
		}
	}
}

// saveCoop saves what a message may confirm, if it isn't yet: keys taken, and who may
// use which numbers under a KEK.
func (g *Group) saveCoop() error {
	c := g.coop
	if g.s.o.State == nil {
		c.unsaved = false
		return nil
	}
	if !c.unsaved && c.digest() == c.kept {
		return nil
	}
	return g.save()
}

// digest is of all that a restart must find again of numbers. Our own base isn't: what
// was reserved stands for it.
func (c *cooperation) digest() [32]byte {
	h := sha256.New()
	for _, k := range c.m.Numbers() {
		if k.Holders[0] == c.self {
			k.Base = 0
		}
		fmt.Fprintf(h, "%x %d %v %v\n", k.SPI, k.Base, k.Holders, k.Void)
	}
	return [32]byte(h.Sum(nil))
}
