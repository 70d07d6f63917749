package lab

// A steady TCP stream: noise that the receiver knows in advance, checked octet by
// octet as it arrives.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Pour is a steady TCP stream.
type Pour struct {
	in   net.Conn
	out  net.Conn
	stop chan struct{}
	done sync.WaitGroup

	mu       sync.Mutex
	sent     int64
	received int64
	err      error // the first of both ends
}

// pourTick is how often the sender writes.
const pourTick = 10 * time.Millisecond

// noise is what a Pour sends.
func noise() io.Reader { return rand.NewChaCha8([32]byte{'p', 'o', 'u', 'r'}) }

// Pour starts a TCP stream of rate octets a second from one host to an address of
// another.
func (l *Lab) Pour(from, to, addr string, rate int) (*Pour, error) {
	out, in, err := l.connect(from, to, addr)
	if err != nil {
		return nil, err
	}
	p := &Pour{in: in, out: out, stop: make(chan struct{})}
	p.done.Go(p.drink)
	p.done.Go(func() { p.send(max(1, rate*int(pourTick)/int(time.Second))) })
	return p, nil
}

func (p *Pour) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

func (p *Pour) send(chunk int) {
	defer p.out.Close()
	tick := time.NewTicker(pourTick)
	defer tick.Stop()
	buf, src := make([]byte, chunk), noise()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		io.ReadFull(src, buf)
		n, err := p.out.Write(buf)
		p.mu.Lock()
		p.sent += int64(n)
		p.mu.Unlock()
		if err != nil {
			p.failed(fmt.Errorf("lab: TCP stream: %w", err))
			return
		}
	}
}

func (p *Pour) drink() {
	defer p.in.Close()
	buf, want, src := make([]byte, 65536), make([]byte, 65536), noise()
	for {
		n, err := p.in.Read(buf)
		io.ReadFull(src, want[:n])
		if !bytes.Equal(buf[:n], want[:n]) {
			p.failed(errors.New("lab: TCP stream: other octets arrive than were sent"))
			return
		}
		p.mu.Lock()
		p.received += int64(n)
		p.mu.Unlock()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.failed(fmt.Errorf("lab: TCP stream: %w", err))
			}
			return
		}
	}
}

// Counts returns the octets that were sent and that arrived unchanged so far, and the
// first error of either end.
func (p *Pour) Counts() (sent, received int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent, p.received, p.err
}

// Settle waits until all octets that were sent up to now have arrived, while the
// stream goes on, and returns how many.
func (p *Pour) Settle(limit time.Duration) (int64, error) {
	sent, _, _ := p.Counts()
	return sent, Until(limit, func() error {
		_, received, err := p.Counts()
		if err != nil {
			return Final(err)
		}
		if received < sent {
			return fmt.Errorf("lab: TCP stream: %d of %d octets arrived", received, sent)
		}
		return nil
	})
}

// Stop ends the stream and returns what was sent and what arrived unchanged.
func (p *Pour) Stop() (sent, received int64, err error) {
	close(p.stop)
	limit := time.Now().Add(30 * time.Second)
	p.out.SetDeadline(limit)
	p.in.SetDeadline(limit)
	p.done.Wait()
	return p.Counts()
}
