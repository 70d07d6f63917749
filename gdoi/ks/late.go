package ks

// Members that were offered one policy and, before they had it, were outrun by a rekey:
// they are told what is in force now. So are members that other key servers tell of late;
// those whose keys all had to leave meanwhile are told to.

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"getvpn/gdoi"
)

// latecomer is a member that registered with what a rekey replaced meanwhile.
type latecomer struct {
	*member
	tries  int
	leaves bool // it must: its keys are at their end
}

const (
	// lateAfter gives a member time to install what message 4 brought.
	lateAfter = time.Second
	// lateTries is how often it is told what it missed, until it answers.
	lateTries = 3
)

// missed notes that a member must be told what changed while it registered.
func (g *Group) missed(m *member, now time.Time) {
	if g.s.o.Push == nil {
		return
	}
	g.late = append(g.late, latecomer{member: m})
	if g.lateAt.IsZero() {
		g.lateAt = now.Add(lateAfter)
	}
}

// dismissLate notes a member that must be told to leave and isn't on the list.
func (g *Group) dismissLate(m *member, now time.Time) {
	g.missed(m, now)
	if n := len(g.late); n > 0 && g.late[n-1].member == m {
		g.late[n-1].leaves = true
		g.book.put(m.row.Addr, m.slot)
	}
}

// catchUp tells latecomers what is in force, and those to leave who must.
func (g *Group) catchUp(now time.Time) {
	list := g.late
	g.late, g.lateAt = nil, time.Time{}
	if !g.rekeying() {
		return
	}
	r := &round{view: g.view(g.ring), top: g.ring.kek.ord, brings: g.ring.kek.ord, told: true}
	leave := map[uint32]*round{} // by the KEK of those who must
	for _, x := range list {
		to := r
		if is := g.roster.find(x.row.Addr); is != x.member && (!x.leaves || is != nil) || x.tries > 0 && x.answered() {
			continue
		}
		if x.leaves {
			top := max(x.holds, g.lastEnd) // it may have got later ones
			if to = leave[top]; to == nil {
				to = &round{del: gdoi.Delete{AllTEKs: g.setup.Group.Interop, AllKEKs: true}, top: top, told: true}
				leave[top] = to
			}
		}
		x.asked, x.learns = 0, to.brings
		to.targets = append(to.targets, x.member)
		if x.tries++; x.tries < lateTries {
			g.late, g.lateAt = append(g.late, x), now.Add(ackWait)
		}
	}
	legs, fresh := g.legs(r, r.targets)
	for _, ord := range slices.Sorted(maps.Keys(leave)) {
		more, f := g.legs(leave[ord], leave[ord].targets)
		legs, fresh = append(legs, more...), fresh || f
	}
	slices.SortFunc(legs, func(a, b *leg) int { return cmp.Compare(a.ord, b.ord) })
	if fresh {
		if err := g.save(); err != nil {
			g.failed(now, err)
			return
		}
	}
	g.spent(legs)
	if len(legs) > 0 {
		g.run(&job{round: r, legs: legs, started: now})
	}
}
