package ike

import (
	"context"
	"encoding/binary"
	"io"
	"slices"
	"time"

	"getvpn/gdoi/isakmp"
)

// This file is the informational exchange: notifications, deletes, dead peer detection
// (RFC 2409 §5.7, RFC 3706), and the NAT keepalive (RFC 3948 §4). Only protected
// messages act; an unprotected one is counted, logged, and kept as an explanation.

// inform sends payloads in a protected informational exchange of its own.
func (s *SA) inform(payloads ...isakmp.Payload) error {
	mid, err := s.newMID()
	if err != nil {
		return err
	}
	return s.informAs(mid, payloads...)
}

// informAs is inform with a message ID that the caller has taken.
func (s *SA) informAs(mid uint32, payloads ...isakmp.Payload) error {
	chain, err := isakmp.AppendChain(nil, payloads)
	if err != nil {
		return err
	}
	all := append([]isakmp.Payload{isakmp.HashPayload(s.prot.hash(mid, chain))}, payloads...)
	b, _, err := s.prot.seal(isakmp.Informational, mid, s.prot.iv(mid), all)
	if err != nil {
		return err
	}
	return s.send(b)
}

// Notify sends the peer an authenticated notification about this SA or an exchange
// under it.
func (s *SA) Notify(t isakmp.NotifyType, data []byte) error {
	if t == isakmp.NotifyCOOP {
		return s.Inform(t, data)
	}
	return s.inform(isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPI: s.cookiesSPI(), Type: t, Data: data}.Payload())
}

func (e *Endpoint) informational(h isakmp.Header, b []byte, p path) {
	if !h.Encrypted() {
		e.unprotected(h, b, p)
		return
	}
	sa := e.lookup(h)
	switch {
	case sa == nil:
		e.drop(DropUnknownCookie)
		return
	case h.MessageID == 0:
		e.drop(DropMIDZero)
		return
	}
	if len(b) > smallInform && sa.floods(time.Now()) {
		e.dropFlood(DropRateLimit)
		return
	}
	payloads, err := sa.prot.openHashed(h, b)
	if err == nil {
		err = isakmp.Check(isakmp.InfoProtected, true, payloads)
	}
	if err != nil {
		e.refused(p.remote, err)
		return
	}
	if n, alone, ok := peerNotify(payloads); ok {
		// The header's flags aren't under the HASH.
		if !alone || n.Protocol != isakmp.ProtoISAKMP || !sa.names(n.SPI) || h.Flags != isakmp.FlagEncrypted {
			e.drop(DropUnexpected)
			return
		}
		e.peerNotified(sa, n, h.MessageID, p)
		return
	}
	if !sa.useMID(h.MessageID) {
		e.drop(DropMIDReused)
		return
	}
	sa.follow(p)
	sa.heard()
	for _, pl := range payloads {
		switch pl.Type {
		case isakmp.PayloadNotify:
			e.notified(sa, pl)
		case isakmp.PayloadDelete:
			e.deleted(sa, pl)
		}
	}
}

// unprotected counts, and keeps what a peer of ours says as an explanation for Connect.
func (e *Endpoint) unprotected(h isakmp.Header, b []byte, p path) {
	e.drop(DropUnprotected)
	_, payloads, err := isakmp.ParseClear(b)
	if err != nil {
		return
	}
	pl, ok := isakmp.Find(payloads, isakmp.PayloadNotify)
	if !ok {
		return
	}
	n, err := isakmp.ParseNotify(pl.Body)
	if err != nil {
		return
	}
	e.log.Debug("unprotected notification", "from", p.remote, "type", n.Type.String())
	e.mu.Lock()
	s := e.starting[h.ICookie]
	e.mu.Unlock()
	if s == nil || s.view.Load().path.remote.Addr() != p.remote.Addr() {
		return
	}
	e.queue(finishing, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hint = "unauthenticated " + n.Type.String()
		s.noProp = s.noProp || n.Type == isakmp.NotifyNoProposalChosen
	})
}

func (e *Endpoint) notified(s *SA, pl isakmp.Payload) {
	n, err := isakmp.ParseNotify(pl.Body)
	if err != nil {
		e.drop(Reason(err))
		return
	}
	switch n.Type {
	case isakmp.NotifyRUThere:
		if len(n.Data) != 4 || !s.names(n.SPI) {
			e.drop(DropDPD)
			return
		}
		ack := isakmp.Notify{DOI: n.DOI, Protocol: isakmp.ProtoISAKMP, SPI: s.cookiesSPI(), Type: isakmp.NotifyRUThereAck, Data: n.Data}
		if err := s.inform(ack.Payload()); err != nil {
			e.log.Debug("R-U-THERE-ACK", "err", err)
		}
	case isakmp.NotifyRUThereAck:
		s.mu.Lock()
		good := len(n.Data) == 4 && binary.BigEndian.Uint32(n.Data) == s.probe.seq
		s.mu.Unlock()
		if !good {
			e.drop(DropDPD)
		}
	case isakmp.NotifyInitialContact:
		for _, o := range e.SAs(s.key.addr) {
			if o.key == s.key && o.id < s.id {
				e.removeSA(o, false, "initial contact")
			}
		}
	default:
		e.log.Info("notification", "peer", s.Peer().Remote, "type", n.Type.String())
		if f := e.notify.Load(); f != nil {
			n.SPI, n.Data = slices.Clone(n.SPI), slices.Clone(n.Data)
			(*f)(s, n)
		}
	}
}

