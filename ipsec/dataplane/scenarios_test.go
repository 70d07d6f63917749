package dataplane_test

// More than one group, more than one interface, policy that changes under load,
// IPv6, traceroute and routed multicast.

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"getvpn/bench/static"
	"getvpn/bench/topology"
	"getvpn/ipsec"
)

// noneInClear fails the test when the core saw a packet in clear.
func (s *site) noneInClear() {
	s.t.Helper()
	if n := s.counted("clear"); n != 0 {
		s.t.Errorf("%d packets in clear", n)
	}
}

// gm1 protects two interfaces with a group each, gm2 has both groups on one. A group's
// key opens nothing for the other group's addresses.
func TestTwoGroupsAndTwoInterfaces(t *testing.T) {
	s := newSite(t, topology.Options{}, func(p *static.Policy) { p.Group = "a" })
	core := s.NS("core")
	s.sh("gm1", `ip link add wan2 type veth peer name c3 netns `+core+`
		ip addr add 172.16.3.2/24 dev wan2; ip link set wan2 up; ip route add 10.3.3.0/24 via 172.16.3.1
		ip -n `+core+` addr add 172.16.3.1/24 dev c3; ip -n `+core+` link set c3 up
		ip route add 10.1.3.0/24 dev lan
		ip -n `+core+` route add 10.1.3.0/24 via 172.16.3.2; ip -n `+core+` route add 10.3.3.0/24 via 172.16.2.2`)
	s.sh("gm2", "ip route add 10.3.3.0/24 dev lan")
	s.sh("h1", "ip addr add 10.1.3.10/32 dev e0")
	s.sh("h2", "ip addr add 10.3.3.10/32 dev e0")
	b := static.Policy{Group: "b", MapSeq: 20, Interface: "wan2", SPI: 0x2000, SID: 1, KeySeed: 9,
		Permit: [][2]netip.Prefix{{netip.MustParsePrefix("10.1.3.0/24"), netip.MustParsePrefix("10.3.3.0/24")}}}
	s.gw[0].install(b)
	far := b
	far.Interface, far.SID = "wan", 2
	s.gw[1].install(far)

	s.sh("h1", "ping -n -q -c 5 -i 0.02 -W 2 10.2.2.10 & ping -n -q -c 7 -i 0.02 -W 2 -I 10.1.3.10 10.3.3.10 && wait $!")
	for i, g := range s.gw {
		m := g.show().SAs
		if m[0x1000].EncapPackets != 5 || m[0x1000].DecapPackets != 5 || m[0x2000].EncapPackets != 7 || m[0x2000].DecapPackets != 7 {
			t.Errorf("gateway %d: %+v", i+1, m)
		}
	}
	// What isn't the group's on that interface isn't protected there.
	if i := s.gw[0].show().Model.Interfaces; len(i) != 2 || i[0].EncapPackets != 5 || i[1].EncapPackets != 7 {
		t.Errorf("interfaces %+v", i)
	}
	// gm1 seals the addresses of group b with the key of group a.
	wrong := b
	wrong.SPI, wrong.KeySeed = 0x1000, 0
	s.gw[0].install(wrong)
	if out, err := s.Sh("h1", "ping -n -q -c 3 -i 0.02 -W 1 -I 10.1.3.10 10.3.3.10"); err == nil {
		t.Errorf("group a's key opened group b's addresses:\n%s", out)
	}
	if n := s.gw[1].drops("inner-policy"); n != 3 {
		t.Errorf("%d dropped as inner-policy, want 3", n)
	}
	s.noneInClear()
}

// The list changes up to forty times under 2000 packets a second, at one gateway after the
// other: what both lists protect loses nothing and never shows in clear.
func TestPolicySwapUnderLoad(t *testing.T) {
	s := newSite(t, topology.Options{}, nil)
	const n, rate = 6000, 2000
	rx := s.listenUDP("h2", "10.2.2.10:9000")
	var f flight
	got := inOrderLater(rx, n, &f)
	done := s.stream("10.2.2.10:9000", n, rate, &f)
	wide := func(p static.Policy) static.Policy {
		p.Deny = [][2]netip.Prefix{{netip.MustParsePrefix("10.77.0.0/16"), netip.MustParsePrefix("10.2.2.0/24")}}
		p.Permit = [][2]netip.Prefix{{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")},
			{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("239.0.0.0/8")}}
		return p
	}
	swaps := 0
	for busy := true; busy; swaps++ {
		i := swaps % 2
		p := s.policy[i]
		if swaps/2%2 == 0 {
			p = wide(p)
		}
		s.gw[i].install(p)
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			busy = false
		case <-time.After(n / rate * time.Second / 40):
		}
	}
	if err := <-got; err != nil {
		t.Errorf("%v after %d swaps; drops %v %v", err, swaps, s.gw[0].show().Model.Drops, s.gw[1].show().Model.Drops)
	}
	if swaps < 6 { // a busy machine does fewer, and proves less
		t.Errorf("%d swaps only", swaps)
	}
	s.noneInClear()
}

