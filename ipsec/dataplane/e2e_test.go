package dataplane_test

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"getvpn/bench/static"
	"getvpn/bench/topology"
	"getvpn/ipsec/dataplane"
)

// Pings of every length that has an edge, DF clear and set, both families; nothing in
// clear on the way.
func TestPingAllLengths(t *testing.T) {
	s := newSite(t, topology.Options{}, nil)
	var sizes []string
	for n := 1399; n <= 1501; n += 6 {
		sizes = append(sizes, fmt.Sprint(n))
	}
	list := "1 56 " + strings.Join(sizes, " ") + " 3000 20000 65507"
	s.sh("h1", `for n in `+list+`; do ping -n -q -c 1 -W 2 -M dont -s $n 10.2.2.10 >/dev/null || { echo lost $n; exit 1; }; done`)
	s.sh("h1", `for n in 1 56 1300; do ping -n -q -c 1 -W 2 -M do -s $n 10.2.2.10 >/dev/null || { echo lost DF $n; exit 1; }; done`)
	s.sh("h1", `for n in 1 56 1400 1420 9000 65000; do ping -6 -n -q -c 4 -i 0.1 -W 2 -s $n fd00:2::10 >/dev/null || { echo lost v6 $n; exit 1; }; done`)
	if n := s.counted("clear"); n != 0 {
		t.Errorf("%d packets in clear", n)
	}
	if s.counted("esp") < 50 {
		t.Error("hardly any ESP in the core")
	}
	if m := s.gw[0].show().Model.Interfaces[0]; m.FragmentsSent == 0 {
		t.Error("no fragments were counted")
	}
}

