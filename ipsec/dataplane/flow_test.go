package dataplane_test

// Numbered datagrams: sent at a rate and with a bound on what is in flight, read in order.

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// flight bounds what is on its way: a sender that a busy machine kept waiting would catch
// up in a burst that no ring holds. The zero value has nothing in flight.
type flight struct {
	mu   sync.Mutex
	got  []int
	sent int           // the highest number that may be sent
	now  chan struct{} // closed when got changes
}

// inFlight is a quarter of what a ring holds.
const inFlight = ringSlots / 4

// ringSlots is the dataplane's ringFrames, and its tapFrames.
const ringSlots = 4096

// receiver adds one; it reports how many datagrams it has.
func (f *flight) receiver() func(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := len(f.got)
	f.got, f.now = append(f.got, 0), make(chan struct{})
	return func(n int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.got[k] = max(f.got[k], n)
		close(f.now)
		f.now = make(chan struct{})
	}
}

// wait returns when datagram i may be sent.
func (f *flight) wait(i int) {
	for {
		f.mu.Lock()
		ok, now := len(f.got) == 0 || i-slices.Min(f.got) < inFlight, f.now
		if ok {
			f.sent = max(f.sent, i)
		}
		f.mu.Unlock()
		if ok {
			return
		}
		<-now
	}
}

// lost says that what is in flight won't come.
func (f *flight) lost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k := range f.got {
		f.got[k] = max(f.got[k], f.sent)
	}
	close(f.now)
	f.now = make(chan struct{})
}

// stream sends n numbered datagrams from h1, rate a second at most, as f allows; the
// channel has the result.
func (s *site) stream(to string, n, rate int, f *flight) chan error {
	s.t.Helper()
	tx, done := s.listenUDP("h1", "10.1.1.10:0"), make(chan error, 1)
	go func() { done <- numbered(tx, netip.MustParseAddrPort(to), n, rate, func(int) int { return 200 }, f) }()
	return done
}

// numbered sends n datagrams, of that size each, with their numbers in front.
func numbered(tx *net.UDPConn, to netip.AddrPort, n, rate int, size func(i int) int, f *flight) error {
	b := make([]byte, 1500)
	for i, start := 0, time.Now(); i < n; i++ {
		if w := time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(rate))); w > 0 {
			time.Sleep(w)
		}
		f.wait(i)
		binary.BigEndian.PutUint32(b, uint32(i))
		if _, err := tx.WriteToUDPAddrPort(b[:size(i)], to); err != nil {
			return err
		}
	}
	return nil
}

// inOrderLater is inOrder in a goroutine; what it reads counts for f from now on.
func inOrderLater(rx *net.UDPConn, n int, f *flight) chan error {
	got, done := f.receiver(), make(chan error, 1)
	go func() { done <- inOrder(rx, n, got) }()
	return done
}

// inOrder reads n numbered datagrams, each once and in order, and says how far it is.
func inOrder(rx *net.UDPConn, n int, got func(n int)) error {
	defer got(math.MaxInt) // whatever happened, the sender needn't wait for it
	b := make([]byte, 1500)
	for want := range n {
		rx.SetReadDeadline(time.Now().Add(patience))
		if _, err := rx.Read(b); err != nil {
			return fmt.Errorf("after %d of %d datagrams: %w", want, n, err)
		}
		if is := int(binary.BigEndian.Uint32(b)); is != want {
			return fmt.Errorf("datagram %d where %d should be", is, want)
		}
		if want%64 == 0 {
			got(want)
		}
	}
	rx.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := rx.Read(b); err == nil {
		return fmt.Errorf("more than %d datagrams", n)
	}
	return nil
}
