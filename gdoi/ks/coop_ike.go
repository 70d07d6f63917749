package ks

// Cooperative key servers over the endpoint's phase-1 SAs.

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
)

// endpointPeers is Peers of an endpoint.
type endpointPeers struct {
	ep *ike.Endpoint

	mu sync.Mutex
	up map[peerPath][]*keptSA // oldest first
}

// peerPath is a peer and our address towards it.
type peerPath struct{ peer, local netip.Addr }

// keptSA is an SA that is up for so many groups.
type keptSA struct {
	*ike.SA
	groups int
}

// NewEndpointPeers returns the way to other key servers of an endpoint. The endpoint's
// HandlePeerNotify must be Server.HandlePeerNotify.
func NewEndpointPeers(ep *ike.Endpoint) Peers {
	return &endpointPeers{ep: ep, up: map[peerPath][]*keptSA{}}
}

func (p *endpointPeers) Keep(peer, local netip.Addr, state func(session uint64, up bool)) func() {
	k := peerPath{peer, local}
	return p.ep.Keep(netip.AddrPortFrom(peer, rekeyPort), local, func(sa *ike.SA, up bool) {
		p.note(k, sa, up)
		state(uint64(sa.ID()), up)
	})
}

// note counts the groups that were told of an SA.
func (p *endpointPeers) note(k peerPath, sa *ike.SA, up bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.up[k], func(x *keptSA) bool { return x.SA == sa })
	switch {
	case up && i < 0:
		p.up[k] = append(p.up[k], &keptSA{sa, 1})
	case up:
		p.up[k][i].groups++
	case i >= 0:
		if p.up[k][i].groups--; p.up[k][i].groups == 0 {
			p.up[k] = slices.Delete(p.up[k], i, i+1)
		}
	}
}

func (p *endpointPeers) Inform(peer, local netip.Addr, data []byte) error {
	p.mu.Lock()
	l := p.up[peerPath{peer, local}]
	var sa *ike.SA
	if len(l) > 0 {
		sa = l[len(l)-1].SA
	}
	p.mu.Unlock()
	if sa == nil {
		return fmt.Errorf("ks: no SA with key server %v", peer)
	}
	return sa.Inform(isakmp.NotifyCOOP, data)
}

// HandlePeerNotify is the endpoint's handler of messages of key servers.
func (s *Server) HandlePeerNotify(sa *ike.SA, data []byte) {
	s.HandlePeer(memberAddr(sa.Peer()), uint64(sa.ID()), data)
}
