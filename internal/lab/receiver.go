package lab

// Receivers of numbered datagrams: each number is remembered, so that a loss, a copy
// and a changed octet can't hide behind each other.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// number writes a datagram: its number, and octets that follow from it.
func number(buf []byte, seq uint64) {
	binary.BigEndian.PutUint64(buf, seq)
	for i := range buf[8:] {
		buf[8+i] = byte(seq) + byte(i)
	}
}

// Receiver counts numbered datagrams. Its fields may be read after Await or Close.
type Receiver struct {
	conn *net.UDPConn

	mu         sync.Mutex
	limit      uint64   // higher numbers are damage
	seen       []uint64 // a bit for each number
	Count      int      // distinct datagrams
	Duplicates int
	Damaged    int
	done       chan struct{}
}

// receive counts what comes to a socket, which it owns from now on.
func receive(c *net.UDPConn, limit uint64) (*Receiver, error) {
	err := control(c, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lab: receive buffer: %w", err), c.Close())
	}
	r := &Receiver{conn: c, limit: limit, done: make(chan struct{})}
	go r.run()
	return r, nil
}

func control(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = f(int(fd)) })
	return errors.Join(err, inner)
}

func (r *Receiver) run() {
	defer close(r.done)
	buf := make([]byte, 65536)
	for {
		n, err := r.conn.Read(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err == nil:
			r.take(buf[:n])
		}
	}
}

func (r *Receiver) take(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(b) < 8 {
		r.Damaged++
		return
	}
	seq := binary.BigEndian.Uint64(b)
	for i, x := range b[8:] {
		if x != byte(seq)+byte(i) {
			r.Damaged++
			return
		}
	}
	if seq >= r.limit {
		r.Damaged++
		return
	}
	for seq/64 >= uint64(len(r.seen)) {
		r.seen = append(r.seen, 0)
	}
	if bit := uint64(1) << (seq % 64); r.seen[seq/64]&bit != 0 {
		r.Duplicates++
	} else {
		r.seen[seq/64] |= bit
		r.Count++
	}
}

func (r *Receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Count
}

// below counts the distinct datagrams with numbers below n.
func (r *Receiver) below(n int) (count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, w := range r.seen {
		if end := n - 64*i; end <= 0 {
			break
		} else if end < 64 {
			w &= 1<<end - 1
		}
		count += bits.OnesCount64(w)
	}
	return count
}

// Faults returns how many copies and how many damaged datagrams came so far.
func (r *Receiver) Faults() (duplicates, damaged int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Duplicates, r.Damaged
}

// Await waits for n distinct datagrams, or until none has come for idle.
func (r *Receiver) Await(n int, idle time.Duration) error {
	last, at := -1, time.Now()
	return Until(10*time.Minute, func() error {
		c := r.count()
		if c >= n {
			return nil
		}
		if c != last {
			last, at = c, time.Now()
		}
		err := fmt.Errorf("lab: %d of %d multicast datagrams", c, n)
		if time.Since(at) > idle {
			return Final(err)
		}
		return err
	})
}

// Close ends the counting.
func (r *Receiver) Close() {
	r.conn.Close()
	<-r.done
}
