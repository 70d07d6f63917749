package ks

// What comes from other key servers waits here for the group's actor. Messages are
// bounded; that an SA has come or gone is never lost.

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"

	"getvpn/gdoi/coop"
	"getvpn/model"
)

// peerMail is a message of a peer, or an SA with it that has come or gone (no data).
type peerMail struct {
	peer    netip.Addr
	session uint64
	up      bool
	data    []byte
	foreign bool // of another protocol: it says nothing of its group
}

const (
	// peerMailbox is how many messages wait, at most: eight key servers' bursts of rows.
	peerMailbox = 1024
	// peerOctets is how long they are together, at most: those of usual length.
	peerOctets = 4 << 20
)

type peerBox struct {
	ready chan struct{}
	lost  atomic.Uint64

	mu       sync.Mutex
	queue    []peerMail
	messages int
	octets   int
}

func newPeerBox() *peerBox { return &peerBox{ready: make(chan struct{}, 1)} }

// put never blocks.
func (b *peerBox) put(m peerMail) {
	b.mu.Lock()
	if m.data != nil {
		if b.messages >= peerMailbox || b.octets+len(m.data) > peerOctets {
			b.mu.Unlock()
			b.lost.Add(1)
			return
		}
		b.messages++
		b.octets += len(m.data)
	}
	b.queue = append(b.queue, m)
	b.mu.Unlock()
	b.signal()
}

// turn is how much mail the actor takes at once: what else it has to do comes in between.
const turn = 64

// take takes the oldest mail.
func (b *peerBox) take() []peerMail {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue
	if b.queue = nil; len(q) > turn {
		b.queue, q = q[turn:], q[:turn:turn]
		b.signal()
	}
	for _, m := range q {
		if m.data != nil {
			b.messages--
			b.octets -= len(m.data)
		}
	}
	return q
}

// signal wakes the actor.
func (b *peerBox) signal() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// HandlePeer takes a message of a cooperative key server, which came over that SA with
// it. It runs on the endpoint's goroutines.
func (s *Server) HandlePeer(peer netip.Addr, session uint64, data []byte) {
	id, err := coop.GroupOf(data)
	if e := (*coop.Error)(nil); errors.As(err, &e) && e.Reason == coop.Incompatible && s.tellGroups(peerMail{peer: peer, session: session, data: data, foreign: true}) {
		return
	}
	if err != nil {
		s.refusePeer(err)
		return
	}
	s.mu.Lock()
	g := s.groups[string(id)]
	s.mu.Unlock()
	var box *peerBox
	if g != nil {
		box = g.inbox.Load()
	}
	if box == nil {
		s.refusePeer(&coop.Error{Reason: coop.WrongGroup})
		return
	}
	box.put(peerMail{peer: peer, session: session, data: data})
}

// tellGroups gives a message to all groups that have cooperative key servers, and reports
// whether there are any.
func (s *Server) tellGroups(x peerMail) (any bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.groups {
		if box := g.inbox.Load(); box != nil {
			box.put(x)
			any = true
		}
	}
	return any
}

func (s *Server) refusePeer(err error) {
	reason := string(coop.Malformed)
	var e *coop.Error
	if errors.As(err, &e) {
		reason = string(e.Reason)
	}
	s.mu.Lock()
	s.reject[reason]++
	s.mu.Unlock()
	counts := s.Rejected()
	s.o.Store.Update(func(m *model.Snapshot) { m.KSRejected = counts })
}
