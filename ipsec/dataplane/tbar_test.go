package dataplane_test

// Time-based anti-replay and security group tags end to end: gateways in namespaces,
// nftables as the user of tags, the core as the one who replays.

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"getvpn/bench/static"
	"getvpn/bench/topology"
	"getvpn/internal/clock"
	"getvpn/ipsec"
	"getvpn/ipsec/dataplane"
)

// timed gives both gateways time-based anti-replay; they share this machine's clock.
func timed(window, header int) func(*static.Policy) {
	boot := clock.System{}.Boot()
	return func(p *static.Policy) {
		p.Replay = ipsec.Replay{Mode: ipsec.ReplayTime, Window: window}
		p.Metadata.Header = header
		p.Pseudo = &ipsec.Pseudotime{Boot: boot, Value: time.Hour, Tick: 10 * time.Millisecond}
	}
}

func Test_esp_07_TBAR_1490_octets_without_and_with_DF(t *testing.T) {
	// AES-GCM tunnel: 20 + 8 + 8 + (12 or 16 + n+2 to a multiple of 4) + 16 ≤ 1500.
	for header, mtu := range map[int]int{ipsec.MetadataShort: 1434, ipsec.MetadataLong: 1430} {
		t.Run(fmt.Sprint(header, " octets"), func(t *testing.T) {
			s := newSite(t, topology.Options{}, timed(100, header))
			s.sh("h1", "ping -n -q -c 3 -W 2 -M dont -s 1462 10.2.2.10")
			m := s.gw[0].show().Model.Interfaces[0]
			if m.FragmentsSent != 6 || m.ICMPTooBigSent != 0 {
				t.Errorf("%d fragments, %d ICMP, want 6 and 0", m.FragmentsSent, m.ICMPTooBigSent)
			}
			out, _ := s.Sh("h1", "ping -n -c 2 -i 0.2 -W 1 -M do -s 1462 10.2.2.10")
			if want := fmt.Sprint("mtu = ", mtu); !strings.Contains(out, want) && !strings.Contains(out, strings.ReplaceAll(want, " ", "")) {
				t.Errorf("ping says:\n%s", out)
			}
			m = s.gw[0].show().Model.Interfaces[0]
			if m.ICMPTooBigSent == 0 || m.Drops["too-big"] == 0 {
				t.Errorf("%d ICMP sent, drops %v", m.ICMPTooBigSent, m.Drops)
			}
			// The largest that fits, to the octet, both families.
			s.sh("h1", fmt.Sprintf("ping -n -q -c 1 -W 2 -M do -s %d 10.2.2.10", mtu-28))
			s.sh("h1", fmt.Sprintf("ping -6 -n -q -c 1 -W 2 -M do -s %d fd00:2::10", mtu-20-48))
			transfer(t, s, "10.2.2.10", 2<<20)
			transfer(t, s, "[fd00:2::10]", 1<<20)
			if n := s.counted("large"); n != 0 {
				t.Errorf("%d packets above the MTU", n)
			}
			s.noneInClear()
			for i, g := range s.gw {
				sh := g.show()
				if sh.SA.ReplayDrops != 0 || sh.SA.OtherDrops != 0 || len(sh.Model.TimeReplay) != 1 {
					t.Errorf("gateway %d: %+v, %+v", i+1, sh.SA, sh.Model.TimeReplay)
					continue
				}
				r := sh.Model.TimeReplay[0]
				if !r.Known || r.Pseudotime < time.Hour || r.Input == 0 || r.Output == 0 || r.TooOld+r.TooNew+r.Missing+r.OutputErrors != 0 || r.MaxDelta > 5*time.Second {
					t.Errorf("gateway %d: %+v", i+1, r)
				}
			}
		})
	}
}

