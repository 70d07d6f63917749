package ks

// The actor of one group: it owns keys, Sender IDs and members.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
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
	box   chan mail
	ask   chan func()   // from our own side: never dropped
	kick  chan struct{} // look at the clock again
	done  chan struct{}
	lost  atomic.Uint64 // mails that didn't fit
	shed  atomic.Uint64 // first messages that were held back so that others can finish
	book  *ackBook
	inbox atomic.Pointer[peerBox] // messages of other key servers; nil: there are none

	// Below: the actor's own.
	ctx     context.Context // of Run
	setup   *Setup          // in force
	want    *Setup          // as configured: what waits for Clear is only here
	ring    *keyring        // in force; empty until the first member has registered
	pending *keyring        // offered to whoever registers first, until it has proved to be alive
	ledger  *Ledger
	former  []sharedLedger // ours of before its ranges changed
	roster  *roster
	keks    map[uint32]*liveKEK // by ord: those that members may still hold
	pseudo  pseudoClock

	round   *round // the rekey that members are being told
	job     *job   // a transmission that a worker is busy with
	late    []latecomer
	lateAt  time.Time // when they are told; zero: there are none
	lastEnd uint32    // ord of the last KEK whose holders all had to leave; 0: there was none
	version uint64    // of the policy: rises with every change that members must hear of
	epoch   uint64    // rises when what was offered before can't be delivered any more
	synced  time.Time // when members last heard the pseudotime
	fanout  time.Duration
	retry   time.Time     // nothing is tried before: the last try failed
	folded  time.Time     // when the slots were looked at last
	folds   time.Time     // when they will be; zero: nothing has arrived
	strayed time.Time     // when an unsolicited acknowledgement was last told of
	dirty   time.Time     // when unsaved state must be saved; zero: it is
	saving  time.Duration // how long that took last
	ended   bool
	again   bool         // members must register again, once all key servers are reachable
	owed    *order       // what members must be told first, after a restart; nil: nothing
	slated  string       // why Run begins with a clean slate; "": it doesn't
	unkept  bool         // keys in force that are not saved yet
	coop    *cooperation // nil: no other key server

	exhausted time.Time // when a clean slate follows the last Sender ID; zero: some are left

	seen     bool // a first member was announced
	lowSIDs  bool // three quarters were announced
	counters model.KSCounters
	rejected map[string]uint64
	acesOf   *Setup // whose lists …
	aces     [][]model.ACE
	changed  bool          // since the last flush
	events   []event.Event // to be emitted after the next flush
}

// mail is a datagram for a registration; nil when message 1 has been read.
type mail struct {
	c        *conversation
	datagram []byte
}

const (
	// mailbox is how many datagrams wait for a group, at most.
	mailbox = 1024
	// admitted is how many of them may be first messages: when a whole group comes
	// back at once, registrations under way go through and new ones wait their turn.
	admitted = mailbox * 3 / 4
)

func newGroup(s *Server, setup *Setup) (*Group, error) {
	g := &Group{s: s, setup: setup, want: setup, box: make(chan mail, mailbox), ask: make(chan func()), kick: make(chan struct{}, 1),
		done: make(chan struct{}), book: newAckBook(), ctx: context.Background(), keks: map[uint32]*liveKEK{}, rejected: map[string]uint64{}}
	g.roster = newRoster(g.book)
	g.ring = g.emptyRing()
	resumed, err := g.resume()
	if err != nil {
		return nil, fmt.Errorf("ks: group %s: %w", setup.Group.Name, err)
	}
	if err := g.openCoop(resumed); err != nil {
		return nil, fmt.Errorf("ks: group %s: %w", setup.Group.Name, err)
	}
	if resumed == nil {
		if err := g.openLedger(); err != nil {
			return nil, fmt.Errorf("ks: group %s: %w", setup.Group.Name, err)
		}
	}
	if r := setup.Rekey; r != nil && r.Ack != 0 && setup.Group.Local.RekeyAck == config.AckCisco {
		g.note(event.KSAckForm{Group: g.Name()})
	}
	return g, nil
}

