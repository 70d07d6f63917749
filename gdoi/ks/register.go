package ks

// A registration, step by step (RFC 6407 §3.4). Message 1 changes nothing but
// counters: it may be an old one. Message 2 is made from what is in force then, and
// that very offer, with its keys, is what message 4 delivers, unless the group has
// started a clean slate meanwhile. Only a good HASH(3) makes a member, takes Sender IDs
// and puts the first keys in force.

import (
	"errors"
	"net/netip"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/coop"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/gdoi/policy"
	"getvpn/model/event"
)

// registration is what a conversation holds between message 2 and 3.
type registration struct {
	offer   *policy.Offer
	gen     Generation
	keys    coop.KeysID // among cooperative key servers
	epoch   uint64
	version uint64
	kek     *kek   // nil: the group has no rekeys
	seq     uint32 // used last under it when the offer was made
}

// pendingAge is how long keys that nobody has are offered before they are made anew.
const pendingAge = 30 * time.Second

// need are the features without which a member can't follow a group's policy.
func (g *Group) need() gdoi.Feature {
	if g.setup.Group.Interop {
		return 0
	}
	return gdoi.FeatureDenyEntries | gdoi.FeatureReplay
}

func capability(p ike.Peer) *gdoi.Capability { return gdoi.CapabilityOf(p.VendorIDs) }

// first answers message 1, which the server has read.
func (g *Group) first(c *conversation) {
	now := g.now()
	g.counters.PullsStarted++
	gm := memberAddr(c.peer)
	if !g.setup.authorized(gm) {
		g.reject(c, "unauthorized-address", isakmp.NotifyAuthenticationFailed, event.UnauthorizedIPAddr{Group: g.Name(), GM: gm})
		return
	}
	if g.roster.full(gm) {
		g.reject(c, "group-full", 0, nil)
		return
	}
	if why := g.blocked(); why != "" {
		g.reject(c, why, 0, g.blockedEvent(why, gm))
		return
	}
	if need := g.need(); need != 0 {
		if v := capability(c.peer); v == nil || !v.Has(need) {
			g.rejectVersion(c, gdoi.CapabilityMissing.String())
			return
		}
	}
	ring, err := g.offered(now)
	if err != nil {
		g.reject(c, "no-keys", 0, nil)
		g.s.o.Log.Error("new keys", "group", g.Name(), "error", err)
		return
	}
	c.state = g.registration(ring, c.peer, now)
	sa, err := c.state.offer.SA(g.setup.Group.Interop)
	if err == nil {
		var d []byte
		if d, err = c.r.Answer(sa); err == nil {
			err = c.x.Send(d)
		}
	}
	if err != nil {
		g.reject(c, "internal", 0, nil)
		g.s.o.Log.Error("message 2", "group", g.Name(), "peer", c.peer.Remote, "error", err)
	}
}

func (g *Group) rejectVersion(c *conversation, reason string) {
	g.reject(c, reason, isakmp.NotifyNoProposalChosen, event.KSRejectVersion{GM: memberAddr(c.peer), Version: version(c.peer),
		Group: g.Name(), Features: "deny access list entries, replay policy"})
}

// offered is the key ring that a new registration is offered: what is in force, or
// before the first member keys that are not in force yet.
func (g *Group) offered(now time.Time) (*keyring, error) {
	if g.ring.active() {
		return g.ring, nil
	}
	if g.pending == nil || now.Sub(g.pending.teks[0][0].created) > pendingAge {
		r := g.emptyRing()
		if err := r.reset(now); err != nil {
			return nil, err
		}
		g.pending = r
	}
	return g.pending, nil
}

// registration is what a member is offered now.
func (g *Group) registration(ring *keyring, p ike.Peer, now time.Time) registration {
	v := g.view(ring)
	r := registration{offer: v.offer(now, g.pseudo.at(now)), gen: ring.gen, epoch: g.epoch, version: g.version, kek: ring.kek}
	if g.coop != nil {
		r.keys = g.coop.keys
	}
	if !g.ring.active() {
		r.version++ // the first keys' coming into force changes nothing for those who were offered them
	}
	if ring.kek != nil {
		v.with(r.offer, localAddr(p, g.setup.Group.Local), p.Remote, now)
		r.seq = ring.kek.seq.last
		r.offer.KEK.Seq = r.seq
	}
	return r
}

