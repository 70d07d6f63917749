package gm

// A rekey's way through the member: opened (decryption, form, sequence number,
// signature: RFC 6407 §4.4), the policy read and accepted, the pseudotime judged; then
// installed, published, told, acknowledged. What is refused on the way changes nothing,
// so the genuine message still works.

import (
	"net/netip"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/gdoi/policy"
	"getvpn/model/event"
)

// Reasons for refusing rekeys that aren't gdoi's own.
const (
	refusedCopy       = "copy"            // the same message again, within copyWindow
	refusedKEKEnded   = "kek-ended"       // under a KEK that is gone
	refusedReplaced   = "kek-replaced"    // under one that is going, for members that have no newer one
	refusedPolicy     = "policy-rejected" // authentic, but not acceptable
	refusedTooOld     = "pseudotime-old"  // see pseudotime.go
	refusedInstall    = "install-failed"  // the dataplane wouldn't
	refusedOverflow   = "queue-full"      // more at once than the actor takes
	copyWindow        = 10 * time.Second  // a network's copy, not a replay
	refusedEventEvery = 10 * time.Second  // between two events of one reason
	ackJitter         = 5 * time.Second   // at most, of a multicast rekey (RFC 8263 §4)
)

// rekeyed handles a datagram.
func (m *Member) rekeyed(p pushed) {
	now, r := m.now(), p.sa
	if r.ended || !now.Before(r.ends) {
		m.outdated(p, now)
		return
	}
	msg, err := r.sa.Open(p.d.Data, r.last, r.pub)
	if err != nil {
		m.unopened(p, err, now)
		return
	}
	r.last, r.at = msg.Seq, now // authentic: its number is used, whatever becomes of it
	rk, err := policy.DecodeRekey(msg)
	if err == nil && rk.Offer != nil {
		var item string
		if item, err = m.o.Accept.check(rk.Offer); item != "" {
			m.o.Events.Emit(event.GMRekeyCipherHash{Item: item, Group: m.o.Group.Name})
		}
	}
	if err != nil {
		m.o.Log.Warn("rekey", "group", m.o.Group.Name, "error", err)
		m.refused(refusedPolicy, event.GMRejectingSAPayload{KS: p.d.Remote.Addr(), Group: m.o.Group.Name, Reason: err.Error()}, now)
		return
	}
	if rk.Offer != nil && !m.timely(rk.Offer, now) {
		m.count(refusedTooOld)
		m.publish(now)
		return
	}
	if err := m.process(p, rk, now); err != nil {
		m.o.Log.Warn("rekey", "group", m.o.Group.Name, "error", err)
		m.count(refusedInstall)
		m.o.Events.Emit(event.GMInstallFailed{KS: p.d.Remote.Addr(), Group: m.o.Group.Name, GM: m.pub.Local.Addr()})
		m.publish(now)
	}
}

// outdated judges what came under a KEK that isn't in force any more: authentic and new it
// is meant for members that don't know so yet, and nothing to tell of.
func (m *Member) outdated(p pushed, now time.Time) {
	r := p.sa
	if !now.Before(r.judged) {
		m.refused(refusedKEKEnded, event.GMRekeyFailure{GM: m.pub.Local.Addr(), Group: m.o.Group.Name, KS: p.d.Remote.Addr()}, now)
		return
	}
	msg, err := r.sa.Open(p.d.Data, r.last, r.pub)
	if err != nil {
		m.unopened(p, err, now)
		return
	}
	r.last, r.at = msg.Seq, now
	m.count(refusedReplaced)
	m.publish(now)
}