// openLedger opens a ledger for keys that nobody has yet: whatever it says is of keys
// that are gone, and the first registration resets it.
func (g *Group) openLedger() error {
	if !g.needsSIDs() {
		return nil
	}
	var fresh Generation
	if _, err := io.ReadFull(g.s.o.Rand, fresh[:]); err != nil {
		return err
	}
	l, _, err := g.ledgerStore().Open(fresh, g.setup.SIDBits)
	if err != nil {
		return err
	}
	g.ledger = l
	return nil
}

// ledgerStore is where the group's ledger is kept.
func (g *Group) ledgerStore() LedgerStore {
	o := &g.s.o
	s := LedgerStore{Files: o.Files, Path: LedgerPath(o.Dir, g.Name()), Machine: o.Machine, Moment: o.Moment, Rand: o.Rand}
	s.Ranges = g.setup.Coop.ranges()
	if o.Marks != "" {
		s.Mark = LedgerPath(o.Marks, g.Name())
	}
	return s
}

// emptyRing has no keys; KEKs are counted on.
func (g *Group) emptyRing() *keyring {
	var specs []keySpec
	for i := range g.setup.Entries {
		specs = append(specs, g.setup.Entries[i].keys())
	}
	r := newKeyring(specs, g.setup.Rekey.kekSpec(), g.s.o.Rand)
	r.bits = g.setup.SIDBits
	if g.ring != nil {
		r.ord = g.ring.ord
	}
	return r
}

// needsSIDs reports whether members send in a counter mode.
func (g *Group) needsSIDs() bool {
	return slices.ContainsFunc(g.setup.Entries, func(e SetupEntry) bool { return e.Transform.Counter() })
}

// Name is the group's name.
func (g *Group) Name() string { return g.setup.Group.Name }

// Dropped counts datagrams that found the mailbox full.
func (g *Group) Dropped() uint64 { return g.lost.Load() }

// now is the present on the server's time line, which counts suspended time.
func (g *Group) now() time.Time { return g.s.time.Now() }

// post never blocks. First messages leave room for those of registrations under way.
func (g *Group) post(c *conversation, datagram []byte) bool {
	if datagram == nil && len(g.box) >= admitted {
		g.shed.Add(1)
		return false
	}
	select {
	case g.box <- mail{c, datagram}:
		return true
	default:
		g.lost.Add(1)
		return false
	}
}

// longestSleep bounds how late a timer can be after the machine was suspended.
const longestSleep = 10 * time.Minute

// Run serves the group until ctx ends, then saves its state and closes the ledger.
func (g *Group) Run(ctx context.Context) {
	defer close(g.done)
	work, stop := context.WithCancel(ctx)
	defer stop()
	g.ctx = work
	g.begin(g.now())
	g.beginCoop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if w := g.wake(); w.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(min(g.s.time.Until(w), longestSleep))
		}
		select {
		case <-ctx.Done():
			g.end()
			return
		case m := <-g.box:
			g.advance(g.now())
			if m.datagram == nil {
				g.first(m.c)
			} else {
				g.third(m.c, m.datagram)
			}
		case f := <-g.ask:
			f()
		case <-g.peers():
			g.heard()
			g.advance(g.now())
		case <-g.book.arrived:
			if now := g.now(); g.folds.IsZero() {
				g.folds = g.folded.Add(ackPublish)
				g.advance(now)
			}
		case <-g.kick:
			g.advance(g.now())
		case <-timer.C:
			g.advance(g.now())
		}
		if len(g.box) == 0 || len(g.events) >= flushAt {
			g.flush()
		}
	}
}

// end leaves everything as a successor needs it.
func (g *Group) end() {
	if g.job != nil {
		g.job.stop()
	}
	g.endCoop()
	for _, k := range g.keks {
		k.release()
		k.seq.reserved = k.seq.last // an orderly end skips no number
	}
	g.ended = true
	if err := g.save(); err != nil {
		g.s.o.Log.Warn("state", "group", g.Name(), "error", err)
	}
	if g.ledger != nil {
		if err := g.ledger.Close(); err != nil {
			g.s.o.Log.Warn("Sender ID ledger", "group", g.Name(), "error", err)
		}
	}
}

// flushAt is how many events wait, at most, while more datagrams do: a crowd that
// registers is published in groups, which share the pages that are copied.
const flushAt = 128

