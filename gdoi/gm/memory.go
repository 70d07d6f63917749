package gm

// The list outlives the process, its keys don't. A member that starts again without
// fail-close goes on dropping what the dead one's policy protected: what stays in the
// kernel would be replaced as a whole by the first group of the interface that
// registers, and another group's permits would leave in clear until it did too.

import (
	"slices"

	"getvpn/gdoi/policy"
	"getvpn/ipsec"
)

// recall takes up the list of an earlier process. One that can't be read counts as
// none.
func (m *Member) recall() {
	if m.o.Memory == nil {
		return
	}
	list, err := m.o.Memory.Load()
	if err != nil {
		m.o.Log.Warn("the list of an earlier process", "group", m.o.Group.Name, "error", err)
		return
	}
	m.saved = list
	for _, e := range list {
		m.h.entries = append(m.h.entries, policy.Entry{ACE: e})
	}
}

// remember saves the list of the newest download if it isn't saved already. A disk that
// refuses doesn't keep traffic from flowing.
func (m *Member) remember() {
	if m.o.Memory == nil {
		return
	}
	var list []ipsec.ACE
	for _, e := range m.h.entries {
		list = append(list, e.ACE)
	}
	if slices.Equal(list, m.saved) {
		return
	}
	if err := m.o.Memory.Save(list); err != nil {
		m.o.Log.Warn("saving the list for the next process", "group", m.o.Group.Name, "error", err)
		return
	}
	m.saved = list
}

// forget is for an operator's clear. A member that has registered keeps its list, which
// is in force.
func (m *Member) forget() {
	if m.registered || len(m.saved) == 0 {
		return
	}
	if err := m.o.Memory.Forget(); err != nil {
		m.o.Log.Warn("forgetting the list of an earlier process", "group", m.o.Group.Name, "error", err)
		return
	}
	m.saved, m.h.entries = nil, nil
	for _, a := range m.o.Attach {
		if err := m.o.Inst.Install(m.policyFor(a, nil, nil)); err != nil {
			m.o.Log.Warn("install", "group", m.o.Group.Name, "error", err)
		}
	}
	m.publish(m.now())
}
