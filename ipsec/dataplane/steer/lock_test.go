package steer

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"getvpn/ipsec"
)

// TestDeviceRecreated: the device goes and comes back under its name while traffic
// runs. What is protected is closed until it is attached again; the rest passes.
func TestDeviceRecreated(t *testing.T) {
	n := newNet(t)
	s := open(t, "", "")
	defer s.Close(false)
	out, in := permitPolicy()
	ok(t, s.Attach(n.wan, n.tap, out, in), LockName("wan", n.wan, out, in))
	n.send(n.out, 5000, "permit")
	n.wantTap("permit") // the attached device isn't locked

	stop, done := make(chan struct{}), make(chan struct{})
	fd := n.socket("10.1.0.1", 4001)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default: // no route and a locked interface are errors here: that is the point
				_ = unix.Sendto(fd, []byte("secret"), 0, &unix.SockaddrInet4{Port: 5000, Addr: [4]byte{10, 2, 0, 1}})
			}
		}
	}()
	old := n.wan
	for range 3 {
		ok(t, netlink.LinkDel(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: n.wan}}))
		n.makeWAN()
		n.send(n.out, 22, "deny")
		n.wantPeer("deny") // and not "secret"
		n.send(n.out, 848, "gdoi")
		n.wantPeer("gdoi")
	}
	host := n.socket("10.1.0.1", 6000)
	n.inject(n.frame(protoUDP, datagram(6000, "clear")))
	gdoi := n.socket("10.1.0.1", 848)
	n.inject(n.frame(protoUDP, datagram(848, "gdoi")))
	if b, err := read(gdoi, patience); err != nil || string(b) != "gdoi" {
		t.Errorf("GDOI from the core: %q, %v", b, err)
	}
	if b, err := read(host, 100*time.Millisecond); err == nil {
		t.Errorf("host got %q", b)
	}
	close(stop)
	<-done
	ok(t, s.Detach(old)) // its device is gone: no error
	ok(t, s.Attach(n.wan, n.tap, out, in), LockName("wan", n.wan, out, in))
	for f, err := read(n.tapFD, 10*time.Millisecond); err == nil && strings.Contains(string(f), "secret"); {
		f, err = read(n.tapFD, 10*time.Millisecond) // those of before the deletion
	}
	n.send(n.out, 5000, "again")
	n.wantTap("again")
	n.send(n.out, 22, "end")
	n.wantPeer("end")
	ok(t, s.Detach(n.wan), UnlockName("wan"), UnlockName("wan"))
	n.send(n.out, 5000, "open")
	n.wantPeer("open")
}

// TestLockTakesAnyRuleset: the kernel accepts the table of whatever policy there is.
func TestLockTakesAnyRuleset(t *testing.T) {
	newNet(t)
	r := seeded(t)
	for range 6 {
		out := r.ruleset(ipsec.Pass, ipsec.Drop, ipsec.Next, ipsec.Protect)
		ok(t, LockName("wan", 0, out, r.ruleset(ipsec.Pass, ipsec.Drop, ipsec.Next)))
	}
	// As long as policy gets.
	out, in := permitPolicy()
	for range 400 {
		out.Rules = append(out.Rules, out.Rules[1])
		in.Rules = append(in.Rules, in.Rules[1])
	}
	ok(t, LockName("wan", 0, out, in), UnlockName("wan"))
}

// TestDeviceMoved: the device goes to another namespace and comes back, with the index
// that it had, while nobody watches: tcx programs travel with it.
func TestDeviceMoved(t *testing.T) {
	n := newNet(t)
	s := open(t, "", "")
	defer s.Close(false)
	out, in := permitPolicy()
	ok(t, s.Attach(n.wan, n.tap, out, in), LockName("wan", n.wan, out, in))
	wan := must[netlink.Link](t)(netlink.LinkByName("wan"))
	ok(t, netlink.LinkSetNsFd(wan, n.far))
	n.inFar(func() {
		wan := must[netlink.Link](t)(netlink.LinkByName("wan"))
		ok(t, netlink.LinkSetNsFd(wan, n.home))
	})
	wan = must[netlink.Link](t)(netlink.LinkByName("wan"))
	if !s.Alive(n.wan) {
		t.Error("the programs didn't travel with the device")
	}
	_, far, _ := net.ParseCIDR("10.2.0.0/16")
	ok(t, netlink.LinkSetUp(wan), netlink.AddrAdd(wan, addr("172.16.0.1/24")),
		netlink.NeighAdd(&netlink.Neigh{LinkIndex: n.wan, IP: net.IPv4(172, 16, 0, 2), HardwareAddr: n.peerMAC, State: netlink.NUD_PERMANENT}),
		netlink.RouteAdd(&netlink.Route{LinkIndex: n.wan, Dst: far, Gw: net.IPv4(172, 16, 0, 2)}))
	n.send(n.out, 5000, "permit")
	n.wantTap("permit")
	n.send(n.out, 22, "deny")
	n.wantPeer("deny")
}

// TestLocked lists what is locked and nothing else.
func TestLocked(t *testing.T) {
	newNet(t)
	out, in := permitPolicy()
	ok(t, LockName("wan", 0, out, in), LockName("eth0.7", 3, out, in))
	got := must[[]string](t)(Locked())
	slices.Sort(got)
	if !slices.Equal(got, []string{"eth0.7", "wan"}) {
		t.Errorf("locked: %q", got)
	}
	ok(t, UnlockName("wan"), UnlockName("eth0.7"))
	if got := must[[]string](t)(Locked()); len(got) != 0 {
		t.Errorf("still locked: %q", got)
	}
}

// TestAdoptedWithAnotherTAP: the next process has another TAP; nothing of ours stays on
// the old one, and the interface is found by the TAP that it led to.
func TestAdoptedWithAnotherTAP(t *testing.T) {
	backends(t, func(t *testing.T, backend string) {
		n := newNet(t)
		dir := filepath.Join(n.bpffs(), "pins")
		s := open(t, backend, dir)
		out, in := permitPolicy()
		other := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "old"}, PeerName: "new"}
		ok(t, netlink.LinkAdd(other))
		a := must[netlink.Link](t)(netlink.LinkByName("old")).Attrs().Index
		b := must[netlink.Link](t)(netlink.LinkByName("new")).Attrs().Index
		ok(t, s.Attach(n.wan, a, out, in), s.Close(true))
		s = open(t, backend, dir)
		defer s.Close(false)
		if by, none := s.AdoptedBy(a), s.AdoptedBy(b); by != n.wan || none != 0 {
			t.Errorf("adopted by the TAPs: %d and %d", by, none)
		}
		ok(t, s.Attach(n.wan, b, out, in))
		if s.be.alive(point{ifindex: a, dir: ingress}) {
			t.Error("a program is left on the old TAP")
		}
		if !s.be.alive(s.tapPoint(n.wan, b)) {
			t.Error("no program on the new TAP")
		}
	})
}

// TestWatchLocks: whoever flushes the ruleset is noticed, and closing ends the watch.
func TestWatchLocks(t *testing.T) {
	newNet(t)
	out, in := permitPolicy()
	ok(t, LockName("wan", 0, out, in))
	gone := make(chan struct{}, 1)
	changed := make(chan struct{}, 64)
	w := must[*LockWatch](t)(WatchLocks(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}))
	ok(t, UnlockName("wan"))
	select {
	case <-changed:
	case <-time.After(patience):
		t.Error("nobody noticed")
	}
	go func() { w.Close(); close(gone) }()
	select {
	case <-gone:
	case <-time.After(patience):
		t.Fatal("the watch doesn't end")
	}
}