// note says that the group has changed, and what is to be told once that is published.
func (g *Group) note(events ...event.Event) {
	g.changed = true
	g.events = append(g.events, events...)
}

// flush publishes, then emits.
func (g *Group) flush() {
	if g.changed {
		g.publish(g.now())
	}
	for _, e := range g.events {
		g.s.o.Events.Emit(e)
	}
	clear(g.events)
	g.changed, g.events = false, g.events[:0]
}

// ErrEnded reports that a group's actor doesn't run any more.
var ErrEnded = errors.New("ks: the group has ended")

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

// call is do for what can fail.
func (g *Group) call(f func() error) error {
	var err error
	if !g.do(func() { err = f() }) {
		return ErrEnded
	}
	return err
}

// wake is when advance has something to do next; zero: never.
func (g *Group) wake() time.Time {
	var w time.Time
	if g.rekeying() {
		w = g.timing().next(g.ring, g.synced)
		for _, list := range g.ring.teks {
			if len(list) > 1 {
				for _, t := range list {
					w = earlier(w, t.expires)
				}
			}
		}
	} else if g.leads() {
		w = g.ring.wake()
	} else {
		w = g.ring.ends()
	}
	if r := g.round; r != nil && g.job == nil {
		w = earlier(earlier(w, r.next), r.closes)
	}
	if g.job == nil {
		w = earlier(w, g.lateAt)
	}
	if g.owed != nil && g.leads() || g.ready() {
		w = g.now()
	}
	if !g.retry.IsZero() && w.Before(g.retry) {
		w = g.retry
	}
	if g.coop != nil {
		w = earlier(w, g.coop.m.Wake())
		if x := g.coop.merging; x != nil {
			w = earlier(w, later(x.until, g.retry))
		}
	}
	if g.leads() {
		w = earlier(w, g.roster.ageing)
	}
	w = earlier(earlier(w, g.folds), g.exhausted)
	for _, k := range g.keks {
		w = earlier(w, k.until)
	}
	return earlier(w, g.dirty)
}

// advance does what is due: keys, rekeys, retransmissions, members that are gone.
func (g *Group) advance(now time.Time) {
	if !g.folds.IsZero() && !now.Before(g.folds) {
		g.acknowledged(now)
	}
	g.expireKEKs(now)
	g.tickCoop(now)
	if !g.exhausted.IsZero() && !now.Before(g.exhausted) {
		g.reinit(now)
	}
	if g.retry.IsZero() || !now.Before(g.retry) {
		g.retry = time.Time{}
		g.renew(now)
	}
	g.proceed(now)
	g.age(now)
	if !g.dirty.IsZero() && !now.Before(g.dirty) {
		if err := g.save(); err != nil {
			g.dirty = now.Add(retryAfter)
			g.s.o.Log.Error("state", "group", g.Name(), "error", err)
		}
	}
}

// renew rolls the keys over and starts the rekey that is due.
func (g *Group) renew(now time.Time) {
	if !g.leads() {
		if g.ring.expire(now) {
			g.note()
		}
		return
	}
	g.lead(now)
	g.mergeNow(now)
	g.makeGood(now)
	if !g.rekeying() {
		changed, err := g.ring.advance(now)
		if err != nil {
			g.retry = now.Add(retryAfter)
			g.s.o.Log.Error("new keys", "group", g.Name(), "error", err)
		}
		if changed {
			g.version++
			g.unsaved(now)
			g.note()
		}
		return
	}
	if g.ring.expire(now) {
		g.note()
	}
	if g.repay(now) {
		return
	}
	if n := g.timing().due(g.ring, g.synced, now); n.any() {
		if err := g.rekey(now, order{teks: n.teks, kek: n.kek}); err != nil {
			g.failed(now, err)
		}
	}
}

// retryAfter is the pause after something that failed.
const retryAfter = 5 * time.Second

// failed puts a rekey off.
func (g *Group) failed(now time.Time, err error) {
	g.retry = now.Add(retryAfter)
	g.s.o.Log.Error("rekey", "group", g.Name(), "error", err)
	g.note(event.KSRekeyFailed{Group: g.Name(), Reason: err.Error()})
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
