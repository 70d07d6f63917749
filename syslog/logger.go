package syslog

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"getvpn/model/event"

	"golang.org/x/sys/unix"
)

// Options of a Logger. Console may be nil (no logging console). Dial opens the
// socket towards a host; nil means UDP from an address of the routing's choice.
type Options struct {
	Console io.Writer
	Hosts   []netip.AddrPort
	Synced  func() bool
	Dial    func(netip.AddrPort) (io.WriteCloser, error)
}

// Logger is the sink for log lines. One goroutine runs it; Lost may be read by any.
type Logger struct {
	o     Options
	hosts []*host
	lost  atomic.Uint64
}

type host struct {
	to    netip.AddrPort
	conn  io.WriteCloser
	retry time.Time // no new dial before this
	sent  uint64
}

// redialAfter keeps an unreachable host from costing a dial for each line.
const redialAfter = time.Second

// New returns a logger; Run starts it.
func New(o Options) *Logger {
	if o.Synced == nil {
		o.Synced = ClockSynced
	}
	if o.Dial == nil {
		o.Dial = func(a netip.AddrPort) (io.WriteCloser, error) {
			return net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(a))
		}
	}
	l := &Logger{o: o}
	for _, h := range o.Hosts {
		l.hosts = append(l.hosts, &host{to: h})
	}
	return l
}

// Run writes every record of the subscription until its channel is closed, then
// closes the sockets. A host that can't be reached loses lines, which are counted,
// and never delays the others.
func (l *Logger) Run(sub *event.Sub) {
	for r := range sub.C() {
		l.write(r)
	}
	for _, h := range l.hosts {
		if h.conn != nil {
			h.conn.Close()
		}
	}
}

// Lost counts lines that a host or the console didn't take.
func (l *Logger) Lost() uint64 { return l.lost.Load() }

func (l *Logger) write(r event.Record) {
	synced := l.o.Synced()
	if l.o.Console != nil {
		if _, err := fmt.Fprintln(l.o.Console, Line(r, synced)); err != nil {
			l.lost.Add(1)
		}
	}
	for _, h := range l.hosts {
		if err := h.send(l.o.Dial, r, synced); err != nil {
			l.lost.Add(1)
		}
	}
}

// send tries twice: a connected UDP socket reports the ICMP error of an earlier
// datagram on the next write, which says nothing about this one.
func (h *host) send(dial func(netip.AddrPort) (io.WriteCloser, error), r event.Record, synced bool) error {
	if h.conn == nil {
		if time.Now().Before(h.retry) {
			return fmt.Errorf("syslog: host %v: waiting to retry", h.to)
		}
		c, err := dial(h.to)
		if err != nil {
			h.retry = time.Now().Add(redialAfter)
			return fmt.Errorf("syslog: host %v: %w", h.to, err)
		}
		h.conn = c
	}
	d := Datagram(r, synced, h.sent+1)
	_, err := h.conn.Write(d)
	if err != nil {
		_, err = h.conn.Write(d)
	}
	if err != nil {
		h.conn.Close()
		h.conn, h.retry = nil, time.Now().Add(redialAfter)
		return fmt.Errorf("syslog: host %v: %w", h.to, err)
	}
	h.sent++
	return nil
}

// ClockSynced reports whether the kernel holds the wall clock to be synchronised.
func ClockSynced() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}