// The core replays what it saw: within the window that passes, and when the window is over it
// is refused, counted, told with both times.
func TestReplayedByTheCore(t *testing.T) {
	s := newSite(t, topology.Options{}, timed(1, 0))
	rx := s.listenUDP("h2", "10.2.2.10:9000")
	var fd int
	s.in("core", func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(unix.ETH_P_IP<<8|unix.ETH_P_IP>>8))
		if err == nil {
			err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 3})
		}
		return err
	})
	defer unix.Close(fd)
	sent := time.Now()
	if err := <-s.stream("10.2.2.10:9000", 1, 1000, &flight{}); err != nil {
		t.Fatal(err)
	}
	var esp []byte
	buf := make([]byte, 2000)
	for esp == nil {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n > 34 && buf[14+9] == 50 && netip.AddrFrom4([4]byte(buf[14+16:])) == topology.H2 {
			esp = bytes.Clone(buf[:n])
		}
	}
	got := make([]byte, 300)
	read := func(d time.Duration) bool {
		rx.SetReadDeadline(time.Now().Add(d))
		_, err := rx.Read(got)
		return err == nil
	}
	if !read(patience) {
		t.Fatal("the genuine one is lost")
	}
	// As the core's router would hand it on: to gm2's interface.
	s.sh("core", "ping -n -q -c 1 -W 2 172.16.2.2")
	mac, err := s.Sh("gm2", "cat /sys/class/net/wan/address")
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range strings.Split(strings.TrimSpace(mac), ":") {
		v, err := strconv.ParseUint(x, 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		esp[i] = byte(v)
	}
	s.inject("core", "c2", [][]byte{esp})
	if time.Since(sent) < 700*time.Millisecond && !read(2*time.Second) && s.gw[1].drops("replay-time-old") == 0 {
		t.Error("a copy within the window was refused: there should be no state for packets")
	}
	until(t, "the window is over and copies are refused", 10*time.Second, func() bool {
		s.inject("core", "c2", [][]byte{esp, esp, esp})
		return s.gw[1].drops("replay-time-old") >= 3
	})
	for read(50 * time.Millisecond) { // those that were still in time
	}
	before := s.gw[1].show()
	s.inject("core", "c2", [][]byte{esp})
	forged := bytes.Clone(esp)
	forged[len(forged)-1] ^= 1
	s.inject("core", "c2", [][]byte{forged})
	until(t, "both are counted", 5*time.Second, func() bool {
		d := s.gw[1].show().Model.Drops
		return d["replay-time-old"] == before.Model.Drops["replay-time-old"]+1 && d["icv"] == 1
	})
	if read(200 * time.Millisecond) {
		t.Error("a replayed datagram arrived")
	}
	until(t, "it is told", 5*time.Second, func() bool {
		var kinds []dataplane.NoticeKind
		for _, n := range s.gw[1].show().Notices {
			kinds = append(kinds, n.Kind)
		}
		return strings.Contains(fmt.Sprint(kinds), "out of time") && strings.Contains(fmt.Sprint(kinds), "bad ICV")
	})
	sh := s.gw[1].show()
	for _, n := range sh.Notices {
		if n.Kind == dataplane.OutOfTime && (n.Group != "bench" || n.Interface != "wan" || n.SPI != 0x1000 || n.Source != topology.H1 || n.Packets < 1 ||
			n.Window != time.Second || n.Mine-n.Peer <= time.Second || n.Peer < time.Hour) {
			t.Errorf("notice %+v", n)
		}
		if n.Kind == dataplane.BadICV && (n.Group != "bench" || n.SPI != 0x1000 || n.Source != topology.H1) {
			t.Errorf("notice %+v", n)
		}
	}
	if out := strings.Join(sh.Events, "\n"); !strings.Contains(out, "TimeReplayFailed{Group:bench Src:10.1.1.10 MyPST:36") {
		t.Errorf("events:\n%s", out)
	}
	if r := sh.Model.TimeReplay[0]; len(r.Failures) == 0 || r.Failures[0].Source != topology.H1 || r.TooOld < 4 || r.TooOld != sh.SA.TooOld {
		t.Errorf("%+v", r)
	}
}

// nftables at gm1 marks by port and at gm2 counts by mark: the tag crosses the core inside
// the encryption, in single packets and in super-packets, IPv4 and IPv6, forwarded and own.
func TestTagsForNftables(t *testing.T) {
	for mask, backend := range map[uint32]string{0: "tcx", 0x0fff0000: "clsact", 0xff: "tcx"} {
		t.Run(fmt.Sprintf("mask %#x on %s", mask, backend), func(t *testing.T) {
			needBackend(t, backend)
			edit := timed(100, 0)
			s := newSite(t, topology.Options{}, func(p *static.Policy) {
				edit(p)
				p.Metadata.SGT, p.Backend = true, backend
				p.Settings.TagMask = mask
			})
			shift := map[uint32]int{0: 0, 0x0fff0000: 16, 0xff: 0}[mask]
			a, b := 7<<shift, 0xd2<<shift
			s.sh("gm1", fmt.Sprintf(`nft -f - <<'X'
table inet q {
 chain f { type filter hook forward priority 0
  meta l4proto { tcp, udp } th dport 9001 meta mark set %#x
  meta l4proto { tcp, udp } th dport { 9002, 7000 } meta mark set %#x
 }
 chain o { type filter hook output priority 0
  udp dport 9001 meta mark set %#x
 }
}
X`, a, b|0x40000000, a))
			s.sh("gm2", fmt.Sprintf(`nft -f - <<'X'
table inet q {
 counter n_a {}
 counter n_b {}
 counter n_none {}
 chain p { type filter hook prerouting priority -300
  iif wan meta l4proto { tcp, udp } meta mark %#x counter name n_a
  iif wan meta l4proto { tcp, udp } meta mark %#x counter name n_b
  iif wan meta l4proto { tcp, udp } meta mark 0 counter name n_none
 }
}
X`, a, b))
			count := func(name string) int { return s.counter("gm2", "q", name) }
			tx4, tx6, own := s.listenUDP("h1", "10.1.1.10:0"), s.listenUDP("h1", "[fd00:1::10]:0"), s.listenUDP("gm1", "10.1.1.1:0")
			for _, port := range []uint16{9001, 9002, 9003} {
				tx4.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(topology.H2, port))
				tx6.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(topology.H2v6, port))
			}
			own.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(topology.H2, 9001))
			until(t, "all have come", 5*time.Second, func() bool { return count("a")+count("b")+count("none") >= 7 })
			if count("a") != 3 || count("b") != 2 || count("none") != 2 {
				t.Fatalf("marked 7: %d, marked 0xd2: %d, not marked: %d; want 3, 2, 2", count("a"), count("b"), count("none"))
			}
			// Larger than the MTU: each fragment has the tag.
			if raw, err := tx4.SyscallConn(); err != nil || raw.Control(func(fd uintptr) {
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
			}) != nil {
				t.Fatal("DF stays")
			}
			tx4.WriteToUDPAddrPort(make([]byte, 1465), netip.AddrPortFrom(topology.H2, 9002))
			until(t, "both fragments have come", 5*time.Second, func() bool { return count("b") >= 4 })
			was := count("b")
			transfer(t, s, "10.2.2.10", 4<<20)
			transfer(t, s, "[fd00:2::10]", 1<<20)
			// Super-packets count once; without joining there would be some 3600.
			if n := count("b") - was; n < 50 || count("none") != 2 {
				t.Errorf("%d packets of the transfers with the tag, %d without any", n, count("none")-2)
			}
			for i, g := range s.gw {
				d := g.show().Model.Drops
				delete(d, "too-big") // TCP finds the path's MTU
				if len(d) > 0 {
					t.Errorf("gateway %d: drops %v", i+1, d)
				}
			}
			s.noneInClear()
			// A policy without tags takes them off: marks stay at gm1 and none comes to gm2.
			for i := range s.gw {
				p := s.policy[i]
				p.Metadata.SGT, p.SPI = false, 0x3000
				s.gw[i].install(p)
			}
			tx4.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(topology.H2, 9001))
			until(t, "it has come", 5*time.Second, func() bool { return count("none") >= 3 })
			if count("a") != 3 {
				t.Error("a tag crossed without policy for it")
			}
		})
	}
}

