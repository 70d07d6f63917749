package dataplane_test

// Anti-replay on a path that delays and reorders: the core's forwarding from gm1 to gm2 is
// done by a relay of this process, as netem would with "delay 10ms reorder 25% 50%".

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"getvpn/bench/static"
	"getvpn/bench/topology"
	"getvpn/ipsec"
)

const (
	relayDelay = 10 * time.Millisecond
	// relayHeld bounds what the relay holds, and so how late a frame may come, however
	// the machine is loaded: 10 ms at the rate of the test are 200.
	relayHeld = 600
)

// relayed is what the relay did: for each sender (the zero address when they are one) and
// each frame, in the order on the wire, how far its number was behind the highest number of
// that sender before it.
type relayed struct {
	frames int
	behind map[netip.Addr][]uint32
	top    map[netip.Addr]uint32
}

// refused is what a counter window must refuse of a sender, and the largest lateness
// among it.
func (r *relayed) refused(src netip.Addr, window int) (n uint64, largest uint32) {
	for _, b := range r.behind[src] {
		if int(b) >= window {
			n++
			largest = max(largest, b)
		}
	}
	return n, largest
}

// reorder carries n ESP frames from gm1 to gm2 and tells f how many it has of each of two
// hosts. It ends with the last one, or a while after sent is closed. byAddr: each source is a
// sender.
func (s *site) reorder(n int, byAddr bool, f *flight, sent chan struct{}) chan relayed {
	s.t.Helper()
	s.sh("core", `nft list chain inet w cut 2>/dev/null >&2 || nft add chain inet w cut '{ type filter hook forward priority 1; iif c1 ip protocol esp drop; }'`)
	var in, out int
	to, from := s.mac("gm2", "wan"), s.mac("core", "c2")
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
			if *fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
				return err
			}
			unix.SetsockoptInt(*fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
			unix.SetsockoptInt(*fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
			if err := unix.Bind(*fd, &unix.SockaddrLinklayer{Protocol: uint16(proto), Ifindex: i.Index}); err != nil {
				return err
			}
		}
		return nil
	})
	got, done := f.receiver(), make(chan relayed, 1)
	r := relayed{behind: map[netip.Addr][]uint32{}, top: map[netip.Addr]uint32{}}
	forward := func(f []byte) {
		copy(f, to)
		copy(f[6:], from)
		var src netip.Addr
		if byAddr {
			src = netip.AddrFrom4([4]byte(f[14+12:]))
		}
		seq := binary.BigEndian.Uint32(f[14+20+4:])
		r.behind[src] = append(r.behind[src], max(r.top[src], seq)-seq)
		r.top[src] = max(r.top[src], seq)
		unix.Write(out, f)
	}
	go func() {
		defer unix.Close(in)
		defer unix.Close(out)
		defer func() { done <- r }()
		defer got(math.MaxInt)
		type late struct {
			at time.Time
			f  []byte
		}
		var held []late
		buf := make([]byte, 2000)
		random := rand.New(rand.NewPCG(3, 1))
		last, quiet := false, time.Now()
		for r.frames < n || len(held) > 0 {
			k, err := unix.Read(in, buf)
			if err == nil && k >= 14+28 && buf[14+9] == 50 {
				r.frames++
				if quiet = time.Now(); random.IntN(2) == 0 { // half of the choices repeat the one before
					last = random.IntN(4) == 0
				}
				if f := bytes.Clone(buf[:k]); last {
					forward(f)
				} else {
					held = append(held, late{quiet.Add(relayDelay), f})
				}
				if r.frames%128 == 0 {
					got(r.frames / 2)
				}
			}
			now := time.Now()
			for len(held) > 0 && (len(held) > relayHeld || !now.Before(held[0].at)) {
				forward(held[0].f)
				held = held[1:]
			}
			if err == unix.EAGAIN {
				if now.Sub(quiet) > 2*time.Second { // lost in a ring, since the machine is too busy
					select {
					case <-sent:
						n = r.frames
					default:
						f.lost()
						quiet = now
					}
				}
				unix.Poll([]unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}}, 1)
			}
		}
	}()
	return done
}

