package steer

// Packets through a real interface, with both back ends.

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"getvpn/ipsec"
)

func counters(t *testing.T, s *Steering, wan int) InterfaceCounters {
	t.Helper()
	c, err := s.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c[wan]
}

func TestOutbound(t *testing.T) {
	backends(t, func(t *testing.T, backend string) {
		n := newNet(t)
		s := open(t, backend, "")
		defer s.Close(false)
		if s.Backend() != backend {
			t.Fatalf("back end %s", s.Backend())
		}
		n.send(n.out, 5000, "before")
		n.wantPeer("before")
		out, in := permitPolicy()
		ok(t, s.Attach(n.wan, n.tap, out, in))

		n.send(n.out, 5000, "permit")
		n.wantTap("permit")
		n.send(n.out, 22, "deny")
		n.wantPeer("deny") // and not "permit"

		// A user's mark opens nothing; our own socket does.
		ok(t, unix.SetsockoptInt(n.out, unix.SOL_SOCKET, unix.SO_MARK, int(int32(s.mark))))
		n.send(n.out, 5000, "marked")
		n.wantTap("marked")
		cookie := must[uint64](t)(SocketCookie(n.out))
		ok(t, s.AllowSocket(cookie))
		n.send(n.out, 5000, "own")
		n.wantPeer("own")
		ok(t, s.ForbidSocket(cookie), s.ForbidSocket(cookie))
		n.send(n.out, 5000, "no longer own")
		n.wantTap("no longer own")

		// A super-packet comes whole, with its virtio header.
		const udpSegment = 103
		ok(t, unix.SetsockoptInt(n.out, unix.SOL_UDP, udpSegment, 1000))
		n.send(n.out, 5000, string(make([]byte, 5000)))
		frames, size, gso := 1, 5000, true
		if !n.uso {
			frames, size, gso = 5, 1000, false
		}
		for range frames {
			f, err := read(n.tapFD, patience)
			if err != nil || len(f) != 10+14+28+size || (f[1] != 0) != gso {
				t.Fatalf("super-packet: %d octets, %v", len(f), err)
			}
		}
		ok(t, unix.SetsockoptInt(n.out, unix.SOL_UDP, udpSegment, 0))

		// A swap is in force when it returns, both ways.
		drop := ipsec.Ruleset{Default: ipsec.Drop, DefaultReason: ipsec.DropFailClose}
		for range 20 {
			ok(t, s.SwapEgress(n.wan, ipsec.Ruleset{}))
			n.send(n.out, 5000, "open")
			n.wantPeer("open")
			ok(t, s.SwapEgress(n.wan, drop))
			_ = unix.Sendto(n.out, []byte("closed"), 0, &unix.SockaddrInet4{Port: 22, Addr: [4]byte{10, 2, 0, 1}})
		}
		c := counters(t, s, n.wan).Egress
		if c.Drops[ipsec.DropFailClose] != 20 || c.Protected != 4 || c.Own != 1 || c.Default != 1 || c.Passed != 21 {
			t.Errorf("counters %+v", c)
		}
		ok(t, s.Detach(n.wan))
		n.send(n.out, 5000, "detached")
		n.wantPeer("detached")
	})
}