// A tag that the receiver's mark has no bits for is left out, not cut off.
func TestTagTooLargeForTheMask(t *testing.T) {
	edit := timed(100, 0)
	s := newSite(t, topology.Options{}, func(p *static.Policy) {
		edit(p)
		p.Metadata.SGT = true
		if p.SID == 2 {
			p.Settings.TagMask = 0xf0
		}
	})
	s.sh("gm1", "nft 'add table inet q; add chain inet q f { type filter hook forward priority 0; }; add rule inet q f udp dport 9001 meta mark set 9; add rule inet q f udp dport 9002 meta mark set 0x109'")
	s.sh("gm2", `nft -f - <<'X'
table inet q {
 counter n_nine {}
 counter n_none {}
 chain p { type filter hook prerouting priority -300
  iif wan udp dport 9001 meta mark 0x90 counter name n_nine
  iif wan udp dport 9002 meta mark 0 counter name n_none
 }
}
X`)
	tx := s.listenUDP("h1", "10.1.1.10:0")
	tx.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(topology.H2, 9001))
	tx.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(topology.H2, 9002))
	until(t, "both have come as they should", 5*time.Second, func() bool {
		return strings.Count(s.sh("gm2", "nft list counters table inet q"), "packets 1 ") == 2
	})
}

// A policy with another SA two hundred times while datagrams flow both ways, as after
// rekeys: receivers have the new SA before senders change, and nothing is lost.
func TestInstall200RekeysUnderLoad(t *testing.T) {
	s := newSite(t, topology.Options{}, timed(100, 0))
	const n, rate, rekeys = 8000, 1000, 200
	rx := s.listenUDP("h2", "10.2.2.10:9000")
	var f flight
	done := inOrderLater(rx, n, &f)
	sent := s.stream("10.2.2.10:9000", n, rate, &f)
	spi := func(i int) uint32 { return 0x1000 + uint32(i) }
	for i := 1; i <= rekeys; i++ {
		for _, g := range []int{1, 0} { // gm2 receives the new one before gm1 sends with it
			p := s.policy[g]
			p.SPI, p.KeySeed = spi(i), byte(i)
			// One lives on, as after a rekey. A worker, or a datagram on its way, may be late
			// by more installs than that: the receiver takes what was replaced a moment ago.
			p.Older = []static.Older{{SPI: spi(i - 1), KeySeed: byte(i - 1)}}
			s.gw[g].install(p)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("%v; drops %v %v", err, s.gw[0].show().Model.Drops, s.gw[1].show().Model.Drops)
	}
	sh := s.gw[1].show()
	if len(sh.SAs) < rekeys || sh.Model.TimeReplay[0].Input < n || len(sh.Model.Drops) > 0 {
		t.Errorf("%d SAs were installed, %d packets received in all; drops %v", len(sh.SAs), sh.Model.TimeReplay[0].Input, sh.Model.Drops)
	}
	s.noneInClear()
}