// transfer sends random octets by TCP from h1 to h2 and compares the hash.
func transfer(t *testing.T, s *site, to string, octets int) {
	t.Helper()
	dir := t.TempDir()
	b := make([]byte, octets)
	rand.Read(b)
	src, dst := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := os.WriteFile(src, b, 0o600); err != nil {
		t.Fatal(err)
	}
	rx := s.Cmd("h2", "socat", "-u", "TCP6-LISTEN:7000,ipv6only=0,reuseaddr", "CREATE:"+dst)
	if err := rx.Start(); err != nil {
		t.Fatal(err)
	}
	defer rx.Process.Kill()
	until(t, "the receiver listens", 5*time.Second, func() bool {
		out, _ := s.Sh("h2", "ss -Hltn sport = :7000")
		return out != ""
	})
	s.sh("h1", fmt.Sprintf("timeout 60 socat -u OPEN:%s TCP:%s:7000", src, to))
	if err := rx.Wait(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(dst)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(b) {
		t.Fatalf("%d octets arrived, or other ones, of %d", len(got), len(b))
	}
}

func TestTCPTransfer(t *testing.T) {
	s := newSite(t, topology.Options{}, nil)
	transfer(t, s, "10.2.2.10", 8<<20)
	transfer(t, s, "[fd00:2::10]", 2<<20)
	if n := s.counted("clear"); n != 0 {
		t.Errorf("%d packets in clear", n)
	}
	// Super-packets were joined again at the far end.
	if m := s.gw[1].show().Model.Interfaces[0]; m.DecapPackets < 6000 {
		t.Errorf("%d packets opened", m.DecapPackets)
	}
}

func Test_esp_08_offloads_on(t *testing.T) {
	s := newSite(t, topology.Options{WANOffload: true}, nil)
	transfer(t, s, "10.2.2.10", 20<<20)
	if n := s.counted("large"); n != 0 {
		t.Errorf("%d frames above the MTU", n)
	}
	if out := s.sh("h2", "nstat -az TcpInCsumErrors IpReasmFails | awk '/Csum/{print $2}'"); strings.TrimSpace(out) != "0" {
		t.Errorf("checksum errors at the receiver: %s", out)
	}
	if n := s.counted("clear"); n != 0 {
		t.Errorf("%d packets in clear", n)
	}
}

func Test_esp_07_1490_octets_without_and_with_DF(t *testing.T) {
	s := newSite(t, topology.Options{}, nil)
	s.sh("h1", "ping -n -q -c 3 -W 2 -M dont -s 1462 10.2.2.10")
	m := s.gw[0].show().Model.Interfaces[0]
	if m.FragmentsSent != 6 || m.ICMPTooBigSent != 0 {
		t.Errorf("%d fragments, %d ICMP, want 6 and 0", m.FragmentsSent, m.ICMPTooBigSent)
	}
	out, _ := s.Sh("h1", "ping -n -c 2 -i 0.2 -W 1 -M do -s 1462 10.2.2.10")
	// AES-GCM tunnel: 20 + 8 + 8 + (n+2 to a multiple of 4) + 16 ≤ 1500 gives 1446.
	if !strings.Contains(out, "mtu = 1446") && !strings.Contains(out, "mtu=1446") {
		t.Errorf("ping says:\n%s", out)
	}
	m = s.gw[0].show().Model.Interfaces[0]
	if m.ICMPTooBigSent == 0 || m.Drops["too-big"] == 0 {
		t.Errorf("%d ICMP sent, drops %v", m.ICMPTooBigSent, m.Drops)
	}
	s.sh("h1", "ping -n -q -c 1 -W 2 -M do -s 1418 10.2.2.10") // 1446 octets fit exactly
}

func Test_esp_05_smaller_MTU_in_the_core(t *testing.T) {
	s := newSite(t, topology.Options{}, nil)
	s.sh("core", "ip link set c2 mtu 1400")
	transfer(t, s, "10.2.2.10", 10<<20)
	if m := s.gw[0].show().Model.Interfaces[0]; m.ICMPRewritten == 0 {
		t.Errorf("no ICMP error of the core was rewritten: %+v", m)
	}
}

func Test_esp_06_MTU_9200(t *testing.T) {
	for _, queues := range []int{1, 2} {
		t.Run(fmt.Sprint(queues, " workers"), func(t *testing.T) {
			s := newSite(t, topology.Options{MTU: 9200}, func(p *static.Policy) { p.Queues = queues })
			const n = 1000
			rx := s.listenUDP("h2", "10.2.2.10:9000")
			tx := s.listenUDP("h1", "10.1.1.10:9001")
			go func() {
				b := make([]byte, 8972) // 9000 with its headers
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				for i := range uint32(n) {
					binary.BigEndian.PutUint32(b, i)
					tx.WriteToUDPAddrPort(b, netip.MustParseAddrPort("10.2.2.10:9000"))
					<-tick.C
				}
			}()
			b := make([]byte, 10000)
			for want := range uint32(n) {
				rx.SetReadDeadline(time.Now().Add(patience))
				k, err := rx.Read(b)
				if err != nil || k != 8972 {
					t.Fatalf("after %d datagrams: %d octets, %v; drops %v %v", want, k, err,
						s.gw[0].show().Model.Drops, s.gw[1].show().Model.Drops)
				}
				if got := binary.BigEndian.Uint32(b); got != want {
					t.Fatalf("datagram %d where %d should be", got, want)
				}
			}
			if d := s.gw[1].show().Model.Drops; len(d) > 0 {
				t.Errorf("drops at the receiver: %v", d)
			}
		})
	}
}

func Test_esp_01_sequence_numbers_end(t *testing.T) {
	s := newSite(t, topology.Options{}, func(p *static.Policy) { p.FirstSeq = 0xffffff00 })
	rx := s.listenUDP("h2", "10.2.2.10:9000")
	tx := s.listenUDP("h1", "10.1.1.10:9001")
	for range 1000 {
		tx.WriteToUDPAddrPort([]byte("x"), netip.MustParseAddrPort("10.2.2.10:9000"))
	}
	until(t, "all packets are accounted for", 5*time.Second, func() bool {
		return s.gw[0].drops("sequence-limit") == 1000-256
	})
	got := 0
	b := make([]byte, 10)
	for wait := patience; ; got++ {
		if got >= 256 { // any more of them would be on their way
			wait = 500 * time.Millisecond
		}
		rx.SetReadDeadline(time.Now().Add(wait))
		if _, err := rx.Read(b); err != nil {
			break
		}
	}
	sh := s.gw[0].show()
	if got != 256 || sh.SA.SeqHigh != 0xffffffff || sh.SA.EncapPackets != 256 {
		t.Errorf("%d arrived, highest number %#x, %d sealed; want 256", got, sh.SA.SeqHigh, sh.SA.EncapPackets)
	}
	near := 0
	for _, n := range sh.Notices {
		if n.Kind == dataplane.SeqNearEnd && n.Group == "bench" && n.SPI == 0x1000 {
			near++
		}
	}
	if near != 1 {
		t.Errorf("%d alarms, want 1: %v", near, sh.Notices)
	}
	if s.counted("clear") != 0 {
		t.Error("packets in clear")
	}
}

func Test_esp_11_what_policy_leaves_alone(t *testing.T) {
	s := newSite(t, topology.Options{}, func(p *static.Policy) {
		p.Permit = [][2]netip.Prefix{{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16")}}
	})
	s.sh("core", "ip addr add 192.0.2.9/32 dev lo")
	s.sh("h1", "ping -n -q -c 2 -i 0.2 -W 2 172.16.1.1")
	s.sh("h1", "ping -n -q -c 2 -i 0.2 -W 2 192.0.2.9")
	s.sh("h2", "ping -n -q -c 2 -i 0.2 -W 2 172.16.1.1")
	s.sh("gm1", "ping -n -q -c 2 -i 0.2 -W 2 172.16.1.1")
	before := s.counted("esp")
	s.sh("h1", "ping -6 -n -q -c 2 -i 0.2 -W 2 fd00:2::10")
	if s.counted("esp") != before {
		t.Error("IPv6 was protected")
	}
	s.sh("core", "nft add table inet o '{ counter ospf {} ; chain i { type filter hook prerouting priority -300; ip protocol 89 counter name ospf; } ; }'")
	s.in("gm1", func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, 89)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInet4Addr(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, [4]byte{172, 16, 1, 2}); err != nil {
			return err
		}
		for range 3 {
			if err := unix.Sendto(fd, make([]byte, 44), 0, &unix.SockaddrInet4{Addr: [4]byte{224, 0, 0, 5}}); err != nil {
				return err
			}
		}
		return nil
	})
	until(t, "OSPF hellos at the core", 5*time.Second, func() bool {
		return strings.Contains(s.sh("core", "nft list counter inet o ospf"), "packets 3 ")
	})
	s.sh("h1", "ping -n -q -c 3 -i 0.2 -W 2 10.2.2.10")
	if h := s.gw[0].show().Hits; len(h) != 2 || h[0] != 3 || h[1] != 0 {
		t.Errorf("entry hits %v, want [3 0]", h)
	}
}

// A gateway's own traffic is judged like what it forwards.
func TestOwnTraffic(t *testing.T) {
	s := newSite(t, topology.Options{}, func(p *static.Policy) {
		p.Permit = append(p.Permit, [2]netip.Prefix{netip.MustParsePrefix("172.16.1.2/32"), netip.MustParsePrefix("172.16.2.2/32")})
	})
	before := s.counted("esp")
	s.sh("gm1", "ping -n -q -c 3 -i 0.2 -W 2 172.16.2.2")
	if n := s.counted("esp") - before; n != 6 {
		t.Errorf("%d ESP packets for 3 pings, want 6", n)
	}
}

// Copies are refused, counted and told of; so are forgeries, unknown SPIs and what comes in clear.
func TestReplayedForgedUnknownAndClear(t *testing.T) {
	s := newSite(t, topology.Options{}, func(p *static.Policy) { p.Replay.Mode, p.Replay.Window = 1, 64 })
	dir := t.TempDir()
	pcap := filepath.Join(dir, "x.pcap")
	// Outgoing on c2: the frames as gm2 receives them.
	dump := s.Cmd("core", "tcpdump", "-q", "-U", "-i", "c2", "-Q", "out", "-c", "5", "-w", pcap, "esp")
	if err := dump.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "tcpdump listens", 5*time.Second, func() bool {
		out, _ := s.Sh("core", "ss -Hl0p | grep -c tcpdump")
		return strings.TrimSpace(out) != "0" && strings.TrimSpace(out) != ""
	})
	s.sh("h1", "ping -n -q -c 5 -i 0.05 -W 2 10.2.2.10")
	if err := dump.Wait(); err != nil {
		t.Fatal(err)
	}
	frames := readPcap(t, pcap)
	s.inject("core", "c2", frames)
	until(t, "copies are counted", 5*time.Second, func() bool { return s.gw[1].drops("replay") == 5 })
	// A new sequence number on an old packet: right of the window, wrong ICV.
	for _, f := range frames {
		seq := f[14+20+4:]
		binary.BigEndian.PutUint32(seq, binary.BigEndian.Uint32(seq)+1000)
	}
	s.inject("core", "c2", frames)
	until(t, "forgeries are counted", 5*time.Second, func() bool { return s.gw[1].drops("icv") == 5 })
	s.sh("h1", "ping -n -q -c 2 -i 0.05 -W 2 10.2.2.10")
	sh := s.gw[1].show()
	if sh.SA.ReplayDrops != 5 || sh.SA.ICVDrops != 5 {
		t.Errorf("SA counters %+v", sh.SA)
	}
	for _, f := range frames { // an SPI of nobody's
		binary.BigEndian.PutUint32(f[14+20:], 0x41424344)
	}
	s.inject("core", "c2", frames)
	for _, f := range frames { // UDP
		f[14+9] = 17
	}
	s.inject("core", "c2", frames)
	events := func() string { return strings.Join(s.gw[1].show().Events, "\n") }
	for _, want := range []string{
		`event.ReplayFailed{Group:bench Packets:`,
		`event.ICVFailed{ID:4096 Packets:`,
		`event.InvalidSPI{Dst:10.2.2.10 SPI:0x41424344(1094861636) Src:10.1.1.10 Packets:`,
		`event.ClearPacketReceived{VRF: Dst:10.2.2.10 Src:10.1.1.10 Proto:17 Packets:`,
	} {
		until(t, want, 5*time.Second, func() bool { return strings.Contains(events(), want) })
	}
	// More of it within half a minute is counted and says nothing.
	for range 4 {
		s.inject("core", "c2", frames)
	}
	until(t, "more clear packets are counted", 5*time.Second, func() bool { return s.gw[1].drops("clear-inbound") == 25 })
	if d := s.gw[1].drops("unknown-spi"); d != 5 {
		t.Errorf("%d with an unknown SPI", d)
	}
	if n := strings.Count(events(), "ClearPacketReceived"); n != 1 {
		t.Errorf("%d events for one flood:\n%s", n, events())
	}
}

