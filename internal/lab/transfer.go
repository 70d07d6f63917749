package lab

// Unicast traffic between hosts: a file with its hash, pings, injected frames,
// throughput. Steady streams are in stream.go and pour.go.

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Transfer is a finished file transfer.
type Transfer struct {
	Octets   int64
	Sent     [sha256.Size]byte // hash at the sender
	Received [sha256.Size]byte // hash at the receiver
	Took     time.Duration
}

// Transfer sends size octets of noise over TCP from one host to an address of
// another, and hashes them at both ends.
func (l *Lab) Transfer(from, to, addr string, size int64, limit time.Duration) (Transfer, error) {
	var t Transfer
	start := time.Now()
	deadline := start.Add(limit)
	out, in, err := l.connect(from, to, addr)
	if err != nil {
		return t, err
	}
	out.SetDeadline(deadline)
	in.SetDeadline(deadline)
	got := make(chan error, 1)
	go func() {
		defer in.Close()
		h := sha256.New()
		n, err := io.Copy(h, in)
		t.Octets = n
		h.Sum(t.Received[:0])
		got <- err
	}()
	noise := rand.NewChaCha8([32]byte{byte(size)})
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(h, out), io.LimitReader(noise, size))
	h.Sum(t.Sent[:0])
	err = errors.Join(err, out.Close(), <-got)
	t.Took = time.Since(start)
	if err == nil && (t.Octets != size || t.Sent != t.Received) {
		err = fmt.Errorf("lab: %d of %d octets arrived, hash %x, sent %x", t.Octets, size, t.Received[:8], t.Sent[:8])
	}
	return t, err
}

// connect makes a TCP connection from one host to an address of another.
func (l *Lab) connect(from, to, addr string) (out, in net.Conn, err error) {
	var ln net.Listener
	err = l.In(to, func() (err error) {
		ln, err = net.Listen("tcp", net.JoinHostPort(addr, "0"))
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("lab: listen in %s: %w", to, err)
	}
	defer ln.Close()
	err = l.In(from, func() (err error) {
		d := net.Dialer{Timeout: 10 * time.Second}
		out, err = d.Dial("tcp", ln.Addr().String())
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("lab: connect from %s: %w", from, err)
	}
	ln.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
	if in, err = ln.Accept(); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("lab: accept in %s: %w", to, err), out.Close())
	}
	return out, in, nil
}

// Ping sends count echo requests with ping(8) and further options; it fails unless
// every one is answered.
func (l *Lab) Ping(from, addr string, count int, options ...string) (string, error) {
	args := append([]string{"-n", "-c", strconv.Itoa(count), "-i", "0.05", "-W", "2"}, options...)
	out, err := l.Run(from, "ping", append(args, addr)...)
	return out, err
}

// Inject sends raw Ethernet frames out of a node's interface.
func (l *Lab) Inject(node, dev string, frames ...[]byte) error {
	return l.In(node, func() error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, f := range frames {
			if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: i.Index}); err != nil {
				return fmt.Errorf("lab: inject into %s %s: %w", node, dev, err)
			}
		}
		return nil
	})
}

// MAC returns an interface's hardware address.
func (l *Lab) MAC(node, dev string) (net.HardwareAddr, error) {
	var a net.HardwareAddr
	err := l.In(node, func() error {
		i, err := net.InterfaceByName(dev)
		if err == nil {
			a = i.HardwareAddr
		}
		return err
	})
	return a, err
}

// IPerf measures one TCP stream with iperf3 and returns Gb/s as its receiver saw it.
func (l *Lab) IPerf(from, to, addr string, d time.Duration) (float64, error) {
	srv, err := l.Start("iperf3-"+addr, to, "iperf3", "-s", "-1", "-B", addr, "--forceflush")
	if err != nil {
		return 0, err
	}
	defer srv.Stop()
	if err := srv.Says(5*time.Second, "Server listening"); err != nil {
		return 0, err
	}
	out, err := l.Run(from, "iperf3", "-J", "-c", addr, "-t", strconv.Itoa(int(d.Seconds())))
	if err != nil {
		return 0, err
	}
	var r struct {
		End struct {
			SumReceived struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return 0, fmt.Errorf("lab: iperf3's report: %w", err)
	}
	return r.End.SumReceived.BitsPerSecond / 1e9, nil
}