// A protected interface that gets another name stays protected.
func TestInterfaceRenamed(t *testing.T) {
	s := newSite(t, topology.Options{}, nil)
	ping := "ping -n -q -c 3 -i 0.05 -W 1 10.2.2.10"
	s.sh("h1", ping)
	s.sh("gm1", "ip link set wan down; ip link set wan name uplink; ip link set uplink up; ip route replace default via 172.16.1.1")
	until(t, "traffic under the new name", 10*time.Second, func() bool { _, err := s.Sh("h1", ping); return err == nil })
	if i := s.gw[0].show().Model.Interfaces[0]; !i.Attached || i.Name != "wan" {
		t.Errorf("%+v", i)
	}
	s.noneInClear()
}

// Transport mode between the gateways' own addresses: addresses stay, the header
// isn't doubled, and TCP works.
func TestTransportModeOfTheGateways(t *testing.T) {
	s := newSite(t, topology.Options{}, func(p *static.Policy) {
		p.Transform = &ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: 128, Mode: ipsec.Transport}
		p.Permit = [][2]netip.Prefix{{netip.MustParsePrefix("172.16.1.2/32"), netip.MustParsePrefix("172.16.2.2/32")},
			{netip.MustParsePrefix("fd01:1::2/128"), netip.MustParsePrefix("fd01:2::2/128")}}
	})
	// 20 IP, 8 ESP, 8 IV, 8+56 ICMP, 2 of padding, 2 trailer, 16 ICV: 120 octets.
	s.sh("core", "nft add table inet o '{ counter sized {} ; chain f { type filter hook forward priority 1; ip protocol esp meta length 120 counter name sized; } ; }'")
	s.sh("gm1", "ping -n -q -c 3 -i 0.05 -W 2 172.16.2.2")
	if out := s.sh("core", "nft list counter inet o sized"); !strings.Contains(out, "packets 6 ") {
		t.Errorf("ESP of 120 octets: %s", out)
	}
	before := s.counted("esp")
	s.sh("gm1", "for n in 56 1400; do ping -6 -n -q -c 2 -i 0.05 -W 2 -s $n fd01:2::2; done")
	if n := s.counted("esp") - before; n != 8 {
		t.Errorf("%d ESP packets for 4 pings by IPv6", n)
	}
	rx := s.Cmd("gm2", "sh", "-c", "socat -u TCP-LISTEN:7000,reuseaddr - | md5sum")
	var got strings.Builder
	rx.Stdout = &got
	if err := rx.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the receiver listens", 5*time.Second, func() bool { out, _ := s.Sh("gm2", "ss -Hltn sport = :7000"); return out != "" })
	file := filepath.Join(t.TempDir(), "a")
	sent := s.sh("gm1", "head -c 5000000 /dev/urandom >"+file+"; timeout 30 socat -u OPEN:"+file+" TCP:172.16.2.2:7000; md5sum <"+file)
	if err := rx.Wait(); err != nil || got.String() != sent {
		t.Errorf("sent %q, got %q, %v", sent, got.String(), err)
	}
	if c := s.gw[0].show().SA; c.EncapPackets < 1000 {
		t.Errorf("%+v", c)
	}
}

// Traceroute shows gateways and core, by every family and method; the core's errors
// quote ESP and reach the host about its own packet.
func TestTracerouteAndIPv6TooBig(t *testing.T) {
	s := newSite(t, topology.Options{}, nil)
	for _, x := range []struct{ how, to, hops string }{
		{"-4", "10.2.2.10", "10.1.1.1 172.16.1.1 172.16.2.2 10.2.2.10"},
		{"-4 -I", "10.2.2.10", "10.1.1.1 172.16.1.1 172.16.2.2 10.2.2.10"},
		{"-6", "fd00:2::10", "fd00:1::1 fd01:1::1 fd01:2::2 fd00:2::10"},
	} {
		out := s.sh("h1", "traceroute -n -q 1 -w 2 "+x.how+" "+x.to+" | awk 'NR>1{print $2}'")
		if got := strings.Join(strings.Fields(out), " "); got != x.hops {
			t.Errorf("traceroute %s: %s, want %s", x.how, got, x.hops)
		}
	}
	if m := s.gw[0].show().Model.Interfaces[0]; m.ICMPRewritten != 3 {
		t.Errorf("%d ICMP errors of the core rewritten, want 3", m.ICMPRewritten)
	}
	// 1500 less 40 IPv6, 8 ESP, 8 IV, 16 ICV, 2 trailer: 1426.
	out, _ := s.Sh("h1", "ping -6 -n -c 2 -i 0.2 -W 1 -M do -s 1400 fd00:2::10")
	if !strings.Contains(out, "mtu=1426") && !strings.Contains(out, "mtu = 1426") && !strings.Contains(out, "mtu: 1426") {
		t.Errorf("ping says:\n%s", out)
	}
	s.sh("h1", "ping -6 -n -q -c 1 -W 2 -M do -s 1378 fd00:2::10")
	// A smaller link in the core: its "too big" quotes ESP, and h1 learns what is left.
	s.sh("core", "ip link set c2 mtu 1400")
	transfer(t, s, "[fd00:2::10]", 2<<20)
	if out := s.sh("h1", "ip -6 route get fd00:2::10"); !strings.Contains(out, "mtu 1326") {
		t.Errorf("h1's route: %s, want an MTU of 1326", out)
	}
	s.noneInClear()
}

