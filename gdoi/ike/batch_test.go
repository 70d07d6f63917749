package ike

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
	"getvpn/model"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

var pushCookies = [2]isakmp.Cookie{{1}, {2}}

// pushMessage looks like a rekey to everyone on the way.
func pushMessage(t testing.TB, x isakmp.ExchangeType) []byte {
	t.Helper()
	b, err := isakmp.AppendClear(nil, isakmp.Header{ICookie: pushCookies[0], RCookie: pushCookies[1], Exchange: x},
		[]isakmp.Payload{isakmp.HashPayload(make([]byte, 100))})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A rekey to members on both ports and one behind a NAT: each gets it once, with the
// marker where it belongs, from the group's address.
func TestPushToMany(t *testing.T) {
	n := memnet.New(1)
	c := &Config{}
	ks := endpoint(t, n, "192.0.2.1", c, nil)
	defer ks.Close()
	got := make(chan Datagram, 10)
	var to []netip.AddrPort
	for i, port := range []uint16{848, 4500, 848, 4500} {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)})
		g := endpoint(t, n, a.String(), c, nil)
		defer g.Close()
		defer g.HandlePush(pushCookies[0], pushCookies[1], func(d Datagram) { got <- d })()
		to = append(to, netip.AddrPortFrom(a, port))
	}
	m := pushMessage(t, isakmp.GroupKeyPush)
	sent, err := ks.SendPushBatch(m, netip.MustParseAddr("192.0.2.1"), to)
	if err != nil || sent != len(to) {
		t.Fatal(sent, err)
	}
	seen := map[netip.AddrPort]bool{}
	for range to {
		d := <-got
		if string(d.Data) != string(m) || d.Remote.Addr() != netip.MustParseAddr("192.0.2.1") || seen[d.Local] {
			t.Errorf("%d octets from %v at %v", len(d.Data), d.Remote, d.Local)
		}
		seen[d.Local] = true
	}
	if s := ks.PushStats(); s.Sent != uint64(len(to)) {
		t.Errorf("%+v", s)
	}
	for _, a := range to {
		if !seen[a] {
			t.Errorf("nothing at %v", a)
		}
	}
}

// broken fails for some destinations.
type broken struct {
	PacketConn
	wrote []netip.AddrPort
	bad   func(netip.AddrPort) error
}

func (b *broken) Write(_ []byte, _ netip.Addr, to netip.AddrPort) error {
	if err := b.bad(to); err != nil {
		return err
	}
	b.wrote = append(b.wrote, to)
	return nil
}

// Members that can't be reached cost the others nothing, and are counted.
func TestPushGoesOnBehindAFailure(t *testing.T) {
	n := memnet.New(1)
	var bad *broken // the socket of port 848
	ks := endpoint(t, n, "192.0.2.1", &Config{}, func(o *Options) {
		listen := o.Listen
		o.Listen = func(a netip.AddrPort) (PacketConn, error) {
			c, err := listen(a)
			if err != nil || bad != nil {
				return c, err
			}
			bad = &broken{PacketConn: c, bad: func(a netip.AddrPort) error {
				if a.Addr().As4()[3]%3 == 0 {
					return unix.EHOSTUNREACH
				}
				return nil
			}}
			return bad, nil
		}
	})
	defer ks.Close()
	var to []netip.AddrPort
	for i := range 30 {
		to = append(to, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 848))
	}
	sent, err := ks.SendPushBatch(pushMessage(t, isakmp.GroupKeyPush), netip.Addr{}, to)
	if sent != 20 || len(bad.wrote) != 20 || !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("sent %d, %v", sent, err)
	}
	if d := ks.Drops()[DropSend]; d != 10 {
		t.Errorf("%d counted", d)
	}
	if _, err := ks.SendPushBatch([]byte{1}, netip.Addr{}, []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:848")}); err == nil || ks.Drops()[DropSend] != 11 {
		t.Errorf("no socket of the family: %v, %v", err, ks.Drops())
	}
}

