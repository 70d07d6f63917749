package gm

// The member's actor. One goroutine (Run) owns the state; a registration attempt runs
// in a goroutine of its own, one at a time, and its result comes back as a message.
// Requests from outside (an operator's clear, a sequence number near its end) are
// flags, so they merge and are never lost.

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/policy"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

// Member is a group member of one group.
type Member struct {
	o    Options
	wake chan struct{} // room for one

	mu      sync.Mutex
	clear   bool
	seqNear map[uint32]bool // SPIs reported and not yet handled
	// restored says how a restored machine was noticed; empty: it wasn't.
	restored string
	turn     *ipsec.Direction       // asked by an operator
	replay   bool                   // counters to be cleared
	errs     map[DataErrorKind]bool // told by the dataplane
	slept    time.Duration          // the machine was suspended

	// Below: the actor's own.
	h          holdings
	saved      []ipsec.ACE        // the list that Memory has
	registered bool               // a policy is installed
	server     int                // of the list, being tried
	round      int                // full rounds of the list without success
	attempt    time.Time          // when to try next; zero: never
	running    bool               // an attempt is under way
	cancel     context.CancelFunc // ends it
	epoch      uint64             // counts restores of the machine
	results    chan result
	seen       map[uint32]bool // SPIs whose sequence end was acted upon
	pub        model.GMGroup
	reasons    map[string]uint64
}

type result struct {
	server netip.Addr
	got    *PullResult
	err    error
	epoch  uint64 // when the attempt began
}

// New returns a member that does nothing yet.
func New(o Options) *Member {
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m := &Member{o: o, wake: make(chan struct{}, 1), seqNear: map[uint32]bool{}, errs: map[DataErrorKind]bool{}, results: make(chan result, 1),
		seen: map[uint32]bool{}, reasons: map[string]uint64{}}
	m.pub = model.GMGroup{
		Version: gdoi.OurCapability().Version(),
		Name:    o.Group.Name, Identity: identity(&o.Group), IPv6: o.Group.IPv6, Servers: o.Group.Servers,
		Direction: ipsec.Both.String(),
	}
	if len(o.Attach) > 0 {
		a := o.Attach[0]
		m.pub.Interface, m.pub.MapName, m.pub.LocalACL = a.Interface, a.MapName, a.LocalName
		m.pub.FailClose = a.FailClose.Active
		m.pub.LocalACEs = policy.ACEModels(a.Local)
	}
	return m
}

func identity(g *config.Group) model.GroupID {
	if g.HasNumber {
		return model.GroupID{Number: g.Number}
	}
	return model.GroupID{Addr: g.Address}
}

// Prepare publishes the group as unregistered and returns what the caller has to
// install before anything else runs, for all groups of an interface at once: active
// fail-close maps, else the list that an earlier process had, whose permits drop for
// want of keys. Without either the group is open (the vendor's default) and nothing is
// returned: what an earlier process may have left in the kernel stands until a
// policy takes its place.
func (m *Member) Prepare() (policies []ipsec.GroupPolicy) {
	m.recall()
	policies = m.keyless(time.Now())
	m.publish(time.Now())
	for _, a := range m.o.Attach {
		m.o.Events.Emit(event.GMCryptoMapAttach{Group: m.o.Group.Name})
		for _, e := range a.Local {
			if e.Action == ipsec.Permit {
				m.o.Events.Emit(event.GMACLPermit{Src: e.Src.String(), Dst: e.Dst.String()})
			}
		}
	}
	return policies
}

// keyless are the policies of a member that has registered never or not yet.
func (m *Member) keyless(now time.Time) (policies []ipsec.GroupPolicy) {
	entries, _ := m.h.policy(now)
	for _, a := range m.o.Attach {
		p := m.policyFor(a, nil, nil)
		switch {
		case a.FailClose.Active:
		case len(entries) > 0:
			p.State, p.Entries = ipsec.Registered, entries
		default:
			continue
		}
		policies = append(policies, p)
	}
	return policies
}

// Registered reports whether a downloaded policy is in force. Only while Run isn't
// running.
func (m *Member) Registered() bool { return m.registered }

// Unregistered is what Prepare returns, and for the interfaces that need nothing the
// policy that says so.
func (m *Member) Unregistered() []ipsec.GroupPolicy {
	policies := m.Prepare()
	for _, a := range m.o.Attach {
		if !slices.ContainsFunc(policies, func(p ipsec.GroupPolicy) bool { return p.Interface == a.Interface }) {
			policies = append(policies, m.policyFor(a, nil, nil))
		}
	}
	return policies
}

// Clear is the operator's "clear crypto gdoi": the member registers again at once.
// What it holds stays in use until the new policy is there. A list of an earlier
// process goes: until it has registered the member is as one that never was.
func (m *Member) Clear() {
	m.mu.Lock()
	m.clear = true
	m.mu.Unlock()
	m.poke()
}

// SeqNearEnd tells the member that the numbers of an SA run out: it asks for new keys
// or a new Sender ID, once an SPI.
func (m *Member) SeqNearEnd(spi uint32) {
	m.mu.Lock()
	m.seqNear[spi] = true
	m.mu.Unlock()
	m.poke()
}

