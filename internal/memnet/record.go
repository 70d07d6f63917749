package memnet

// This file keeps what was sent, for replays and for decoders that judge it later.

import "sync"

// Recording is what was sent since Record, in order.
type Recording struct {
	mu   sync.Mutex
	all  []Datagram
	stop func()
}

// Record keeps each datagram from now on as it is sent, also those that get lost.
func (n *Network) Record() *Recording {
	r := &Recording{}
	r.stop = n.Watch(func(d Datagram) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, d)
	})
	return r
}

// All returns the datagrams so far: Remote sent it, Local is where to.
func (r *Recording) All() []Datagram {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[:len(r.all):len(r.all)]
}

// Stop ends the recording and returns it.
func (r *Recording) Stop() []Datagram {
	r.stop()
	return r.All()
}
