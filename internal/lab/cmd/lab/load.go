package main

// The load that stays on while keys and policy change, and the watch on it: each
// datagram is numbered, and each frame in the core is looked at.

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"getvpn/internal/lab"
)

// What the load consists of. It shall show losses, not speed.
const (
	udpRate, multicastRate = 300, 200 // datagrams a second
	udpSize                = 400      // octets
	tcpRate                = 1 << 20  // octets a second
)

// load is UDP both ways and TCP between two sites, and multicast from the third.
type load struct {
	names   []string // of the streams
	streams []*lab.Stream
	tcp     *lab.Pour
	capture *lab.Capture

	seen  map[netip.Addr]*sender // in the capture
	esp   int                    // frames in the capture
	clear int                    // those that aren't ESP
	bad   string                 // the first of them

	at mark // the last account
}

// mark is how far an account went.
type mark struct {
	sent []int
	lost []int // by stream, of all receivers
	tcp  int64
	esp  int
}

// sender is what the core sees of one host.
type sender struct {
	spi         uint32 // of its newest frame
	first, last map[uint32]time.Time
}

// loadUp starts the load.
func (s *story) loadUp() error {
	l := &load{seen: map[netip.Addr]*sender{}}
	var err error
	// Everything of the three senders passes c1. Headers are enough.
	if l.capture, err = s.l.Capture("core-life", "core", "c1", 96, "net 10.1.0.0/16"); err != nil {
		return err
	}
	for _, u := range [][3]string{{"h1", "h2", lab.Host(2)}, {"h2", "h1", lab.Host(1)}} {
		st, err := s.l.Stream(u[0], u[1], u[2], udpRate, udpSize)
		if err != nil {
			return err
		}
		l.names, l.streams = append(l.names, "UDP "+u[0]+" to "+u[1]), append(l.streams, st)
	}
	st, err := s.l.MulticastStream("h3", multicastRate, udpSize, "h1", "h2")
	if err != nil {
		return err
	}
	l.names, l.streams = append(l.names, "multicast h3 to h1 and h2"), append(l.streams, st)
	if l.tcp, err = s.l.Pour("h1", "h2", lab.Host(2), tcpRate); err != nil {
		return err
	}
	l.at = mark{sent: make([]int, len(l.streams)), lost: make([]int, len(l.streams))}
	s.load = l
	say("from now on, without a pause: UDP both ways between h1 and h2, %d datagrams a second each,", udpRate)
	say("multicast from h3 to h1 and h2, %d a second, a TCP stream from h1 to h2, %d MiB/s", multicastRate, tcpRate>>20)
	return lab.Until(time.Minute, func() error {
		if err := l.watch(); err != nil {
			return err
		}
		if len(l.seen) < 3 {
			return fmt.Errorf("the core sees %d of 3 senders", len(l.seen))
		}
		return nil
	})
}

// watch reads what the capture has more.
func (l *load) watch() error {
	frames, err := l.capture.More()
	if err != nil {
		return err
	}
	for _, f := range frames {
		p, ok := f.IP()
		if !ok {
			continue
		}
		if p.Proto != lab.ESP {
			if l.clear++; l.bad == "" {
				l.bad = fmt.Sprintf("%v > %v, protocol %d", p.Src, p.Dst, p.Proto)
			}
			continue
		}
		l.esp++
		if p.FragOffset != 0 {
			continue
		}
		x := l.seen[p.Src]
		if x == nil {
			x = &sender{first: map[uint32]time.Time{}, last: map[uint32]time.Time{}}
			l.seen[p.Src] = x
		}
		if _, old := x.first[p.SPI]; !old {
			x.first[p.SPI], x.spi = f.At, p.SPI
		}
		x.last[p.SPI] = f.At
	}
	return nil
}

// senders are the hosts of the load.
func senders() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr(lab.Host(1)), netip.MustParseAddr(lab.Host(2)), netip.MustParseAddr(lab.Host(3))}
}

// now is the SPI that all senders use.
func (l *load) now() (uint32, error) {
	if err := l.watch(); err != nil {
		return 0, err
	}
	h := senders()
	spi := l.seen[h[0]].spi
	for _, x := range h[1:] {
		if l.seen[x].spi != spi {
			return 0, fmt.Errorf("%v sends with SPI %#08x, %v with %#08x", h[0], spi, x, l.seen[x].spi)
		}
	}
	return spi, nil
}

