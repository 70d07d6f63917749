package gm

// "client status active-sa track N": whether the group has a key to work with, for
// routing that should go elsewhere when it hasn't.

import (
	"time"

	"getvpn/model/event"
)

// tracked follows the state of the keys.
func (m *Member) tracked(now time.Time) {
	id := m.o.Group.Client.Track
	if id == 0 {
		return
	}
	up := m.registered && now.Before(m.h.last())
	if m.trackSet && up == m.pub.Track.Up {
		return
	}
	state := "DOWN"
	if up {
		state = "UP"
	}
	m.pub.Track.Up, m.trackSet = up, true
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

// untrack leaves the object that was followed down: nobody keeps it true any more.
func (m *Member) untrack() {
	id := m.pub.Track.ID
	if !m.trackSet || !m.pub.Track.Up {
		m.trackSet = false
		return
	}
	m.pub.Track.Up, m.trackSet = false, false
	m.publish(m.now())
	if m.o.Tracker != nil {
		if err := m.o.Tracker.Set(false); err != nil {
			m.o.Log.Warn("track object", "group", m.o.Group.Name, "id", id, "error", err)
			m.o.Events.Emit(event.GMTrackError{Group: m.o.Group.Name, ID: uint32(id), State: "DOWN"})
			return
		}
	}
	m.o.Events.Emit(event.GMTrack{Group: m.o.Group.Name, ID: uint32(id), State: "DOWN"})
}
