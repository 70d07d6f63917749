package gm

// What follows from a registration attempt: install, publish, emit; or the next
// server of the list, and a pause when the list is through.

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"getvpn/ipsec"
	"getvpn/model/event"
)

// Back-off between rounds of the server list: doubled from first to most, each with
// up to a quarter of jitter taken off, so that members that lost the same key server
// don't come back at the same moment.
const (
	backoffFirst = 5 * time.Second
	backoffMost  = 60 * time.Second
)

// backoff is the pause after that many fruitless rounds (1, 2, …).
func backoff(rounds int, random float64) time.Duration {
	d := backoffFirst
	for range rounds - 1 {
		d = min(2*d, backoffMost)
	}
	return d - time.Duration(random*float64(d/4))
}

func (m *Member) finished(ctx context.Context, r result) {
	if ctx.Err() != nil {
		return
	}
	if r.epoch != m.epoch { // see halt, which has set the next attempt
		m.again()
		return
	}
	now := m.now()
	// The download's times are of a clock that a suspend stops.
	if r.err == nil && now.Sub(m.began)-time.Since(m.beganMono) > transit {
		r.err = errSuspended
	}
	if r.err == nil {
		var item string
		if item, r.err = m.o.Accept.check(&r.got.Offer); item != "" {
			m.o.Events.Emit(event.GMRekeyCipherHash{Item: item, Group: m.o.Group.Name})
		}
	}
	if r.err != nil {
		m.failed(r.server, r.err, now)
		return
	}
	o, at := &r.got.Offer, m.line(r.got.At)
	before, clock, dir, unsure := m.h.clone(), m.clock, m.dir, m.unsure
	m.h.apply(o, r.got.Keys, m.line(r.got.Asked), at, now)
	m.adoptClock(o, at)
	m.unsure = false
	m.pub.RegisteredWith = r.server
	turned := m.turnedBy(now, false)
	m.remember() // first: what is in the kernel must be known to the next process
	if err := m.install(now); err != nil {
		m.h, m.clock, m.dir, m.unsure = before, clock, dir, unsure
		m.o.Events.Emit(event.GMInstallFailed{KS: r.server, Group: m.o.Group.Name, GM: r.got.Local.Addr()})
		m.failed(r.server, &PullError{Class: Unsupported, Reason: "install-failed", Err: err}, now)
		return
	}
	if o.KEK == nil {
		m.forgetKEKs(now)
	} else if err := m.adopt(o.KEK, m.h.kekEnds, now, false); err != nil {
		m.o.Log.Warn("KEK of a registration: rekeys aren't taken", "group", m.o.Group.Name, "error", err)
		m.forgetKEKs(now)
	}
	m.joinGroups(now)
	maps.DeleteFunc(m.seen, func(spi uint32, _ bool) bool {
		return !slices.ContainsFunc(m.h.teks, func(t *held) bool { return t.tek.SPI == spi })
	})
	first := !m.registered
	m.registered, m.clearing, m.recovering = true, false, false
	m.server, m.round = 0, 0
	m.reset(now)
	m.pub.Succeeded++
	m.pub.LastError = ""
	m.pub.Local, m.pub.Remote = r.got.Local, r.got.Remote
	m.pub.RegisteredAt, m.pub.RekeysSinceRegistration = m.wall(now), 0
	m.publish(now)

	gm := r.got.Local.Addr()
	m.o.Events.Emit(event.GMRegistrationComplete{KS: r.server, Group: m.o.Group.Name, GM: gm})
	m.o.Events.Emit(event.GMInstallSuccess{KS: r.server, Group: m.o.Group.Name, GM: gm, FVRF: "default", IVRF: "default"})
	if first && slices.ContainsFunc(m.o.Attach, func(a Attachment) bool { return len(a.Local) > 0 }) {
		m.o.Events.Emit(event.GMACLMerge{Group: m.o.Group.Name})
	}
	m.emit(turned)
	m.again()
}