// smcrouted routes multicast in a part, by a table of static routes.
func (s *site) smcrouted(part, conf string, routes int) {
	s.t.Helper()
	dir, err := os.MkdirTemp("/tmp", "smc") // a socket's path is short
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(dir+"/conf", []byte(conf), 0o600); err != nil {
		s.t.Fatal(err)
	}
	c := s.Cmd(part, "smcrouted", "-n", "-I", "smc-"+part, "-f", dir+"/conf", "-u", dir+"/sock", "-P", dir+"/pid")
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	until(s.t, "multicast routes of "+part, 10*time.Second, func() bool {
		out, err := s.Sh(part, "ip mroute; ip -6 mroute")
		return err == nil && strings.Count(out, "Iif:") >= routes
	})
}

// Multicast of a host through three gateways to the hosts behind two of them, copied by
// the core: each datagram exactly once at each receiver, IPv4 and IPv6.
func TestRoutedMulticast(t *testing.T) {
	const g4, g6 = "239.1.1.1", "ff1e::1:1"
	n := 10000
	if os.Getenv("GETVPN_SOAK") != "" {
		n = 100000
	}
	permit := func(p *static.Policy) {
		p.Permit = [][2]netip.Prefix{{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix(g4 + "/32")},
			{netip.MustParsePrefix("fd00::/16"), netip.MustParsePrefix(g6 + "/128")}}
	}
	s := newSite(t, topology.Options{}, permit)
	for _, x := range []string{"gm3", "h3"} {
		if out, err := exec.Command("ip", "netns", "add", s.NS(x)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Cleanup(func() { exec.Command("ip", "netns", "del", s.NS(x)).Run() })
	}
	s.sh("gm3", `sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv6.conf.default.accept_dad=0
		ip link add wan type veth peer name c3 netns `+s.NS("core")+`; ip link add lan type veth peer name e0 netns `+s.NS("h3")+`
		ip addr add 172.16.3.2/24 dev wan; ip addr add 10.3.3.1/24 dev lan; ip link set wan up; ip link set lan up
		ip addr add fd00:3::1/64 dev lan nodad; ip route add default via 172.16.3.1
		ip -n `+s.NS("core")+` addr add 172.16.3.1/24 dev c3; ip -n `+s.NS("core")+` link set c3 up
		ip -n `+s.NS("h3")+` addr add 10.3.3.10/24 dev e0; ip -n `+s.NS("h3")+` addr add fd00:3::10/64 dev e0 nodad; ip -n `+s.NS("h3")+` link set e0 up
		ip -n `+s.NS("h3")+` route add default via 10.3.3.1; ip -n `+s.NS("h3")+` route add default via fd00:3::1`)
	third := s.policy[1]
	third.SID = 3
	gm3 := s.gateway("gm3")
	gm3.install(third)
	route := func(part, from, to string) {
		var c strings.Builder
		for _, d := range strings.Fields(from + " " + to) {
			fmt.Fprintf(&c, "phyint %s enable\n", d)
		}
		for _, x := range [][2]string{{"10.1.1.10", g4}, {"fd00:1::10", g6}} {
			fmt.Fprintf(&c, "mroute from %s source %s group %s to %s\n", from, x[0], x[1], to)
		}
		s.smcrouted(part, c.String(), 2)
	}
	route("gm1", "lan", "wan")
	route("core", "c1", "c2 c3")
	route("gm2", "wan", "lan")
	route("gm3", "wan", "lan")
	run := func(bind, group string, n, rate int) {
		var f flight
		var got []chan error
		for _, h := range []string{"h2", "h3"} {
			rx := s.listenUDP(h, netip.AddrPortFrom(netip.MustParseAddr(group), 9000).String())
			got = append(got, inOrderLater(rx, n, &f))
		}
		to := netip.AddrPortFrom(netip.MustParseAddr(group), 9000)
		if err := numbered(s.multicastSender("h1", bind), to, n, rate, func(int) int { return 200 }, &f); err != nil {
			t.Fatal(err)
		}
		for i, c := range got {
			if err := <-c; err != nil {
				t.Errorf("%s, receiver %d: %v; drops %v %v %v", group, i+2, err,
					s.gw[0].show().Model.Drops, s.gw[1].show().Model.Drops, gm3.show().Model.Drops)
			}
		}
	}
	run("10.1.1.10", g4, n, 4000)
	run("fd00:1::10", g6, 500, 1000)
	if c := s.gw[0].show().SA; c.EncapPackets != uint64(n)+500 {
		t.Errorf("%d sealed, want %d: one ESP packet for both receivers", c.EncapPackets, n+500)
	}
	s.noneInClear()
}
