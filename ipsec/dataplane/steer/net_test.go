package steer

// A protected interface in a network namespace of the test's own: veth wan ↔ peer,
// a TAP, packet sockets. The test's thread is inside and ends with the test.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"getvpn/ipsec"
)

type net1 struct {
	t                testing.TB
	home, far        int // namespaces
	wan, tap         int
	wanMAC, peerMAC  net.HardwareAddr
	uso              bool // the TAP takes UDP super-packets
	peer, tapFD, out int  // packet socket on the peer, the TAP's descriptor, a UDP sender
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func ns(t testing.TB) int {
	return must[int](t)(unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0))
}

func newNet(t testing.TB) *net1 {
	needRoot(t)
	runtime.LockOSThread() // never unlocked: the thread dies with the test's goroutine
	n := &net1{t: t}
	ok(t, unix.Unshare(unix.CLONE_NEWNET))
	n.far = ns(t)
	ok(t, unix.Unshare(unix.CLONE_NEWNET))
	n.home = ns(t)
	for _, f := range []string{"all", "default"} {
		ok(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+f+"/disable_ipv6", []byte("1"), 0))
	}
	lo := must[netlink.Link](t)(netlink.LinkByName("lo"))
	ok(t, netlink.LinkSetUp(lo), netlink.AddrAdd(lo, addr("10.1.0.1/32")))
	n.makeWAN()

	n.tapFD = must[int](t)(unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0))
	t.Cleanup(func() { unix.Close(n.tapFD) })
	req := must[*unix.Ifreq](t)(unix.NewIfreq("getvpn0"))
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	const csumTSO, uso = 1 | 2 | 4, 0x20 | 0x40
	ok(t, unix.IoctlIfreq(n.tapFD, unix.TUNSETIFF, req), unix.IoctlSetInt(n.tapFD, unix.TUNSETPERSIST, 1))
	if n.uso = unix.IoctlSetInt(n.tapFD, unix.TUNSETOFFLOAD, csumTSO|uso) == nil; !n.uso {
		ok(t, unix.IoctlSetInt(n.tapFD, unix.TUNSETOFFLOAD, csumTSO)) // before kernel 6.2
	}
	tap := must[netlink.Link](t)(netlink.LinkByName("getvpn0"))
	ok(t, netlink.LinkSetUp(tap))
	n.tap = tap.Attrs().Index
	n.out = n.socket("10.1.0.1", 4000)
	return n
}

// makeWAN makes the veth pair and what the kernel needs to send over it.
func (n *net1) makeWAN() {
	t := n.t
	ok(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "wan"}, PeerName: "peer"}))
	peer := must[netlink.Link](t)(netlink.LinkByName("peer"))
	ok(t, netlink.LinkSetNsFd(peer, n.far))
	n.inFar(func() {
		for _, f := range []string{"all", "default"} {
			ok(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+f+"/disable_ipv6", []byte("1"), 0))
		}
		peer := must[netlink.Link](t)(netlink.LinkByName("peer"))
		ok(t, netlink.LinkSetUp(peer))
		n.peerMAC = peer.Attrs().HardwareAddr
		if n.peer != 0 {
			unix.Close(n.peer)
		}
		n.peer = packetSocket(t, peer.Attrs().Index, -1)
	})
	wan := must[netlink.Link](t)(netlink.LinkByName("wan"))
	n.wan, n.wanMAC = wan.Attrs().Index, wan.Attrs().HardwareAddr
	ok(t, netlink.LinkSetUp(wan), netlink.AddrAdd(wan, addr("172.16.0.1/24")),
		netlink.NeighAdd(&netlink.Neigh{LinkIndex: n.wan, IP: net.IPv4(172, 16, 0, 2), HardwareAddr: n.peerMAC, State: netlink.NUD_PERMANENT}))
	// The peer came up before its partner: until the kernel's carrier work has run, its
	// frames fall on the floor.
	n.inFar(func() {
		for must[netlink.Link](t)(netlink.LinkByName("peer")).Attrs().OperState != netlink.OperUp {
			runtime.Gosched()
		}
	})
	_, far, _ := net.ParseCIDR("10.2.0.0/16")
	ok(t, netlink.RouteAdd(&netlink.Route{LinkIndex: n.wan, Dst: far, Gw: net.IPv4(172, 16, 0, 2)}))
}

func addr(s string) *netlink.Addr { a, _ := netlink.ParseAddr(s); return a }

func (n *net1) inFar(f func()) {
	ok(n.t, unix.Setns(n.far, unix.CLONE_NEWNET))
	f()
	ok(n.t, unix.Setns(n.home, unix.CLONE_NEWNET))
}

func packetSocket(t testing.TB, ifindex, filter int) int {
	fd := must[int](t)(unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0))
	t.Cleanup(func() { unix.Close(fd) })
	ok(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	if filter >= 0 {
		ok(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, filter))
	}
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8
	ok(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifindex}))
	return fd
}

