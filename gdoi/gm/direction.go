package gm

// Which way the group's SAs work: both, passive (sends encrypted, takes clear too), or
// receiving only (sends in clear). The newest word counts: an operator's command until
// the next rekey, else "passive" of the configuration, else the key server. From
// receive-only a group comes to both over the passive state, since not every member has
// the rekey at the same moment.

import (
	"time"

	"getvpn/ipsec"
	"getvpn/model/event"
)

// convertsIn is how long a converted member is passive if no rekey comes (guide: about
// 5 minutes).
const convertsIn = 5 * time.Minute

// direction of the group's SAs.
type direction struct {
	byCommand *ipsec.Direction
	ks        ipsec.Direction // Both or InboundOnly, as the newest policy says
	until     time.Time       // end of the passive phase; zero: there is none
}

// turn is the direction in force.
func (m *Member) turnNow(now time.Time) ipsec.Direction {
	switch d := &m.dir; {
	case d.byCommand != nil:
		return *d.byCommand
	case m.o.Group.Passive:
		return ipsec.InboundOptional
	case d.ks == ipsec.InboundOnly:
		return ipsec.InboundOnly
	case now.Before(d.until):
		return ipsec.InboundOptional
	}
	return ipsec.Both
}

// turnedBy follows a new policy; rekey says that a rekey brought it, and not one that
// repeats another: that one began the five minutes and ended the command. It returns what
// is to be told.
func (m *Member) turnedBy(now time.Time, rekey bool) (told []event.Event) {
	was := m.dir.ks
	if rekey {
		m.dir.byCommand = nil
	}
	m.dir.ks = ipsec.Both
	if m.h.receiveOnly() {
		m.dir.ks = ipsec.InboundOnly
	}
	switch {
	case m.dir.ks == ipsec.InboundOnly:
		m.dir.until = time.Time{}
		if was != ipsec.InboundOnly {
			told = append(told, event.GMReceiveOnly{KS: m.pub.RegisteredWith, Group: m.o.Group.Name})
		}
	case was == ipsec.InboundOnly:
		m.dir.until = now.Add(convertsIn)
		told = append(told, event.GMConvertedDuplex{Group: m.o.Group.Name})
	case rekey && now.Before(m.dir.until):
		m.dir.until = now.Add(convertsIn) // no rekey for that long
	}
	return told
}

// command is the operator's word.
func (m *Member) command(d ipsec.Direction, now time.Time) {
	was := m.turnNow(now)
	m.dir.byCommand = &d
	m.reinstall(now)
	m.publish(now)
	if d == ipsec.Both && was != ipsec.Both {
		m.o.Events.Emit(event.GMConvertedDuplexLocal{Group: m.o.Group.Name})
	}
}
