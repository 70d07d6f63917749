package ks

// The server hands each GROUPKEY-PULL to the actor of the group that message 1 names.
// It runs on the endpoint's goroutines and never blocks: a group whose mailbox is full
// loses the datagram, which the member sends again.

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/gdoi/policy"
	"getvpn/internal/clock"
	"getvpn/model"
	"getvpn/model/event"
)

// Exchange is one GROUPKEY-PULL as the endpoint gives it. Comparable.
type Exchange interface {
	gdoi.Exchange
	Peer() ike.Peer
	Send(datagram []byte) error
	Close()
	// Abandon ends the exchange as if its first message had never come, so that the
	// member's next copy of it is a new one.
	Abandon()
	Notify(isakmp.NotifyType) error
}

// endpointExchange is an Exchange of the endpoint.
type endpointExchange struct{ *ike.Exchange }

// Notify says which exchange it is about: its data is the message ID.
func (x endpointExchange) Notify(t isakmp.NotifyType) error {
	return x.SA().Notify(t, binary.BigEndian.AppendUint32(nil, x.MessageID()))
}

// Options of a Server. Log may be nil.
type Options struct {
	Store  *model.Store
	Events event.Emitter
	Log    *slog.Logger
	Rand   io.Reader // keys, nonces, SPIs
	Files  Files
	Dir    string // state directory
	// Marks is a directory that ends with the boot. "": there is none, and groups with
	// counter modes begin with new keys at each start.
	Marks string
	// Machine names the machine and its boot; see MachineGeneration.
	Machine string
	// Clock tells the time. Nil: the process's, which stands still while the machine
	// is suspended.
	Clock clock.Clock
	// Moment reads the machine's clocks. Nil: as without Marks.
	Moment func() clock.Moment
	// Push sends rekeys and takes their acknowledgements. Nil: no rekeys are sent.
	Push Sender
	// Peers is the way to cooperative key servers. Nil: there is none.
	Peers Peers
	// State keeps groups over restarts. Nil: keys live in memory only.
	State Saver
}

// Server serves the groups of a key server on one endpoint.
type Server struct {
	o    Options
	time *clock.Timeline

	mu      sync.Mutex
	groups  map[string]*Group // by wire identity
	convs   map[Exchange]*conversation
	perAddr map[netip.Addr]int // conversations
	swept   time.Time
	reject  map[string]uint64 // before a group was known
}

// conversation is a registration under way. After message 1 only the group's actor
// touches the responder.
type conversation struct {
	x       Exchange
	r       *gdoi.PullResponder
	group   *Group // nil while message 1 is being read
	peer    ike.Peer
	started time.Time
	state   registration
}

const (
	// maxConversations bounds memory: peers have passed phase 1, but may still be many.
	maxConversations = 16384
	// maxOfAddress is how many of them one address may have: members behind a NAT share
	// one, but none of them can take all places.
	maxOfAddress = 512
	// conversationAge is how long a registration may take.
	conversationAge = 2 * time.Minute
)

// NewServer returns a server without groups.
func NewServer(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = clock.NewFake()
	}
	return &Server{o: o, time: clock.NewTimeline(o.Clock), groups: map[string]*Group{}, convs: map[Exchange]*conversation{}, perAddr: map[netip.Addr]int{}, reject: map[string]uint64{}}
}

// Add takes up a group, whose actor must be run with Group.Run.
func (s *Server) Add(setup *Setup) (*Group, error) {
	g, err := newGroup(s, setup)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.groups[wireKey(policy.GroupID(identity(&setup.Group)))] = g
	s.mu.Unlock()
	g.note()
	g.flush()
	s.o.Events.Emit(event.KSGroupAdd{KS: setup.Group.Local.Address, Group: setup.Group.Name})
	return g, nil
}

// Remove gives up a group; its actor must have ended.
func (s *Server) Remove(g *Group) {
	s.mu.Lock()
	for k, x := range s.groups {
		if x == g {
			delete(s.groups, k)
		}
	}
	s.mu.Unlock()
	s.o.Store.Update(func(m *model.Snapshot) { m.KeyServers = without(m.KeyServers, g.setup.Group.Name) })
	s.o.Events.Emit(event.KSGroupDelete{KS: g.setup.Group.Local.Address, Group: g.setup.Group.Name})
}

