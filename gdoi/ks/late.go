package ks

// Members that were offered one policy and, before they had it, were outrun by a rekey:
// they are told what is in force now.

import "time"

// latecomer is a member that registered with what a rekey replaced meanwhile.
type latecomer struct {
	*member
	tries int
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
	g.late = append(g.late, latecomer{m, 0})
	if g.lateAt.IsZero() {
		g.lateAt = now.Add(lateAfter)
	}
}

// catchUp tells latecomers what is in force.
func (g *Group) catchUp(now time.Time) {
	list := g.late
	g.late, g.lateAt = nil, time.Time{}
	if !g.rekeying() {
		return
	}
	r := &round{view: g.view(g.ring), top: g.ring.kek.ord, brings: g.ring.kek.ord, told: true}
	for _, x := range list {
		if g.roster.find(x.row.Addr) != x.member || x.tries > 0 && x.answered() {
			continue
		}
		x.asked, x.learns = 0, r.brings
		r.targets = append(r.targets, x.member)
		if x.tries++; x.tries < lateTries {
			g.late, g.lateAt = append(g.late, x), now.Add(ackWait)
		}
	}
	legs, fresh := g.legs(r, r.targets)
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