func (n *net1) socket(ip string, port int) int {
	fd := must[int](n.t)(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0))
	n.t.Cleanup(func() { unix.Close(fd) })
	ok(n.t, unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: netip.MustParseAddr(ip).As4()}))
	return fd
}

// send sends a datagram to 10.2.0.1.
func (n *net1) send(fd, port int, text string) {
	n.t.Helper()
	ok(n.t, unix.Sendto(fd, []byte(text), 0, &unix.SockaddrInet4{Port: port, Addr: [4]byte{10, 2, 0, 1}}))
}

// patience is how long something is waited for that is to come: the machine may be busy.
const patience = 30 * time.Second

// read waits for a packet on a descriptor.
func read(fd int, wait time.Duration) ([]byte, error) {
	b := make([]byte, 1<<17)
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	end := time.Now().Add(wait)
	for {
		k, err := unix.Poll(p, int(time.Until(end).Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if k == 0 {
			return nil, errors.New("nothing came")
		}
		k, err = unix.Read(fd, b)
		return b[:max(k, 0)], err
	}
}

// payload of a UDP packet in an Ethernet frame.
func payload(f []byte) string {
	if len(f) < 42 || f[23] != protoUDP {
		return fmt.Sprintf("not UDP: %x", f)
	}
	return string(f[42 : 14+int(binary.BigEndian.Uint16(f[16:]))])
}

// wantPeer says what the core must see next, so that what isn't named didn't pass.
func (n *net1) wantPeer(text string) {
	n.t.Helper()
	if f, err := read(n.peer, patience); err != nil || payload(f) != text {
		n.t.Fatalf("peer got %q (%v), want %q", payload(f), err, text)
	}
}

// wantTap reads the TAP: virtio header, Ethernet header as the kernel resolved it.
func (n *net1) wantTap(text string) {
	n.t.Helper()
	f, err := read(n.tapFD, patience)
	if err != nil || len(f) < 10 || payload(f[10:]) != text {
		n.t.Fatalf("TAP got %x (%v), want %q", f, err, text)
	}
	if string(f[10:16]) != string(n.peerMAC) || string(f[16:22]) != string(n.wanMAC) {
		n.t.Fatalf("Ethernet header on the TAP: %x", f[10:24])
	}
}

// clearFrame is a datagram from the far host, as the core would inject it.
func (n *net1) frame(proto byte, body []byte) []byte {
	f := v4(proto, "10.2.0.1", "10.1.0.1", 0, 7, body...)
	copy(f, n.wanMAC)
	copy(f[6:], n.peerMAC)
	var sum uint32
	for i := 14; i < 34; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(f[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(f[24:], ^uint16(sum+sum>>16))
	return f
}

func datagram(port uint16, text string) []byte {
	u := append(udp(port), text...)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	return u
}

func (n *net1) inject(f []byte) {
	n.t.Helper()
	if _, err := unix.Write(n.peer, f); err != nil {
		n.t.Fatal(err)
	}
}

// permitPolicy protects UDP between 10.1/16 and 10.2/16, but for port 22.
func permitPolicy() (out, in ipsec.Ruleset) {
	pre := func(s string) ipsec.AddrMatch { return ipsec.MatchPrefix(netip.MustParsePrefix(s)) }
	p := ipsec.ACE{Family: ipsec.IPv4, Action: ipsec.Permit, Proto: protoUDP, Src: pre("10.1.0.0/16"), Dst: pre("10.2.0.0/16")}
	d := p
	d.Action, d.DstPort = ipsec.Deny, ipsec.PortMatch{Op: ipsec.PortEq, Lo: 22}
	esp := p
	esp.Proto = protoESP
	return ipsec.Compile([]ipsec.GroupPolicy{{State: ipsec.Registered, Local: []ipsec.ACE{d}, Entries: []ipsec.Entry{{ACE: p}, {ACE: esp}}}})
}

func (n *net1) bpffs() string {
	dir := filepath.Join(n.t.TempDir(), "bpf")
	ok(n.t, EnsureBPFFS(dir), EnsureBPFFS(dir)) // twice: the second finds it
	n.t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			n.t.Error(err)
		}
	})
	return dir
}

func open(t testing.TB, backend, dir string) *Steering {
	t.Helper()
	return must[*Steering](t)(Open(Options{Backend: backend, Dir: dir, Log: t.Logf}))
}

func backends(t *testing.T, f func(t *testing.T, backend string)) {
	needRoot(t)
	ran := false
	for _, name := range []string{"tcx", "clsact"} {
		if b, err := openBackend(name); err != nil {
			t.Logf("not tested: %v", err)
		} else {
			b.close()
			ran = true
			t.Run(name, func(t *testing.T) { f(t, name) })
		}
	}
	if !ran {
		t.Error("this kernel has no back end")
	}
}