// Resumed tells the groups to look at the clock: the machine was suspended, or
// something else made their timers late.
func (s *Server) Resumed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.groups {
		select {
		case g.kick <- struct{}{}:
		default:
		}
	}
}

// HandlePull is the endpoint's handler.
func (s *Server) HandlePull(x *ike.Exchange, datagram []byte) {
	s.handle(endpointExchange{x}, datagram)
}

func (s *Server) handle(x Exchange, datagram []byte) {
	now := time.Now()
	s.mu.Lock()
	if c := s.convs[x]; c != nil {
		g := c.group
		s.mu.Unlock()
		if g != nil {
			g.post(c, datagram)
		}
		return
	}
	s.sweep(now)
	peer := x.Peer()
	a := memberAddr(peer)
	if len(s.convs) >= maxConversations || s.perAddr[a] >= maxOfAddress {
		s.reject["too-many-registrations"]++
		s.mu.Unlock()
		x.Abandon()
		return
	}
	c := &conversation{x: x, r: gdoi.NewPullResponder(x, s.o.Rand, gdoi.PullOptions{}), peer: peer, started: now}
	s.convs[x] = c
	s.perAddr[a]++
	s.mu.Unlock()

	id, err := c.r.HandleFirst(datagram)
	if err != nil {
		s.refuse(c, gdoi.ReasonOf(err), 0)
		return
	}
	s.mu.Lock()
	g := s.groups[wireKey(id)]
	c.group = g
	s.mu.Unlock()
	if g == nil {
		s.refuse(c, "unknown-group", isakmp.NotifyInvalidID)
		s.o.Events.Emit(event.KSBadID{Item: "group identity", GM: c.peer.Remote.Addr()})
		return
	}
	if !g.post(c, nil) {
		s.forget(c)
		x.Abandon()
	}
}

// refuse counts a refusal that no group knows of and ends the exchange.
func (s *Server) refuse(c *conversation, reason string, notify isakmp.NotifyType) {
	s.mu.Lock()
	s.reject[reason]++
	s.mu.Unlock()
	counts := s.Rejected()
	s.o.Store.Update(func(m *model.Snapshot) { m.KSRejected = counts })
	s.o.Log.Info("registration refused", "peer", c.peer.Remote, "reason", reason)
	s.tell(c, notify)
	s.end(c)
}

// tell sends the member an authenticated reason, so that it needn't wait in vain.
func (s *Server) tell(c *conversation, notify isakmp.NotifyType) {
	if notify == 0 {
		return
	}
	if err := c.x.Notify(notify); err != nil {
		s.o.Log.Debug("notify", "peer", c.peer.Remote, "error", err)
	}
}

// end forgets the exchange. The endpoint keeps the last answer for copies.
func (s *Server) end(c *conversation) {
	s.forget(c)
	c.x.Close()
}

func (s *Server) forget(c *conversation) {
	s.mu.Lock()
	s.unlist(c)
	s.mu.Unlock()
}

// unlist takes a conversation out of the tables. The caller holds the lock.
func (s *Server) unlist(c *conversation) {
	if s.convs[c.x] != c {
		return
	}
	delete(s.convs, c.x)
	a := memberAddr(c.peer)
	if s.perAddr[a]--; s.perAddr[a] <= 0 {
		delete(s.perAddr, a)
	}
}

// sweep drops registrations that were never finished. The caller holds the lock.
func (s *Server) sweep(now time.Time) {
	if now.Sub(s.swept) < conversationAge/4 {
		return
	}
	s.swept = now
	for x, c := range s.convs {
		if now.Sub(c.started) > conversationAge {
			s.reject["unfinished"]++
			s.unlist(c)
			x.Close()
		}
	}
}

// Rejected counts what was refused before a group was known, by reason.
func (s *Server) Rejected() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]uint64, len(s.reject))
	for k, v := range s.reject {
		out[k] = v
	}
	return out
}

func wireKey(id isakmp.ID) string { return string(id.Body()) }

// memberAddr is the address that a member is known by: where its phase 1 comes from.
func memberAddr(p ike.Peer) netip.Addr { return p.Remote.Addr().Unmap() }
