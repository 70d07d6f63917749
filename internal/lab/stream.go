package lab

// Steady UDP streams, unicast and multicast, whose every datagram is numbered.

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// pacer spaces what is sent. A sender that didn't run for a while doesn't make up for
// more than maxLate, or the burst would fill every queue on the way.
type pacer struct {
	step time.Duration
	due  time.Time
}

const maxLate = 10 * time.Millisecond

func newPacer(rate int) *pacer { return &pacer{time.Second / time.Duration(rate), time.Now()} }

// next is how long to wait before the next one; negative when it is late.
func (p *pacer) next() time.Duration {
	now := time.Now()
	if late := now.Add(-maxLate); p.due.Before(late) {
		p.due = late
	}
	wait := p.due.Sub(now)
	p.due = p.due.Add(p.step)
	return wait
}

// Stream is a steady UDP stream whose every datagram is numbered and counted at both
// ends.
type Stream struct {
	out  *net.UDPConn
	rs   []*Receiver
	stop chan struct{}
	done sync.WaitGroup

	mu      sync.Mutex
	Sent    int
	Refused int // send calls that the sender's kernel refused
}

// streamLimit is more datagrams than any stream sends.
const streamLimit = 1 << 30

// Stream starts rate datagrams of size octets a second from one host to another's
// address.
func (l *Lab) Stream(from, to, addr string, rate, size int) (*Stream, error) {
	var in, out *net.UDPConn
	err := l.In(to, func() (err error) {
		in, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(addr)})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lab: stream %s to %s: %w", from, to, err)
	}
	r, err := receive(in, streamLimit)
	if err != nil {
		return nil, err
	}
	err = l.In(from, func() (err error) {
		out, err = net.DialUDP("udp", nil, in.LocalAddr().(*net.UDPAddr))
		return err
	})
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("lab: stream %s to %s: %w", from, to, err)
	}
	return stream(out, rate, size, r), nil
}

// MulticastStream starts rate datagrams of size octets a second from one host to
// DataGroup, and receives them at others.
func (l *Lab) MulticastStream(from string, rate, size int, to ...string) (*Stream, error) {
	var rs []*Receiver
	leave := func() {
		for _, r := range rs {
			r.Close()
		}
	}
	for _, node := range to {
		r, err := l.joinMulticast(node, streamPort(from), streamLimit)
		if err != nil {
			leave()
			return nil, err
		}
		rs = append(rs, r)
	}
	out, err := l.multicastSender(from, streamPort(from))
	if err != nil {
		leave()
		return nil, err
	}
	return stream(out, rate, size, rs...), nil
}

func stream(out *net.UDPConn, rate, size int, rs ...*Receiver) *Stream {
	s := &Stream{out: out, rs: rs, stop: make(chan struct{})}
	s.done.Go(func() { s.send(rate, size) })
	return s
}

func (s *Stream) send(rate, size int) {
	buf := make([]byte, max(size, 8))
	for p := newPacer(rate); ; {
		select {
		case <-s.stop:
			return
		case <-time.After(p.next()):
		}
		number(buf, uint64(s.sent()))
		_, err := s.out.Write(buf)
		s.mu.Lock()
		if err == nil {
			s.Sent++
		} else {
			s.Refused++
		}
		s.mu.Unlock()
	}
}

func (s *Stream) sent() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Sent
}

// Mark is the number of the datagram that is sent next.
func (s *Stream) Mark() int { return s.sent() }

// Lost counts the datagrams numbered from (included) to (not included) that each receiver
// hasn't got so far.
func (s *Stream) Lost(from, to int) (lost []int) {
	for _, r := range s.rs {
		lost = append(lost, to-from-(r.below(to)-r.below(from)))
	}
	return lost
}

// Counts returns what was sent and what arrived, at the receiver that has least, so
// far. Copies don't count.
func (s *Stream) Counts() (sent, received int) {
	sent = s.sent()
	for i, r := range s.rs {
		if n := r.count(); i == 0 || n < received {
			received = n
		}
	}
	return sent, received
}

// Settle waits until all that was sent up to now has arrived, or nothing of it has for
// five seconds, while the stream goes on. It returns how many that are, and how many
// of them each receiver has.
func (s *Stream) Settle() (sent int, received []int) {
	sent = s.sent()
	last, at := -1, time.Now()
	Until(time.Minute, func() error {
		received = received[:0]
		sum := 0
		for _, r := range s.rs {
			n := r.below(sent)
			received = append(received, n)
			sum += n
		}
		if sum != last {
			last, at = sum, time.Now()
		}
		if sum == sent*len(s.rs) || time.Since(at) > 5*time.Second {
			return nil
		}
		return errors.New("on its way")
	})
	return sent, received
}

// Faults returns the send calls that were refused, and the copies and damaged
// datagrams at all receivers.
func (s *Stream) Faults() (refused, duplicates, damaged int) {
	s.mu.Lock()
	refused = s.Refused
	s.mu.Unlock()
	for _, r := range s.rs {
		d, x := r.Faults()
		duplicates, damaged = duplicates+d, damaged+x
	}
	return refused, duplicates, damaged
}

// Stop ends sending, waits until all has arrived or nothing has for five seconds, and
// returns the counts.
func (s *Stream) Stop() (sent, received int) {
	close(s.stop)
	s.done.Wait()
	s.Settle()
	for _, r := range s.rs {
		r.Close()
	}
	s.out.Close()
	return s.Counts()
}
