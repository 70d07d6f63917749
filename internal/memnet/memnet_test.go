package memnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var (
	a1 = netip.MustParseAddr("192.0.2.1")
	a2 = netip.MustParseAddr("192.0.2.2")
	a3 = netip.MustParseAddr("192.0.2.3")
)

func at(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 848) }

func listen(t *testing.T, n *Network, l netip.AddrPort, host ...netip.Addr) *Conn {
	t.Helper()
	c, err := n.Listen(l, host...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// queued takes what has arrived.
func queued(c *Conn) []string {
	synctest.Wait()
	var out []string
	for {
		d, ok := c.take()
		if !ok {
			return out
		}
		out = append(out, string(d.Data))
	}
}

func send(t *testing.T, c *Conn, to netip.AddrPort, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if err := c.Write([]byte(s), netip.Addr{}, to); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadWriteClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := listen(t, n, at(a1)), listen(t, n, at(a2))
		got := make(chan Datagram)
		go func() {
			for {
				buf := make([]byte, 3)
				d, err := b.Receive(buf)
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Error(err)
					}
					close(got)
					return
				}
				got <- d
			}
		}()
		buf := []byte("abcd")
		if err := a.Write(buf, netip.Addr{}, at(a2)); err != nil {
			t.Fatal(err)
		}
		buf[0] = 'x' // the sender's buffer is its own again
		if d := <-got; string(d.Data) != "abc" || d.Remote != at(a1) || d.Local != at(a2) {
			t.Errorf("%+v", d)
		}
		send(t, a, at(a2), "")
		if d := <-got; d.Data == nil || len(d.Data) != 0 {
			t.Errorf("empty: %+v", d)
		}
		if _, err := n.Listen(at(a2)); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("bound twice: %v", err)
		}
		if err := a.Write(make([]byte, 65508), netip.Addr{}, at(a2)); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("too long: %v", err)
		}
		b.Close()
		b.Close()
		if _, open := <-got; open {
			t.Error("read after Close")
		}
		if err := b.Write(nil, netip.Addr{}, at(a1)); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		send(t, a, at(a2), "nobody")
		listen(t, n, at(a2)) // free again
		if s := n.Stats(); s != (Stats{Sent: 3, Delivered: 2, Nowhere: 1}) {
			t.Errorf("%+v", s)
		}
	})
}

// A socket that is bound to all addresses answers from the one that was asked.
func TestUnspecified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		v6 := netip.MustParseAddr("2001:db8::1")
		c := listen(t, n, netip.MustParseAddrPort("0.0.0.0:848"), v6, a1, a2)
		peer := listen(t, n, at(a3))
		send(t, peer, at(a1), "one")
		send(t, peer, at(a2), "two")
		send(t, peer, at(v6), "six")
		if g := queued(c); c.LocalAddr() != at(a1) || !slices.Equal(g, []string{"one", "two"}) {
			t.Errorf("%v %v", c.LocalAddr(), g)
		}
		r := n.Record()
		for _, l := range []netip.Addr{{}, a2, v6} {
			if err := c.Write(nil, l, at(a3)); err != nil {
				t.Fatal(err)
			}
		}
		all := r.Stop()
		if len(all) != 3 || all[0].Remote != at(a1) || all[1].Remote != at(a2) || all[2].Remote != at(a1) {
			t.Errorf("%+v", all)
		}
		s := Socket[struct {
			Data          []byte
			Remote, Local netip.AddrPort
		}]{peer}
		if d, err := s.Read(make([]byte, 9)); err != nil || d.Remote != at(a1) {
			t.Errorf("%+v %v", d, err)
		}
	})
}

func TestMulticast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		group := netip.MustParseAddr("239.1.1.1")
		s, m2, m3 := listen(t, n, at(a1)), listen(t, n, at(a2)), listen(t, n, at(a3))
		other := listen(t, n, netip.AddrPortFrom(a2, 4500))
		n.Join(a2, group)
		n.Join(a2, group)
		n.Join(a3, group)
		n.Cut(a1, a3)
		send(t, s, at(group), "1")
		n.Heal(a1, a3)
		send(t, s, at(group), "2")
		d, err := m2.Receive(make([]byte, 1))
		if err != nil || d.Local != at(group) || d.Remote != at(a1) {
			t.Errorf("%+v %v", d, err)
		}
		n.Leave(a2, group)
		send(t, s, at(group), "3")
		if x, y := queued(m2), queued(m3); !slices.Equal(x, []string{"2"}) || !slices.Equal(y, []string{"2", "3"}) {
			t.Errorf("%v %v", x, y)
		}
		if x := append(queued(s), queued(other)...); x != nil {
			t.Errorf("no member got %v", x)
		}
		if st := n.Stats(); st.Sent != 3 || st.Cut != 1 || st.Delivered != 4 {
			t.Errorf("%+v", st)
		}
	})
}

// run sends 2000 datagrams over a bad link while others talk, and returns what arrived.
func run(t *testing.T, seed uint64, noise int) (got []string, st Stats) {
	synctest.Test(t, func(t *testing.T) {
		n := New(seed)
		n.SetLink(a1, a2, Link{Loss: 0.1, Duplicate: 0.2, Reorder: 0.05, Delay: 5 * time.Millisecond, Jitter: time.Millisecond})
		a, b, c := listen(t, n, at(a1)), listen(t, n, at(a2)), listen(t, n, at(a3))
		for i := range 2000 {
			for range noise {
				send(t, c, at(a1), "x")
			}
			send(t, a, at(a2), fmt.Sprint(i))
			time.Sleep(2 * time.Millisecond)
		}
		time.Sleep(time.Second)
		got, st = queued(b), n.Stats()
	})
	return got, st
}

