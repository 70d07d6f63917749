package gm

// A machine that was put back to a snapshot, or cloned, has the counters of an earlier
// moment: what it would seal now under a counter mode, its former self may have sealed
// already with the same nonce (RFC 4106 §3.1 forbids it). So it stops sending under such
// keys, gets a Sender ID of its own by a new GROUPKEY-PULL, and only then goes on.
// Receiving goes on all the time.

import (
	"errors"
	"time"

	"getvpn/gdoi/policy"
	"getvpn/model/event"
)

// retryHalt is the pause after the dataplane refused to stop.
const retryHalt = time.Second

// Restored tells the member that its machine was restored from a snapshot or cloned, and
// how that was noticed. The Sender IDs that it has are another machine's from now on.
func (m *Member) Restored(source string) {
	m.mu.Lock()
	m.restored = source
	m.mu.Unlock()
	m.poke()
}

// heedRestore takes up a restore before anything that brings Sender IDs is looked at.
func (m *Member) heedRestore() {
	m.mu.Lock()
	source := m.restored
	m.restored = ""
	m.mu.Unlock()
	if source != "" {
		m.halt(source)
	}
}

// halt gives up every Sender ID and registers again at once. Without one a permit has no
// TEK to be sent with, so its packets drop as "no-sa".
func (m *Member) halt(source string) {
	m.h.surrender()
	now := m.now()
	m.afresh(now, whyAsked) // a download under way may bring a Sender ID that our former self has too
	if err := m.installHalted(now); err != nil {
		m.o.Log.Error("a restored machine must not send", "group", m.o.Group.Name, "error", err)
		time.AfterFunc(retryHalt, func() { m.Restored(source) })
	}
	m.publish(now)
	m.o.Events.Emit(event.GMMachineRestored{Group: m.o.Group.Name, Source: source})
}

// installHalted also ends what the member's predecessor, before a change of the
// configuration, has left in force.
func (m *Member) installHalted(now time.Time) error {
	if m.registered {
		return m.install(now)
	}
	var errs []error
	for _, p := range m.keyless(now) {
		errs = append(errs, m.o.Inst.Install(p))
	}
	return errors.Join(errs...)
}

// surrender gives up the Sender IDs of all TEKs. A counter-mode TEK that isn't named by a
// later download stays for receiving alone.
func (h *holdings) surrender() {
	h.keys = policy.Keys{} // a rekey's TEKs get none either
	for _, t := range h.teks {
		t.tek.SIDs = nil
	}
}
