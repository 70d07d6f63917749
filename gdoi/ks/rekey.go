package ks

// Rekeys: from what is due or ordered to a round of messages. A round carries the
// whole policy in force, under every KEK that a member in need may hold; its
// retransmissions take new numbers and go to who hasn't answered. The next round
// replaces the one before: it says everything again.

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/coop"
	"getvpn/model/event"
)

// order is what a rekey is to renew and how.
type order struct {
	teks    []int // entries that get a new TEK
	kek     bool
	shorten bool // what the new TEKs replace ends early
	replace bool // … ends now
	merge   bool // the ring holds another side's TEKs, which end at their time
	mode    string
}

// round is a rekey until everybody has answered or the next one follows.
type round struct {
	view    *view       // the policy that is sent; nil: the round only deletes
	del     gdoi.Delete // with it
	shorten bool
	top     uint32              // ord of the newest KEK that it is sent under
	brings  uint32              // ord of the KEK that members hold afterwards; 0: none
	targets []*member           // whom it is for
	waits   int                 // how many of them haven't answered, at the last look
	spared  map[netip.Addr]bool // targets that are back since: true; others: false
	sent    int                 // transmissions so far
	next    time.Time           // of the next one; zero: none follows
	closes  time.Time           // when silence is judged; zero: not yet known
	mode    string
	told    bool // the event
}

// liveKEK is a KEK that members may hold and acknowledge under.
type liveKEK struct {
	*kek
	until   time.Time // when it is forgotten
	release func()    // of its cookies at the endpoint
}

var (
	errNoRekeys = errors.New("the group has no rekeys: it names no rekey authentication key")
	errNoKeys   = errors.New("the group has no keys yet: no member has registered")
)

// rekeying reports whether the group tells its members of new keys.
func (g *Group) rekeying() bool {
	return g.leads() && g.setup.Rekey != nil && g.s.o.Push != nil && g.ring.active() && g.ring.kek != nil
}

// timing is what rekey times depend on now.
func (g *Group) timing() timing {
	r := g.setup.Rekey
	t := timing{members: g.roster.len(), fanout: g.fanout, sync: syncOf(g.setup.Entries)}
	if r != nil {
		t.retransmits, t.interval, t.unicast = r.Retransmits, r.Interval, r.Unicast()
	}
	return t
}

// rekey makes the keys that the order asks for and starts the round that tells
// members. On error nothing has changed.
func (g *Group) rekey(now time.Time, o order) error {
	ring := g.ring.clone()
	top := ring.kek
	if g.coop != nil && top != nil && g.coop.m.Lease(coop.SPI(top.spi)).Ends {
		o.kek = true
	}
	for _, i := range o.teks {
		if err := ring.renew(i, now); err != nil {
			return err
		}
	}
	if o.kek {
		if err := ring.renewKEK(now); err != nil {
			return err
		}
	}
	var del gdoi.Delete
	named := ring
	var left time.Duration
	switch {
	case o.merge:
		named, del, left = ring.united(now)
	case o.replace:
		for i := range ring.teks {
			del.TEKs = append(del.TEKs, ring.linger(i, now, g.lingers())...)
		}
	case o.shorten:
		for i := range ring.teks {
			ring.shorten(i, now)
		}
		named = ring.clone()
		for i := range named.teks {
			named.replace(i) // what isn't named is shortened by members
		}
	}
	if err := g.commit(ring, now); err != nil {
		return err
	}
	if o.replace || o.shorten {
		g.epoch++
	}
	if top == nil {
		return nil // a group that had no KEK has nobody to tell
	}
	v := g.view(named)
	if o.replace || o.shorten || o.merge {
		v.activate = g.activates() // either way members change over at once, not at an end
	}
	if o.replace {
		v.linger = g.lingers()
	}
	if o.merge {
		v.linger = max(left, g.lingers())
	}
	r := &round{view: v, del: del, shorten: o.shorten, top: g.topmost(top), targets: g.roster.all(), mode: o.mode}
	if ring.kek != nil {
		r.brings = ring.kek.ord
	}
	g.start(r, now)
	return nil
}