// The fates have the chances that were set, and depend on seed and direction only.
func TestImpairments(t *testing.T) {
	got, st := run(t, 7, 0)
	if len(got) != st.Delivered || st.Delivered != 2000+st.Duplicated-st.Lost {
		t.Errorf("%d arrived: %+v", len(got), st)
	}
	for _, c := range []struct {
		name   string
		n      int
		lo, hi int
	}{{"lost", st.Lost, 190, 290}, {"doubled", st.Duplicated, 340, 460}, {"held", st.Reordered, 70, 150}} {
		if c.n < c.lo || c.n > c.hi {
			t.Errorf("%s %d, want %d to %d", c.name, c.n, c.lo, c.hi)
		}
	}
	passed := 0
	last := -1
	for _, s := range got {
		var i int
		fmt.Sscan(s, &i)
		if i < last {
			passed++
		}
		last = max(last, i)
	}
	if passed < 50 {
		t.Errorf("%d came late", passed)
	}
	if again, _ := run(t, 7, 1); !slices.Equal(got, again) {
		t.Error("noise of others changed the fates")
	}
	if other, _ := run(t, 8, 0); slices.Equal(got, other) {
		t.Error("the seed changes nothing")
	}
}

// Equal delays keep the order, and take their time.
func TestDelayKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		n.SetAll(Link{Delay: 40 * time.Millisecond})
		n.SetLink(a2, a1, Link{})
		a, b := listen(t, n, at(a1)), listen(t, n, at(a2))
		var want []string
		for i := range 500 {
			want = append(want, fmt.Sprint(i))
		}
		send(t, a, at(a2), want...)
		send(t, b, at(a1), "back")
		if x := queued(a); len(x) != 1 {
			t.Errorf("the other direction waits: %v", x)
		}
		time.Sleep(39 * time.Millisecond)
		if x := queued(b); x != nil {
			t.Errorf("early: %v", x)
		}
		n.Cut(a1, a2) // what is on its way arrives
		time.Sleep(time.Millisecond)
		if x := queued(b); !slices.Equal(x, want) {
			t.Errorf("order: %v", x)
		}
		n.ClearLink(a2, a1)
		n.HealAll()
		send(t, b, at(a1), "slow")
		if x := queued(a); x != nil {
			t.Errorf("not as all: %v", x)
		}
	})
}

func TestCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b, c := listen(t, n, at(a1)), listen(t, n, at(a2)), listen(t, n, at(a3))
		// reach tells which of ab, ba, ac, ca, bc pass.
		reach := func() string {
			send(t, a, at(a2), "ab")
			send(t, b, at(a1), "ba")
			send(t, a, at(a3), "ac")
			send(t, c, at(a1), "ca")
			send(t, b, at(a3), "bc")
			all := slices.Concat(queued(a), queued(b), queued(c))
			slices.Sort(all)
			return fmt.Sprint(all)
		}
		n.Cut(a1, a2)
		if s := reach(); s != "[ac bc ca]" {
			t.Error(s)
		}
		n.Cut(a3, netip.Addr{})
		if s := reach(); s != "[]" {
			t.Error(s)
		}
		n.Heal(a1, a2)
		if s := reach(); s != "[ab ba]" {
			t.Error(s)
		}
		n.Cut(netip.Addr{}, netip.Addr{})
		if s := reach(); s != "[]" {
			t.Error(s)
		}
		n.HealAll()
		if s := reach(); s != "[ab ac ba bc ca]" {
			t.Error(s)
		}
	})
}

func TestTapAndWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := listen(t, n, at(a1)), listen(t, n, at(a2))
		r := n.Record()
		n.SetTap(func(from, to netip.AddrPort, x []byte) []byte {
			switch string(x) {
			case "drop":
				return nil
			case "change":
				return []byte("changed")
			case "twice":
				n.Deliver(from, to, []byte("before"))
			}
			return x
		})
		send(t, a, at(a2), "drop", "change", "twice")
		n.SetTap(nil)
		n.Cut(a1, a2)
		send(t, a, at(a2), "cut")
		n.HealAll()
		if x := queued(b); !slices.Equal(x, []string{"changed", "before", "twice"}) {
			t.Errorf("%v", x)
		}
		var seen []string
		for _, d := range r.Stop() {
			seen = append(seen, string(d.Data))
			n.Send(d.Remote, d.Local, d.Data) // a replay
		}
		if want := []string{"drop", "change", "twice", "cut"}; !slices.Equal(seen, want) || !slices.Equal(queued(b), want) {
			t.Errorf("%v", seen)
		}
		if len(r.All()) != 4 {
			t.Error("recorded after Stop")
		}
		if st := n.Stats(); st.Dropped != 1 || st.Cut != 1 || st.Sent != 8 {
			t.Errorf("%+v", st)
		}
	})
}

func TestQueueOverflows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		a, b := listen(t, n, at(a1)), listen(t, n, at(a2))
		for range queueMax + 5 {
			send(t, a, at(a2), "x")
		}
		if x, st := queued(b), n.Stats(); len(x) != queueMax || st.Overflowed != 5 {
			t.Errorf("%d waiting, %+v", len(x), st)
		}
	})
}