// The WAN device goes down and up, and is deleted and made again.
func TestDeviceFlapsAndReturns(t *testing.T) {
	s := newSite(t, topology.Options{}, nil)
	ping := "ping -n -q -c 2 -i 0.1 -W 1 10.2.2.10"
	s.sh("h1", ping)
	s.sh("gm1", "ip link set wan down; ip link set wan up; ip route replace default via 172.16.1.1")
	until(t, "traffic after a flap", 10*time.Second, func() bool { _, err := s.Sh("h1", ping); return err == nil })
	s.sh("gm1", "ip link del wan")
	until(t, "the loss is noticed", 5*time.Second, func() bool { return !s.gw[0].show().Model.Interfaces[0].Attached })
	s.sh("gm1", "ip link add wan type veth peer name c1 netns "+s.NS("core")+
		"; ip addr add 172.16.1.2/24 dev wan; ip link set wan up; ip -n "+s.NS("core")+" addr add 172.16.1.1/24 dev c1; ip -n "+s.NS("core")+
		" link set c1 up; ip -n "+s.NS("core")+" route add 10.1.1.0/24 via 172.16.1.2; sleep 0; ip route replace default via 172.16.1.1")
	until(t, "traffic on the new device", 10*time.Second, func() bool { _, err := s.Sh("h1", ping); return err == nil })
	s.sh("core", "ip link set c1 mtu 1400")
	s.sh("gm1", "ip link set wan mtu 1400")
	until(t, "the new MTU is known", 5*time.Second, func() bool { return s.gw[0].show().Model.Interfaces[0].MTU == 1400 })
	s.sh("h1", "ping -n -q -c 2 -i 0.1 -W 2 -M dont -s 1450 10.2.2.10")
	// The core fragmented what gm2 sealed for 1500 octets.
	if m := s.gw[0].show().Model.Interfaces[0]; m.Reassembled == 0 {
		t.Errorf("nothing was reassembled: %+v", m)
	}
	var kinds []dataplane.NoticeKind
	for _, n := range s.gw[0].show().Notices {
		kinds = append(kinds, n.Kind)
	}
	if fmt.Sprint(kinds) != fmt.Sprint([]dataplane.NoticeKind{dataplane.LinkUp, dataplane.LinkDown, dataplane.LinkUp}) {
		t.Errorf("notices %v", kinds)
	}
	if n := s.counted("clear"); n > 0 {
		t.Errorf("%d packets in clear", n)
	}
}