// A kernel that takes parts, has no room for a while and refuses one address.
func TestBatchAgainstAStubbornKernel(t *testing.T) {
	var to []netip.AddrPort
	for i := range 200 {
		to = append(to, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 848))
	}
	var took []string
	calls := 0
	kernel := func(ms []ipv4.Message, flags int) (int, error) {
		if flags != unix.MSG_DONTWAIT || len(ms) > batchPiece {
			t.Fatalf("%d messages, flags %#x", len(ms), flags)
		}
		switch calls++; calls % 4 {
		case 1:
			return 0, unix.EAGAIN
		case 2:
			return 0, fmt.Errorf("wrapped: %w", unix.ENOBUFS)
		}
		n := min(len(ms), 7)
		for i, m := range ms[:n] {
			if m.Addr.(*net.UDPAddr).IP[3] == 150 {
				if i > 0 {
					return i, nil
				}
				return 0, unix.EPERM
			}
			took = append(took, m.Addr.String())
		}
		return n, nil
	}
	var stalls atomic.Uint64
	n, err := writeBatch(kernel, &stalls, []byte{1}, nil, to)
	if n != 150 || !errors.Is(err, unix.EPERM) || len(took) != 150 || stalls.Load() == 0 {
		t.Errorf("%d sent, %d taken, %d waits, %v", n, len(took), stalls.Load(), err)
	}
	for i, a := range took {
		if a != to[i].String() {
			t.Fatalf("datagram %d went to %s", i, a)
		}
	}
	start := time.Now()
	n, err = writeBatch(func([]ipv4.Message, int) (int, error) { return 0, unix.ENOBUFS }, &stalls, []byte{1}, nil, to)
	if n != 0 || !errors.Is(err, unix.ENOBUFS) || time.Since(start) > 20*stallMax {
		t.Errorf("%d, %v after %v", n, err, time.Since(start))
	}
}

// The kernel's socket: everything arrives in order, from the address that was given,
// both families.
func TestBatchOnRealSockets(t *testing.T) {
	for _, v := range []struct{ bind, from, member string }{{"0.0.0.0:0", "127.0.0.7", "127.0.0.8:0"}, {"[::]:0", "::1", "[::1]:0"}} {
		ks, err := listenUDP(netip.MustParseAddrPort(v.bind), nil)
		if err != nil {
			t.Skip(err)
		}
		defer ks.Close()
		member, err := listenUDP(netip.MustParseAddrPort(v.member), nil)
		if err != nil {
			t.Skipf("no such address here: %v", err)
		}
		defer member.Close()
		const many = 300
		to := make([]netip.AddrPort, many)
		for i := range to {
			to[i] = member.LocalAddr()
		}
		n, err := ks.(batchConn).WriteBatch([]byte("rekey"), netip.MustParseAddr(v.from), to)
		if err != nil || n != many {
			t.Fatal(n, err)
		}
		buf := make([]byte, 100)
		for range many {
			d, err := member.Read(buf)
			if err != nil || string(d.Data) != "rekey" || d.Remote.Addr().String() != v.from {
				t.Fatalf("%+v %v", d, err)
			}
		}
	}
}

