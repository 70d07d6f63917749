package ike

import (
	"encoding/binary"
	"fmt"
	"io"
	"syscall"
	"time"

	"getvpn/gdoi/isakmp"
)

// This file carries messages between key servers: notifications of a private type, each
// alone in a protected informational exchange. There may be any number of them under one
// SA. Their message IDs count up, so that a window tells new ones from copies and nothing
// has to be remembered of each.

// MaxInform is how many octets Inform takes: with all headers they fit a UDP datagram.
const MaxInform = 65000

// Inform sends the peer an authenticated notification, once: who needs an answer asks
// again. Of isakmp.NotifyCOOP, which goes to the peer's HandlePeerNotify, an SA carries
// two thousand million; of other types a few ten thousand.
func (s *SA) Inform(t isakmp.NotifyType, data []byte) error {
	if len(data) > MaxInform {
		return fmt.Errorf("notification of %d octets, at most %d fit: %w", len(data), MaxInform, syscall.EMSGSIZE)
	}
	if t != isakmp.NotifyCOOP {
		return s.Notify(t, data)
	}
	mid, err := s.nextMID()
	if err != nil {
		return err
	}
	return s.informAs(mid, isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Type: t, Data: data}.Payload())
}

// countedMIDs are message IDs that count up from a random one.
type countedMIDs struct {
	first, n uint32 // those used are first … first+n-1
}

func (c *countedMIDs) has(mid uint32) bool { return mid-c.first < c.n }

// nextMID takes the next counted message ID.
func (s *SA) nextMID() (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.informed
	if c.n == 0 {
		var b [4]byte
		if _, err := io.ReadFull(s.ep.rand, b[:]); err != nil {
			return 0, fmt.Errorf("random numbers: %w", err)
		}
		c.first = binary.BigEndian.Uint32(b[:])
	}
	for c.n < 1<<31 {
		mid := c.first + c.n
		c.n++
		if _, dup := s.used[mid]; !dup && mid != 0 {
			return mid, nil
		}
	}
	return 0, errMIDs
}

// midWindow tells which of a peer's counted message IDs are new. Those that are older
// than the window count as copies.
type midWindow struct {
	begun bool
	top   uint32 // the highest; they may pass through 0
	seen  [midsBack / 64]uint64
}

// midsBack is how far a message may fall behind the newest.
const midsBack = 1024

func (w *midWindow) word(mid uint32) (*uint64, uint64) {
	return &w.seen[mid%midsBack/64], 1 << (mid % 64)
}

// take notes a message ID, false if it isn't new.
func (w *midWindow) take(mid uint32) bool {
	if !w.begun {
		w.begun, w.top = true, mid-1
	}
	switch ahead := int32(mid - w.top); {
	case ahead > 0:
		if ahead >= midsBack {
			clear(w.seen[:])
		} else {
			for m := w.top + 1; m != mid+1; m++ {
				word, bit := w.word(m)
				*word &^= bit
			}
		}
		w.top = mid
	case ahead <= -midsBack:
		return false
	}
	word, bit := w.word(mid)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

// informing is what is remembered of a peer's messages.
type informing struct {
	mids   midWindow
	rate   float64 // messages a second that we open
	budget bucket
}

// Opening a message costs some microseconds, which registrations lack: peers may send
// twenty thousand a second, somebody whom nobody keeps a hundred. Beyond that, what is
// larger than smallInform is dropped unopened; R-U-THERE and deletes are smaller. Only
// authentic messages count, once: nobody can use up another one's budget.
const (
	keptRate     = 20000.0
	strangerRate = 100.0
	smallInform  = 256
)

// left is the budget at the moment.
func (i *informing) left(now time.Time) float64 {
	return i.budget.left(i.rate, i.rate, now)
}

// floods tells whether the peer has used up its budget.
func (s *SA) floods(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.informing != nil && s.informing.left(now) < 1
}

// informedBy notes an authentic message, false if it isn't new.
func (s *SA) informedBy(mid uint32, rate float64, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.informing
	if i == nil {
		i = &informing{budget: bucket{rate, now}}
		s.informing = i
	}
	if !i.mids.take(mid) {
		return false
	}
	i.rate = rate
	i.budget = bucket{max(0, i.left(now)-1), now}
	return true
}

// peerNotify finds a message between key servers, which must be alone behind the HASH.
func peerNotify(payloads []isakmp.Payload) (n isakmp.Notify, alone, ok bool) {
	for _, p := range payloads {
		if p.Type != isakmp.PayloadNotify {
			continue
		}
		if n, err := isakmp.ParseNotify(p.Body); err == nil && n.Type == isakmp.NotifyCOOP {
			return n, len(payloads) == 2, true
		}
	}
	return isakmp.Notify{}, false, false
}

// peerNotified takes a message of a key server whose HASH was right.
func (e *Endpoint) peerNotified(s *SA, n isakmp.Notify, mid uint32, p path) {
	rate := strangerRate
	if e.peers.keeps(s.key.addr) {
		rate = keptRate
	}
	if !s.informedBy(mid, rate, time.Now()) {
		e.drop(DropMIDReused)
		return
	}
	s.follow(p)
	s.heard()
	if r := e.peers.notified(s, n.Data); r != "" {
		e.dropFlood(r)
	}
}

// HandlePeerNotify sets what gets the messages of key servers (isakmp.NotifyCOOP) from
// authenticated peers, in their order and after Keep has told of the SA. f is called from
// one goroutine, the same that calls what Keep was given, and data are its own. While it
// blocks, messages wait up to a limit, then they are dropped and counted; nothing else
// waits for it but Close.
func (e *Endpoint) HandlePeerNotify(f func(s *SA, data []byte)) { e.peers.handler.Store(&f) }
