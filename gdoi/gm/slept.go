package gm

// A machine that was suspended: its keys aged, timers are late, rekeys went by. Keys are
// judged anew by boot time. Under time-based anti-replay nothing is sent before a
// registration has told the group's clock again: a hypervisor may have stopped the boot
// clock too.

import (
	"errors"
	"time"

	"getvpn/gdoi/policy"
	"getvpn/model/event"
)

// missed is how long a sleep may be without rekeys being lost: the key server's
// retransmissions.
const missed = 30 * time.Second

// errSuspended ends an attempt whose download has times that nobody knows.
var errSuspended = errors.New("the machine was suspended during the registration")

// woke follows a suspend of that length.
func (m *Member) woke(slept time.Duration, now time.Time) {
	if m.expireKEKs(now) {
		m.later(event.GMKEKExpired{Group: m.o.Group.Name})
	}
	stale := m.clock.valid && slept > policy.Skew(m.h.window())
	if m.registered && (stale || slept >= missed) && !m.clearing {
		m.unsure = stale
		m.afresh(now, whySlept) // an attempt under way was made before
		m.later(event.GMSlept{Group: m.o.Group.Name, Secs: seconds(slept)})
	}
	m.reinstall(now)
	m.publish(now)
	m.emit(nil)
}
