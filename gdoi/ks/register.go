package ks

// A registration, step by step (RFC 6407 §3.4). Message 1 changes nothing but
// counters: it may be an old one. Message 2 is made from what is in force then, and
// that very offer, with its keys, is what message 4 delivers, unless the group has
// started a clean slate meanwhile. Only a good HASH(3) makes a member, takes Sender IDs
// and puts the first keys in force.

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/gdoi/policy"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

// registration is what a conversation holds between message 2 and 3.
type registration struct {
	offer *policy.Offer
	gen   Generation
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
	now := time.Now()
	g.counters.PullsStarted++
	gm := memberAddr(c.peer)
	if !g.setup.authorized(gm) {
		g.reject(c, "unauthorized-address", isakmp.NotifyAuthenticationFailed, event.UnauthorizedIPAddr{Group: g.Name(), GM: gm})
		return
	}
	if g.full(gm) {
		g.reject(c, "group-full", 0, nil)
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
	c.state = registration{offer: g.offer(ring, c.peer, now), gen: ring.gen}
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

// offer is the policy as it is now, for one member.
func (g *Group) offer(ring *keyring, p ike.Peer, now time.Time) *policy.Offer {
	o := &policy.Offer{}
	for i, e := range g.setup.Entries {
		var spis []uint32
		for _, t := range ring.teks[i] {
			left := t.expires.Sub(now).Truncate(time.Second)
			if left < time.Second {
				continue // as good as ended; its successor is there
			}
			spis = append(spis, t.spi)
			o.TEKs = append(o.TEKs, policy.TEK{SPI: t.spi, Transform: e.Transform, Lifetime: left, Age: now.Sub(t.created), HasAge: true,
				Direction: e.Direction, Replay: e.Replay, Key: t.key, AuthKey: t.authKey})
		}
		for _, a := range e.ACEs {
			x := policy.Entry{ACE: a}
			if a.Action == ipsec.Permit {
				x.SPIs = spis
			}
			o.Entries = append(o.Entries, x)
		}
	}
	if k, r := ring.kek, g.setup.Rekey; k != nil {
		o.KEK = &policy.KEK{SPI: k.spi, Src: netip.AddrPortFrom(localAddr(p, g.setup.Group.Local), rekeyPort),
			Dst: r.Multicast, Cipher: r.Cipher, KeyBits: r.KeyBits, Lifetime: k.expires.Sub(now).Truncate(time.Second),
			SigHash: r.Hash, SigAlg: gdoi.SigRSA, SigBits: r.Signer.Bits, IV: k.iv, Key: k.key, Public: r.Signer.Public}
		if !r.Multicast.IsValid() {
			o.KEK.Dst = p.Remote
		}
	}
	return o
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
	now := time.Now()
	if err := gdoi.CheckCapability(capability(c.peer), gap, g.need()); err != nil {
		g.rejectVersion(c, gdoi.ReasonOf(err))
		return
	}
	if g.full(memberAddr(c.peer)) {
		g.reject(c, "group-full", 0, nil)
		return
	}
	if err := g.inForce(c.state.gen); err != nil {
		g.fail(c, err)
		return
	}
	keys, err := g.senderIDs(c.state.offer, gap)
	if errors.Is(err, ErrNoSID) {
		g.note(event.KSNoSID{Group: g.Name()})
		g.reinit(now)
	}
	if err != nil {
		g.fail(c, err)
		return
	}
	d, err := c.r.Finish(0, c.state.offer.KD(keys))
	if err == nil {
		err = c.x.Send(d)
	}
	if err != nil {
		g.fail(c, err)
		return
	}
	g.registered(c, keys, now)
	if g.ledger != nil && g.ledger.Left() == 0 {
		g.reinit(now) // so that the next one finds new keys at once
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
	}
	g.s.o.Log.Error("registration", "group", g.Name(), "peer", c.peer.Remote, "error", err)
	g.reject(c, reason, 0, nil)
}

// inForce puts the first keys in force, or checks that the offer's still are.
func (g *Group) inForce(gen Generation) error {
	if g.ring.active() {
		if g.ring.gen != gen {
			return errStale
		}
		return nil
	}
	if g.pending == nil || g.pending.gen != gen {
		return errStale
	}
	if g.ledger != nil {
		if err := g.ledger.Reset(gen); err != nil {
			return errors.Join(errLedger, err)
		}
	}
	g.ring, g.pending = g.pending, nil
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

// reinit is the clean slate of RFC 6407 §3.5: all TEKs and the KEK go, Sender IDs
// start again under new keys. Members learn of it when they register again (their old
// keys work among them until then). If the disk refuses, the group stays without keys
// for new members until the next registration tries again.
func (g *Group) reinit(now time.Time) {
	r := g.emptyRing()
	err := r.reset(now)
	if err == nil && g.ledger != nil {
		err = g.ledger.Reset(r.gen)
	}
	if err != nil {
		g.s.o.Log.Error("a clean slate of keys", "group", g.Name(), "error", err)
		return
	}
	g.ring = r
	g.note(event.KSReinitFinish{Group: g.Name()})
}

// registered records the member.
func (g *Group) registered(c *conversation, keys policy.Keys, now time.Time) {
	gm := memberAddr(c.peer)
	g.counters.PullsCompleted++
	i, ok := slices.BinarySearchFunc(g.members, gm, func(m model.Member, a netip.Addr) int { return m.Addr.Compare(a) })
	if !ok {
		g.members = slices.Insert(g.members, i, model.Member{Addr: gm, Registered: now})
	}
	m := &g.members[i]
	m.Identity, m.Version = c.peer.Identity.String(), version(c.peer)
	m.LastPull, m.SIDs = now, keys.SIDs
	m.Registrations++
	g.expect(gm, c.state.offer, now)
	first := !g.seen
	g.seen = true
	g.s.end(c)
	if first {
		g.note(event.KSFirstGM{GM: gm, Group: g.Name()})
	}
	g.note(event.KSRegistrationComplete{Group: g.Name(), GM: gm})
}
