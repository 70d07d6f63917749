package lab

// Multicast: routing in the core and the members by smcrouted, a sender and
// receivers of our own that count exactly.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// RouteMulticast starts multicast routing: DataGroup from every member to all others
// through the core, RekeyGroup from the key server to every member. Routes name their
// sources, so that the kernel has them before the first packet.
func (l *Lab) RouteMulticast() error {
	var core strings.Builder
	var all []string
	for n := 1; n <= l.Members; n++ {
		all = append(all, Core(n))
		var others []string
		for m := 1; m <= l.Members; m++ {
			if m != n {
				others = append(others, Core(m))
			}
		}
		fmt.Fprintf(&core, "mroute from %s source %s group %s to %s\n", Core(n), Host(n), DataGroup, strings.Join(others, " "))
	}
	fmt.Fprintf(&core, "mroute from k1 source %s group %s to %s\n", KeyServer, RekeyGroup, strings.Join(all, " "))
	if err := l.smcrouted("core", core.String()); err != nil {
		return err
	}
	for n := 1; n <= l.Members; n++ {
		var gm strings.Builder
		fmt.Fprintf(&gm, "mroute from lan source %s group %s to wan\n", Host(n), DataGroup)
		for m := 1; m <= l.Members; m++ {
			if m != n {
				fmt.Fprintf(&gm, "mroute from wan source %s group %s to lan\n", Host(m), DataGroup)
			}
		}
		if err := l.smcrouted(fmt.Sprintf("gm%d", n), gm.String()); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) smcrouted(node, conf string) error {
	base := filepath.Join(l.Dir, "smc-"+node)
	if err := os.WriteFile(base+".conf", []byte(conf), 0o600); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	p, err := l.Start("smc-"+node, node, "smcrouted", "-n", "-I", "smc-"+node, "-f", base+".conf",
		"-u", base+".sock", "-P", base+".pid", "-l", "notice")
	if err != nil {
		return err
	}
	want := strings.Count(conf, "\n")
	return Until(10*time.Second, func() error {
		if !p.Alive() {
			return Final(fmt.Errorf("lab: smcrouted in %s: %s", node, tail(p.Output())))
		}
		out, err := l.Run(node, "ip", "mroute")
		if err == nil && strings.Count(out, "Iif:") < want {
			err = fmt.Errorf("lab: %s has these multicast routes, not %d:\n%s", node, want, out)
		}
		return err
	})
}

const multicastPort = 5001

// Receiver counts the datagrams of a multicast stream.
type Receiver struct {
	conn *net.UDPConn

	mu         sync.Mutex
	seen       []uint64 // a bit for each number
	Count      int      // distinct datagrams
	Duplicates int
	Damaged    int
	done       chan struct{}
}

// JoinMulticast joins DataGroup at a node and counts until Close.
func (l *Lab) JoinMulticast(node string, datagrams int) (*Receiver, error) {
	r := &Receiver{seen: make([]uint64, datagrams/64+1), done: make(chan struct{})}
	err := l.In(node, func() error {
		dev, err := net.InterfaceByName("e0")
		if err != nil {
			return err
		}
		r.conn, err = net.ListenMulticastUDP("udp4", dev, &net.UDPAddr{IP: net.ParseIP(DataGroup), Port: multicastPort})
		if err != nil {
			return err
		}
		return control(r.conn, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("lab: join in %s: %w", node, err)
	}
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
		if err != nil {
			return
		}
		r.take(buf[:n])
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
	if seq/64 >= uint64(len(r.seen)) {
		r.Damaged++
		return
	}
	if bit := uint64(1) << (seq % 64); r.seen[seq/64]&bit != 0 {
		r.Duplicates++
	} else {
		r.seen[seq/64] |= bit
		r.Count++
	}
}

// Await waits for n distinct datagrams, or until none has come for idle.
func (r *Receiver) Await(n int, idle time.Duration) error {
	count := func() int { r.mu.Lock(); defer r.mu.Unlock(); return r.Count }
	last, at := -1, time.Now()
	return Until(10*time.Minute, func() error {
		c := count()
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

// Close leaves the group and ends the counting.
func (r *Receiver) Close() {
	r.conn.Close()
	<-r.done
}

// SendMulticast sends n datagrams of size octets (8 at least) to DataGroup from a
// host, at most rate a second.
func (l *Lab) SendMulticast(node string, n, size, rate int) error {
	var c *net.UDPConn
	err := l.In(node, func() error {
		var err error
		c, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.ParseIP(DataGroup), Port: multicastPort})
		if err != nil {
			return err
		}
		return control(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 16) })
	})
	if err != nil {
		return fmt.Errorf("lab: multicast sender in %s: %w", node, err)
	}
	defer c.Close()
	buf := make([]byte, max(size, 8))
	start := time.Now()
	for seq := range n {
		binary.BigEndian.PutUint64(buf, uint64(seq))
		for i := range buf[8:] {
			buf[8+i] = byte(seq) + byte(i)
		}
		if ahead := time.Duration(seq)*time.Second/time.Duration(rate) - time.Since(start); ahead > 2*time.Millisecond {
			time.Sleep(ahead)
		}
		if _, err := c.Write(buf); err != nil {
			return fmt.Errorf("lab: multicast datagram %d: %w", seq, err)
		}
	}
	return nil
}
