package ks

// Under which KEKs a member is reached.

import "slices"

// topmost is the highest KEK that members may hold when top was in force.
func (g *Group) topmost(top *kek) uint32 {
	ord := top.ord
	for o, k := range g.keks {
		if k.side && (g.ring.kek == nil || k.kek != g.ring.kek) {
			ord = max(ord, o)
		}
	}
	return ord
}

// newest are the KEKs up to top that members may have got without our knowledge: the last
// two, and of another side those that its members had when it was merged with ours.
func (g *Group) newest(top uint32) []uint32 {
	var own, side []uint32
	for ord, k := range g.keks {
		switch {
		case ord > top:
		case k.side:
			side = append(side, ord)
		default:
			own = append(own, ord)
		}
	}
	slices.Sort(own)
	slices.Sort(side)
	ords := append(own[max(0, len(own)-2):], side[max(0, len(side)-2):]...)
	slices.Sort(ords)
	return ords
}

// mayHold are the KEKs that a member is reached under: the one that it is known to hold,
// and those that it may have got meanwhile.
func (m *member) mayHold(newest []uint32, top uint32) (ords []uint32) {
	if m.holds == 0 || m.holds > top {
		return nil
	}
	ords = append(ords, m.holds)
	for _, o := range newest {
		if o > m.holds {
			ords = append(ords, o)
		}
	}
	return ords
}