// Direction is the operator's "crypto gdoi gm ipsec direction": in force until the next
// rekey.
func (m *Member) Direction(d ipsec.Direction) {
	m.mu.Lock()
	m.turn = &d
	m.mu.Unlock()
	m.poke()
}

// ClearReplay is the operator's "clear crypto gdoi replay": the counters of refused
// rekeys begin anew.
func (m *Member) ClearReplay() {
	m.mu.Lock()
	m.replay = true
	m.mu.Unlock()
	m.poke()
}

// DataError tells the member that the dataplane refuses packets for a reason that
// newer keys would mend ("client recovery-check").
func (m *Member) DataError(k DataErrorKind) {
	m.mu.Lock()
	m.errs[k] = true
	m.mu.Unlock()
	m.poke()
}

// Slept tells the member that its machine was suspended: rekeys were missed, timers
// are late.
func (m *Member) Slept(d time.Duration) {
	m.mu.Lock()
	m.slept += d
	m.mu.Unlock()
	m.poke()
}

func (m *Member) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Run registers and keeps the group's keys until ctx ends. The policy stays in the
// dataplane; Leave removes it.
func (m *Member) Run(ctx context.Context) {
	if len(m.o.Group.Servers) == 0 {
		m.o.Events.Emit(event.GMIncompleteConfig{Group: m.o.Group.Name})
		return
	}
	m.attempt = time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		m.arm(ctx, timer)
		select {
		case <-ctx.Done():
			if m.running {
				<-m.results // the attempt ends with ctx
			}
			return
		case r := <-m.results:
			m.running = false
			m.heedRestore()
			m.finished(ctx, r)
		case <-m.wake:
			m.heedRestore()
			m.requests()
		case <-timer.C:
			m.tick()
		}
	}
}

// Leave takes the group off its interfaces; call it when Run has returned.
func (m *Member) Leave() error {
	var first error
	for _, a := range m.o.Attach {
		if err := m.o.Inst.Remove(m.o.Group.Name, a.Interface); err != nil && first == nil {
			first = err
		}
		m.o.Events.Emit(event.GMCryptoMapDetach{Group: m.o.Group.Name})
	}
	if m.o.Memory != nil {
		if err := m.o.Memory.Forget(); err != nil && first == nil {
			first = err
		}
	}
	m.o.Store.Update(func(s *model.Snapshot) { s.Members = without(s.Members, m.o.Group.Name) })
	m.o.Events.Emit(event.GMUnregister{Group: m.o.Group.Name})
	return first
}

// arm starts an attempt that is due and sets the timer to the next thing to do.
func (m *Member) arm(ctx context.Context, timer *time.Timer) {
	now := time.Now()
	if !m.running && !m.attempt.IsZero() && !now.Before(m.attempt) {
		m.start(ctx, now)
	}
	next := m.h.changes(now)
	if !m.running && !m.attempt.IsZero() && (next.IsZero() || m.attempt.Before(next)) {
		next = m.attempt
	}
	if next.IsZero() {
		timer.Stop()
		return
	}
	timer.Reset(next.Sub(now))
}

func (m *Member) start(ctx context.Context, now time.Time) {
	server := m.o.Group.Servers[m.server]
	var local netip.Addr
	if m.o.Local != nil {
		local = m.o.Local(server)
	}
	if m.server == 0 && m.round == 0 && m.registered {
		m.o.Events.Emit(event.GMReRegister{Group: m.o.Group.Name})
	}
	m.running = true
	m.pub.Attempted++
	m.publish(now)
	m.o.Events.Emit(event.GMRegister{KS: server, Group: m.o.Group.Name, GM: local})
	req := PullRequest{Server: server, Local: local, Group: m.pub.Identity, Interop: m.o.Group.Interop}
	ctx, cancel := context.WithCancel(ctx)
	m.cancel = cancel
	epoch := m.epoch
	go func() {
		defer cancel()
		got, err := m.o.Puller.Pull(ctx, req)
		m.results <- result{server, got, err, epoch}
	}()
}

// tick follows the clock: TEKs change over and end.
func (m *Member) tick() {
	now := time.Now()
	if m.registered {
		if err := m.install(now); err != nil { // tried again at the next change
			m.o.Log.Warn("install", "group", m.o.Group.Name, "error", err)
		}
	}
	m.publish(now)
}

// requests takes up what was asked from outside.
func (m *Member) requests() {
	m.mu.Lock()
	clear, near := m.clear, m.seqNear
	m.clear, m.seqNear = false, map[uint32]bool{}
	m.mu.Unlock()
	again := false
	if clear {
		m.o.Events.Emit(event.GMClearRegister{Group: m.o.Group.Name})
		m.forget()
		again = true
	}
	for spi := range near {
		if !m.seen[spi] {
			m.seen[spi] = true
			again = true
		}
	}
	if !again {
		return
	}
	if m.running { // the running attempt began before the request
		m.mu.Lock()
		m.clear = m.clear || clear
		m.mu.Unlock()
		return
	}
	m.server, m.round, m.attempt = 0, 0, time.Now()
}
