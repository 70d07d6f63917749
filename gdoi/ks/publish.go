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
		RetransmitCount: l.RekeyNumber, Members: slices.Clone(g.members), SIDBits: g.setup.SIDBits,
		Counters: g.counters, Rejected: maps.Clone(g.rejected),
	}
	if l.ReceiveOnly {
		k.Direction = ipsec.InboundOnly.String()
	}
	if lost := g.lost.Load(); lost > 0 {
		k.Rejected["mailbox-full"] = lost
	}
	if g.ledger != nil {
		k.SIDsUsed = g.ledger.Used()
	}
	if x, r := g.ring.kek, g.setup.Rekey; x != nil {
		k.KEK = &model.KEK{SPI: x.spi, Algorithm: policy.CipherText(r.Cipher), KeyBits: r.KeyBits, SigHash: policy.SigHashText(r.Hash),
			SigBits: r.Signer.Bits, Unicast: l.RekeyUnicast, Lifetime: r.Lifetime, Expires: x.expires}
	}
	for i, e := range g.setup.Entries {
		p := model.KSPolicy{Seq: e.Seq, Profile: e.Profile, ACL: e.ACL, ACEs: policy.ACEModels(e.ACEs), Lifetime: e.Lifetime,
			Replay: policy.ReplayModel(e.Replay)}
		if g.ring.active() {
			for _, t := range slices.Backward(g.ring.teks[i]) { // newest first
				if now.Before(t.expires) {
					p.TEKs = append(p.TEKs, tekModel(t, &e))
				}
			}
		}
		k.Policies = append(k.Policies, p)
	}
	g.s.o.Store.Update(func(m *model.Snapshot) { m.KeyServers = with(m.KeyServers, k) })
}

func tekModel(t *tek, e *SetupEntry) model.TEK {
	c, a := policy.KeyBytes(e.Transform)
	return model.TEK{SPI: t.spi, Transform: policy.TransformText(e.Transform), KeyBytes: c, AuthBytes: a,
		Tunnel: e.Transform.Mode == ipsec.Tunnel, Lifetime: e.Lifetime, Expires: t.expires,
		Replay: policy.ReplayModel(e.Replay), Direction: e.Direction.String()}
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