// commit puts a key ring in force once its state is saved.
func (g *Group) commit(ring *keyring, now time.Time) error {
	old := g.ring
	g.ring = ring
	if ring.kek != nil && ring.kek.seq.reserved == 0 {
		ring.kek.seq.reserved = seqBlock
	}
	if err := g.save(); err != nil {
		g.ring = old
		return err
	}
	g.listen(now)
	g.version++
	g.note()
	g.share(now)
	return nil
}

// start begins a round; the one before is over.
func (g *Group) start(r *round, now time.Time) {
	if g.round != nil {
		g.judge(g.round, now)
	}
	if g.job != nil {
		g.job.stop() // what it would still send, the new round says better
	}
	for _, m := range r.targets {
		m.settle()
		m.asked, m.learns = 0, r.brings
	}
	g.late, g.lateAt, g.round = nil, time.Time{}, r
	r.waits = len(r.targets)
	r.next = g.heldBy(now)
	g.counters.RekeysSent++
	g.counters.LastRetransmits = 0
	g.proceed(now)
	g.note()
}

// proceed sends what is to be sent now.
func (g *Group) proceed(now time.Time) {
	if g.job != nil || !g.retry.IsZero() && now.Before(g.retry) {
		return // the worker's report comes back here
	}
	r := g.round
	switch {
	case r == nil:
	case !r.next.IsZero() && !now.Before(r.next):
		g.transmit(r, now)
	case !r.closes.IsZero() && !now.Before(r.closes):
		g.judge(r, now)
		g.round = nil
		g.note()
	}
	if g.job == nil && !g.lateAt.IsZero() && !now.Before(g.lateAt) {
		g.catchUp(now)
	}
}

// transmit sends the round, again or for the first time.
func (g *Group) transmit(r *round, now time.Time) {
	to := r.wanting()
	if r.sent > 0 {
		if r.canWait() && !g.timing().retransmit(g.ring, now) {
			r.next, r.closes = time.Time{}, now.Add(ackWait)
			return
		}
		to = slices.DeleteFunc(to, (*member).answered) // all of them where nobody is asked to
		if len(to) == 0 {
			r.next, r.closes = time.Time{}, now
			g.proceed(now)
			return
		}
	}
	r.sent++
	r.next = time.Time{}
	legs, fresh := g.legs(r, to)
	if fresh {
		if err := g.save(); err != nil {
			r.sent--
			r.next = now.Add(retryAfter)
			g.failed(now, err)
			return
		}
	}
	if len(legs) == 0 {
		r.closes = now // nobody to tell
		return
	}
	g.spent(legs)
	if r.view != nil {
		g.synced = now
	}
	g.tell(r, legs[len(legs)-1])
	g.run(&job{round: r, legs: legs, again: r.sent > 1, started: now})
}

// wanting is a copy of the targets without those that are spared.
func (r *round) wanting() []*member {
	return slices.DeleteFunc(slices.Clone(r.targets), func(m *member) bool { return r.spared[m.row.Addr] })
}

// waitsFor reports whether a target hasn't answered and isn't spared.
func (r *round) waitsFor(m *member) bool { return !m.answered() && !r.spared[m.row.Addr] }

// count looks how many the round waits for.
func (r *round) count() {
	r.waits = 0
	for _, m := range r.targets {
		if r.waitsFor(m) {
			r.waits++
		}
	}
}

// canWait reports whether the next rekey is soon enough for who missed this one. Where
// keys are replaced members change over at activation, long before it; who is told to
// leave isn't told anything else.
func (r *round) canWait() bool { return r.view != nil && !r.shorten && len(r.del.TEKs) == 0 }

