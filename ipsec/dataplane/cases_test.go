package dataplane_test

// Cases that need traffic from the core itself: a relay that reorders, frames in clear.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"getvpn/bench/static"
	"getvpn/bench/topology"
)

// relayed is what a reordering relay did.
type relayed struct {
	frames int
	tops   []uint32 // by frame: how far it was behind the highest number before it
}

// reorder carries n ESP frames from gm1 to gm2 in place of the core's forwarding; every
// fourth waits until behind others have passed.
func (s *site) reorder(n, behind int) chan relayed {
	s.t.Helper()
	s.sh("core", `nft list chain inet w cut 2>/dev/null >&2 || nft add chain inet w cut '{ type filter hook forward priority 1; iif c1 ip protocol esp drop; }'`)
	var in, out int
	mac := func(part, dev string) (m net.HardwareAddr) {
		s.in(part, func() error {
			i, err := net.InterfaceByName(dev)
			if err == nil {
				m = i.HardwareAddr
			}
			return err
		})
		return m
	}
	to, from := mac("gm2", "wan"), mac("core", "c2")
	s.in("core", func() error {
		for fd, dev := range map[*int]string{&in: "c1", &out: "c2"} {
			i, err := net.InterfaceByName(dev)
			if err != nil {
				return err
			}
			proto := 0
			if dev == "c1" {
				proto = unix.ETH_P_IP<<8 | unix.ETH_P_IP>>8
			}
			if *fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			unix.SetsockoptInt(*fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
			unix.SetsockoptInt(*fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
			if err := unix.Bind(*fd, &unix.SockaddrLinklayer{Protocol: uint16(proto), Ifindex: i.Index}); err != nil {
				return err
			}
		}
		return unix.SetsockoptTimeval(in, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
	})
	done := make(chan relayed, 1)
	go func() {
		defer unix.Close(in)
		defer unix.Close(out)
		var r relayed
		var top uint32
		forward := func(f []byte) {
			copy(f, to)
			copy(f[6:], from)
			seq := binary.BigEndian.Uint32(f[14+20+4:])
			r.tops = append(r.tops, max(top, seq)-seq)
			top = max(top, seq)
			unix.Write(out, f)
		}
		type late struct {
			at int
			f  []byte
		}
		var held []late
		buf := make([]byte, 2000)
		for r.frames < n {
			k, err := unix.Read(in, buf)
			if err == unix.EINTR { // with a time limit the kernel doesn't restart it
				continue
			}
			if err != nil {
				break
			}
			if k < 14+28 || buf[14+9] != 50 {
				continue
			}
			f := bytes.Clone(buf[:k])
			if r.frames%4 == 3 {
				held = append(held, late{r.frames + behind, f})
			} else {
				forward(f)
			}
			for len(held) > 0 && held[0].at <= r.frames {
				forward(held[0].f)
				held = held[1:]
			}
			r.frames++
		}
		for _, h := range held {
			forward(h.f)
		}
		done <- r
	}()
	return done
}

func Test_esp_03_counter_windows_under_reordering(t *testing.T) {
	s := newSite(t, topology.Options{}, nil)
	const n, behind = 3000, 120
	for i, window := range []int{64, 1024} {
		for g := range s.gw {
			p := s.policy[g]
			p.SPI = 0x2000 + uint32(i)
			p.Replay.Mode, p.Replay.Window = 1, window
			s.gw[g].install(p)
		}
		rx := s.listenUDP("h2", fmt.Sprintf("10.2.2.10:%d", 9000+i))
		relay := s.reorder(n, behind)
		sent := s.stream(fmt.Sprintf("10.2.2.10:%d", 9000+i), n, 5000)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		r := <-relay
		if r.frames != n {
			t.Fatalf("the relay saw %d of %d frames", r.frames, n)
		}
		// What the window must refuse follows from the order on the wire.
		var drops uint64
		var largest, most uint32
		for _, l := range r.tops {
			most = max(most, l)
			if int(l) >= window {
				drops++
				largest = max(largest, l)
			}
		}
		if most < 64 || most >= 1024 {
			t.Fatalf("frames are up to %d late, which tests neither window", most)
		}
		until(t, "all frames are judged", 5*time.Second, func() bool {
			sa := s.gw[1].show().SA
			return sa.DecapPackets+sa.ReplayDrops == n
		})
		sh := s.gw[1].show()
		if sh.SA.ReplayDrops != drops || (drops > 0) != (window == 64) {
			t.Errorf("window %d: %d replay drops, want %d", window, sh.SA.ReplayDrops, drops)
		}
		if len(sh.Senders) != 1 || sh.Senders[0].SID != 1 || sh.Senders[0].Drops != drops || sh.Senders[0].MaxLate != largest {
			t.Errorf("window %d: senders %+v, want SID 1 with %d drops, %d late at most", window, sh.Senders, drops, largest)
		}
		b, got := make([]byte, 300), 0
		for ; got < n; got++ {
			rx.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if _, err := rx.Read(b); err != nil {
				break
			}
		}
		if got != n-int(drops) {
			t.Errorf("window %d: %d datagrams arrived, want %d", window, got, n-int(drops))
		}
	}
}

// Killed and restarted under a flood from both sides: what is protected dies or is
// sealed, never passes or is accepted in clear; the rest passes all the time.
func Test_esp_04_killed_and_restarted_under_flood(t *testing.T) {
	dir := bpffs(t)
	s := newSite(t, topology.Options{}, func(p *static.Policy) { p.BPFDir = dir })
	load := s.Cmd("h1", "ping", "-n", "-q", "-i", "0.002", "10.2.2.10")
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { load.Process.Kill(); load.Wait() }()
	denied := s.Cmd("gm1", "ping", "-n", "-q", "-i", "0.01", "-W", "2", "172.16.1.1")
	var said bytes.Buffer
	denied.Stdout = &said
	if err := denied.Start(); err != nil {
		t.Fatal(err)
	}
	defer denied.Process.Kill()

	// The core forges clear packets to h1, as fast as the flood.
	rx := s.listenUDP("h1", "10.1.1.10:9000")
	var stop atomic.Bool
	forged, accepted := make(chan int, 1), make(chan int, 1)
	s.sh("core", "ip addr add 10.2.2.99/32 dev lo")
	tx := s.listenUDP("core", "10.2.2.99:9000")
	go func() {
		n := 0
		for ; !stop.Load(); n++ {
			tx.WriteToUDPAddrPort([]byte("forged"), netip.MustParseAddrPort("10.1.1.10:9000"))
			time.Sleep(2 * time.Millisecond)
		}
		forged <- n
	}()
	go func() {
		n, b := 0, make([]byte, 100)
		for ; ; n++ {
			if _, err := rx.Read(b); err != nil {
				accepted <- n
				return
			}
		}
	}()

	times := 2
	if os.Getenv("GETVPN_SOAK") != "" {
		times = 10
	}
	ping := "ping -n -q -c 3 -i 0.05 -W 2 10.2.2.10"
	for i := range 2 * times {
		until(t, "traffic flows", 5*time.Second, func() bool { return s.gw[0].show().SA.EncapPackets > 50 })
		if i%2 == 0 {
			s.gw[0].kill()
		} else {
			s.gw[0].leave()
		}
		if out, err := s.Sh("h1", "ping -n -q -c 20 -i 0.01 -W 1 10.2.2.10"); err == nil {
			t.Errorf("a permit passed without a process:\n%s", out)
		}
		s.policy[0].SID = uint32(77 + i) // a restarted member has a new Sender ID
		s.start(0)
		s.sh("h1", ping)
	}
	stop.Store(true)
	n := <-forged
	rx.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if got := <-accepted; got != 0 || n < 100 {
		t.Errorf("%d of %d forged packets were accepted", got, n)
	}
	denied.Process.Signal(os.Interrupt)
	denied.Wait()
	if !bytes.Contains(said.Bytes(), []byte(" 0% packet loss")) {
		t.Errorf("what isn't protected:\n%s", &said)
	}
	s.noneInClear()
}
