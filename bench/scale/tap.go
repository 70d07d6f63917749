package main

// A tap between the key server's engine and its endpoint. It notes when the last
// acknowledgement had been taken, which the model shows only a tenth of a second later,
// and what was sent.

import (
	"bytes"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/gdoi/ks"
)

type tap struct {
	ks.Sender
	acks atomic.Int64

	mu        sync.Mutex
	want      int64
	all       chan time.Time
	sentAt    time.Time
	datagrams int
	rekey     []byte
	ack       int
}

// expect begins to count; the channel gets the moment of the last of n
// acknowledgements.
func (t *tap) expect(n int) <-chan time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.acks.Store(0)
	t.want, t.all, t.datagrams = int64(n), make(chan time.Time, 1), 0
	return t.all
}

// HandlePush implements ks.Sender.
func (t *tap) HandlePush(ci, cr isakmp.Cookie, f func(ike.Datagram)) (release func()) {
	return t.Sender.HandlePush(ci, cr, func(d ike.Datagram) {
		f(d)
		n := t.acks.Add(1)
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.ack = len(d.Data); n == t.want {
			t.all <- time.Now()
		}
	})
}

// SendPushBatch implements ks.Sender.
func (t *tap) SendPushBatch(d []byte, local netip.Addr, to []netip.AddrPort) (int, error) {
	n, err := t.Sender.SendPushBatch(d, local, to)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sentAt = time.Now()
	t.datagrams += n
	t.rekey = d
	return n, err
}

// report fills in what was noted.
func (t *tap) report(begin time.Time, r *Rekeyed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Sending, r.Datagrams, r.Rekey, r.Ack = t.sentAt.Sub(begin), t.datagrams, bytes.Clone(t.rekey), t.ack
}
