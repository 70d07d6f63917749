package ike

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/secret"
)

// This file is the SA database: an SA comes in when its phase 1 is complete, and goes
// by lifetime, delete, a dead peer or a successor.

// peerKey is who a peer is and which of our addresses it talks to, for the rule of two
// live SAs: behind a NAT several peers share an address but not an identity.
type peerKey struct {
	local, addr netip.Addr
	id          Identity
}

// maxPerPeer is how many live SAs one peer may have: the one in use and its successor.
const maxPerPeer = 2

// maxPerKept is the same for a key server that is kept: who keeps it closes what is too
// much, with care that both sides keep the same.
const maxPerKept = 4

// lingerPhase1 is how long a copy of phase 1's last message is still answered.
const lingerPhase1 = time.Minute

// establish puts a completed phase 1 into the database. The caller holds the session's
// mutex and sends the last message afterwards.
func (e *Endpoint) establish(s *session, o *Outcome) *SA {
	now := time.Now()
	sa := &SA{
		ep: e, prot: o.prot, policy: o.policy, dpd: o.dpd, behindNAT: o.natHere,
		peer:        Peer{Identity: o.identity, VendorIDs: o.vendorIDs, Initiator: s.initiator, NATT: s.path.conn.natt},
		established: now, expires: now.Add(o.policy.Lifetime), done: make(chan struct{}), path: s.path,
		lastHeard: now, lastSent: now, exchanges: map[uint32]*Exchange{}, used: map[uint32]struct{}{}, phase1: s,
		confirmed: s.initiator, // the responder has it before us
	}
	keylog(o.prot.ci, o.prot.km.Key)
	// The cipher holds its schedule; of the rest only SKEYID_a is needed on.
	for _, k := range []secret.Bytes{o.prot.km.SKEYID, o.prot.km.D, o.prot.km.E, o.prot.km.Key} {
		k.Zero()
	}
	addr := s.path.remote.Addr()
	k := peerKey{s.path.local.Addr(), addr, o.identity}
	sa.key = k
	most := maxPerPeer
	if e.peers.keeps(addr) {
		most = maxPerKept
	}
	e.mu.Lock()
	sa.id, sa.peer.ConnID = e.nextID, e.nextID
	e.nextID++
	e.sas[pairOf(o.prot.ci, o.prot.cr)] = sa
	if s.initiator {
		delete(e.starting, o.prot.ci)
	} else {
		e.unlist(s)
	}
	old := e.byPeer[k]
	var gone []*SA
	if n := len(old) - (most - 1); n > 0 && !o.initial {
		gone, old = giveWay(old, n)
	}
	if o.initial {
		gone, old = slices.Clone(old), nil
	}
	e.byPeer[k] = append(slices.Clone(old), sa)
	e.byAddr[addr] = append(e.byAddr[addr], sa)
	if here := e.byAddr[addr]; len(here) > e.opts.Limits.SAsPerAddress && len(gone) == 0 {
		gone = append(gone, here[0])
	}
	closed := e.closed
	_, met := e.contacted[addr]
	e.contacted[addr] = struct{}{}
	e.mu.Unlock()
	for _, g := range gone {
		e.removeSA(g, !o.initial, "replaced")
	}
	sa.mu.Lock()
	sa.timers = append(sa.timers,
		time.AfterFunc(o.policy.Lifetime, func() { e.removeSA(sa, true, "lifetime") }),
		time.AfterFunc(lingerPhase1, func() {
			sa.mu.Lock()
			sa.phase1 = nil
			sa.mu.Unlock()
		}))
	sa.mu.Unlock()
	sa.startDPD(e.cfg.Load().Keepalive)
	sa.startKeepalive()
	e.peers.arrived(sa)
	e.log.Info("ISAKMP SA established", "id", sa.id, "peer", s.path.remote, "identity", o.identity.String())
	if closed {
		e.removeSA(sa, true, "endpoint closed")
	}
	sa.greeting = s.initiator && !met
	return sa
}

