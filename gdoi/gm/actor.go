package gm

// The member's actor. One goroutine (Run) owns the state; a registration attempt runs
// in a goroutine of its own, one at a time, and its result comes back as a message;
// rekeys come through a bounded queue.

import (
	"context"
	"net/netip"
	"time"

	"getvpn/model/event"
)

// Run registers and keeps the group's keys until ctx ends. The policy stays in the
// dataplane; Leave removes it.
func (m *Member) Run(ctx context.Context) {
	defer close(m.ended)
	defer m.leaveGroups()
	defer m.silenceAll()
	defer m.untrack()
	m.complete()
	m.attempt, m.why = m.now(), whyScheduled
	m.tracked(m.now())
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
		case c := <-m.changes:
			m.heedRestore()
			c.done <- m.follow(c.next, m.now())
		case p := <-m.pushes:
			m.heedRestore() // a rekey's TEK must not be sent with before
			m.rekeyed(p)
		case <-timer.C:
			m.tick()
		}
		m.tracked(m.now())
	}
}

// arm starts an attempt that is due and sets the timer to the next thing to do.
func (m *Member) arm(ctx context.Context, timer *time.Timer) {
	now := m.now()
	asks := len(m.o.Group.Servers) > 0
	if asks && !m.running && !m.attempt.IsZero() && !now.Before(m.attempt) {
		m.start(ctx, now)
	}
	var next time.Time
	sooner := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	sooner(m.h.changes(now))
	if asks && !m.running {
		sooner(m.attempt)
	}
	for _, r := range m.keks {
		sooner(r.ends)
	}
	for _, r := range m.gone {
		sooner(r.judged)
	}
	if m.dir.until.After(now) {
		sooner(m.dir.until)
	}
	sooner(m.rejoinAt)
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
	if m.registered && !m.retrying {
		if m.why == whyScheduled && m.kekNow() != nil {
			m.o.Events.Emit(event.GMRekeyNotReceived{KS: m.pub.RegisteredWith, Group: m.o.Group.Name})
		}
		m.o.Events.Emit(event.GMReRegister{Group: m.o.Group.Name})
	}
	m.recovering = false
	if m.why == whyRecovery {
		m.recovered = now
		m.pub.Recovery.Executed++
	}
	m.running, m.began, m.beganMono = true, now, time.Now()
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

// tick follows the clock: keys change over and end, conversions are over.
func (m *Member) tick() {
	now := m.now()
	if m.expireKEKs(now) {
		m.later(event.GMKEKExpired{Group: m.o.Group.Name})
	}
	if !m.rejoinAt.IsZero() && !now.Before(m.rejoinAt) {
		m.joinGroups(now)
	}
	m.reinstall(now)
	m.unanswered(now)
	m.publish(now)
	m.emit(nil)
}

// reinstall brings the policy as it is now into force; what fails is tried again at
// the next change.
func (m *Member) reinstall(now time.Time) {
	if !m.registered {
		return
	}
	if err := m.install(now); err != nil {
		m.o.Log.Warn("install", "group", m.o.Group.Name, "error", err)
	}
}

// requests takes up what was asked from outside.
func (m *Member) requests() {
	m.mu.Lock()
	cleared, again := m.clear, m.renewed
	near, turn, replay, errs, slept := m.seqNear, m.turn, m.replay, m.errs, m.slept
	m.clear, m.renewed = false, false
	m.seqNear, m.turn, m.replay, m.errs, m.slept = map[uint32]bool{}, nil, false, map[DataErrorKind]bool{}, 0
	m.mu.Unlock()
	now := m.now()
	if slept > 0 {
		m.woke(slept, now)
	}
	if turn != nil {
		m.command(*turn, now)
	}
	if replay {
		clear(m.rekeysRefused)
		clear(m.told)
		m.overflow.Store(0)
		m.publish(now)
	}
	if len(errs) > 0 {
		m.recover(now)
	}
	renewed := again
	if cleared {
		m.o.Events.Emit(event.GMClearRegister{Group: m.o.Group.Name})
		m.forget()
		m.clearing = m.registered
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
		m.clear, m.renewed = m.clear || cleared, m.renewed || renewed
		m.mu.Unlock()
		return
	}
	m.server, m.round, m.attempt, m.why, m.retrying = 0, 0, now, whyAsked, false
}