// unopened says why a datagram wasn't taken.
func (m *Member) unopened(p pushed, err error, now time.Time) {
	reason := gdoi.ReasonOf(err)
	from := p.d.Remote.Addr()
	if reason != gdoi.Replayed.String() {
		m.refused(reason, event.GMRekeyFailure{GM: m.pub.Local.Addr(), Group: m.o.Group.Name, KS: from}, now)
		return
	}
	if !m.due(reason, now) { // a second look costs a signature: not for a flood
		m.count(reason)
		m.publish(now)
		return
	}
	again, err := p.sa.sa.Open(p.d.Data, 0, p.sa.pub)
	switch {
	case err != nil: // it never was genuine
		m.refused(gdoi.ReasonOf(err), event.GMRekeyFailure{GM: m.pub.Local.Addr(), Group: m.o.Group.Name, KS: from}, now)
	case again.Seq == p.sa.last && now.Sub(p.sa.at) < copyWindow:
		m.count(refusedCopy)
		m.publish(now)
	default:
		m.refused(reason, event.GMRekeySeqFailure{Seq: again.Seq, Group: m.o.Group.Name, Last: p.sa.last}, now)
	}
}

// process makes an accepted rekey the policy in force.
func (m *Member) process(p pushed, rk *policy.Rekey, now time.Time) error {
	if rk.Offer == nil {
		return m.deleted(p, rk, now)
	}
	before, clock, dir := m.h.clone(), m.clock, m.dir
	k, cur := rk.Offer.KEK, m.kekNow()
	news := !m.h.repeats(rk) || k != nil && (cur == nil || !cur.is(k))
	m.h.rekey(rk, now)
	m.remember()
	m.adoptClock(rk.Offer, now)
	turned := m.turnedBy(now, news)
	if err := m.install(now); err != nil {
		m.h, m.clock, m.dir, m.events = before, clock, dir, nil
		return err
	}
	if k != nil {
		ends := now.Add(k.Lifetime)
		if err := m.adopt(k, ends, now, true); err != nil {
			m.o.Log.Warn("KEK of a rekey", "group", m.o.Group.Name, "error", err)
		} else {
			m.h.kek, m.h.kekLife, m.h.kekEnds = k, k.Lifetime, ends
		}
	}
	for _, spi := range rk.Delete.KEKs { // the one before, at once
		for _, r := range m.keks {
			if r.sa.SPI == spi && r != m.kekNow() {
				r.succeeded(now)
				r.ends = now
			}
		}
	}
	m.joinGroups(now)
	m.retime(now)
	if m.h.needsSID() {
		m.attempt, m.why = now.Add(m.jitter(soon)), whySID
	}
	ack := m.ackOf(p, rk.Seq)
	m.received(p, rk, now)
	m.publish(now)
	m.o.Events.Emit(event.GMRecvRekey{Group: m.o.Group.Name, KS: p.d.Remote.Addr(), Dst: p.d.Local.Addr(), Seq: rk.Seq})
	if len(rk.Delete.TEKs) > 0 || rk.Delete.AllTEKs {
		m.o.Events.Emit(event.GMRecvPolicyReplaceNow{Group: m.o.Group.Name})
	}
	for i := range rk.Offer.TEKs {
		if before.find(rk.Offer.TEKs[i].SPI) == nil {
			m.o.Events.Emit(event.GMTEKUpdated{})
			break
		}
	}
	m.emit(turned)
	m.sendAck(p, ack)
	return nil
}

// Periods of which a member that was told to leave takes a random moment to register
// again.
const (
	removalPeriod = 10 * time.Second // all keys are gone
	leavingPeriod = 60 * time.Second // keys are shortened to 90 s at least
)

// deleted handles a rekey that only takes away. All TEKs: the member drops everything
// now. The KEK alone: it lets its keys end early. Either way it registers again at a
// random moment, so that thousands don't come at once.
func (m *Member) deleted(p pushed, rk *policy.Rekey, now time.Time) error {
	d := rk.Delete
	before := m.h.clone()
	kek := d.AllKEKs
	for _, spi := range d.KEKs {
		kek = kek || m.kekNow() != nil && m.kekNow().sa.SPI == spi
	}
	var told event.Event
	var period time.Duration
	switch {
	case d.AllTEKs && !rk.Shorten:
		m.h.remove(d)
		period = removalPeriod
		told = event.GMRecvDeleteImmediate{Group: m.o.Group.Name, Secs: uint64(period / time.Second)}
	case kek:
		m.h.remove(d)
		m.h.shortenAll(now)
		period = leavingPeriod
		if first := m.h.first(); !first.IsZero() {
			period = max(0, min(period, first.Sub(now)/2))
		}
		told = event.GMRecvDelete{Group: m.o.Group.Name}
	default:
		m.h.remove(d)
	}
	if err := m.install(now); err != nil {
		m.h = before
		return err
	}
	ack := m.ackOf(p, rk.Seq) // before the KEK goes
	m.received(p, rk, now)
	if told != nil {
		m.attempt, m.server, m.round, m.why = now.Add(m.jitter(period)), 0, 0, whyDeleted
	} else if len(d.TEKs) > 0 {
		m.retime(now)
	}
	if kek {
		for _, r := range m.keks {
			r.succeeded(now)
		}
		m.endKEKs(now)
	}
	m.publish(now)
	m.o.Events.Emit(event.GMRecvRekey{Group: m.o.Group.Name, KS: p.d.Remote.Addr(), Dst: p.d.Local.Addr(), Seq: rk.Seq})
	if told != nil {
		m.o.Events.Emit(told)
	}
	m.sendAck(p, ack)
	return nil
}