func TestInbound(t *testing.T) {
	backends(t, func(t *testing.T, backend string) {
		n := newNet(t)
		s := open(t, backend, "")
		defer s.Close(false)
		out, in := permitPolicy()
		ok(t, s.Attach(n.wan, n.tap, out, in), s.AddSPIs(0x11223344))
		ring := packetSocket(t, n.wan, must[int](t)(s.RingFilter(n.wan)))
		host, esp := n.socket("10.1.0.1", 6000), n.frame(protoESP, ourSPI)

		n.inject(n.frame(protoUDP, datagram(6000, "clear")))
		n.inject(n.frame(protoESP, foreignSPI))
		n.inject(esp)
		if f, err := read(ring, patience); err != nil || string(f) != string(esp) {
			t.Fatalf("ring got %x, %v", f, err)
		}
		// What the daemon decrypts and writes to the TAP is received once, and the ring
		// doesn't see it again, even if it is ESP of ours.
		for _, f := range [][]byte{n.frame(protoUDP, datagram(6000, "decrypted")), esp} {
			if _, err := unix.Write(n.tapFD, append(make([]byte, 10), f...)); err != nil {
				t.Fatal(err)
			}
		}
		if b, err := read(host, patience); err != nil || string(b) != "decrypted" {
			t.Fatalf("host got %q, %v", b, err)
		}
		clear := n.frame(protoUDP, datagram(6000, "clear"))
		n.inject(clear)
		// A priority tag hides nothing, two of them neither; another VLAN isn't ours.
		n.inject(tag(clear, 0))
		n.inject(tag(tag(clear, 0), 0))
		n.inject(tag(clear, 5))
		esp[24], esp[25], esp[18] = 0, 0, 99 // another identification
		n.inject(esp)
		if f, err := read(ring, patience); err != nil || string(f) != string(esp) {
			t.Fatalf("ring got %x, %v", f, err)
		}
		if b, err := read(host, 100*time.Millisecond); err == nil {
			t.Fatalf("host got %q", b)
		}
		c := counters(t, s, n.wan).Ingress
		if c.Drops[ipsec.DropClearInbound] != 3 || c.Drops[ipsec.DropUnknownSPI] != 1 || c.Drops[ipsec.DropMalformed] != 1 || c.Control != 1 || c.Taken != 2 || c.Injected != 2 {
			t.Errorf("counters %+v", c)
		}
		from, to := netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr("10.1.0.1")
		for esp, want := range map[bool]Refused{false: {from, to, protoUDP, 0}, true: {from, to, protoESP, 0x55667788}} {
			if r, ok, err := s.TakeRefused(n.wan, esp); r != want || !ok || err != nil {
				t.Errorf("refused %+v %v %v, want %+v", r, ok, err, want)
			}
			if r, ok, err := s.TakeRefused(n.wan, esp); ok || err != nil {
				t.Errorf("refused twice: %+v %v", r, err)
			}
		}
	})
}

// tag puts an 802.1Q tag into a frame.
func tag(f []byte, vid byte) []byte { return slices.Concat(f[:12], []byte{0x81, 0, 0, vid}, f[12:]) }

// TestSwapUnderTraffic: while policy changes between two that both protect, nothing
// leaves in clear and nothing is lost between them.
func TestSwapUnderTraffic(t *testing.T) {
	backends(t, func(t *testing.T, backend string) {
		n := newNet(t)
		s := open(t, backend, "")
		defer s.Close(false)
		out, in := permitPolicy()
		ok(t, s.Attach(n.wan, n.tap, out, in))
		stop, sent := make(chan struct{}), make(chan uint64)
		go func() {
			for k := uint64(0); ; k++ {
				select {
				case <-stop:
					sent <- k
					return
				default:
				}
				for unix.Sendto(n.out, []byte("secret"), 0, &unix.SockaddrInet4{Port: 5000, Addr: [4]byte{10, 2, 0, 1}}) != nil {
				}
			}
		}()
		for range 20 {
			ok(t, s.SwapEgress(n.wan, out), s.SwapIngress(n.wan, in), s.Attach(n.wan, n.tap, out, in))
		}
		close(stop)
		k := <-sent
		n.send(n.out, 22, "end")
		n.wantPeer("end")
		if c := counters(t, s, n.wan).Egress; c.Protected != k || k == 0 {
			t.Errorf("%d sent, %d protected", k, c.Protected)
		}
	})
}

// TestHolder is the child of TestKilled: it attaches, says so and waits for its end.
func TestHolder(t *testing.T) {
	dir := os.Getenv("STEER_DIR")
	if dir == "" {
		t.Skip("child of TestKilled")
	}
	s := open(t, os.Getenv("STEER_BACKEND"), dir)
	wan, _ := strconv.Atoi(os.Getenv("STEER_WAN"))
	tap, _ := strconv.Atoi(os.Getenv("STEER_TAP"))
	out, in := permitPolicy()
	ok(t, s.Attach(wan, tap, out, in), s.AddSPIs(0x11223344), s.AllowSocket(1))
	os.Stdout.WriteString("attached\n")
	select {}
}