// Multicast keeps its destination on the outside, and its MAC address.
func TestMulticastOfTheGateways(t *testing.T) {
	group := netip.MustParsePrefix("239.1.1.1/32")
	s := newSite(t, topology.Options{}, func(p *static.Policy) {
		p.Permit = [][2]netip.Prefix{{netip.MustParsePrefix("0.0.0.0/0"), group}}
	})
	// The core forwards by hand: what c1 receives for the group leaves at c2.
	s.sh("core", "tc qdisc add dev c1 clsact && tc filter add dev c1 ingress protocol ip u32 match ip dst 239.1.1.1/32 action mirred egress redirect dev c2")
	rx := s.listenUDP("gm2", "239.1.1.1:9000")
	s.sh("gm2", "ip addr add 239.1.1.1/32 dev wan autojoin")
	s.sh("gm1", "ip route add 239.0.0.0/8 dev wan src 172.16.1.2")
	s.sh("gm1", "for i in 1 2 3 4 5; do echo $i | socat -u - UDP4-DATAGRAM:239.1.1.1:9000,ip-multicast-ttl=16,bind=172.16.1.2; done")
	b := make([]byte, 100)
	for i := 1; i <= 5; i++ {
		rx.SetReadDeadline(time.Now().Add(patience))
		n, from, err := rx.ReadFromUDPAddrPort(b)
		if err != nil {
			t.Fatalf("datagram %d: %v; %+v", i, err, s.gw[1].show().Model)
		}
		if strings.TrimSpace(string(b[:n])) != fmt.Sprint(i) || from.Addr().Unmap().String() != "172.16.1.2" {
			t.Errorf("%q from %v", b[:n], from)
		}
	}
	if n := s.gw[0].show().SA.EncapPackets; n != 5 {
		t.Errorf("%d sealed", n)
	}
}

