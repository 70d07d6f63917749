package dataplane_test

// Tags in the frames of a LAN port.

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"getvpn/bench/static"
	"getvpn/bench/topology"
	"getvpn/ipsec/dataplane"
)

// A host's frames carry their tag in a Cisco metadata header: it becomes the mark on the LAN
// port, crosses the core inside the encryption, and is a mark at the other gateway. The port
// may go and come back.
func TestTagsInFramesOfTheLAN(t *testing.T) {
	for _, backend := range []string{"tcx", "clsact"} {
		t.Run(backend, func(t *testing.T) { tagsInFrames(t, backend) })
	}
}

func tagsInFrames(t *testing.T, backend string) {
	needBackend(t, backend)
	edit := timed(100, 0)
	s := newSite(t, topology.Options{}, func(p *static.Policy) {
		edit(p)
		p.Metadata.SGT, p.Backend = true, backend
		p.Settings.TagMask = 0xffff00
		if p.SID == 1 {
			p.Inline = map[string]dataplane.Inline{"lan": {TagMask: 0xffff00, Static: 0x77, Trusted: true}}
		}
	})
	s.sh("gm2", `nft -f - <<'X'
table inet q {
 counter n_tag {}
 counter n_static {}
 counter n_other {}
 chain p { type filter hook prerouting priority -300
  iif wan udp dport 9001 meta mark 0x123400 counter name n_tag
  iif wan udp dport 9001 meta mark 0x7700 counter name n_static
  iif wan udp dport 9001 meta mark != { 0x123400, 0x7700 } counter name n_other
 }
}
X`)
	count := func(name string) int { return s.counter("gm2", "q", name) }
	tagged := func() [][]byte {
		s.sh("h1", "ping -n -q -c 1 -W 5 10.2.2.10")
		lan, h := s.mac("gm1", "lan"), s.mac("h1", "e0")
		head := []byte{0x89, 0x09, 1, 1, 0, 1, 0x12, 0x34}
		return [][]byte{
			slices.Concat(lan, h, head, []byte{8, 0}, udpPacket(t, topology.H1, topology.H2, 9001)),
			slices.Concat(lan, h, head, []byte{0x86, 0xdd}, udpPacket(t, topology.H1v6, topology.H2v6, 9001)),
		}
	}
	// tshark knows the header too.
	if _, err := exec.LookPath("tshark"); err == nil {
		for i, f := range tagged() {
			if out := tagOf(t, f); out != fmt.Sprint(0x1234) {
				t.Errorf("frame %d: tshark reads %q", i, out)
			}
		}
	}
	s.inject("h1", "e0", tagged())
	until(t, "both have come with the tag", patience, func() bool { return count("tag") == 2 })
	tx4, tx6 := s.listenUDP("h1", "10.1.1.10:0"), s.listenUDP("h1", "[fd00:1::10]:0")
	tx4.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(topology.H2, 9001))
	tx6.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(topology.H2v6, 9001))
	until(t, "both have come with the port's own tag", patience, func() bool { return count("static") == 2 })
	s.sh("gm1", "ip link del lan")
	s.sh("gm1", "ip link add lan type veth peer name e0 netns "+s.NS("h1")+"; ip addr add 10.1.1.1/24 dev lan; ip addr add fd00:1::1/64 dev lan nodad; ip link set lan up")
	s.sh("h1", "ip addr add 10.1.1.10/24 dev e0; ip addr add fd00:1::10/64 dev e0 nodad; ip link set e0 up; ip route replace default via 10.1.1.1; ip route replace default via fd00:1::1")
	var frames [][]byte
	until(t, "the port is served again", patience, func() bool {
		if frames == nil {
			frames = tagged()
		}
		s.inject("h1", "e0", frames)
		return count("tag") > 2
	})
	if n := count("other"); n != 0 {
		t.Errorf("%d with another mark", n)
	}
	s.noneInClear()
	// Without the line the kernel drops such frames, as it always did.
	p := s.policy[0]
	p.Inline = nil
	s.gw[0].install(p)
	was := count("tag")
	s.inject("h1", "e0", tagged())
	tx := s.listenUDP("h1", "10.1.1.10:0")
	tx.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(topology.H2, 9001))
	until(t, "a frame without one has come", patience, func() bool { return count("other") == 1 })
	if n := count("tag"); n != was {
		t.Errorf("%d more with a tag", n-was)
	}
}

// udpPacket is an IP packet with a datagram.
func udpPacket(t *testing.T, src, dst netip.Addr, port uint16) []byte {
	t.Helper()
	u := &layers.UDP{SrcPort: 4000, DstPort: layers.UDPPort(port)}
	var ip gopacket.SerializableLayer
	if src.Is4() {
		x := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		u.SetNetworkLayerForChecksum(x)
		ip = x
	} else {
		x := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		u.SetNetworkLayerForChecksum(x)
		ip = x
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, u, gopacket.Payload("tagged")); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tagOf is the tag that tshark reads in a frame.
func tagOf(t *testing.T, frame []byte) string {
	t.Helper()
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	w.WriteFileHeader(65535, layers.LinkTypeEthernet)
	if err := w.WritePacket(gopacket.CaptureInfo{CaptureLength: len(frame), Length: len(frame)}, frame); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("tshark", "-r", "-", "-T", "fields", "-e", "cmd.sgt")
	c.Stdin = &file
	out, err := c.Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	return strings.TrimSpace(string(out))
}
