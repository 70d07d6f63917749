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
	now := time.Now()
	if r.err != nil {
		m.failed(r.server, r.err, now)
		return
	}
	before := m.h
	m.h.teks = slices.Clone(m.h.teks)
	m.h.apply(&r.got.Offer, r.got.Keys, r.got.Asked, r.got.At, now)
	m.remember() // first: what is in the kernel must be known to the next process
	if err := m.install(now); err != nil {
		m.h = before
		m.o.Events.Emit(event.GMInstallFailed{KS: r.server, Group: m.o.Group.Name, GM: r.got.Local.Addr()})
		m.failed(r.server, &PullError{Class: Unsupported, Reason: "install-failed", Err: err}, now)
		return
	}
	maps.DeleteFunc(m.seen, func(spi uint32, _ bool) bool {
		return !slices.ContainsFunc(m.h.teks, func(t *held) bool { return t.tek.SPI == spi })
	})
	first := !m.registered
	m.registered = true
	m.server, m.round = 0, 0
	m.attempt = m.h.reRegister(now, m.o.Random())
	m.pub.Succeeded++
	m.pub.LastError = ""
	m.pub.Local, m.pub.Remote = r.got.Local, r.got.Remote
	m.pub.RegisteredWith, m.pub.RegisteredAt = r.server, now
	m.publish(now)

	gm := r.got.Local.Addr()
	m.o.Events.Emit(event.GMRegistrationComplete{KS: r.server, Group: m.o.Group.Name, GM: gm})
	m.o.Events.Emit(event.GMInstallSuccess{KS: r.server, Group: m.o.Group.Name, GM: gm, FVRF: "default", IVRF: "default"})
	if first && slices.ContainsFunc(m.o.Attach, func(a Attachment) bool { return len(a.Local) > 0 }) {
		m.o.Events.Emit(event.GMACLMerge{Group: m.o.Group.Name})
	}
	m.again()
}

// again picks up a request that came during the attempt.
func (m *Member) again() {
	m.mu.Lock()
	pending := m.clear || len(m.seqNear) > 0
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
	m.server++
	if m.server < len(m.o.Group.Servers) {
		m.attempt = now
	} else {
		m.server = 0
		m.round++
		m.attempt = now.Add(backoff(m.round, m.o.Random()))
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

// install puts the holdings as they are now on every interface.
func (m *Member) install(now time.Time) error {
	m.h.expire(now)
	entries, teks := m.h.policy(now)
	var first error
	for _, a := range m.o.Attach {
		p := m.policyFor(a, entries, teks)
		p.State = ipsec.Registered
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