// third takes message 3 and answers with the keys.
func (g *Group) third(c *conversation, datagram []byte) {
	if c.state.offer == nil {
		g.reject(c, gdoi.OutOfState.String(), 0, nil)
		return
	}
	gap, err := c.r.HandleThird(datagram)
	if err != nil {
		g.badThird(c, err)
		return
	}
	now := g.now()
	if err := gdoi.CheckCapability(capability(c.peer), gap, g.need()); err != nil {
		g.rejectVersion(c, gdoi.ReasonOf(err))
		return
	}
	if g.roster.full(memberAddr(c.peer)) {
		g.reject(c, "group-full", 0, nil)
		return
	}
	if err := g.inForce(&c.state, now); err != nil {
		g.fail(c, err)
		return
	}
	if why := g.withoutSIDs(c.state.offer); why != "" {
		g.reject(c, why, 0, nil)
		return
	}
	keys, err := g.senderIDs(c.state.offer, gap)
	if errors.Is(err, ErrNoSID) {
		g.note(event.KSNoSID{Group: g.Name()})
		if g.leads() {
			g.reinit(now)
		} else {
			g.tellLedger(now)
		}
	}
	if err != nil {
		g.fail(c, err)
		return
	}
	d, err := c.r.Finish(c.state.seq, c.state.offer.KD(keys))
	if err == nil {
		err = c.x.Send(d)
	}
	if err != nil {
		g.fail(c, err)
		return
	}
	g.registered(c, keys, now)
	if g.ledger != nil && g.ledger.Left() == 0 && g.leads() {
		// So that the next one finds new keys; the last one installs its own before it
		// is told to delete them.
		g.exhausted = now.Add(lateAfter)
	}
}

// badThird: a message that isn't the genuine one changes nothing and the genuine one
// still counts; an authentic one that can't be taken ends the exchange.
func (g *Group) badThird(c *conversation, err error) {
	reason := gdoi.ReasonOf(err)
	var ev event.Event
	if reason == gdoi.BadHash.String() {
		ev = event.KSHashFail{GM: memberAddr(c.peer)}
	}
	if gdoi.IsFatal(err) {
		g.reject(c, reason, 0, ev)
		return
	}
	g.rejected[reason]++
	g.note()
	if ev != nil {
		g.note(ev)
	}
}

var (
	errStale  = errors.New("ks: the group has new keys since message 2")
	errLedger = errors.New("ks: Sender IDs can't be reserved")
	errState  = errors.New("ks: the group's state can't be saved")
)

func (g *Group) fail(c *conversation, err error) {
	reason := "internal"
	switch {
	case errors.Is(err, errStale):
		reason = "stale-offer"
	case errors.Is(err, ErrNoSID):
		reason = "no-sender-id"
	case errors.Is(err, errLedger):
		reason = "sender-id-ledger"
	case errors.Is(err, errState):
		reason = "state-not-saved"
	}
	g.s.o.Log.Error("registration", "group", g.Name(), "peer", c.peer.Remote, "error", err)
	g.reject(c, reason, 0, nil)
}

// inForce puts the first keys in force, or checks that the offer's still are.
func (g *Group) inForce(r *registration, now time.Time) error {
	if g.ring.active() {
		if g.ring.gen != r.gen || g.epoch != r.epoch {
			return errStale
		}
		return nil
	}
	if g.pending == nil || g.pending.gen != r.gen || g.epoch != r.epoch {
		return errStale
	}
	if g.ledger != nil {
		if err := g.ledger.Reset(r.gen); err != nil {
			return errors.Join(errLedger, err)
		}
	}
	if err := g.commit(g.pending, now); err != nil {
		return errors.Join(errState, err)
	}
	g.pending, g.synced = nil, now
	g.pseudo.start(now)
	return nil
}

// maxSIDs is how many Sender IDs one registration gets, at most.
const maxSIDs = 64

