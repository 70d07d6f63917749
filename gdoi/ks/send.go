package ks

// A transmission, as a worker does it beside the actor: encode, sign, send in loops of
// fifty, as fast as answers come back. What it reads never changes, but for the slots;
// what it learns goes back as a report.

import (
	"context"
	"crypto"
	"errors"
	"io"
	"net/netip"
	"time"

	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/gdoi/policy"
)

// Sender is what the endpoint does for rekeys (*ike.Endpoint).
type Sender interface {
	// SendPushBatch sends a datagram to each of to and returns how many were sent.
	SendPushBatch(datagram []byte, local netip.Addr, to []netip.AddrPort) (sent int, err error)
	// HandlePush registers who gets the acknowledgements of a cookie pair.
	HandlePush(ci, cr isakmp.Cookie, f func(ike.Datagram)) (release func())
}

const (
	// loopSize is how many members one loop serves (guide, unicast rekeys).
	loopSize = 50
	// answersOut is how many answers may be on their way when a loop begins: with its
	// own they fit into the receive buffer that Linux gives by default, which holds about
	// 300 of them.
	answersOut = 200
	// loopPause is how long a loop waits for them at most, and where nobody answers
	// always: 25,000 members a second where they are far away.
	loopPause = 2 * time.Millisecond
	// loopLook is how often it looks.
	loopLook = 100 * time.Microsecond
)

// target is one destination.
type target struct {
	path  netip.AddrPort
	local netip.Addr
	slot  *ackSlot // nil for multicast
}

// leg is a transmission under one KEK.
type leg struct {
	*kek
	seq     uint32
	round   *round
	to      []target
	members []*member // the actor's, for its bookkeeping
	// relay are members that other key servers are asked to send it to, by key server.
	relay   map[netip.Addr][]netip.Addr
	slots   []*ackSlot // of these
	interop bool
	group   *Server
}

// job is a transmission under way.
type job struct {
	round   *round
	legs    []*leg // ascending KEKs
	again   bool
	started time.Time
	pseudo  pseudoClock
	now     func() time.Time
	passOn  func(datagram []byte, to map[netip.Addr][]netip.Addr)
	source  netip.Addr // of what others send
	stop    context.CancelFunc
	done    chan struct{} // closed when the report has been taken
}

// report is what became of it.
type report struct {
	sent, failed int
	err          error
}

// work sends all legs. Each destination gets one copy a leg.
func (j *job) work(ctx context.Context, s Sender, rand io.Reader) (res report) {
	for _, l := range j.legs {
		if err := j.leg(ctx, l, s, rand, &res); err != nil {
			res.err = errors.Join(res.err, err)
		}
	}
	return res
}

func (j *job) leg(ctx context.Context, l *leg, s Sender, rand io.Reader, res *report) error {
	slice := l.round.view.slice()
	var datagram []byte
	var made time.Time
	if len(l.relay) > 0 {
		d, err := j.seal(l, j.now(), rand, j.source, l.signer.Key)
		if err != nil {
			return err
		}
		for _, s := range l.slots {
			s.sent.Store(stamp(l.ord, l.seq))
		}
		j.passOn(d, l.relay)
	}
	batch := make([]netip.AddrPort, 0, loopSize)
	for i := 0; i < len(l.to); {
		now := j.now()
		if datagram == nil || slice > 0 && now.Sub(made) >= slice {
			var err error
			if datagram, err = j.seal(l, now, rand, l.to[i].local, l.signer.Key); err != nil {
				return err
			}
			made = now
		}
		batch = batch[:0]
		local := l.to[i].local
		for ; i < len(l.to) && len(batch) < loopSize && l.to[i].local == local; i++ {
			if l.to[i].slot != nil {
				l.to[i].slot.sent.Store(stamp(l.ord, l.seq))
			}
			batch = append(batch, l.to[i].path)
		}
		n, err := s.SendPushBatch(datagram, local, batch)
		res.sent += n
		res.failed += len(batch) - n
		if err != nil {
			res.err = err // some may be reachable all the same
		}
		if i < len(l.to) && !l.breathe(ctx, i) {
			return nil
		}
	}
	return nil
}

// breathe waits until the next loop may be sent, of which i is the first: the answers
// of too many would meet in our receive buffer. False when ctx ended first.
func (l *leg) breathe(ctx context.Context, i int) bool {
	if l.ack == 0 {
		return pause(ctx, loopPause)
	}
	for begin := time.Now(); time.Since(begin) < loopPause; {
		if l.unanswered(i) <= answersOut {
			return ctx.Err() == nil
		}
		if !pause(ctx, loopLook) {
			return false
		}
	}
	return true
}

// unanswered counts the members before i that haven't answered this leg. It looks no
// further back than matters: who was silent for that long won't answer now.
func (l *leg) unanswered(i int) (n int) {
	st := stamp(l.ord, l.seq)
	for _, t := range l.to[max(0, i-answersOut-loopSize):i] {
		if t.slot != nil && t.slot.acked.Load() < st {
			n++
		}
	}
	return n
}

// seal makes the datagram of a leg as it is at now.
func (j *job) seal(l *leg, now time.Time, rand io.Reader, src netip.Addr, key crypto.Signer) ([]byte, error) {
	r := &policy.Rekey{Seq: l.seq, Delete: l.round.del, Shorten: l.round.shorten}
	if v := l.round.view; v != nil {
		r.Offer = v.offer(now, j.pseudo.at(now))
		if v.kek != nil && (v.kek.ord != l.ord || v.kek.restate) {
			v.with(r.Offer, src, netip.AddrPort{}, now)
		}
	}
	p, err := policy.EncodeRekey(r, l.interop)
	if err != nil {
		return nil, err
	}
	sa := l.sa()
	sa.RFCOnly = l.interop
	return sa.Seal(rand, p, key)
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