// giveWay chooses n SAs of a peer's list that end for a new one: those that the peer
// never used first, since it may not have them, then the oldest.
func giveWay(list []*SA, n int) (gone, rest []*SA) {
	for _, used := range []bool{false, true} {
		for _, s := range list {
			if len(gone) < n && s.known() == used {
				gone = append(gone, s)
			}
		}
	}
	rest = slices.DeleteFunc(slices.Clone(list), func(s *SA) bool { return slices.Contains(gone, s) })
	return gone, rest
}

// unlistSA takes an SA out of a list of them.
func unlistSA[K comparable](m map[K][]*SA, k K, s *SA) {
	list := slices.DeleteFunc(m[k], func(o *SA) bool { return o == s })
	if len(list) == 0 {
		delete(m, k)
		return
	}
	m[k] = list
}

// removeSA ends an SA; tell sends the peer a delete.
func (e *Endpoint) removeSA(s *SA, tell bool, why string) {
	k := pairOf(s.prot.ci, s.prot.cr)
	e.mu.Lock()
	if e.sas[k] != s {
		e.mu.Unlock()
		return
	}
	delete(e.sas, k)
	unlistSA(e.byAddr, s.key.addr, s)
	unlistSA(e.byPeer, s.key, s)
	e.mu.Unlock()
	if tell {
		s.sendDelete()
	}
	s.mu.Lock()
	s.deleted = true
	for _, t := range s.timers {
		t.Stop()
	}
	s.phase1, s.exchanges = nil, map[uint32]*Exchange{}
	s.probe.wake()
	close(s.done)
	s.mu.Unlock()
	e.peers.gone(s)
	e.log.Info("ISAKMP SA ended", "id", s.id, "peer", s.key.addr, "why", why)
	e.publish()
}

// reusable finds the newest live SA with remote. It isn't about to expire.
func (e *Endpoint) reusable(remote netip.AddrPort, local netip.Addr) *SA {
	e.mu.Lock()
	defer e.mu.Unlock()
	var best *SA
	for _, s := range e.sas {
		s.mu.Lock()
		fits := s.dialed == remote || s.path.remote == remote
		fits = fits && (!local.IsValid() || s.path.local.Addr() == local) && !s.deleted
		s.mu.Unlock()
		if fits && time.Until(s.expires) > minRemaining && (best == nil || s.id > best.id) {
			best = s
		}
	}
	return best
}

// minRemaining is the life that an SA must have left to be used again.
const minRemaining = 5 * time.Second

// SAs lists the live SAs with a peer's address (all for the zero Addr), oldest first.
func (e *Endpoint) SAs(peer netip.Addr) []*SA {
	e.mu.Lock()
	defer e.mu.Unlock()
	if peer.IsValid() {
		return slices.Clone(e.byAddr[peer])
	}
	out := slices.Collect(maps.Values(e.sas))
	slices.SortFunc(out, func(a, b *SA) int { return cmp.Compare(a.id, b.id) })
	return out
}

// cookiesSPI is the SPI that names the SA in notify and delete payloads.
func (s *SA) cookiesSPI() []byte {
	k := pairOf(s.prot.ci, s.prot.cr)
	return k[:]
}

// sendDelete tells the peer that the SA is gone (RFC 2408 §3.15).
func (s *SA) sendDelete() {
	d := isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{s.cookiesSPI()}}
	if err := s.inform(d.Payload()); err != nil {
		s.ep.log.Debug("delete", "err", err)
	}
}

// greet ends the initiator's phase 1: it notes which address was asked for, and at the
// first contact with a peer since the start says so, that the peer drops what a former
// life of ours left (RFC 2407 §4.6.3.3). In an exchange of its own, since a notify in
// message 5 isn't covered by a hash.
func (s *SA) greet(dialed netip.AddrPort) {
	s.mu.Lock()
	s.dialed = dialed
	first := s.greeting
	s.greeting = false
	s.mu.Unlock()
	if first {
		if err := s.Notify(isakmp.NotifyInitialContact, nil); err != nil {
			s.ep.log.Debug("INITIAL-CONTACT", "err", err)
		}
	}
}
