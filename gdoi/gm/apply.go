package gm

// A changed setup of a member that runs. What it holds, its registration and its rekey
// SAs stay; each change takes effect where it is used next:
//
//	where it is attached, its lists, fail-close   in the dataplane, now
//	passive                                       the same; an operator's direction is over
//	what it accepts                               from the next registration or rekey on
//	its key servers                               asked by the next registration; one that is
//	                                              failing begins again with the new list
//	where registrations leave from, wire form     it registers again now
//	revert, tracked object, recovery              from now on

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"getvpn/model/event"
)

// ErrEnded reports that a member's actor doesn't run any more.
var ErrEnded = errors.New("gm: the member has ended")

// change is a new setup and who waits for it.
type change struct {
	next Setup
	done chan error
}

// Apply makes next the member's setup. It returns when it is in force; on error the one
// before is. Only while Run runs. Name and identity of the group must be the same: a
// member of another group is another member.
func (m *Member) Apply(next Setup) error {
	c := change{next, make(chan error, 1)}
	select {
	case m.changes <- c:
		return <-c.done
	case <-m.ended:
		return ErrEnded
	}
}

// follow does what Apply asks for.
func (m *Member) follow(next Setup, now time.Time) error {
	old := m.o.Setup
	if next.Group.Name != old.Group.Name || identity(&next.Group) != identity(&old.Group) {
		return fmt.Errorf("gm: group %s: a member can't become one of another group", old.Group.Name)
	}
	if next.Group.Client.Track == old.Group.Client.Track {
		next.Tracker = old.Tracker
	} else {
		m.untrack() // Run follows the other one
	}
	dir := m.dir
	if next.Group.Passive != old.Group.Passive {
		m.dir.byCommand = nil
	}
	m.o.Setup = next
	if !reflect.DeepEqual(next.Attach, old.Attach) || next.Group.Passive != old.Group.Passive {
		if err := m.move(old.Attach, now); err != nil {
			m.o.Setup, m.dir = old, dir
			return errors.Join(err, m.move(next.Attach, now))
		}
	}
	m.describe()
	if len(old.Group.Servers) > 0 {
		m.complete()
	}
	m.joinGroups(now)
	switch {
	case next.Source != old.Source || next.Group.Interop != old.Group.Interop:
		m.afresh(now, whyAsked)
	case !slices.Equal(next.Group.Servers, old.Group.Servers):
		m.relist(old.Group.Servers, now)
	case !reflect.DeepEqual(next.Accept, old.Accept):
		m.retry(now)
	}
	m.unanswered(now)
	m.publish(now)
	m.attached(old.Attach)
	m.emit(nil)
	return nil
}

// move brings what is in force to the interfaces of the setup, then takes it off those
// that only the list before had.
func (m *Member) move(was []Attachment, now time.Time) error {
	if m.registered {
		if err := m.install(now); err != nil {
			return err
		}
	} else {
		for _, p := range m.open(m.keyless(now)) {
			if err := m.o.Inst.Install(p); err != nil {
				return err
			}
		}
	}
	for _, a := range was {
		if !onInterface(m.o.Attach, a.Interface) {
			if err := m.o.Inst.Remove(m.o.Group.Name, a.Interface); err != nil {
				return err
			}
		}
	}
	return nil
}

func onInterface(list []Attachment, name string) bool {
	return slices.ContainsFunc(list, func(a Attachment) bool { return a.Interface == name })
}

// attached tells of maps that came and went, and of changed lists.
func (m *Member) attached(was []Attachment) {
	merged := false
	for _, a := range m.o.Attach {
		i := slices.IndexFunc(was, func(x Attachment) bool { return x.Interface == a.Interface })
		if i < 0 {
			m.o.Events.Emit(event.GMCryptoMapAttach{Group: m.o.Group.Name})
		}
		if i < 0 || !slices.Equal(was[i].Local, a.Local) {
			m.warnPermits(a.Local)
			merged = merged || m.registered && len(a.Local) > 0
		}
	}
	for _, a := range was {
		if !onInterface(m.o.Attach, a.Interface) {
			m.o.Events.Emit(event.GMCryptoMapDetach{Group: m.o.Group.Name})
		}
	}
	if merged {
		m.o.Events.Emit(event.GMACLMerge{Group: m.o.Group.Name})
	}
}

// relist goes on with another list of key servers. An attempt with one that is still on
// it goes on too.
func (m *Member) relist(old []netip.Addr, now time.Time) {
	m.round = 0
	if !m.running {
		m.server = 0
		if m.recovering {
			m.server = m.nextServer()
		}
		m.retry(now)
		return
	}
	i := -1
	if m.server < len(old) {
		i = slices.Index(m.o.Group.Servers, old[m.server])
	}
	if i < 0 {
		m.afresh(now, m.why)
		return
	}
	m.server = i
}

// retry makes the next attempt now if the last one failed.
func (m *Member) retry(now time.Time) {
	if !m.running && (m.retrying || !m.registered) {
		m.server, m.attempt = 0, now
	}
}

// afresh begins a series of attempts now; one that is under way is of no use any more.
func (m *Member) afresh(now time.Time, why why) {
	m.epoch++
	if m.cancel != nil {
		m.cancel()
	}
	m.server, m.round, m.attempt, m.why, m.retrying = 0, 0, now, why, false
}

// complete tells of a group without a key server to register with.
func (m *Member) complete() {
	if len(m.o.Group.Servers) == 0 {
		m.o.Events.Emit(event.GMIncompleteConfig{Group: m.o.Group.Name})
	}
}