// reset takes the next attempt from what is held.
func (m *Member) reset(now time.Time) {
	m.attempt, m.why, m.retrying = m.h.reRegister(now, m.o.Random()), whyScheduled, false
}

// retime does so after a rekey, which proves that the key server lives and knows us; what
// was asked for stays due.
func (m *Member) retime(now time.Time) {
	if m.running || m.why == whyAsked || m.why == whyDeleted || m.unsure {
		return
	}
	m.recovering = false
	m.server, m.round = 0, 0
	m.reset(now)
}

// again picks up a request that came during the attempt.
func (m *Member) again() {
	m.mu.Lock()
	pending := m.clear || m.renewed || len(m.seqNear) > 0 || m.slept > 0
	m.mu.Unlock()
	if pending {
		m.poke()
	}
}

func (m *Member) failed(server netip.Addr, err error, now time.Time) {
	e := classify(err)
	m.reasons[e.Reason]++
	m.pub.LastError = e.Error()
	m.o.Log.Info("registration failed", "group", m.o.Group.Name, "server", server, "reason", e.Reason, "error", e.Err)
	m.retrying = true
	m.server++
	switch {
	case m.lastRekey.After(m.began) && m.why == whyScheduled && m.registered:
		m.server, m.round = 0, 0 // a rekey brought meanwhile what was to be fetched
		m.reset(now)
	case m.server < len(m.o.Group.Servers):
		m.attempt = now
	default:
		m.server = 0
		m.round++
		m.attempt = now.Add(backoff(m.round, m.o.Random()))
		if m.unsure { // nobody to ask: the boot clock will do
			m.unsure = false
			m.reinstall(now)
		}
		m.unanswered(now)
	}
	m.publish(now)
	switch e.Class {
	case BadHash:
		m.o.Events.Emit(event.GMHashFail{KS: server})
	case Malformed, Rejected:
		m.o.Events.Emit(event.GMRejectingSAPayload{KS: server, Group: m.o.Group.Name, Reason: e.Err.Error()})
	case Unsupported:
		m.o.Events.Emit(event.GMNoCryptoEngine{})
		m.o.Events.Emit(event.GMRejectingSAPayload{KS: server, Group: m.o.Group.Name, Reason: e.Err.Error()})
	}
	m.again()
}

// endsSoon is how near its end a TEK isn't installed any more: the dataplane's clock is
// read a moment later than ours.
const endsSoon = 5 * time.Millisecond

// install puts the holdings as they are now on every interface.
func (m *Member) install(now time.Time) error {
	m.h.expire(now)
	entries, teks := m.h.policy(now)
	turn := m.turnNow(now)
	teks = slices.DeleteFunc(teks, func(t ipsec.TEK) bool { return t.Expires.Sub(now) < endsSoon })
	for i := range teks {
		teks[i].Expires = m.wall(teks[i].Expires)
		teks[i].Direction = ipsec.Both
		if turn == ipsec.InboundOnly {
			teks[i].Direction = ipsec.InboundOnly
		}
	}
	for i := range entries {
		if m.unsure || !slices.ContainsFunc(teks, func(t ipsec.TEK) bool { return t.SPI == entries[i].SPI }) {
			entries[i].SPI = 0
		}
	}
	var first error
	for _, a := range m.o.Attach {
		p := m.policyFor(a, entries, teks)
		p.State, p.Pseudo = ipsec.Registered, m.pseudo()
		p.Passive, p.ReceiveOnly = turn == ipsec.InboundOptional, turn == ipsec.InboundOnly
		if err := m.o.Inst.Install(p); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (m *Member) policyFor(a Attachment, entries []ipsec.Entry, teks []ipsec.TEK) ipsec.GroupPolicy {
	return ipsec.GroupPolicy{
		Group: m.o.Group.Name, Interface: a.Interface, MapSeq: a.MapSeq,
		State: ipsec.Unregistered, FailClose: a.FailClose, Local: a.Local,
		Entries: entries, TEKs: teks, Passive: m.o.Group.Passive,
	}
}