// received notes a rekey for the model.
func (m *Member) received(p pushed, rk *policy.Rekey, now time.Time) {
	m.lastRekey = now
	m.pub.RekeysReceived++
	m.pub.RekeysSinceRegistration++
	m.pub.LastRekeyFrom, m.pub.LastRekeyTo, m.pub.LastRekeySeq = p.d.Remote.Addr(), p.d.Local.Addr(), rk.Seq
	m.pub.LastRekeyAt = m.wall(now)
}

// ackOf is the acknowledgement of a rekey (RFC 8263), and counts it; nil: none is asked
// for. The SAK received last says whether; the key is that of the KEK that the rekey
// came under.
func (m *Member) ackOf(p pushed, seq uint32) []byte {
	ask := p.sa.ack
	if r := m.kekNow(); r != nil {
		ask = r.ack
	}
	if ask == 0 || p.sa.ended || !m.pub.Local.IsValid() {
		return nil
	}
	k := p.sa.sa.AckKey(ask)
	defer k.Zero()
	ack := k.Seal(seq, isakmp.AddrID(m.pub.Local.Addr()), p.sa.sa.SPI)
	if ack != nil && m.o.Rekeys != nil {
		m.pub.AcksSent++
	}
	return ack
}

func (m *Member) sendAck(p pushed, ack []byte) {
	if ack == nil || m.o.Rekeys == nil {
		return
	}
	rekeys, log := m.o.Rekeys, m.o.Log.With("group", m.o.Group.Name)
	transmitAck := func(d ike.Datagram, ack []byte, local netip.Addr) { // on any goroutine
		if err := rekeys.SendPush(ack, local, d.Remote); err != nil {
			log.Info("acknowledging a rekey", "error", err)
		}
	}
	local := p.d.Local.Addr()
	if !local.IsMulticast() {
		transmitAck(p.d, ack, local)
		return
	}
	// Members of a multicast group answer at random moments.
	local = m.pub.Local.Addr()
	time.AfterFunc(m.jitter(ackJitter), func() { transmitAck(p.d, ack, local) })
}

// count counts a refused rekey.
func (m *Member) count(reason string) { m.rekeysRefused[reason]++ }

// refused counts a refused rekey and tells of it, once in a while.
func (m *Member) refused(reason string, e event.Event, now time.Time) {
	m.count(reason)
	m.publish(now)
	if m.due(reason, now) {
		m.told[reason] = now
		m.o.Events.Emit(e)
	}
}

// due reports whether an event of that reason may be told.
func (m *Member) due(reason string, now time.Time) bool {
	at, ok := m.told[reason]
	return !ok || now.Sub(at) >= refusedEventEvery
}

// jitter is a random part of d.
func (m *Member) jitter(d time.Duration) time.Duration {
	return time.Duration(m.o.Random() * float64(d))
}

// later keeps an event for the moment at which the change is published.
func (m *Member) later(e event.Event) { m.events = append(m.events, e) }

// emit tells what was kept, and more.
func (m *Member) emit(more []event.Event) {
	for _, e := range append(m.events, more...) {
		m.o.Events.Emit(e)
	}
	m.events = nil
}
