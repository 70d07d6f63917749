package gm

// The member: what it is made of and what may be asked of it. Requests from outside (an
// operator's clear, a sequence number near its end) are flags that the actor (actor.go)
// takes up, so they merge and are never lost.

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/policy"
	"getvpn/internal/clock"
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
	renewed bool            // new SAs are asked for
	seqNear map[uint32]bool // SPIs reported and not yet handled
	// restored says how a restored machine was noticed; empty: it wasn't.
	restored string
	turn     *ipsec.Direction       // asked by an operator
	replay   bool                   // counters to be cleared
	errs     map[DataErrorKind]bool // told by the dataplane
	slept    time.Duration          // the machine was suspended

	changes  chan change
	ended    chan struct{} // Run has returned
	pushes   chan pushed
	overflow atomic.Uint64 // rekeys that found no room there

	// Below: the actor's own.
	time       *clock.Timeline
	h          holdings
	saved      []ipsec.ACE        // the list that Memory has
	registered bool               // a policy is installed
	server     int                // of the list, being tried
	round      int                // full rounds of the list without success
	attempt    time.Time          // when to try next; zero: never
	why        why                // the next attempt is made
	retrying   bool               // an attempt of the present series has failed
	running    bool               // an attempt is under way
	began      time.Time          // it did
	beganMono  time.Time          // the same by the process's clock, which suspends stop
	cancel     context.CancelFunc // ends it
	epoch      uint64             // counts series of attempts; what an earlier one brings is of no use
	results    chan result
	seen       map[uint32]bool // SPIs whose sequence end was acted upon
	pub        model.GMGroup
	reasons    map[string]uint64

	keks      []*rekeySA // oldest first; the last one is in force
	gone      []*rekeySA // ended ones that are listened to
	lastRekey time.Time
	clock     groupClock
	unsure    bool // the clock may be behind: nothing is sent
	dir       direction
	events    []event.Event // to be told once the change is published
	joined    Memberships
	rejoinAt  time.Time

	clearing   bool // an operator cleared the group and it hasn't registered since
	recovering bool // an attempt for errors of the dataplane is due
	recovered  time.Time
	trackSet   bool

	rekeysRefused map[string]uint64
	told          map[string]time.Time // refusals, by reason
}

// why an attempt is made.
type why uint8

const (
	whyScheduled why = iota // keys end
	whyAsked                // an operator, the dataplane's sequence numbers
	whyDeleted              // the key server sent us away
	whySID                  // a rekey's TEK can't be sent with
	whyRecovery
	whySlept
)

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
	if o.Clock == nil {
		o.Clock = awake{time.Now()}
	}
	m := &Member{o: o, wake: make(chan struct{}, 1), seqNear: map[uint32]bool{}, errs: map[DataErrorKind]bool{}, results: make(chan result, 1),
		changes: make(chan change), ended: make(chan struct{}), pushes: make(chan pushed, maxPushed), time: clock.NewTimeline(o.Clock), joined: Memberships{},
		seen: map[uint32]bool{}, reasons: map[string]uint64{}, rekeysRefused: map[string]uint64{}, told: map[string]time.Time{}}
	m.pub = model.GMGroup{Version: gdoi.OurCapability().Version(), Direction: ipsec.Both.String()}
	m.describe()
	return m
}

// describe puts the setup into the model.
func (m *Member) describe() {
	p, g := &m.pub, &m.o.Group
	p.Name, p.Identity, p.IPv6, p.Servers = g.Name, identity(g), g.IPv6, g.Servers
	p.Interface, p.MapName, p.LocalACL, p.FailClose, p.LocalACEs = "", "", "", false, nil
	if len(m.o.Attach) > 0 {
		a := m.o.Attach[0]
		p.Interface, p.MapName, p.LocalACL = a.Interface, a.MapName, a.LocalName
		p.FailClose = a.FailClose.Active
		p.LocalACEs = policy.ACEModels(a.Local)
	}
	c := g.Client
	p.Revert, p.Track.ID, p.Recovery.Interval = c.Revert, c.Track, c.Recovery
	p.AcceptCiphers = nil
	for _, x := range c.RekeyCiphers {
		t := string(x.Encr)
		if x.KeyBits > 0 {
			t += " " + strconv.Itoa(x.KeyBits)
		}
		p.AcceptCiphers = append(p.AcceptCiphers, t)
	}
	p.AcceptHashes, p.AcceptTransforms = c.RekeyHashes, c.TransformSets
}

// awake is the clock of a process that never sleeps.
type awake struct{ start time.Time }

func (a awake) Boot() time.Duration { return time.Since(a.start) }
func (a awake) Now() time.Time      { return time.Now() }

// now is the present moment of the member's timeline, which all its times are of.
func (m *Member) now() time.Time { return m.time.Now() }

// boot is boot time, which the dataplane's clock runs on.
func (m *Member) boot() time.Duration { return m.o.Clock.Boot() }

// wall is a moment as others know it: by a wall clock that nobody sets from now on.
// The dataplane compares it with the process's clock, and is told again when the
// machine has slept.
func (m *Member) wall(at time.Time) time.Time {
	if at.IsZero() {
		return at
	}
	return time.Now().Add(at.Sub(m.now()))
}

// line is a moment that the process's clock named lately.
func (m *Member) line(at time.Time) time.Time { return m.now().Add(-time.Since(at)) }

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
	policies = m.keyless(m.now())
	m.publish(m.now())
	for _, a := range m.o.Attach {
		m.o.Events.Emit(event.GMCryptoMapAttach{Group: m.o.Group.Name})
		m.warnPermits(a.Local)
	}
	return policies
}

// warnPermits tells of entries of the member's own list that only the key server may
// have.
func (m *Member) warnPermits(local []ipsec.ACE) {
	for _, e := range local {
		if e.Action == ipsec.Permit {
			m.o.Events.Emit(event.GMACLPermit{Src: e.Src.String(), Dst: e.Dst.String()})
		}
	}
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
func (m *Member) Unregistered() []ipsec.GroupPolicy { return m.open(m.Prepare()) }

// open adds the policies of interfaces that need nothing.
func (m *Member) open(policies []ipsec.GroupPolicy) []ipsec.GroupPolicy {
	for _, a := range m.o.Attach {
		if !slices.ContainsFunc(policies, func(p ipsec.GroupPolicy) bool { return p.Interface == a.Interface }) {
			policies = append(policies, m.policyFor(a, nil, nil))
		}
	}
	return policies
}

// Clear is the operator's "clear crypto gdoi": the member registers again at once.
// What it holds stays in use until the new policy is there; if no key server answers,
// an active fail-close map takes its place. A list of an earlier process goes: until
// it has registered the member is as one that never was.
func (m *Member) Clear() {
	m.mu.Lock()
	m.clear = true
	m.mu.Unlock()
	m.poke()
}

// ClearSAs is the operator's "clear crypto sa": the member registers again at once. What
// it holds stays in use until the new SAs are there, and if no key server answers it
// stays to its end: unlike Clear it leads back to fail-close in no other case than
// without it.
func (m *Member) ClearSAs() {
	m.mu.Lock()
	m.renewed = true
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