// A TEK that ends stops sending and receiving; nothing goes out in clear instead.
// Installing it again before that sets nothing back.
func TestTEKExpires(t *testing.T) {
	s := newSite(t, topology.Options{}, nil)
	s.sh("h1", "ping -n -q -c 3 -i 0.05 -W 2 10.2.2.10")
	high := s.gw[0].show().SA.SeqHigh
	s.gw[0].install(s.policy[0])
	s.sh("h1", "ping -n -q -c 3 -i 0.05 -W 2 10.2.2.10")
	if now := s.gw[0].show().SA.SeqHigh; now <= high {
		t.Errorf("sequence went from %d to %d at the second install", high, now)
	}
	// It is replaced by one that ends soon, however long it took to get here.
	for i := range s.gw {
		p := s.policy[i]
		p.SPI, p.KeySeed, p.Life = 0x1001, 1, 3*time.Second
		s.gw[i].install(p)
	}
	expired := func(i int) bool {
		for _, n := range s.gw[i].show().Notices {
			if n.Kind == dataplane.SAExpired && n.SPI == 0x1001 {
				return true
			}
		}
		return false
	}
	until(t, "the TEK's end", 10*time.Second, func() bool { return expired(0) && expired(1) })
	if out, err := s.Sh("h1", "ping -n -q -c 3 -i 0.05 -W 1 10.2.2.10"); err == nil {
		t.Errorf("traffic without a key:\n%s", out)
	}
	if n := s.gw[0].drops("no-sa"); n != 3 {
		t.Errorf("%d dropped as no-sa, want 3", n)
	}
	if n := s.counted("clear"); n != 0 {
		t.Errorf("%d packets in clear", n)
	}
}