// names tells whether an SPI is this SA's cookies, or empty.
func (s *SA) names(spi []byte) bool { return len(spi) == 0 || string(spi) == string(s.cookiesSPI()) }

func (e *Endpoint) deleted(s *SA, pl isakmp.Payload) {
	d, err := isakmp.ParseDelete(pl.Body)
	if err != nil {
		e.drop(Reason(err))
		return
	}
	if d.Protocol != isakmp.ProtoISAKMP {
		e.log.Debug("delete of another protocol", "protocol", d.Protocol)
		return
	}
	for _, spi := range d.SPIs {
		if len(spi) != len(pair{}) {
			e.drop(DropReason(isakmp.BadSPISize.String()))
			continue
		}
		e.mu.Lock()
		o := e.sas[pair(spi)]
		e.mu.Unlock()
		// A peer may delete its own SAs only.
		if o != nil && o.key == s.key {
			o.forsaken()
			e.removeSA(o, false, "deleted by the peer")
		}
	}
}

// dpdState is the probing of a peer; guarded by SA.mu.
type dpdState struct {
	seq     uint32 // of the last R-U-THERE
	tries   int
	waiters []chan struct{} // closed when the peer is heard or the SA ends
}

// reset ends a round of probes: the peer was heard.
func (d *dpdState) reset() {
	d.tries = 0
	d.wake()
}

func (d *dpdState) wake() {
	for _, w := range d.waiters {
		close(w)
	}
	d.waiters = nil
}

// dpdTries is how many unanswered R-U-THERE end an SA.
const dpdTries = 5

// probeOnce sends an R-U-THERE; within a round its number stays.
func (s *SA) probeOnce() {
	s.mu.Lock()
	if s.probe.seq == 0 {
		var b [4]byte
		if _, err := io.ReadFull(s.ep.rand, b[:]); err != nil {
			s.mu.Unlock()
			s.ep.log.Debug("R-U-THERE", "err", err)
			return
		}
		s.probe.seq = binary.BigEndian.Uint32(b[:]) >> 1
	}
	if s.probe.tries == 0 {
		s.probe.seq++
	}
	s.probe.tries++
	seq := s.probe.seq
	s.mu.Unlock()
	if err := s.Notify(isakmp.NotifyRUThere, be32(seq)); err != nil {
		s.ep.log.Debug("R-U-THERE", "err", err)
	}
}

// Probe asks the peer whether it lives: true when anything authentic came within tries
// R-U-THERE, each waiting wait. It is also true for a peer without DPD, which can't be
// asked.
func (s *SA) Probe(ctx context.Context, tries int, wait time.Duration) bool {
	if !s.dpd {
		return true
	}
	for range tries {
		w := make(chan struct{})
		s.mu.Lock()
		dead := s.deleted
		s.probe.waiters = append(s.probe.waiters, w)
		s.mu.Unlock()
		if dead {
			return false
		}
		s.probeOnce()
		t := time.NewTimer(wait)
		select {
		case <-w:
			t.Stop()
			return s.Alive()
		case <-ctx.Done():
			t.Stop()
			return false
		case <-t.C:
		}
	}
	return false
}

// startDPD starts the periodic form, if it isn't running.
func (s *SA) startDPD(k Keepalive) {
	if k.Interval <= 0 || !s.dpd || s.watched.Swap(true) {
		return
	}
	setDefault(&k.Retry, 2*time.Second)
	s.every(k.Interval, func(now time.Time) time.Duration {
		s.mu.Lock()
		idle := now.Sub(s.lastHeard)
		tries := s.probe.tries
		s.mu.Unlock()
		switch {
		case idle < k.Interval && tries == 0:
			return k.Interval - idle
		case tries >= dpdTries:
			s.ep.removeSA(s, false, "dead peer")
			return 0
		}
		s.probeOnce()
		return k.Retry
	})
}

// natKeepalive is RFC 3948 §4's interval.
const natKeepalive = 20 * time.Second

// startKeepalive keeps the mapping of the NAT before us.
func (s *SA) startKeepalive() {
	if !s.behindNAT || !s.path.conn.natt {
		return
	}
	s.every(natKeepalive, func(now time.Time) time.Duration {
		s.mu.Lock()
		p, idle := s.path, now.Sub(s.lastSent)
		if idle >= natKeepalive {
			s.lastSent = now
		}
		s.mu.Unlock()
		if idle < natKeepalive {
			return natKeepalive - idle
		}
		if err := p.conn.Write([]byte{0xff}, p.local.Addr(), p.remote); err != nil {
			s.ep.log.Debug("NAT keepalive", "err", err)
		}
		return natKeepalive
	})
}

// every calls f after d, and again after what it returns, until that is 0 or the SA
// ends.
func (s *SA) every(d time.Duration, f func(now time.Time) time.Duration) {
	var t *time.Timer
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deleted {
		return
	}
	t = time.AfterFunc(d, func() {
		if !s.Alive() {
			return
		}
		next := f(time.Now())
		s.mu.Lock()
		defer s.mu.Unlock()
		if next > 0 && !s.deleted {
			t.Reset(next)
		}
	})
	s.timers = append(s.timers, t)
}