func (g *Group) senderIDs(o *policy.Offer, gap *gdoi.GAP) (policy.Keys, error) {
	if g.ledger == nil || !o.Counter() {
		return policy.Keys{}, nil
	}
	n := 1
	if gap != nil && gap.SIDRequest > 1 {
		// One member can't use up a small space.
		n = min(int(gap.SIDRequest), maxSIDs, max(1, 1<<g.setup.SIDBits/64))
	}
	sids, err := g.ledger.Take(n)
	if err != nil {
		if !errors.Is(err, ErrNoSID) {
			err = errors.Join(errLedger, err)
		}
		return policy.Keys{}, err
	}
	return policy.Keys{SIDBits: g.setup.SIDBits, SIDs: sids}, nil
}

// reinit is the clean slate of RFC 6407 §3.5: the key server's TEKs and KEK go, Sender
// IDs start again under new keys. A rekey tells the members (its step 6); they register
// again with jitter. If the disk refuses, the group stays without keys for new members
// until the next registration tries again.
//
// Step 6 would have members delete their TEKs at once, and traffic stop until all are
// back. Ours lose the KEK and shorten their TEKs: whoever has a Sender ID under an old key
// is the only one that has it, and nobody gets another under that key, so members may
// send with it until all have the new ones. In an interop group the order is literal:
// others may not come back for a lost KEK.
func (g *Group) reinit(now time.Time) {
	g.anew(gdoi.Delete{AllTEKs: g.setup.Group.Interop, AllKEKs: true}, now)
}

// anew is a clean slate with a word of its own for the members.
func (g *Group) anew(del gdoi.Delete, now time.Time) {
	g.exhausted = time.Time{}
	r, last := g.emptyRing(), g.ring.kek
	r.ended = remember(remember(g.ring.ended, g.ring.contains...), g.ring.gen)
	err := r.reset(now)
	if err == nil && g.ledger != nil {
		err = g.ledger.Reset(r.gen)
	}
	if err == nil {
		err = g.farewell(r, del, now)
	}
	if err != nil {
		g.s.o.Log.Error("a clean slate of keys", "group", g.Name(), "error", err)
		return
	}
	if last != nil {
		g.lastEnd = last.ord
	}
	g.lowSIDs = false
	g.listLedgers(now)
	g.note(event.KSReinitFinish{Group: g.Name()})
}

// registered records the member.
func (g *Group) registered(c *conversation, keys policy.Keys, now time.Time) {
	gm := memberAddr(c.peer)
	g.counters.PullsCompleted++
	wall := g.s.time.Wall(now)
	m := g.roster.join(gm, alias(c.peer), wall)
	m.row.Identity, m.row.Version = c.peer.Identity.String(), version(c.peer)
	m.row.LastPull, m.row.SIDs = wall, keys.SIDs
	m.row.Registrations++
	g.roster.touch(m)
	m.path, m.local, m.silent, m.asked = c.peer.Remote, c.peer.Local.Addr(), 0, 0
	if a := g.setup.Group.Local.Address; a.IsValid() {
		m.local = a
	}
	m.holds, m.learns = 0, 0
	m.origin, m.nat, m.gen = netip.Addr{}, c.peer.NATT, c.state.gen
	if k := c.state.kek; k != nil {
		m.holds = k.ord
		if c.state.version != g.version && g.leads() {
			g.missed(m, now)
		}
	}
	g.expect(m, c.state.offer, now)
	g.spare(gm)
	g.tellMember(m, c.state.keys)
	first := !g.seen
	g.seen = true
	g.s.end(c)
	g.unsaved(now)
	if first {
		g.note(event.KSFirstGM{GM: gm, Group: g.Name()})
	}
	g.note(event.KSRegistrationComplete{Group: g.Name(), GM: gm})
	g.warnSIDs()
}

// warnSIDs tells once when three quarters of the Sender IDs are used up.
func (g *Group) warnSIDs() {
	if g.ledger == nil || g.lowSIDs || g.ledger.Used() < g.ledger.max/4*3 {
		return
	}
	g.lowSIDs = true
	g.note(event.KSSIDsLow{Group: g.Name(), Used: g.ledger.Used(), Max: g.ledger.max})
}

// alias is the address that a member calls itself by: another one than we see when it
// is behind a NAT.
func alias(p ike.Peer) netip.Addr {
	if a, err := netip.ParseAddr(p.Identity.String()); err == nil {
		return a.Unmap()
	}
	return memberAddr(p)
}
