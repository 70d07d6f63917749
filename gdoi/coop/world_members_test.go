package coop

// Members of the world, and what must be true of a part of its network that is whole.

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// install takes a policy; a new KEK begins with number 0.
func (g *client) install(r ring) {
	for _, t := range append(slices.Clone(r.TEKs), r.Old...) {
		g.teks[t] = true
	}
	g.send = r.TEKs[len(r.TEKs)-1]
	if k := r.KEKs[len(r.KEKs)-1]; k != g.kek {
		g.kek, g.seq = k, 0
	}
}

// register has a member register with a key server where it stands.
func (w *world) register(g *client, s *server) bool {
	if !s.up || s.m.gate() != GateOpen || len(s.keys.TEKs) == 0 {
		return false
	}
	g.home = s
	g.teks = map[string]bool{}
	g.kek = ""
	g.install(s.keys)
	g.seq = s.keys.Used[g.kek]
	id := fmt.Sprintf("%s/%d", g.send, s.i<<8+s.nextSID%256)
	s.nextSID++
	if o, ok := w.sids[id]; ok && s.nextSID < 256 {
		w.fail("SID %s of member %d was member %d's", id, g.i, o)
	}
	w.sids[id] = g.i
	s.members[g.addr] = g
	delete(s.foreign, g.addr)
	s.do(s.m.PutMembers([]Member{{Addr: g.addr, Stamp: uint64(w.now.Add(s.wall).UnixMilli()), Blob: []byte(g.kek)}}, s.clock()))
	return true
}

// reached lets the primary of a part of the network rekey: members there under a KEK that
// any key server had when that part became whole send with its key then, which each of
// them has.
func (w *world) reached(part int, held map[string]bool) {
	i := slices.IndexFunc(w.ks, func(s *server) bool { return w.in(s, part) && s.m.role == Primary })
	prim := w.ks[i]
	if len(prim.keys.KEKs) >= mostKEKs-1 {
		return // old ones have ended
	}
	for k := range held {
		if !slices.Contains(prim.keys.KEKs, k) {
			w.fail("KEK %s is lost; the primary, ks%d, has %v", k, i+1, prim.keys.KEKs)
		}
	}
	prim.rekey(true)
	tek := prim.keys.TEKs[len(prim.keys.TEKs)-1]
	for _, g := range w.gm {
		known := prim.members[g.addr] != nil || prim.foreign[g.addr]
		if g.home == nil || w.part[g.home.i] != part || !known || !slices.Contains(prim.keys.KEKs, g.kek) {
			continue
		}
		switch {
		case prim.m.Lease(spiOf(g.kek)).Left() == 0 && g.send != tek:
			w.mutes++
		case g.send != tek || !g.teks[tek]:
			w.fail("member %d sends with %s, not %s", g.i, g.send, tek)
		}
	}
}

// in reports whether a key server runs in a part of the network.
func (w *world) in(s *server, part int) bool { return s.up && !s.gone && w.part[s.i] == part }

// settled says what isn't as it must be in a part of the network that is whole. Members
// are compared where nobody registers any more.
func (w *world) settled(part int) (bad []string) {
	var prim *server
	some := false
	for _, s := range w.ks {
		if !w.in(s, part) {
			continue
		}
		some = true
		if s.m.role == Primary {
			if prim != nil {
				bad = append(bad, fmt.Sprintf("ks%d and ks%d are primary", prim.i+1, s.i+1))
			}
			prim = s
		}
	}
	if prim == nil {
		if !some {
			return nil
		}
		return []string{"nobody is primary"}
	}
	for _, s := range w.ks {
		if !w.in(s, part) || s == prim {
			continue
		}
		if s.m.role != Secondary || s.m.primary != prim.addr {
			bad = append(bad, fmt.Sprintf("ks%d is %v of %v", s.i+1, s.m.role, s.m.primary))
		}
		// One whose clock has stepped ahead refuses its primary's announcements and
		// everybody who registers, until an operator looks after it (guide).
		if s.m.gate() == GateStale && s.m.pseudo.read(s.clock()) > prim.m.pseudo.read(prim.clock())+uint64(skew/time.Millisecond) {
			continue
		}
		if s.m.gate() != GateOpen {
			bad = append(bad, fmt.Sprintf("ks%d's gate is %v", s.i+1, s.m.gate()))
		}
		if !w.quiet {
			continue
		}
		if s.m.keys.ID != prim.m.keys.ID {
			bad = append(bad, fmt.Sprintf("ks%d has keys %v, the primary %v", s.i+1, s.m.keys.ID, prim.m.keys.ID))
		}
		a, b := prim.m.Registered(), s.m.Registered()
		if !maps.Equal(a, b) {
			bad = append(bad, fmt.Sprintf("ks%d knows members %v, the primary %v", s.i+1, b, a))
		}
	}
	return bad
}
