package gm

// The member's part of the management model.

import (
	"maps"
	"slices"
	"time"

	"getvpn/gdoi/policy"
	"getvpn/ipsec"
	"getvpn/model"
)

// publish puts the group as it is now into the store.
func (m *Member) publish(now time.Time) {
	g := m.pub
	g.Status = m.status()
	g.FailuresByReason = maps.Clone(m.reasons)
	g.ReRegisters = time.Time{}
	if m.registered {
		g.ReRegisters = m.wall(m.attempt)
	}
	g.DownloadedACEs = nil
	for _, e := range m.h.entries {
		g.DownloadedACEs = append(g.DownloadedACEs, model.ACE{Text: e.ACE.String()})
	}
	unicast := m.h.kek != nil && m.h.kek.Dst.Addr().IsValid() && !m.h.kek.Dst.Addr().IsMulticast()
	if g.KEK = policy.KEKModel(m.h.kek, unicast); g.KEK != nil {
		g.KEK.Expires = m.wall(m.h.kekEnds)
		if r := m.kekNow(); r != nil {
			g.KEK.Seq = r.last
		}
	}
	g.PreviousKEK = nil
	if n := len(m.keks); n > 1 {
		r := m.keks[n-2]
		g.PreviousKEK = &model.KEK{SPI: r.sa.SPI, Seq: r.last, Expires: m.wall(r.ends), Unicast: !r.dst.IsMulticast()}
	}
	turn := m.turnNow(now)
	g.Direction = turn.String()
	g.DirectionByCommand = m.dir.byCommand != nil
	g.DirectionUntil = time.Time{}
	if turn == ipsec.InboundOptional && now.Before(m.dir.until) {
		g.DirectionUntil = m.wall(m.dir.until)
	}
	sending := map[uint32]bool{}
	if turn != ipsec.InboundOnly && !m.unsure {
		entries, _ := m.h.policy(now)
		for _, e := range entries {
			sending[e.SPI] = true
		}
	}
	g.TEKs = nil
	for _, t := range slices.Backward(m.h.teks) { // newest first
		if now.Before(t.tek.Expires) {
			x := tekModel(&t.tek, g.Interface)
			x.Expires, x.Direction = m.wall(t.tek.Expires), turn.String()
			x.Sending, x.Replaced = sending[t.tek.SPI], t.retired
			g.TEKs = append(g.TEKs, x)
		}
	}
	g.RekeysRefused = maps.Clone(m.rekeysRefused)
	if n := m.overflow.Load(); n > 0 {
		g.RekeysRefused[refusedOverflow] = n
	}
	g.Joined, g.Removal, g.Pseudotime = m.groups(), m.wall(m.removal()), m.pseudoModel()
	m.o.Store.Update(func(s *model.Snapshot) { s.Members = with(s.Members, g) })
}

// status: a member that holds keys is registered, also while it registers again.
func (m *Member) status() model.GMStatus {
	switch {
	case m.registered && len(m.h.teks) > 0:
		return model.Registered
	case m.running:
		return model.Registering
	}
	return model.NotRegistered
}

func tekModel(t *ipsec.TEK, iface string) model.TEK {
	c, a := policy.KeyBytes(t.Transform)
	return model.TEK{SPI: t.SPI, Transform: policy.TransformText(t.Transform), KeyBytes: c, AuthBytes: a,
		Tunnel: t.Transform.Mode == ipsec.Tunnel, Lifetime: t.Lifetime, Expires: t.Expires,
		Replay: policy.ReplayModel(t.Replay), Direction: t.Direction.String(), Interface: iface, SIDs: t.SIDs, SIDBits: t.SIDBits, Tag: t.Metadata.SGT}
}

// with replaces the group of g's name, or adds it.
func with(list []model.GMGroup, g model.GMGroup) []model.GMGroup {
	out := slices.Clone(list)
	for i := range out {
		if out[i].Name == g.Name {
			out[i] = g
			return out
		}
	}
	return append(out, g)
}

// without takes a group out.
func without(list []model.GMGroup, name string) []model.GMGroup {
	return slices.DeleteFunc(slices.Clone(list), func(g model.GMGroup) bool { return g.Name == name })
}
