package lab

// Multicast: routing in the core and the members by smcrouted, members of a group and
// a sender of our own that count exactly.

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// RouteMulticast starts multicast routing: DataGroup from every member to all others
// through the core, RekeyGroup from the key servers to every member. Routes name their
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
	for n := 1; n <= l.KeyServers; n++ {
		fmt.Fprintf(&core, "mroute from k%d source %s group %s to %s\n", n, KSAddr(n), RekeyGroup, strings.Join(all, " "))
	}
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
	return Until(30*time.Second, func() error {
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

// streamPort is where a host's steady stream goes: each sender has its own port, or their
// numbers would mix.
func streamPort(host string) int { return multicastPort + 1000 + int(host[len(host)-1]-'0') }

// JoinMulticast joins DataGroup at a node and counts datagrams numbered below that
// number until Close.
func (l *Lab) JoinMulticast(node string, datagrams int) (*Receiver, error) {
	return l.joinMulticast(node, multicastPort, datagrams)
}

func (l *Lab) joinMulticast(node string, port, datagrams int) (*Receiver, error) {
	var c *net.UDPConn
	err := l.In(node, func() error {
		dev, err := net.InterfaceByName("e0")
		if err == nil {
			c, err = net.ListenMulticastUDP("udp4", dev, &net.UDPAddr{IP: net.ParseIP(DataGroup), Port: port})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lab: join in %s: %w", node, err)
	}
	return receive(c, uint64(datagrams))
}

// multicastSender opens a socket that sends to DataGroup.
func (l *Lab) multicastSender(node string, port int) (*net.UDPConn, error) {
	var c *net.UDPConn
	err := l.In(node, func() error {
		var err error
		c, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.ParseIP(DataGroup), Port: port})
		if err != nil {
			return err
		}
		return control(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 16) })
	})
	if err != nil {
		return nil, fmt.Errorf("lab: multicast sender in %s: %w", node, err)
	}
	return c, nil
}

// SendMulticast sends n datagrams of size octets (8 at least) to DataGroup from a
// host, at most rate a second.
func (l *Lab) SendMulticast(node string, n, size, rate int) error {
	c, err := l.multicastSender(node, multicastPort)
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, max(size, 8))
	p := newPacer(rate)
	for seq := range n {
		number(buf, uint64(seq))
		if wait := p.next(); wait > 2*time.Millisecond {
			time.Sleep(wait)
		}
		if _, err := c.Write(buf); err != nil {
			return fmt.Errorf("lab: multicast datagram %d: %w", seq, err)
		}
	}
	return nil
}