// Case esp-03: 20,000 packets a second of mixed sizes from two hosts. By time, with a window
// of 5 s, nothing is refused; by counter, exactly what came too late for the window, told by
// SA and by source with the largest lateness seen.
func Test_esp_03_20000_pps_delayed_and_reordered(t *testing.T) {
	n := 20000
	if os.Getenv("GETVPN_SOAK") != "" {
		n = 600000 // half a minute each
	}
	s := newSite(t, topology.Options{}, nil)
	s.sh("h1", "ip addr add 10.1.1.11/32 dev e0")
	counter := func(window int, tr *ipsec.Transform) func(*static.Policy) {
		return func(p *static.Policy) {
			p.Replay, p.Transform = ipsec.Replay{Mode: ipsec.ReplayCounter, Window: window}, tr
		}
	}
	cbc := &ipsec.Transform{Cipher: ipsec.CipherAESCBC, KeyBits: 128, Auth: ipsec.AuthSHA256}
	for i, x := range []struct {
		name   string
		edit   func(*static.Policy)
		window int
		byAddr bool
	}{
		{"time, 5 s", timed(5, 0), 64, false},
		{"counter, 64 packets, by address", counter(64, cbc), 64, true},
		{"counter, 64 packets, by Sender ID", counter(64, nil), 64, false},
		{"counter, 1024 packets", counter(1024, nil), 1024, false},
	} {
		var p static.Policy
		for g := range s.gw {
			p = s.policy[g]
			p.SPI = 0x2000 + uint32(i)
			x.edit(&p)
			s.gw[g].install(p)
		}
		lost := s.gw[1].drops("ring-full")
		r, arrived := s.twoHosts(uint16(9000+i), n, 20000, x.byAddr)
		if r.frames < n/2 {
			t.Fatalf("%s: the relay saw %d of %d frames; drops at gm1 %v", x.name, r.frames, n, s.gw[0].show().Model.Drops)
		}
		var sh shown
		until(t, x.name+": all frames are judged", patience, func() bool {
			sh = s.gw[1].show()
			return sh.SA.DecapPackets+sh.SA.ReplayDrops+sh.Model.Drops["ring-full"]-lost == uint64(r.frames)
		})
		lost = sh.Model.Drops["ring-full"] - lost // by a machine that is too busy
		if got := arrived(); got == 0 || got > int(sh.SA.DecapPackets) || sh.SA.OtherDrops+sh.SA.ICVDrops != 0 {
			t.Errorf("%s: %d datagrams arrived; %+v", x.name, got, sh.SA)
		}
		var refused uint64
		var largest uint32
		for who := range r.top {
			k, l := r.refused(who, x.window)
			refused, largest = refused+k, max(largest, l)
		}
		if (x.window == 64) != (refused > 0) {
			t.Errorf("%s: %d frames came too late for %d packets, which tests nothing", x.name, refused, x.window)
		}
		t.Logf("%s: %d of %d frames %d or more behind, %d at most; %d lost at the ring", x.name, refused, r.frames, x.window, largest, lost)
		if p.Replay.Mode == ipsec.ReplayTime {
			tr := sh.Model.TimeReplay[0]
			if sh.SA.ReplayDrops != 0 || tr.TooOld+tr.TooNew+tr.Missing+tr.OutputErrors != 0 || tr.Input != sh.SA.DecapPackets || tr.MaxDelta > 5*time.Second {
				t.Errorf("%s: %+v, %+v", x.name, sh.SA, tr)
			}
			continue
		}
		if lost == 0 && (sh.SA.ReplayDrops != refused || sh.SA.MaxLate != largest) || sh.SA.ReplayDrops > refused || sh.SA.MaxLate > largest || len(sh.Senders) != len(r.top) {
			t.Errorf("%s: %d replay drops, %d late at most, of %d senders; want %d, %d, %d", x.name, sh.SA.ReplayDrops, sh.SA.MaxLate, len(sh.Senders), refused, largest, len(r.top))
		}
		for _, f := range sh.Senders {
			who := netip.Addr{}
			if x.byAddr {
				who = netip.AddrFrom4([4]byte(f.Addr[12:]))
			}
			k, l := r.refused(who, x.window)
			if lost == 0 && (f.Drops != k || f.MaxLate != l) || f.BySID == x.byAddr || f.BySID && f.SID != 1 {
				t.Errorf("%s: sender %+v, want %d drops, %d late at most", x.name, f, k, l)
			}
		}
	}
	s.noneInClear()
}

// twoHosts sends n datagrams of mixed sizes from two addresses through the relay to h2,
// which counts what arrives until it is asked.
func (s *site) twoHosts(port uint16, n, rate int, byAddr bool) (r relayed, arrived func() int) {
	s.t.Helper()
	to := netip.AddrPortFrom(topology.H2, port)
	rx, count := s.listenUDP("h2", to.String()), make(chan int, 1)
	go func() {
		k := 0
		for b := make([]byte, 1500); ; k++ {
			if _, err := rx.Read(b); err != nil {
				count <- k
				return
			}
		}
	}()
	var f flight
	sent, all := make(chan error, 2), make(chan struct{})
	relay := s.reorder(n, byAddr, &f, all)
	for h, addr := range []string{"10.1.1.10:0", "10.1.1.11:0"} {
		tx := s.listenUDP("h1", addr)
		go func() { sent <- numbered(tx, to, n/2, rate/2, func(i int) int { return 36 + (i*37+h)%1300 }, &f) }()
	}
	for range 2 {
		if err := <-sent; err != nil {
			s.t.Fatal(err)
		}
	}
	close(all)
	return <-relay, func() int { rx.SetReadDeadline(time.Now()); return <-count }
}