// switched waits until every sender uses an SPI, and tells when each changed, counted
// from a moment.
func (l *load) switched(to uint32, from time.Time) error {
	if err := lab.Until(time.Minute, func() error {
		spi, err := l.now()
		if err == nil && spi != to {
			err = fmt.Errorf("all send with SPI %#08x, not %#08x", spi, to)
		}
		return err
	}); err != nil {
		return err
	}
	say("the core sees who sends with which SPI, seconds after the command:")
	for _, h := range senders() {
		x := l.seen[h]
		var used []uint32
		for spi, last := range x.last {
			if last.After(from) {
				used = append(used, spi)
			}
		}
		slices.SortFunc(used, func(a, b uint32) int { return x.first[a].Compare(x.first[b]) })
		var story []string
		for _, spi := range used {
			if spi == to {
				story = append(story, fmt.Sprintf("%#08x from %.3f", spi, x.first[spi].Sub(from).Seconds()))
			} else {
				story = append(story, fmt.Sprintf("%#08x to %.3f", spi, x.last[spi].Sub(from).Seconds()))
			}
		}
		say("   %-10s %s", h, strings.Join(story, ", "))
	}
	return nil
}

// account tells what was sent since the last account and what of it arrived; anything
// lost, copied, changed or in clear is an error. The load goes on.
func (l *load) account() error {
	next := mark{}
	var errs []error
	say("under load since the last count:")
	row := func(what string, sent, received, lost int) {
		say("   %-26s %7d sent, %7d received, %d lost", what, sent, received, lost)
	}
	for i, st := range l.streams {
		sent, received := st.Settle()
		lost := 0
		for _, n := range received {
			lost += sent - n
		}
		next.sent, next.lost = append(next.sent, sent), append(next.lost, lost)
		n, gone := sent-l.at.sent[i], lost-l.at.lost[i]
		row(l.names[i], n, n*len(received)-gone, gone)
		refused, copies, damaged := st.Faults()
		if n == 0 || gone+refused+copies+damaged != 0 {
			errs = append(errs, fmt.Errorf("%s: of %d: %d lost, %d refused, %d copies, %d damaged", l.names[i], n, gone, refused, copies, damaged))
		}
	}
	var err error
	if next.tcp, err = l.tcp.Settle(time.Minute); err != nil {
		return err
	}
	say("   %-26s %7.1f MiB sent, all received in order and unchanged", "TCP h1 to h2", float64(next.tcp-l.at.tcp)/(1<<20))
	if err := l.watch(); err != nil {
		return err
	}
	next.esp = l.esp
	say("   %-26s %7d packets as ESP, %d in clear", "capture in the core", l.esp-l.at.esp, l.clear)
	if l.clear != 0 {
		errs = append(errs, fmt.Errorf("%d packets in clear, the first %s", l.clear, l.bad))
	}
	l.at = next
	return errors.Join(errs...)
}

// loadDown ends the load and counts once more, now to the last datagram.
func (s *story) loadDown() error {
	l := s.load
	var errs []error
	say("the load ends. All of it:")
	for i, st := range l.streams {
		sent, received := st.Stop()
		say("   %-26s %7d sent, %7d received by each", l.names[i], sent, received)
		if sent != received {
			errs = append(errs, fmt.Errorf("%s: %d sent, %d received", l.names[i], sent, received))
		}
	}
	sent, received, err := l.tcp.Stop()
	say("   %-26s %7.1f MiB sent, %7.1f MiB received", "TCP h1 to h2", float64(sent)/(1<<20), float64(received)/(1<<20))
	if sent != received {
		errs = append(errs, fmt.Errorf("TCP: %d octets sent, %d received", sent, received))
	}
	errs = append(errs, err)
	_, err = l.capture.Stop()
	errs = append(errs, err, l.watch())
	say("   %-26s %7d packets as ESP, %d in clear; the capture missed none", "capture in the core", l.esp, l.clear)
	if l.clear != 0 {
		errs = append(errs, fmt.Errorf("%d packets in clear, the first %s", l.clear, l.bad))
	}
	return errors.Join(errs...)
}
