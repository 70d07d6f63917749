package e2e

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"getvpn/internal/lab"
)

// Issue item 7: whatever happens to a member's daemon and its WAN device, what the
// list permits never crosses the core in clear, and what it denies passes.
func TestNothingInClearWhateverHappens(t *testing.T) {
	w := newWorld(t, lab.Options{Members: 2})
	w.group(policy{}, 2)
	c, err := w.Capture("clear", "core", "c1", 0, "ip and net 10.1.0.0/16 and not ip proto 50 and not tcp port 22")
	w.must(err)
	load, err := w.Stream("h1", "h2", lab.Host(2), 1000, 300)
	w.must(err)
	passing := func(what string) {
		t.Helper()
		w.until(40*time.Second, func() error {
			_, err := w.Ping("h1", lab.Host(2), 2, "-W", "1")
			return err
		})
		w.noneInClear()
		t.Logf("%s: traffic passes", what)
	}
	// A little load in each state, counted by the hosts themselves.
	some := func() {
		t.Helper()
		w.more(load, 200)
	}
	passing("at first")
	sshPasses(w, "with the daemon")

	for range pick(2, 10) {
		w.must(w.gms[1].Kill())
		some()
		sshPasses(w, "without the daemon")
		w.noneInClear()
		if _, err := w.Ping("h1", lab.Host(2), 1, "-W", "1"); err == nil {
			t.Error("protected traffic passes without a daemon")
		}
		w.startGM(1, member{})
		passing("after kill -9 and a restart")
	}

	w.must(w.gms[1].Stop())
	some()
	w.noneInClear()
	w.startGM(1, member{})
	passing("after an orderly stop and a restart")

	w.must(w.gms[1].Kill())
	for i := range 2 {
		w.flap()
		some()
		w.noneInClear()
		if i == 0 {
			w.startGM(1, member{})
			passing("after a flap without the daemon")
		}
	}
	passing("after a flap with the daemon")

	// Deleted and made again: the capture's interface goes with it.
	frames, err := c.Stop()
	w.must(err)
	if len(frames) != 0 {
		t.Errorf("%d frames in clear, the first: %x", len(frames), frames[0].Data)
	}
	_, err = w.Lab.Run("gm1", "ip", "link", "del", "wan")
	w.must(err)
	some()
	w.must(w.WANLink(1))
	some()
	passing("after the WAN device was deleted and made again")

	sent, got := load.Stop()
	t.Logf("the stream under all this: %d sent, %d received", sent, got)
	w.noneInClear()
}

// flap takes member 1's WAN down and up again.
func (w *world) flap() {
	w.Helper()
	for _, state := range []string{"down", "up"} {
		_, err := w.Lab.Run("gm1", "ip", "link", "set", "wan", state)
		w.must(err)
	}
	w.must(w.WANRoutes(1))
}

// sshPasses makes a TCP connection on the port that the list denies and reads a line.
func sshPasses(w *world, when string) {
	w.Helper()
	var ln net.Listener
	w.must(w.In("h2", func() (err error) {
		ln, err = net.Listen("tcp", lab.Host(2)+":22")
		return err
	}))
	defer ln.Close()
	go func() {
		if c, err := ln.Accept(); err == nil {
			io.WriteString(c, "SSH-2.0-here\r\n")
			c.Close()
		}
	}()
	err := w.In("h1", func() error {
		d := net.Dialer{Timeout: 30 * time.Second}
		c, err := d.Dial("tcp", lab.Host(2)+":22")
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		_, err = io.ReadFull(c, make([]byte, 14))
		return err
	})
	if err != nil {
		w.Errorf("SSH, denied by the list, %s: %v", when, err)
	}
}

// Issue item 7: clear packets injected at the core against a permit never reach a
// host and are counted; ESP that isn't ours does what a router does.
func TestInjectedAtTheCore(t *testing.T) {
	w := newWorld(t, lab.Options{Members: 2})
	w.group(policy{}, 2)
	mac, err := w.MAC("gm2", "wan")
	w.must(err)
	c, err := w.Capture("h2", "h2", "e0", 0, "udp port 4321 or tcp port 4321 or ip proto 50")
	w.must(err)
	syn := []byte{0x10, 0xe1, 0x10, 0xe1, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0}
	const n = 20
	before := w.snapshot(w.gms[2]).Dataplane.Drops
	for range n {
		w.must(w.Inject("core", "c2",
			lab.UDP(mac, lab.Host(1), lab.Host(2), 4321, 4321, []byte("in clear")),
			lab.IPv4(mac, lab.Host(1), lab.Host(2), 6, syn)))
	}
	w.until(30*time.Second, func() error {
		after := w.snapshot(w.gms[2]).Dataplane.Drops
		if got := after["clear-inbound"] - before["clear-inbound"]; got != 2*n {
			return fmt.Errorf("%d clear packets counted of %d: %v", got, 2*n, after)
		}
		return nil
	})
	// Foreign ESP: an unknown SPI between addresses that the list doesn't name is
	// routed on; between protected hosts it is a clear packet like any other.
	foreign := append([]byte{0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 1}, make([]byte, 64)...)
	for range n {
		w.must(w.Inject("core", "c2", lab.IPv4(mac, "203.0.113.9", lab.Host(2), lab.ESP, foreign),
			lab.IPv4(mac, lab.Host(1), lab.Host(2), lab.ESP, foreign)))
	}
	// A ping through the SA afterwards: all before it has been judged.
	if out, err := w.Ping("h1", lab.Host(2), 1); err != nil {
		t.Fatal(err, out)
	}
	frames, err := c.Stop()
	w.must(err)
	transit := 0
	for _, f := range frames {
		if p, ok := f.IP(); ok && p.Proto == lab.ESP && p.Src.String() == "203.0.113.9" {
			transit++
		} else {
			t.Errorf("reached the host: %+v", p)
		}
	}
	if transit != n {
		t.Errorf("%d of %d transit ESP packets were routed on", transit, n)
	}
}
