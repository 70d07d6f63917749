package ks

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"getvpn/gdoi/coop"
	"getvpn/ipsec"
	"getvpn/model/event"
)

// Window 100 s, so 30 s are allowed. A secondary at 7000 s hears 14000 s; then the first
// announcement again; then one that is 29 s and one that is 31 s behind.
func Test_coop_05_PseudotimeOfAnnouncements(t *testing.T) {
	among(t, 2, func(_ int, s *Setup) { s.Entries[0].Replay = ipsec.Replay{Mode: ipsec.ReplayTime, Window: 100} }, func(t *testing.T, l *league) {
		after(15 * time.Second)
		a, b := l.ks[0], l.ks[1]
		set := func(s *server, v time.Duration) {
			s.in(func(g *Group) { g.pseudo.resume(v, g.now()); g.tellPseudotime(g.now()) })
		}
		read := func() (v time.Duration) {
			b.in(func(g *Group) { v = g.pseudo.at(g.now()) })
			return v
		}
		set(a, 7000*time.Second)
		after(20 * time.Second)
		if v := read(); v < 7000*time.Second || v > 7021*time.Second {
			t.Fatalf("pseudotime %v", v)
		}
		b.events()

		var first []byte
		var session uint64
		l.mu.Lock()
		session = l.up[two(0, 1)]
		l.tap = func(from, to netip.Addr, data []byte) {
			if from == a.addr && data[2] == 1 { // an announcement
				first = slices.Clone(data)
			}
		}
		l.mu.Unlock()
		set(a, 14000*time.Second)
		after(21 * time.Second)
		l.mu.Lock()
		l.tap = nil
		l.mu.Unlock()
		if v := read(); v < 14000*time.Second {
			t.Errorf("14000 s weren't taken: %v", v)
		}
		e := told[event.CoopTimestampLarge](b)
		if len(e) != 1 || e[0].Peer != a.addr || e[0].Its < 14000 || e[0].Its > 14021 || e[0].Mine < 7000 || e[0].Mine > 7050 {
			t.Errorf("told: %+v", e)
		}

		after(21 * time.Second) // another announcement has come since
		before := read()
		b.s.HandlePeer(a.addr, session, first)
		after(time.Second)
		if v := read(); v != before+time.Second {
			t.Errorf("the first announcement again: %v, before %v", v, before)
		}
		if n := b.model().Rejected[string(coop.Replayed)]; n != 1 {
			t.Errorf("%d announcements were refused", n)
		}

		set(a, read()-29*time.Second)
		b.events()
		after(21 * time.Second)
		if v := read(); v > before || v < before-10*time.Second {
			t.Errorf("29 s behind weren't taken: %v, before %v", v, before)
		}
		if e := b.events(); e["CoopTimestampTooOld"] != 0 || e["CoopTimestampLarge"] != 0 {
			t.Errorf("told of 29 s: %v", e)
		}

		before = read()
		set(a, before-31*time.Second)
		after(21 * time.Second)
		if v := read(); v != before+21*time.Second {
			t.Errorf("31 s behind: %v, before %v", v, before)
		}
		old := told[event.CoopTimestampTooOld](b)
		if len(old) == 0 || old[0].Peer != a.addr || old[0].Mine-old[0].Its < 30 || old[0].Mine-old[0].Its > 32 || old[0].Skew != 30 {
			t.Errorf("told of 31 s: %+v", old)
		}
		if b.model().Coop.Invalid == 0 {
			t.Error("the announcement isn't counted")
		}
	})
}