// Rekeys to 10,000 members on the loopback, which has no link to wait for.
func BenchmarkPushBatch(b *testing.B) {
	ks, err := listenUDP(netip.MustParseAddrPort("127.0.0.1:0"), nil)
	if err != nil {
		b.Skip(err)
	}
	defer ks.Close()
	member, err := listenUDP(netip.MustParseAddrPort("127.0.0.2:0"), nil)
	if err != nil {
		b.Skip(err)
	}
	defer member.Close()
	to := make([]netip.AddrPort, 10000)
	for i := range to {
		to[i] = member.LocalAddr()
	}
	m := make([]byte, 700)
	for _, v := range []struct {
		name string
		c    batchConn
	}{{"sendmmsg", ks.(batchConn)}, {"one by one", oneByOne{ks}}} {
		b.Run(v.name, func(b *testing.B) {
			for b.Loop() {
				if n, err := v.c.WriteBatch(m, netip.MustParseAddr("127.0.0.1"), to); n != len(to) {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(len(to)*b.N)/b.Elapsed().Seconds(), "datagrams/s")
		})
	}
}

// A flood of rekeys and acknowledgements that nobody here waits for.
func BenchmarkPushUnknownCookie(b *testing.B) {
	n := memnet.New(1)
	e := endpoint(b, n, "192.0.2.1", &Config{}, nil)
	defer e.Close()
	d := Datagram{Data: pushMessage(b, isakmp.GroupKeyPushAck), Remote: netip.MustParseAddrPort("192.0.2.9:848"), Local: netip.MustParseAddrPort("192.0.2.1:848")}
	b.ReportAllocs()
	for b.Loop() {
		e.receive(e.conns[0], d)
	}
}

// Which socket a member is reached on: our two ports speak for themselves, a NAT's port
// means what the member's SA says, and NAT traversal without one.
func TestPushBehindANAT(t *testing.T) {
	n := memnet.New(1)
	ks := endpoint(t, n, "192.0.2.1", &Config{}, nil)
	defer ks.Close()
	at := netip.MustParseAddrPort
	sa := func(remote string, c *boundConn) *SA { return &SA{path: path{conn: c, remote: at(remote)}} }
	plain, natt := ks.conns[0], ks.conns[1]
	ks.mu.Lock()
	ks.byAddr[netip.MustParseAddr("192.0.2.9")] = []*SA{sa("192.0.2.9:30001", plain), sa("192.0.2.9:30002", natt)}
	ks.mu.Unlock()
	for a, want := range map[string]bool{"192.0.2.9:848": false, "192.0.2.9:4500": true, "192.0.2.9:30001": false, "192.0.2.9:30002": true, "192.0.2.9:30003": true, "192.0.2.10:30001": true} {
		if ks.natted(at(a)) != want {
			t.Errorf("%s: %v", a, !want)
		}
	}
}

// A flood for nobody is shown, and costs a publication a second, not one a datagram.
func TestPushFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := model.NewStore(model.Snapshot{})
		e := endpoint(t, memnet.New(1), "192.0.2.1", &Config{}, func(o *Options) { o.Store = store })
		defer e.Close()
		synctest.Wait()
		before := store.Load().Generation
		d := Datagram{Data: pushMessage(t, isakmp.GroupKeyPush), Remote: netip.MustParseAddrPort("192.0.2.9:848"), Local: netip.MustParseAddrPort("192.0.2.1:848")}
		for range 3 {
			for range 1000 {
				e.receive(e.conns[0], d)
			}
			time.Sleep(floodEvery)
			synctest.Wait()
		}
		s := store.Load()
		if got := s.IKE.Drops[string(DropPush)]; got != 3000 {
			t.Errorf("%d shown", got)
		}
		if n := s.Generation - before; n == 0 || n > 6 {
			t.Errorf("%d publications in 3 s", n)
		}
	})
}

// A multicast rekey gets further than the first router.
func TestMulticastHops(t *testing.T) {
	for bind, opt := range map[string][2]int{"127.0.0.1:0": {unix.IPPROTO_IP, unix.IP_MULTICAST_TTL}, "[::1]:0": {unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS}} {
		c, err := listenUDP(netip.MustParseAddrPort(bind), nil)
		if err != nil {
			t.Skip(err)
		}
		defer c.Close()
		rc, err := c.(*udpConn).c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var hops int
		var serr error
		if err := errors.Join(rc.Control(func(fd uintptr) { hops, serr = unix.GetsockoptInt(int(fd), opt[0], opt[1]) }), serr); err != nil || hops != multicastHops {
			t.Errorf("%s: %d hops, %v", bind, hops, err)
		}
	}
}