func TestKilled(t *testing.T) {
	backends(t, func(t *testing.T, backend string) {
		n := newNet(t)
		dir := filepath.Join(n.bpffs(), "pins")
		// The child inherits this thread's namespace.
		c := exec.Command(os.Args[0], "-test.run=^TestHolder$", "-test.timeout=60s")
		c.Env = append(os.Environ(), "STEER_DIR="+dir, "STEER_BACKEND="+backend,
			"STEER_WAN="+strconv.Itoa(n.wan), "STEER_TAP="+strconv.Itoa(n.tap))
		pipe, err := c.StdoutPipe()
		ok(t, err, c.Start())
		r := bufio.NewReader(pipe)
		for l := ""; l != "attached\n"; {
			if l, err = r.ReadString('\n'); err != nil {
				t.Fatalf("child: %q %v", l, err)
			}
		}
		ok(t, c.Process.Kill())
		c.Wait()

		policy := func(what string) {
			t.Helper()
			n.send(n.out, 5000, "permit "+what)
			n.wantTap("permit " + what)
			n.send(n.out, 22, "deny "+what)
			n.wantPeer("deny " + what)
		}
		policy("after the kill")

		s := open(t, backend, dir)
		if a := s.Adopted(); len(a) != 1 || a[0] != n.wan {
			t.Fatalf("adopted %v", a)
		}
		policy("when opened")
		var v uint32
		if err := s.m.sockets.Lookup(uint64(1), &v); err == nil {
			t.Error("the dead process' socket is still allowed")
		}
		if err := s.m.spis.Lookup(spiKey(0x11223344), &v); err == nil {
			t.Error("the dead process' SPI is still ours")
		}
		// A decrypted packet passes under the new mark although nobody attached yet.
		host := n.socket("10.1.0.1", 6000)
		write := func() {
			t.Helper()
			f := append(make([]byte, 10), n.frame(protoUDP, datagram(6000, "decrypted"))...)
			if _, err := unix.Write(n.tapFD, f); err != nil {
				t.Fatal(err)
			}
			if b, err := read(host, patience); err != nil || string(b) != "decrypted" {
				t.Fatalf("host got %q, %v", b, err)
			}
		}
		write()
		out, in := permitPolicy()
		ok(t, s.Attach(n.wan, n.tap, out, in))
		policy("attached again")
		write()
		if len(s.Adopted()) != 0 {
			t.Error("still listed as adopted")
		}
		ok(t, s.Close(true))
		policy("closed, kept")
		s = open(t, backend, dir)
		ok(t, s.Close(false))
		n.send(n.out, 5000, "clear")
		n.wantPeer("clear")
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the folder of pins is left: %v", err)
		}
	})
}

// TestBackendChanged: what a process hung with the other back end doesn't stay.
func TestBackendChanged(t *testing.T) {
	for _, name := range []string{"tcx", "clsact"} {
		if b, err := openBackend(name); err != nil {
			t.Skip(err)
		} else {
			b.close()
		}
	}
	n := newNet(t)
	dir := filepath.Join(n.bpffs(), "pins")
	out, in := permitPolicy()
	for _, b := range []string{"tcx", "clsact", "tcx", "clsact"} {
		s := open(t, b, dir)
		ok(t, s.Attach(n.wan, n.tap, out, in))
		n.send(n.out, 5000, b)
		n.wantTap(b)
		ok(t, s.Close(true))
	}
	s := open(t, "tcx", dir)
	if a := s.Adopted(); len(a) != 1 || a[0] != n.wan {
		t.Fatalf("adopted %v", a)
	}
	ok(t, s.Close(false))
	n.send(n.out, 5000, "clear")
	n.wantPeer("clear")
}

// BenchmarkProgram: a packet that matches the last entry, in the kernel's test run.
func BenchmarkProgram(b *testing.B) {
	for _, n := range []int{1, 100, 400} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			m, cfg := testMaps(b)
			out, _ := permitPolicy()
			last := out.Rules[1]
			var s ipsec.Ruleset
			for i := range n - 1 {
				u := last
				u.ACE.DstPort = ipsec.PortMatch{Op: ipsec.PortEq, Lo: uint16(i + 1000)}
				s.Rules = append(s.Rules, u)
			}
			s.Rules = append(s.Rules, last)
			p, _, ins := loadRuleset(b, egressSpec, m, cfg, &s)
			f := v4(protoUDP, "10.1.0.1", "10.2.0.1", 0, 1, udp(5000)...)
			binary.BigEndian.PutUint16(f[36:], 5000-4999) // below the ports of the list
			_, d, err := p.Benchmark(f, b.N, b.ResetTimer)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(d.Nanoseconds()), "ns/packet")
			b.ReportMetric(float64(ins), "insns")
		})
	}
}
