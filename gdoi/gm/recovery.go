package gm

// Errors of the dataplane that newer keys would mend ("client recovery-check"): the
// member registers with the next key server of its list, at a random moment, at most
// once an interval.

import (
	"time"

	"getvpn/model/event"
)

// recoveryPeriod is the period of which a random moment is taken.
const recoveryPeriod = 10 * time.Second

// recover acts on errors of the dataplane.
func (m *Member) recover(now time.Time) {
	interval := m.o.Group.Client.Recovery
	if interval <= 0 || !m.registered || m.running || m.recovering {
		return
	}
	last := m.recovered
	if m.lastRekey.After(last) {
		last = m.lastRekey
	}
	m.recovering = true
	m.server, m.round, m.why = m.nextServer(), 0, whyRecovery
	if wait := last.Add(interval).Sub(now); !last.IsZero() && wait > 0 {
		m.pub.Recovery.Postponed++
		m.sooner(now.Add(wait))
		m.publish(now)
		m.o.Events.Emit(event.GMRecoveryPostponed{Group: m.o.Group.Name, Secs: seconds(wait + time.Second - 1)})
		return
	}
	m.sooner(now.Add(m.jitter(recoveryPeriod)))
	m.publish(now)
	m.o.Events.Emit(event.GMRecoveryRegistration{Group: m.o.Group.Name, Secs: seconds(recoveryPeriod)})
}

// nextServer is the one behind that of the registration.
func (m *Member) nextServer() int {
	list := m.o.Group.Servers
	for i, a := range list {
		if a == m.pub.RegisteredWith {
			return (i + 1) % len(list)
		}
	}
	return 0
}

// sooner brings the next attempt forward.
func (m *Member) sooner(at time.Time) {
	if m.attempt.IsZero() || at.Before(m.attempt) {
		m.attempt = at
	}
}
