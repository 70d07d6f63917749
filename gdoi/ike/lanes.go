package ike

import "slices"

// This file is the queue before the workers of phase 1. What is furthest on goes first:
// a crowd that comes back at once is served one after the other to the end, instead of
// all of them together too late; and whoever floods us with first messages waits behind
// everybody who has proved his address. What doesn't fit is dropped and counted, since
// the peer sends it again.

// lane is what a message waits behind.
type lane int

const (
	finishing lane = iota // encrypted: no Diffie-Hellman, it ends what has cost us one
	proving               // message 3: the peer receives at its address; a Diffie-Hellman
	beginning             // message 1
	laneCount
)

const (
	// finishingMost and provingMost are how many wait, at most. Members give a message up
	// after half a minute (Retry), in which two processors do more Diffie-Hellman than
	// this with 2048 bits.
	finishingMost = 4096
	provingMost   = 8192
)

// lanes are the waiting jobs.
type lanes [laneCount]chan func()

// newLanes makes room for half of the half-open exchanges in the lane of first messages:
// if all of them could wait there, a flood would evict each one before its turn.
func newLanes(halfOpen int) (l lanes) {
	for i, n := range []int{finishingMost, provingMost, max(1, halfOpen/2)} {
		l[i] = make(chan func(), n)
	}
	return l
}

// full tells whether a lane has no room at the moment.
func (l *lanes) full(i lane) bool { return len(l[i]) == cap(l[i]) }

// put adds a job; false if the lane is full.
func (l *lanes) put(i lane, f func()) bool {
	select {
	case l[i] <- f:
		return true
	default:
		return false
	}
}

// take waits for the next job; nil when quit is closed.
func (l *lanes) take(quit <-chan struct{}) func() {
	for _, first := range l[:beginning] {
		select {
		case f := <-first:
			return f
		default:
		}
	}
	select {
	case f := <-l[finishing]:
		return f
	case f := <-l[proving]:
		return f
	case f := <-l[beginning]:
		return f
	case <-quit:
		return nil
	}
}

// copiesWaiting is how many different messages of one session may wait for a worker: an
// honest peer's is one.
const copiesWaiting = 4

// enqueue gives a message to the session in a worker. Copies of one that isn't done are
// dropped: when we are behind, every peer sends again.
func (s *session) enqueue(i lane, d digest, f func()) {
	e := s.ep
	s.waitMu.Lock()
	if slices.Contains(s.waiting, d) {
		s.waitMu.Unlock()
		e.drop(DropDuplicate)
		return
	}
	if len(s.waiting) >= copiesWaiting {
		s.waitMu.Unlock()
		e.drop(DropOverload)
		return
	}
	s.waiting = append(s.waiting, d)
	s.waitMu.Unlock()
	done := func() {
		s.waitMu.Lock()
		defer s.waitMu.Unlock()
		s.waiting = slices.DeleteFunc(s.waiting, func(w digest) bool { return w == d })
	}
	if !e.queue(i, func() { f(); done() }) {
		done()
	}
}
