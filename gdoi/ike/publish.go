package ike

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"getvpn/model"
	"getvpn/model/event"
)

// This file shows the endpoint to the management model and emits its events.

// publishEvery is the least time between two publications; each publishRows of the last
// one add as much: listing ten thousand SAs takes ten milliseconds, and is done once a
// second.
const (
	publishEvery = 100 * time.Millisecond
	publishRows  = 1000
)

// publisher coalesces: the first change is published at once, what follows within
// publishEvery together at its end.
type publisher struct {
	mu      sync.Mutex
	last    time.Time
	rows    int // of the last publication
	pending *time.Timer
	slow    *time.Timer
	stopped bool
	run     sync.Mutex // one publication at a time, in order
}

func (e *Endpoint) publish() {
	if e.opts.Store == nil {
		return
	}
	p := &e.pub
	p.mu.Lock()
	if p.pending != nil || p.stopped {
		p.mu.Unlock()
		return
	}
	now := time.Now()
	if wait := publishEvery*time.Duration(1+p.rows/publishRows) - now.Sub(p.last); wait > 0 {
		p.pending = time.AfterFunc(wait, func() {
			p.mu.Lock()
			p.pending, p.last = nil, time.Now()
			p.mu.Unlock()
			e.publishNow()
		})
		p.mu.Unlock()
		return
	}
	p.last = now
	p.mu.Unlock()
	e.publishNow()
}

// floodEvery is the least time between publications of what anybody can cause at any
// rate: a flood must not make the endpoint list thousands of SAs ten times a second.
const floodEvery = time.Second

// publishFlood publishes within floodEvery.
func (e *Endpoint) publishFlood() {
	if e.opts.Store == nil {
		return
	}
	p := &e.pub
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slow != nil || p.stopped {
		return
	}
	p.slow = time.AfterFunc(floodEvery, func() {
		p.mu.Lock()
		p.slow = nil
		p.mu.Unlock()
		e.publish()
	})
}

func (p *publisher) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	if p.pending != nil {
		p.pending.Stop()
	}
	if p.slow != nil {
		p.slow.Stop()
	}
}

func (e *Endpoint) publishNow() {
	e.pub.run.Lock()
	defer e.pub.run.Unlock()
	ike := e.snapshot()
	e.pub.mu.Lock()
	e.pub.rows = len(ike.SAs)
	e.pub.mu.Unlock()
	e.opts.Store.Update(func(s *model.Snapshot) { s.IKE = ike })
}

// snapshot lists everything, SAs by number, half-open exchanges last.
func (e *Endpoint) snapshot() model.IKE {
	e.mu.Lock()
	sas := make([]*SA, 0, len(e.sas))
	for _, s := range e.sas {
		sas = append(sas, s)
	}
	open := make([]*session, 0, len(e.starting)+len(e.half))
	for _, s := range e.starting {
		open = append(open, s)
	}
	for _, s := range e.half {
		open = append(open, s)
	}
	e.mu.Unlock()
	slices.SortFunc(sas, func(a, b *SA) int { return cmp.Compare(a.id, b.id) })
	out := model.IKE{Drops: map[string]uint64{}}
	if n := len(sas) + len(open); n > 0 {
		out.SAs = make([]model.IKESA, 0, n)
	}
	for _, s := range sas {
		out.SAs = append(out.SAs, s.row())
	}
	for _, s := range open {
		out.SAs = append(out.SAs, s.view.Load().row())
	}
	for r, n := range e.Drops() {
		out.Drops[string(r)] = n
	}
	return out
}

// row is the SA as shown.
func (s *SA) row() model.IKESA {
	s.mu.Lock()
	p := s.path
	deleted := s.deleted
	s.mu.Unlock()
	return model.IKESA{
		ID: s.id, Local: p.local, Remote: p.remote, State: string(StageIdle), Initiator: s.peer.Initiator,
		ICookie: s.prot.ci, RCookie: s.prot.cr, Encr: s.policy.Encr.String(), Hash: s.policy.Hash.String(),
		Auth: "psk", DHGroup: s.policy.Group, Expires: s.expires, Established: s.established,
		DPD: s.dpd, NATT: p.conn.natt, Deleted: deleted,
	}
}

// sessionView is what is shown of a phase 1 under way.
type sessionView struct {
	path      path
	stage     Stage
	initiator bool
	ci, cr    [8]byte
	policy    Policy
}

func (v *sessionView) row() model.IKESA {
	r := model.IKESA{Local: v.path.local, Remote: v.path.remote, State: string(v.stage), Initiator: v.initiator,
		ICookie: v.ci, RCookie: v.cr, NATT: v.path.conn.natt}
	if v.policy.Group != 0 {
		r.Encr, r.Hash, r.Auth, r.DHGroup = v.policy.Encr.String(), v.policy.Hash.String(), "psk", v.policy.Group
	}
	return r
}

// emit publishes nothing itself: the caller has. Events are bounded to one a kind and
// peer each 30 s, and failures with a peer that is kept to one a kind until it is reached.
func (e *Endpoint) emit(p path, ev event.Event) {
	if e.opts.Events != nil && e.events.pass(ev.Row().Mnemonic, p.remote.Addr(), time.Now()) &&
		!e.peers.said(p.remote.Addr(), ev) {
		e.opts.Events.Emit(ev)
	}
}
