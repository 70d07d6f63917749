package gm

// The way back to fail-close. A member whose keys have all ended drops what the
// downloaded list permits; with "client fail-close revert", or after an operator's
// clear, it goes back to its fail-close map instead, when no key server answers. Never
// without an active map: then the way back would be an open interface.

import (
	"slices"
	"time"

	"getvpn/ipsec"
	"getvpn/model/event"
)

// closes reports whether every map of the group has an active fail-close.
func (m *Member) closes() bool {
	return len(m.o.Attach) > 0 && !slices.ContainsFunc(m.o.Attach, func(a Attachment) bool { return !a.FailClose.Active })
}

// unanswered is asked when no server of the list has answered, or keys have ended
// meanwhile.
func (m *Member) unanswered(now time.Time) {
	if !m.registered || m.round == 0 || !m.closes() {
		return
	}
	if !m.clearing && (!m.o.Group.Client.Revert || len(m.h.teks) > 0) {
		return
	}
	m.cleanup(now)
}

// cleanup drops keys and downloaded policy: the fail-close map is in force again.
func (m *Member) cleanup(now time.Time) {
	var failed error
	for _, a := range m.o.Attach {
		p := m.policyFor(a, nil, nil)
		p.State, p.Pseudo, p.Passive, p.ReceiveOnly = ipsec.Unregistered, nil, false, false
		if err := m.o.Inst.Install(p); err != nil {
			failed = err
		}
	}
	if failed != nil { // tried again after the next round
		m.o.Log.Warn("back to fail-close", "group", m.o.Group.Name, "error", failed)
		return
	}
	m.forgetKEKs(now)
	m.h = holdings{}
	m.clock, m.dir = groupClock{}, direction{}
	m.registered, m.clearing = false, false
	if m.o.Memory != nil && len(m.saved) > 0 {
		if err := m.o.Memory.Forget(); err != nil {
			m.o.Log.Warn("forgetting the list", "group", m.o.Group.Name, "error", err)
		} else {
			m.saved = nil
		}
	}
	m.leaveGroups()
	m.publish(now)
	m.o.Events.Emit(event.GMPolicyCleanup{Group: m.o.Group.Name, Secs: seconds(m.attempt.Sub(now))})
}

// removal is when the policy goes if nobody answers until then; zero: it stays.
func (m *Member) removal() time.Time {
	if !m.registered || !m.o.Group.Client.Revert || m.round == 0 || !m.closes() {
		return time.Time{}
	}
	return m.h.last()
}
