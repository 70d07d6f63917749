package gm

// "client status active-sa track N": whether the group has a key to work with, for
// routing that should go elsewhere when it hasn't.

import (
	"time"

	"getvpn/model/event"
)

// tracked follows the state of the keys.
func (m *Member) tracked(now time.Time) {
	if m.o.Group.Client.Track == 0 {
		return
	}
	up := m.registered && now.Before(m.h.last())
	if m.trackSet && up == m.pub.Track.Up {
		return
	}
	m.trackSet = true
	m.setTrack(up, now)
}

// untrack leaves the object that was followed down: nobody keeps it true any more.
func (m *Member) untrack() {
	up := m.trackSet && m.pub.Track.Up
	m.trackSet = false
	if up {
		m.setTrack(false, m.now())
	}
}

// setTrack brings the object to a state, shows it and tells of it.
func (m *Member) setTrack(up bool, now time.Time) {
	id, state := m.pub.Track.ID, "DOWN"
	if up {
		state = "UP"
	}
	m.pub.Track.Up = up
	m.publish(now)
	if m.o.Tracker != nil {
		if err := m.o.Tracker.Set(up); err != nil {
			m.o.Log.Warn("track object", "group", m.o.Group.Name, "id", id, "error", err)
			m.o.Events.Emit(event.GMTrackError{Group: m.o.Group.Name, ID: uint32(id), State: state})
			return
		}
	}
	m.o.Events.Emit(event.GMTrack{Group: m.o.Group.Name, ID: uint32(id), State: state})
}