// legs sorts members by the KEK that they are reached under: the one they are known to
// hold, and, where that isn't sure, newer ones. fresh: numbers must be saved first.
func (g *Group) legs(r *round, to []*member) (legs []*leg, fresh bool) {
	by := map[uint32]*leg{}
	none := map[uint32]bool{} // KEKs whose numbers we may not use
	now := g.now()
	newest := g.newest(r.top)
	for _, m := range to {
		relay, direct := g.relays(m)
		for _, ord := range m.mayHold(newest, r.top) {
			k := g.keks[ord]
			if k == nil || !now.Before(k.expires) || none[ord] {
				continue
			}
			l := by[ord]
			if l == nil {
				n, f, ok := g.number(k.kek)
				if !ok {
					none[ord] = true
					continue
				}
				l = &leg{kek: k.kek, round: r, interop: g.setup.Group.Interop, group: g.s}
				l.seq, fresh = n, fresh || f
				by[ord] = l
				legs = append(legs, l)
			}
			if relay && !l.multicast.IsValid() {
				if l.relay == nil {
					l.relay = map[netip.Addr][]netip.Addr{}
				}
				l.relay[m.origin] = append(l.relay[m.origin], m.row.Addr)
				l.slots = append(l.slots, m.slot)
			}
			if m.asked == 0 {
				m.asked = stamp(ord, l.seq)
			}
			l.members = append(l.members, m)
			if direct && !l.multicast.IsValid() {
				l.to = append(l.to, target{m.path, g.source(m), m.slot})
			}
		}
	}
	for _, l := range legs {
		if l.multicast.IsValid() {
			l.to = []target{{l.multicast, g.source(l.members...), nil}}
		}
	}
	slices.SortFunc(legs, func(a, b *leg) int { return int(a.ord) - int(b.ord) })
	return legs, fresh
}

// source is the address that rekeys to these members come from.
func (g *Group) source(of ...*member) netip.Addr {
	if a := g.setup.Group.Local.Address; a.IsValid() {
		return a
	}
	if g.coop != nil {
		return g.coop.self
	}
	if len(of) > 0 {
		return of[0].local
	}
	return netip.Addr{}
}

// tell emits that a round is being sent, once.
func (g *Group) tell(r *round, l *leg) {
	if r.told {
		return
	}
	r.told = true
	if l.multicast.IsValid() {
		g.note(event.KSSendMcastRekey{Mode: r.mode, Group: g.Name(), KS: g.source(l.members...), Mcast: l.multicast.Addr(), Seq: l.seq})
		return
	}
	g.note(event.KSSendUnicastRekey{Mode: r.mode, Group: g.Name(), KS: g.source(l.members...), Seq: l.seq})
}

// run hands a transmission to a worker.
func (g *Group) run(j *job) {
	ctx, cancel := context.WithCancel(g.ctx)
	j.source = g.source()
	j.passOn = func(d []byte, to map[netip.Addr][]netip.Addr) {
		select {
		case g.ask <- func() { g.passOn(d, to) }:
		case <-ctx.Done():
		case <-g.done:
		}
	}
	j.stop, j.pseudo, j.now, j.done = cancel, g.pseudo, g.now, make(chan struct{})
	g.job = j
	go func() {
		res := j.work(ctx, g.s.o.Push, g.s.o.Rand)
		select {
		case g.ask <- func() { g.finished(j, res); g.flush() }:
		case <-g.done:
		}
	}()
}

// finished takes a worker's report.
func (g *Group) finished(j *job, res report) {
	j.stop()
	close(j.done)
	g.job = nil
	now := g.now()
	g.counters.RekeyDatagrams += uint64(res.sent)
	g.counters.RekeySendErrors += uint64(res.failed)
	if res.err != nil {
		g.s.o.Log.Error("rekey", "group", g.Name(), "error", res.err)
		g.note(event.KSRekeyFailed{Group: g.Name(), Reason: res.err.Error()})
	}
	end := g.ring.lastKey()
	for _, l := range j.legs {
		for _, m := range l.members {
			if j.again {
				m.row.RekeyRetries++
			} else {
				m.row.RekeysSent++
			}
			m.row.SentSeqs = push4(m.row.SentSeqs, l.seq)
			g.roster.touch(m)
			if j.round != nil && j.round.view != nil && (l.ack == 0 || !m.acknowledges()) && g.roster.find(m.row.Addr) == m {
				g.roster.lives(m, end) // it can't say so; the message says it
			}
		}
	}
	if j.again {
		g.counters.Retransmits++
		g.counters.LastRetransmits++
	}
	r := j.round
	if r != nil && r == g.round {
		if !j.again {
			g.fanout = max(now.Sub(j.started), time.Millisecond)
			g.counters.LastRekeyTook = now.Sub(j.started)
		}
		n, every, periodic := g.repeats()
		wait, more := again(r.sent, n, every, periodic)
		switch {
		case more:
			r.next = later(j.started.Add(wait), now)
			r.closes = time.Time{}
		default:
			r.closes = later(j.started.Add(max(ackWait, every)), now)
		}
	}
	g.note()
	g.advance(now)
}

