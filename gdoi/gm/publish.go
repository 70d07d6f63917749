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
		g.ReRegisters = m.attempt
	}
	g.DownloadedACEs = nil
	for _, e := range m.h.entries {
		g.DownloadedACEs = append(g.DownloadedACEs, model.ACE{Text: e.ACE.String()})
	}
	unicast := m.h.kek != nil && m.h.kek.Dst.Addr().IsValid() && !m.h.kek.Dst.Addr().IsMulticast()
	if g.KEK = policy.KEKModel(m.h.kek, unicast); g.KEK != nil {
		g.KEK.Expires = m.h.kekEnds
	}
	g.TEKs = nil
	for _, t := range slices.Backward(m.h.teks) { // newest first
		if now.Before(t.tek.Expires) {
			g.TEKs = append(g.TEKs, tekModel(&t.tek, g.Interface))
			g.Direction = t.tek.Direction.String()
		}
	}
	if m.o.Group.Passive {
		g.Direction = ipsec.InboundOptional.String()
	}
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
		Replay: policy.ReplayModel(t.Replay), Direction: t.Direction.String(), Interface: iface, SIDs: t.SIDs}
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
