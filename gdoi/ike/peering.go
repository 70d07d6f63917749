package ike

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"getvpn/model/event"
)

// This file is between the endpoint and those who keep SAs with key servers (keep.go):
// which SAs each of them has, and one queue that tells of SAs and of messages in order.

// peering knows the keepers. Its mutex is taken before Endpoint.mu and SA.mu.
type peering struct {
	handler atomic.Pointer[func(*SA, []byte)]
	wake    chan struct{}
	quit    chan struct{}
	ended   chan struct{}
	once    sync.Once

	mu       sync.Mutex
	keepers  map[keepKey]*keeper
	queue    []delivery
	waiting  map[*SA]load // messages in the queue
	stranger load         // those of peers that nobody keeps
}

// delivery is a call that waits. sa is set for a message.
type delivery struct {
	call     func()
	sa       *SA
	octets   int
	stranger bool
}

// load is how much waits.
type load struct{ messages, octets int }

func (l load) fits(most load, octets int) bool {
	return l.messages < most.messages && l.octets+octets <= most.octets
}

func (l load) plus(messages, octets int) load { return load{l.messages + messages, l.octets + octets} }

// mostOf is how much of one SA may wait, mostStrangers how much of all peers that nobody
// keeps: anybody who shares a key with us can send.
func mostOf() load        { return load{2048, 4 << 20} }
func mostStrangers() load { return load{64, 1 << 20} }

func newPeering() *peering {
	return &peering{wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{}),
		keepers: map[keepKey]*keeper{}, waiting: map[*SA]load{}}
}

// deliver makes the calls until stop, then those that are left.
func (q *peering) deliver() {
	defer close(q.ended)
	for {
		if call := q.next(); call != nil {
			call()
			continue
		}
		select {
		case <-q.wake:
		case <-q.quit:
			for call := q.next(); call != nil; call = q.next() {
				call()
			}
			return
		}
	}
}

func (q *peering) stop() {
	q.once.Do(func() { close(q.quit) })
	<-q.ended
}

func (q *peering) next() func() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 {
		return nil
	}
	d := q.queue[0]
	q.queue[0] = delivery{}
	if q.queue = q.queue[1:]; len(q.queue) == 0 {
		q.queue = nil
	}
	if d.sa != nil {
		if l := q.waiting[d.sa].plus(-1, -d.octets); l.messages > 0 {
			q.waiting[d.sa] = l
		} else {
			delete(q.waiting, d.sa)
		}
	}
	if d.stranger {
		q.stranger = q.stranger.plus(-1, -d.octets)
	}
	return d.call
}

// put queues a call; the caller holds mu.
func (q *peering) put(d delivery) {
	q.queue = append(q.queue, d)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// notified queues a key server's message, or says why not.
func (q *peering) notified(s *SA, data []byte) DropReason {
	f := q.handler.Load()
	if f == nil {
		return DropNoHandler
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	d := delivery{sa: s, octets: len(data), stranger: true}
	for _, k := range q.keepers {
		if k.has(s) {
			d.stranger = false
		}
	}
	if !q.waiting[s].fits(mostOf(), d.octets) || d.stranger && !q.stranger.fits(mostStrangers(), d.octets) {
		return DropPeerNotify
	}
	q.waiting[s] = q.waiting[s].plus(1, d.octets)
	if d.stranger {
		q.stranger = q.stranger.plus(1, d.octets)
	}
	data = bytes.Clone(data)
	d.call = func() { (*f)(s, data) }
	q.put(d)
	return ""
}

// keeps tells whether somebody keeps a peer.
func (q *peering) keeps(peer netip.Addr) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for k := range q.keepers {
		if k.remote.Addr() == peer {
			return true
		}
	}
	return false
}

// arrived takes an SA that has come into the database.
func (q *peering) arrived(s *SA) {
	q.each(s, func(k *keeper) {
		if !slices.Contains(k.sas, s) {
			k.sas = append(k.sas, s)
		}
	})
	if s.known() {
		q.confirmed(s)
	}
}

// confirmed takes an SA that both sides have: now it is told.
func (q *peering) confirmed(s *SA) {
	q.each(s, func(k *keeper) {
		if slices.Contains(k.up, s) {
			return
		}
		if !slices.Contains(k.sas, s) {
			k.sas = append(k.sas, s)
		}
		k.up = append(k.up, s)
		clear(k.said)
		for _, w := range k.watchers {
			q.tell(w, s, true)
		}
	})
}

// each calls f for the keepers of a living SA and wakes them.
func (q *peering) each(s *SA, f func(*keeper)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, k := range q.keepers {
		if k.has(s) && s.Alive() { // what ends later is told by gone
			f(k)
			k.poke()
		}
	}
}

// gone takes an SA that has ended.
func (q *peering) gone(s *SA) {
	q.mu.Lock()
	defer q.mu.Unlock()
	is := func(o *SA) bool { return o == s }
	for _, k := range q.keepers {
		k.sas = slices.DeleteFunc(k.sas, is)
		if !slices.Contains(k.up, s) {
			continue
		}
		k.up = slices.DeleteFunc(k.up, is)
		for _, w := range k.watchers {
			q.tell(w, s, false)
		}
		k.poke()
	}
}

// tell queues a report; the caller holds mu.
func (q *peering) tell(w *watcher, s *SA, up bool) { q.put(delivery{call: func() { w.f(s, up) }}) }

// said tells whether a failure with a peer needn't be told: attempts go on until it is
// reached, and it was told before. The first time it notes it.
func (q *peering) said(peer netip.Addr, ev event.Event) (before bool) {
	switch ev.(type) {
	case event.IKEAuthFailed, event.IKENoPolicy, event.IKENoPSK, event.IKENoResponse:
	default:
		return false
	}
	kind := ev.Row().Mnemonic
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, k := range q.keepers {
		if k.key.remote.Addr() == peer && len(k.up) == 0 {
			before = before || k.said[kind]
			k.said[kind] = true
		}
	}
	return before
}
