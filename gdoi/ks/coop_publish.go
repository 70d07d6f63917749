package ks

// Cooperative key servers in the management model.

import (
	"time"

	"getvpn/gdoi/coop"
	"getvpn/model"
)

// coopModel is what the model shows; nil without other key servers.
func (g *Group) coopModel(now time.Time) *model.Coop {
	c := g.coop
	if c == nil {
		return nil
	}
	v, s := c.m.View(), g.setup.Coop
	protocol := [3]uint8{coop.Major, coop.Minor, 0}
	out := &model.Coop{Local: s.Self, Priority: int(s.Priority), Role: model.CoopRole(v.Role), Primary: v.Primary, Version: s.Software, Protocol: protocol,
		Refresh: v.Refresh, Periodic: v.Periodic, Retries: v.Retries, Invalid: v.Invalid, Gate: model.CoopGate(v.Gate), Sequence: v.Sequence,
		SIDs: sidModel(s.SIDs), OldSIDs: sidModel(g.formerSIDs()), Reinit: g.needsSIDs() && g.ring.active() && !g.givesSIDs()}
	if v.Role != coop.Electing {
		out.Next = g.s.time.Wall(now.Add(v.Remaining))
	}
	for _, p := range v.Peers {
		x := model.CoopPeer{Addr: p.Addr, Role: model.CoopRole(p.Role), Priority: int(p.Priority), Version: p.Software, Optimize: p.Optimize,
			Sequence: p.Sequence, IKE: p.IKE, Registered: p.Registered, SIDs: sidModel(p.SIDs), Overlap: p.Overlap, Counters: since(model.CoopCounters(p.Counters), c.zero[p.Addr])}
		if _, ok := c.ledgers[p.Addr]; ok && x.Registered > 0 {
			x.Registered-- // its ledger is a row too
		}
		switch {
		case p.Alive:
			x.Status, x.Protocol = model.CoopAlive, protocol
		case p.Dead:
			x.Status = model.CoopDead
		}
		out.Peers = append(out.Peers, x)
	}
	return out
}

// since are counters without what they were when they were cleared.
func since(n, z model.CoopCounters) model.CoopCounters {
	return model.CoopCounters{AnnSent: n.AnnSent - z.AnnSent, AnnSentAsking: n.AnnSentAsking - z.AnnSentAsking,
		AnnRcvd: n.AnnRcvd - z.AnnRcvd, AnnRcvdAsking: n.AnnRcvdAsking - z.AnnRcvdAsking,
		SentDrops: n.SentDrops - z.SentDrops, RcvdDrops: n.RcvdDrops - z.RcvdDrops,
		OctetsSent: n.OctetsSent - z.OctetsSent, OctetsRcvd: n.OctetsRcvd - z.OctetsRcvd, Resent: n.Resent - z.Resent}
}

func sidModel(l []coop.SIDRange) (out []model.SIDRange) {
	for _, r := range l {
		out = append(out, model.SIDRange(r))
	}
	return out
}

// ClearCoopCounters is "clear crypto gdoi ks coop counters".
func (g *Group) ClearCoopCounters() error {
	return g.call(func() error {
		if g.coop == nil {
			return errAlone
		}
		for _, p := range g.coop.m.View().Peers {
			g.coop.zero[p.Addr] = model.CoopCounters(p.Counters)
		}
		clear(g.coop.refused)
		g.coop.box.lost.Store(0)
		g.note()
		return nil
	})
}

// countCoop adds messages of key servers that were refused to a tally, by reason.
func (g *Group) countCoop(to map[string]uint64) {
	if c := g.coop; c != nil {
		for r, n := range c.refused {
			to[string(r)] = n
		}
		if n := c.box.lost.Load(); n > 0 {
			to["coop-mailbox-full"] = n
		}
	}
}
