package main

// The lower bound of a rekey: the same datagrams between the same addresses and
// processes in the same batches, with nothing done to them. The key server's side sends
// as fast as the socket takes them; members' buffers hold them all.

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
)

// echoPlan is what members answer on the echo port: a fixed datagram, or, where they
// work, what they make of the rekey that comes.
type echoPlan struct {
	answer []byte
	work   bool
}

// EchoAnswer sets it.
type EchoAnswer struct {
	Octets int
	Work   bool // open the rekey and acknowledge it
}

// Answer sets what members answer with.
func (c *Crowd) Answer(a EchoAnswer, _ *struct{}) error {
	c.echo.Store(&echoPlan{make([]byte, max(1, a.Octets)), a.Work})
	return nil
}

func (c *Crowd) echoed(m *member, d []byte, _ netip.AddrPort) []byte {
	e := c.echo.Load()
	if e == nil {
		return nil
	}
	if !e.work {
		return e.answer
	}
	ack, err := m.again(d)
	if err != nil {
		c.refused.Add(1)
		return nil
	}
	return ack
}

// EchoArgs: a datagram to each member.
type EchoArgs struct {
	Members int
	Data    []byte
}

// errLost: an echo that loses datagrams bounds nothing.
var errLost = errors.New("echoes were lost")

// quiet is how long nothing may come before what is missing counts as lost.
const quiet = 20 * time.Second

// echo sends Data to every member and returns the time to the last answer.
func echo(a EchoArgs) (took time.Duration, err error) {
	s, err := listen(netip.AddrPortFrom(keyServer, echoPort))
	if err != nil {
		return 0, err
	}
	defer s.close()
	begin := time.Now()
	var stop atomic.Bool
	sent := make(chan error, 1)
	go func() { sent <- flood(s, a, &stop) }()
	in := newPack()
	got, heard, last := 0, begin, begin
	for got < a.Members {
		n, err := s.receive(in)
		now := time.Now()
		switch {
		case err != nil:
			return 0, err
		case n > 0:
			got, heard, last = got+n, now, now
		case now.Sub(heard) > quiet:
			stop.Store(true)
			return 0, errors.Join(<-sent, fmt.Errorf("%w: %d of %d", errLost, a.Members-got, a.Members))
		}
	}
	return last.Sub(begin), <-sent
}

func flood(s socket, a EchoArgs, stop *atomic.Bool) error {
	out := newPack()
	for i := 0; i < a.Members && !stop.Load(); {
		n := 0
		for ; n < batch && i < a.Members; i, n = i+1, n+1 {
			out.put(n, a.Data, keyServer, netip.AddrPortFrom(memberAddr(i), echoPort))
		}
		if err := s.send(out, n); err != nil {
			return err
		}
	}
	return nil
}
