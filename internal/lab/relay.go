package lab

// A bad network: a node between a member, or the key server, and the core that
// delays, loses, duplicates and reorders frames. The kernel at hand has no netem; and a
// seed makes every run the same sequence of decisions.

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Impairment says what happens to the frames of each direction. Probabilities are of
// one frame.
type Impairment struct {
	Seed      uint64
	Delay     time.Duration // of every frame
	Jitter    time.Duration // at most this much more
	Loss      float64
	Duplicate float64
	Reorder   float64       // held back, so that later ones overtake it …
	Hold      time.Duration // … for this long; 0 means 5 ms
	// Only says which frames are impaired; nil means all.
	Only func(frame []byte) bool
}

// Relay is a running one. Its counters are of both directions.
type Relay struct {
	Passed, Lost, Duplicated, Held atomic.Int64

	imp  Impairment
	fds  [2]int
	stop chan struct{}
	wg   sync.WaitGroup
}

// Relay replaces member n's link to the core by one through a relay, and starts it.
func (l *Lab) Relay(n int, imp Impairment) (*Relay, error) {
	near, far := memberLink(n)
	return l.relay(fmt.Sprintf("r%d", n), near, far, imp, func() error { return l.memberRoutes(n) })
}

// RelayKeyServer is Relay for the first key server's link: its multicast routes must come
// later.
func (l *Lab) RelayKeyServer(imp Impairment) (*Relay, error) {
	near, far := keyServerLink(1)
	return l.relay("rk", near, far, imp, func() error { return l.keyServerRoutes(1) })
}

// relay replaces the link between two ends; routes are set again.
func (l *Lab) relay(node string, near, far end, imp Impairment, routes func() error) (*Relay, error) {
	if _, err := l.Run(near.node, "ip", "link", "del", near.dev); err != nil {
		return nil, err
	}
	if err := l.addNode(node); err != nil {
		return nil, err
	}
	for _, pair := range []struct {
		e   end
		dev string
	}{{near, "near"}, {far, "far"}} {
		// The relay's own ends have no addresses: it is a wire.
		if err := l.wire(pair.e, node, pair.dev); err != nil {
			return nil, err
		}
	}
	if err := routes(); err != nil {
		return nil, err
	}
	if imp.Hold == 0 {
		imp.Hold = 5 * time.Millisecond
	}
	r := &Relay{imp: imp, stop: make(chan struct{}), fds: [2]int{-1, -1}}
	for i, dev := range []string{"near", "far"} {
		if err := l.In(node, func() (err error) { r.fds[i], err = openWire(dev); return err }); err != nil {
			r.Close()
			return nil, err
		}
	}
	for i := range 2 {
		r.run(r.fds[i], r.fds[1-i], rand.New(rand.NewPCG(imp.Seed, uint64(i))))
	}
	return r, nil
}

// wire links a node's end to the relay without offloads: the relay must see frames as
// they would be on a cable.
func (l *Lab) wire(e end, relay, dev string) error {
	if err := l.vethPair(e.node, e.dev, relay, dev); err != nil {
		return err
	}
	for _, x := range [][2]string{{e.node, e.dev}, {relay, dev}} {
		if _, err := l.Run(x[0], "ethtool", "-K", x[1], "tx", "off", "tso", "off", "gso", "off", "gro", "off"); err != nil {
			return err
		}
	}
	if err := l.batch(relay, "link set "+dev+" up"); err != nil {
		return err
	}
	return l.batch(e.node, "addr add "+e.v4+" dev "+e.dev, "addr add "+e.v6+" dev "+e.dev+" nodad", "link set "+e.dev+" up")
}

func openWire(dev string) (int, error) {
	i, err := net.InterfaceByName(dev)
	if err != nil {
		return -1, err
	}
	all := uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return -1, err
	}
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}),
		unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(i.Index), Type: unix.PACKET_MR_PROMISC}),
		// What the relay itself sends must not come back to it.
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100000}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20))
	return fd, err
}

// held is a frame and when it goes on; n keeps frames of one moment in order.
type held struct {
	at    time.Time
	n     int
	frame []byte
}

type queue []held

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].at.Equal(q[j].at) {
		return q[i].n < q[j].n
	}
	return q[i].at.Before(q[j].at)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(held)) }
func (q *queue) Pop() any     { o := *q; x := o[len(o)-1]; *q = o[:len(o)-1]; return x }

// run moves one direction: a reader decides, a writer waits.
func (r *Relay) run(from, to int, rnd *rand.Rand) {
	frames := make(chan held, 4096)
	r.wg.Go(func() {
		defer close(frames)
		buf := make([]byte, 65536)
		for n := 0; ; {
			select {
			case <-r.stop:
				return
			default:
			}
			k, _, err := unix.Recvfrom(from, buf, 0)
			if err == unix.EAGAIN || err == unix.EINTR || err == unix.ENETDOWN {
				continue
			} else if err != nil {
				return
			}
			frame := append([]byte(nil), buf[:k]...)
			for _, at := range r.decide(rnd, frame) {
				n++
				frames <- held{at, n, frame}
			}
		}
	})
	r.wg.Go(func() {
		var q queue
		for {
			var due <-chan time.Time
			if len(q) > 0 {
				due = time.After(time.Until(q[0].at))
			}
			select {
			case h, ok := <-frames:
				if !ok {
					return
				}
				heap.Push(&q, h)
			case <-due:
				unix.Write(to, heap.Pop(&q).(held).frame)
			}
		}
	})
}

// decide returns when copies of a frame go on: never, once or twice. It always draws
// the same number of random values, so that one frame's fate doesn't move the next's.
func (r *Relay) decide(rnd *rand.Rand, frame []byte) []time.Time {
	loss, dup, reorder, jitter := rnd.Float64(), rnd.Float64(), rnd.Float64(), rnd.Float64()
	now := time.Now()
	if r.imp.Only != nil && !r.imp.Only(frame) {
		r.Passed.Add(1)
		return []time.Time{now}
	}
	if loss < r.imp.Loss {
		r.Lost.Add(1)
		return nil
	}
	at := now.Add(r.imp.Delay + time.Duration(jitter*float64(r.imp.Jitter)))
	if reorder < r.imp.Reorder {
		r.Held.Add(1)
		at = at.Add(r.imp.Hold)
	}
	r.Passed.Add(1)
	if dup < r.imp.Duplicate {
		r.Duplicated.Add(1)
		return []time.Time{at, at}
	}
	return []time.Time{at}
}

// Close stops the relay: the link is then dead.
func (r *Relay) Close() {
	close(r.stop)
	r.wg.Wait()
	for _, fd := range r.fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
