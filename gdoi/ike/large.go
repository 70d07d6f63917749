package ike

import (
	"maps"
	"slices"
	"time"

	"getvpn/model/event"
)

// This file notices large messages that get no answer. IP cuts them into fragments, and
// many a filter drops all fragments but the first, which has the ports: such a peer
// registers nowhere although it answers every small message. Nobody tells us of a
// fragment that is lost, so it is inferred: a peer that repeats what we have answered
// with a large message, as often as we would, didn't get it.

// largeMessage is how many octets of ISAKMP are large: with the headers of UDP, NAT
// traversal and IP, and of a tunnel or PPPoE on the way, more may not fit a packet.
const largeMessage = 1400

// large tells whether a message may be fragmented.
func large(message []byte) bool { return len(message) > largeMessage }

// unanswered follows an answer that its receiver may not get. The zero value follows
// nothing. The owner's mutex guards it.
type unanswered struct {
	octets int // of the answer; 0: none that is large
	sent   int // how often it was sent, what a network doubled left out
	last   time.Time
	timer  *time.Timer // to the verdict, once it was sent as often as our own messages
	told   bool
}

// begin follows an answer that is sent for the first time, or nothing when it is small.
func (u *unanswered) begin(answer []byte, now time.Time) {
	u.end()
	if large(answer) {
		*u = unanswered{octets: len(answer), sent: 1, last: now}
	}
}

// end follows no longer.
func (u *unanswered) end() {
	if u.timer != nil {
		u.timer.Stop()
	}
	*u = unanswered{}
}

// repeated notes that the peer asked again. When it has done so as often as r says,
// verdict is called after the pause that follows the last transmission.
func (u *unanswered) repeated(r Retry, now time.Time, verdict func()) {
	if u.octets == 0 || u.told || now.Sub(u.last) < r.First/2 { // a network's copy
		return
	}
	u.last = now
	if u.sent++; u.sent >= r.Count && u.timer == nil {
		u.timer = time.AfterFunc(r.wait(r.Count), verdict)
	}
}

// gaveUp is how often an answer was sent in vain when the peer's end of the exchange
// says that it gave up: less is a packet that a network lost.
const gaveUp = 3

// lost is the verdict, once an answer: its octets and transmissions. over: the exchange
// ended without a further message.
func (u *unanswered) lost(r Retry, over bool) (octets, sent int, ok bool) {
	if u.octets == 0 || u.told || u.sent < gaveUp || !over && u.sent < r.Count {
		return 0, 0, false
	}
	u.told = true
	return u.octets, u.sent, true
}

// largeUnanswered counts a message and tells of it. The caller holds no lock.
func (e *Endpoint) largeUnanswered(p path, octets, sent int) {
	e.drop(DropLargeUnanswered)
	e.log.Info("large message without an answer", "peer", p.remote, "octets", octets, "transmissions", sent)
	e.emit(p, event.IKELargeUnanswered{Peer: p.remote.Addr(), Octets: octets, Tries: sent})
}

// silence tells of an answer of the exchange that the peer didn't get. over: the peer
// gave up.
func (x *Exchange) silence(over bool) {
	x.mu.Lock()
	if over && x.closed { // by its owner: it had its last message
		x.mu.Unlock()
		return
	}
	octets, sent, ok := x.large.lost(x.sa.ep.opts.Retry, over)
	x.mu.Unlock()
	if ok {
		x.sa.ep.largeUnanswered(x.sa.way(), octets, sent)
	}
}

// silence is the same of an answer of phase 1.
func (s *session) silence(over bool) {
	s.mu.Lock()
	octets, sent, ok := s.large.lost(s.ep.opts.Retry, over)
	p := s.path
	s.mu.Unlock()
	if ok {
		s.ep.largeUnanswered(p, octets, sent)
	}
}

// way is the path to the peer at the moment.
func (s *SA) way() path {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.path
}

// forsaken looks for answers that the peer, which ends the SA, didn't get.
func (s *SA) forsaken() {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.exchanges))
	s.mu.Unlock()
	for _, x := range all {
		x.silence(true)
	}
}