// repeats is how rekeys are sent again.
func (g *Group) repeats() (n int, interval time.Duration, periodic bool) {
	if r := g.setup.Rekey; r != nil {
		return r.Retransmits, r.Interval, r.Periodic && r.Unicast()
	}
	return 0, 0, false
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// ejectAfter is how many rekeys in a row a member may leave unanswered.
const ejectAfter = 3

// judge ends a round: who was silent, what its members hold now. A round that was
// replaced before an answer could come says nothing of its members.
func (g *Group) judge(r *round, now time.Time) {
	g.acknowledged(now)
	if r.view == nil {
		for _, m := range r.targets {
			g.book.dropOf(m.row.Addr, m.slot)
		}
		return
	}
	if r.closes.IsZero() || now.Before(r.closes) {
		for _, m := range r.targets {
			m.settle()
		}
		return
	}
	silent := map[*member]bool{}
	for _, m := range r.targets {
		if m.asked == 0 || g.roster.find(m.row.Addr) != m {
			continue
		}
		if m.answered() {
			m.silent = 0
			m.settle()
			continue
		}
		if k := g.keks[uint32(m.asked>>32)]; k == nil || k.ack == 0 || !m.acknowledges() {
			if g.coop == nil || k == nil || k.ack == 0 { // another key server may know its answers
				m.holds = max(m.holds, r.brings) // it wasn't asked, or can't answer
			}
			if k == nil || k.ack == 0 {
				continue
			}
		}
		m.row.AcksMissed++
		g.roster.touch(m)
		m.silent++
		if m.acknowledges() && m.silent >= ejectAfter {
			silent[m] = true
		}
	}
	if len(silent) == 0 {
		return
	}
	gone := g.roster.remove(func(m *member) bool { return silent[m] })
	for _, m := range gone {
		g.counters.MembersEjected++
		g.note(event.KSMemberEjected{GM: m.row.Addr, Group: g.Name()})
		g.left(m)
	}
	g.untellMembers(gone)
}

// spare takes a member that is back off a round that tells it to delete everything.
func (g *Group) spare(a netip.Addr) {
	r := g.round
	if r == nil || r.view != nil {
		return
	}
	if r.spared == nil {
		r.spared = make(map[netip.Addr]bool, len(r.targets))
		for _, m := range r.targets {
			r.spared[m.row.Addr] = false
		}
	}
	if spared, target := r.spared[a]; target && !spared {
		r.spared[a] = true
		r.waits--
	}
}

// listen takes acknowledgements under the KEK in force.
func (g *Group) listen(now time.Time) {
	k := g.ring.kek
	if k == nil || g.s.o.Push == nil {
		return
	}
	old := g.keks[k.ord]
	if old != nil && old.kek == k {
		return
	}
	if old != nil {
		old.release()
	}
	g.hold(k)
}

// hold puts a KEK on the list of those that members may hold.
func (g *Group) hold(k *kek) {
	l := &liveKEK{kek: k, until: k.expires.Add(kekGrace), release: func() {}}
	if k.ack != 0 && g.s.o.Push != nil {
		ci, cr := k.spi.Cookies()
		l.release = g.s.o.Push.HandlePush(ci, cr, g.book.handler(k.ord, k.sa().AckKey(k.ack)))
	}
	g.keks[k.ord] = l
}

// kekGrace is how long after its end acknowledgements under a KEK are still read.
const kekGrace = 30 * time.Second

// expireKEKs forgets those that nobody can hold any more.
func (g *Group) expireKEKs(now time.Time) {
	for ord, k := range g.keks {
		if !now.Before(k.until) {
			k.release()
			delete(g.keks, ord)
		}
	}
}
