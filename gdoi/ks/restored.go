package ks

// A key server's machine that was put back to a snapshot has forgotten Sender IDs and
// keys that it has given out since: it would give them out again. Its groups start with
// new keys and a clean slate.

import (
	"sync"
	"time"

	"getvpn/gdoi"
	"getvpn/model/event"
)

// Restored tells the server that its machine was restored from a snapshot or cloned, and
// how that was noticed. It returns when every group has new keys; all groups that were
// added must be running or have ended.
func (s *Server) Restored(source string) {
	s.mu.Lock()
	var groups []*Group
	for _, g := range s.groups {
		groups = append(groups, g)
	}
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, g := range groups {
		wg.Go(func() { g.do(func() { g.restored(source, g.now()) }) })
	}
	wg.Wait()
}

func (g *Group) restored(source string, now time.Time) {
	g.pending = nil // our former self may have put them in force
	g.note(event.KSMachineRestored{Group: g.Name(), Source: source})
	if g.coop != nil {
		if err := g.restoredCoop(now); err != nil {
			g.ring = g.emptyRing()
			g.failed(now, err)
		}
		return
	}
	if !g.ring.active() {
		return
	}
	g.cleanSlate(gdoi.Delete{AllTEKs: true, AllKEKs: true}, now)
}

// cleanSlate makes all keys anew after Sender IDs or sequence numbers may have been used
// that we know nothing of, and tells the members what to delete.
func (g *Group) cleanSlate(del gdoi.Delete, now time.Time) {
	for _, k := range g.keks {
		k.seq.skip(restoredSkip) // numbers that we don't know were used
	}
	old := g.ring
	g.anew(del, now)
	if g.ring == old {
		// The disk refuses: no keys until the next registration tries again.
		g.ring = g.emptyRing()
	}
}

// restoredSkip is how many rekeys our former self can't have sent since the snapshot.
const restoredSkip = 1 << 20
