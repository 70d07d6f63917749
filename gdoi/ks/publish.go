package ks

// The group's part of the management model.

import (
	"maps"
	"slices"
	"time"

	"getvpn/gdoi/policy"
	"getvpn/ipsec"
	"getvpn/model"
)

// publish puts the group as it is now into the store.
func (g *Group) publish(now time.Time) {
	grp, l := &g.setup.Group, g.setup.Group.Local
	k := model.KSGroup{
		Name: grp.Name, Identity: identity(grp), IPv6: grp.IPv6, Local: l.Address, Unicast: l.RekeyUnicast,
		Direction: ipsec.Both.String(), RekeyLifetime: l.RekeyLifetime, RetransmitPeriod: l.RekeyRetransmit,
		RetransmitCount: l.RekeyNumber, Members: g.roster.published(), SIDBits: g.setup.SIDBits, SIDsMax: 1 << g.setup.SIDBits,
		Counters: g.counters, Rejected: maps.Clone(g.rejected),
	}
	k.Coop = g.coopModel(now)
	g.countCoop(k.Rejected)
	k.Counters.AcksRcvd, k.Counters.OctetsCopied = g.roster.acks, g.roster.octets
	if g.round != nil {
		k.Unanswered = g.round.waits
	}
	if l.ReceiveOnly {
		k.Direction = ipsec.InboundOnly.String()
	}
	if lost := g.lost.Load(); lost > 0 {
		k.Rejected["mailbox-full"] = lost
	}
	if g.ledger != nil {
		k.SIDsUsed = g.ledger.Used()
		k.SIDsMax = g.ledger.max
	}
	if shed := g.shed.Load(); shed > 0 {
		k.Rejected["admission"] = shed
	}
	wall := g.s.time.Wall
	g.book.counts(k.Rejected)
	if x := g.ring.kek; x != nil {
		k.KEK = &model.KEK{SPI: x.spi, Algorithm: policy.CipherText(x.cipher), KeyBits: x.keyBits, SigHash: policy.SigHashText(x.hash),
			SigBits: x.signer.Bits, Unicast: !x.multicast.IsValid(), Lifetime: x.lifetime, Expires: wall(x.expires), Seq: x.seq.last, Public: x.signer.Public}
		if g.rekeying() {
			k.KEK.RekeyAt = wall(g.timing().kekDue(x))
		}
	}
	if g.rekeying() {
		k.NextRekey = wall(g.timing().next(g.ring, g.synced))
	}
	if g.pseudo.started {
		k.PseudotimeFrom = wall(g.pseudo.origin)
	}
	if g.acesOf != g.setup { // a hundred entries cost more to write than all the rest
		g.acesOf, g.aces = g.setup, nil
		for _, e := range g.setup.Entries {
			g.aces = append(g.aces, policy.ACEModels(e.ACEs))
		}
	}
	for i, e := range g.setup.Entries {
		p := model.KSPolicy{Seq: e.Seq, Profile: e.Profile, ACL: e.ACL, ACEs: g.aces[i], Lifetime: e.Lifetime,
			Replay: policy.ReplayModel(e.Replay)}
		if g.ring.active() {
			for _, t := range slices.Backward(g.ring.teks[i]) { // newest first
				if now.Before(t.expires) {
					p.TEKs = append(p.TEKs, tekModel(t, &e, wall(t.expires)))
				}
			}
			if len(p.TEKs) > 0 && g.rekeying() {
				p.TEKs[0].RekeyAt = wall(g.timing().tekDue(g.ring.teks[i]))
			}
		}
		k.Policies = append(k.Policies, p)
	}
	g.s.o.Store.Update(func(m *model.Snapshot) { m.KeyServers = with(m.KeyServers, k) })
}

func tekModel(t *tek, e *SetupEntry, expires time.Time) model.TEK {
	c, a := policy.KeyBytes(t.transform)
	return model.TEK{SPI: t.spi, Transform: policy.TransformText(t.transform), KeyBytes: c, AuthBytes: a,
		Tunnel: t.transform.Mode == ipsec.Tunnel, Lifetime: t.lifetime, Expires: expires,
		Replay: policy.ReplayModel(t.replay), Direction: e.Direction.String(), Tag: t.tag}
}

// with replaces the group of k's name, or adds it.
func with(list []model.KSGroup, k model.KSGroup) []model.KSGroup {
	out := slices.Clone(list)
	for i := range out {
		if out[i].Name == k.Name {
			out[i] = k
			return out
		}
	}
	return append(out, k)
}

func without(list []model.KSGroup, name string) []model.KSGroup {
	return slices.DeleteFunc(slices.Clone(list), func(k model.KSGroup) bool { return k.Name == name })
}
