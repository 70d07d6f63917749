package coop

import (
	"bytes"
	"net/netip"
	"testing"
	"time"
)

// A key server that starts again tells of the members that it had. Others pass on to it
// what it told of them before: that doesn't take them away, whatever number its new life
// has; only a registration that the restart has lost is newer.
func TestOwnMembersOutliveARestart(t *testing.T) {
	now := time.Unix(1000, 0)
	self, other, gm := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.1.0.1")
	for _, life := range []uint64{1, 1 << 63} { // before: below and above that of now
		for _, later := range []uint64{0, 5} {
			m, _, err := New(Config{Group: []byte("g"), Self: self, Peers: []netip.Addr{other}}, bytes.NewReader([]byte{0, 0, 1, 0, 0, 0, 0, 0}), now)
			if err != nil {
				t.Fatal(err)
			}
			m.PutMembers([]Member{{Addr: gm, Stamp: 100, Blob: []byte("a")}}, now)
			m.begin(now)
			err = m.takeRows(m.peers[other], &rowsPart{table: tableID{self, life}, span: span{0, 1}, top: 1,
				rows: []row{{1, Member{Addr: gm, Stamp: 100 + later, Blob: []byte("b")}}}})
			out := m.finish()
			if err != nil {
				t.Fatal(err)
			}
			moved, changed := 0, 0
			for _, r := range out.Results {
				switch r := r.(type) {
				case MemberMoved:
					moved++
				case MembersChanged:
					changed += len(r.Rows)
				}
			}
			want := 0
			if later > 0 {
				want = 1
			}
			if own := m.own.rows[gm]; moved != want || changed != want || own.Gone != (later > 0) || m.Registered()[self] != 1 {
				t.Errorf("life %x, %d later: moved %d, changed %d, our row is %+v", life, later, moved, changed, own)
			}
		}
	}
}

// A member is alive where it registered. Who led another part of the network may have taken
// it off its list, since it couldn't reach it; that counts for those who follow it only.
func TestOnlyOurPrimaryTakesAMemberOff(t *testing.T) {
	now := time.Unix(1000, 0)
	self, other, gm := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.1.0.1")
	for _, follows := range []bool{false, true} {
		m, _, err := New(Config{Group: []byte("g"), Self: self, Peers: []netip.Addr{other}}, bytes.NewReader(make([]byte, 8)), now)
		if err != nil {
			t.Fatal(err)
		}
		m.PutMembers([]Member{{Addr: gm, Stamp: 100, Blob: []byte("a")}}, now)
		m.begin(now)
		if m.rule(); follows {
			m.follow(m.peers[other])
		}
		m.finish()
		m.begin(now)
		err = m.takeRows(m.peers[other], &rowsPart{table: tableID{other, 9}, span: span{0, 1}, top: 1, rows: []row{{1, Member{Addr: gm, Stamp: 200, Gone: true}}}})
		out := m.finish()
		if err != nil {
			t.Fatal(err)
		}
		if own := m.own.rows[gm]; own.Gone != follows || (m.Registered()[self] == 1) == follows || !follows && own.Stamp <= 200 || follows != (len(out.Results) > 0) {
			t.Errorf("follows %v: our row is %+v, told %v", follows, own, out.Results)
		}
	}
}

// A leader that comes back without its state has no numbers under its KEK any more: it
// may have passed over others' as often as it liked. Nobody vouches for it when roles
// change by hand, and those whom it tells of the KEK have none either.
func TestLeaderThatLostItsState(t *testing.T) {
	w := calm(t, 3, 1)
	a, b, c := w.ks[0], w.ks[1], w.ks[2]
	kek := spiOf("K1")
	a.do(a.m.Used(kek, 5, a.clock()))
	w.run(2 * time.Second)
	for _, state := range []bool{false, true} { // once, and kept over a restart with state
		a.stop(state)
		w.run(20 * time.Second)
		a.start()
		w.run(10 * time.Second)
		w.expect("SPS")
		if n := a.m.numbers[kek]; n == nil || !n.lost || !n.void || n.holders[0] != a.addr {
			t.Fatalf("state %v: %+v", state, n)
		}
	}
	b.do(b.m.ClearRole(b.clock()))
	w.run(20 * time.Second)
	w.expect("PSS")
	if l := a.m.Lease(kek); l.Left() != 0 || !l.Ends {
		t.Errorf("the leader's lease is %+v", l)
	}
	c.stop(false)
	w.run(time.Second)
	c.start()
	w.run(20 * time.Second)
	if n := c.m.numbers[kek]; n == nil || !n.lost {
		t.Errorf("told by a leader that doesn't know: %+v", n)
	}
}

// Who is told of a KEK by anybody but its leader, or had it and dropped it, uses none of
// its numbers.
func TestOnlyTheLeaderVouches(t *testing.T) {
	now := time.Unix(1000, 0)
	self, leader, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	for _, c := range []struct {
		name      string
		from      netip.Addr
		lost, had bool
		left      uint32
	}{
		{"new, by the leader", leader, false, false, jump},
		{"by another one", other, false, false, 0},
		{"not vouched for", leader, true, false, 0},
		{"dropped before", leader, false, true, 0},
	} {
		m, _, err := New(Config{Group: []byte("g"), Self: self, Peers: []netip.Addr{leader, other}}, bytes.NewReader(make([]byte, 8)), now)
		if err != nil {
			t.Fatal(err)
		}
		k := &keysPart{numbers: []number{{SPI{1}, 5, 5, []netip.Addr{leader, self}, Lease{}, c.lost}}}
		m.begin(now)
		if c.had {
			m.takeKeys(m.peers[leader], Keys{KEKs: []SPI{{1}}}, k)
			m.takeKeys(m.peers[leader], Keys{KEKs: []SPI{{2}}}, &keysPart{})
		}
		m.takeKeys(m.peers[c.from], Keys{KEKs: []SPI{{1}}}, k)
		m.rule()
		if l := m.Lease(SPI{1}); l.Left() != c.left || !l.Ends {
			t.Errorf("%s: %+v", c.name, l)
		}
	}
}
