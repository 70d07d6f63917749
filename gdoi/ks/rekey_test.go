package ks

import (
	"crypto/rand"
	"net/netip"
	"slices"
	"testing"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/policy"
	"getvpn/ipsec"
)

// The guide's arithmetic, on a group that lives: 100 unicast members, 3 retransmissions
// of 10 s, TEKs of 3600 s, then of 300 s.
func Test_scale_02_UnicastRekeyOfHundredMembers(t *testing.T) {
	live(t, func() *Setup { return lifeSetup(time.Hour, unicast(3, 10*time.Second)) }, func(t *testing.T, l *life) {
		start := time.Now()
		for i := range 100 {
			l.join(t, i)
		}
		if got := l.firstPush(t, start, time.Hour); got != 3200*time.Second {
			t.Errorf("TEK of 3600 s: rekey after %v, want 3200 s", got)
		}
		after(time.Second)
		if g := l.group(); g.Counters.AcksRcvd != 100 || g.Unanswered != 0 {
			t.Errorf("%d acknowledged, %d missing", g.Counters.AcksRcvd, g.Unanswered)
		}
		next := lifeSetup(5*time.Minute, l.g.setup.Rekey)
		if err := l.g.Apply(next, config.Effects{NextRekey: true}); err != nil {
			t.Fatal(err)
		}
		if err := l.g.Rekey(true, false); err != nil { // so that a TEK of the new life is there
			t.Fatal(err)
		}
		start = time.Now()
		after(time.Second)
		if got := l.firstPush(t, start, 5*time.Minute); got != 170*time.Second {
			t.Errorf("TEK of 300 s: rekey after %v, want 170 s", got)
		}
	})
}

// The guide's multicast examples on a living group.
func TestMulticastRekeyTimes(t *testing.T) {
	for tekLife, want := range map[time.Duration]time.Duration{300 * time.Second: 180 * time.Second, 3600 * time.Second: 3210 * time.Second} {
		live(t, func() *Setup { return lifeSetup(tekLife, multicast(3, 10*time.Second)) }, func(t *testing.T, l *life) {
			start := time.Now()
			m := l.join(t, 0)
			if got := l.firstPush(t, start, tekLife); got != want {
				t.Errorf("TEK of %v: rekey after %v, want %v", tekLife, got, want)
			}
			after(35 * time.Second)
			if got := m.numbers(); !slices.Equal(got, []uint32{1, 2, 3, 4}) {
				t.Errorf("numbers %v: every retransmission is sent and takes the next one", got)
			}
			if len(m.bad) != 0 {
				t.Error(m.bad)
			}
		})
	}
}

// The guide's table of numbers, as far as one key server is concerned: 2 to 5 with three
// retransmissions, then 6. The first number of a group is 1.
func TestSequenceAcrossRetransmissions(t *testing.T) {
	live(t, func() *Setup { return lifeSetup(time.Hour, unicast(3, 10*time.Second)) }, func(t *testing.T, l *life) {
		l.join(t, 0)
		deaf := l.join(t, 1)
		l.g.Rekey(true, false)
		after(time.Minute)
		deaf.off.Store(true)
		l.g.Rekey(true, false)
		after(time.Minute)
		if s := l.group().KEK.Seq; s != 5 {
			t.Errorf("SEQ %d after a rekey with 3 retransmissions from 1, want 5", s)
		}
		deaf.off.Store(false)
		l.g.Rekey(true, false)
		after(time.Minute)
		if s := l.group().KEK.Seq; s != 6 {
			t.Errorf("SEQ %d, want 6", s)
		}
		if got := l.gms[0].numbers(); !slices.Equal(got, []uint32{1, 2, 6}) {
			t.Errorf("who acknowledged got %v", got)
		}
		if got := deaf.numbers(); !slices.Equal(got, []uint32{1, 6}) {
			t.Errorf("who was deaf got %v", got)
		}
	})
}

// A KEK rekey goes out under the old KEK and its numbers; the first one under the new
// KEK is number 1 (guide l.659), and nobody is lost.
func TestKEKRollover(t *testing.T) {
	for name, r := range map[string]func(int, time.Duration) *SetupRekey{"unicast": unicast, "multicast": multicast} {
		t.Run(name, func(t *testing.T) {
			live(t, func() *Setup {
				x := r(2, 10*time.Second)
				x.Lifetime = 3 * time.Hour
				return lifeSetup(time.Hour, x)
			}, func(t *testing.T, l *life) {
				m, n := l.join(t, 0), l.join(t, 1)
				first := l.group().KEK.SPI
				for l.group().KEK.SPI == first {
					after(10 * time.Second)
				}
				m.mu.Lock()
				roll := m.rekeys[len(m.rekeys)-1]
				if roll.Offer.KEK == nil || roll.Offer.KEK.SPI != l.group().KEK.SPI || roll.Seq < 2 {
					t.Errorf("SEQ %d: the rekey under the old KEK carries no new one", roll.Seq)
				}
				m.mu.Unlock()
				if left := time.Until(l.group().KEK.Expires); left < 3*time.Hour-time.Minute {
					t.Errorf("the new KEK lives %v", left)
				}
				if s := l.group().KEK.Seq; s != 0 {
					t.Errorf("SEQ %d before the first rekey under the new KEK", s)
				}
				after(time.Minute)
				l.g.Rekey(true, false)
				after(time.Second)
				if m.last().Seq != 1 || n.last().Seq != 1 {
					t.Errorf("first SEQ under the new KEK %d, %d", m.last().Seq, n.last().Seq)
				}
				after(20 * time.Hour)
				for _, x := range l.gms {
					if len(x.bad) != 0 || !slices.Equal(x.spis(), l.ringSPIs()) || x.joined != 1 {
						t.Errorf("after %d rekeys: %v", len(x.rekeys), x.bad)
					}
				}
			})
		})
	}
}

func (l *life) ringSPIs() (out []uint32) {
	l.g.do(func() {
		for _, list := range l.g.ring.teks {
			for _, x := range list {
				out = append(out, x.spi)
			}
		}
	})
	slices.Sort(out)
	return out
}

// A member that misses the KEK rekey and its retransmissions is reached under the KEK
// that it has, as long as that lives; one whose acknowledgement was lost under the new.
func TestMissedKEKRollover(t *testing.T) {
	live(t, func() *Setup {
		x := unicast(1, 10*time.Second)
		x.Lifetime = 3 * time.Hour
		return lifeSetup(time.Hour, x)
	}, func(t *testing.T, l *life) {
		l.join(t, 0)
		away, mute := l.join(t, 1), l.join(t, 2)
		l.g.Rekey(true, false) // all have acknowledged once
		after(time.Minute)
		var due time.Time
		l.g.do(func() { due = l.g.timing().kekDue(l.g.ring.kek) })
		after(time.Until(due) - time.Second)
		away.off.Store(true)
		mute.mute.Store(true)
		first := l.group().KEK.SPI
		for l.group().KEK.SPI == first {
			after(10 * time.Second)
		}
		after(time.Minute)
		away.off.Store(false)
		mute.mute.Store(false)
		if err := l.g.Rekey(true, true); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		for i, m := range l.gms {
			if !slices.Equal(m.spis(), l.ringSPIs()) || len(m.keks) != 1 || m.keks[0].SPI != l.group().KEK.SPI || m.joined != 1 {
				t.Errorf("member %d: %v, ring %v", i, m.spis(), l.ringSPIs())
			}
		}
		if g := l.group(); g.Unanswered != 0 || g.Members.Len() != 3 {
			t.Errorf("%d unanswered", g.Unanswered)
		}
	})
}

// Retransmissions stop when a rekey of keys is due within 120 s.
func TestRetransmissionsGiveWay(t *testing.T) {
	live(t, func() *Setup { return lifeSetup(time.Hour, multicast(10, 60*time.Second)) }, func(t *testing.T, l *life) {
		start := time.Now()
		m := l.join(t, 0)
		due := l.group().NextRekey
		// 2.5 minutes before it is due: copies at 1 and 2 minutes, of which the second is
		// within 120 s.
		after(due.Sub(start) - 150*time.Second)
		l.g.do(func() { l.g.rekey(l.g.now(), order{}) })
		after(149 * time.Second)
		if got := m.numbers(); len(got) != 1 {
			t.Errorf("%v: a copy was sent within 120 s of the next rekey", got)
		}
		after(2 * time.Second)
		if got := m.numbers(); len(got) != 2 {
			t.Errorf("%v: the next rekey", got)
		}
	})
}

// Three rekeys in a row without an answer: who ever answered is off the list, who never
// did stays.
func TestSilentMembersAreEjected(t *testing.T) {
	live(t, func() *Setup { return lifeSetup(time.Hour, unicast(1, 10*time.Second)) }, func(t *testing.T, l *life) {
		l.join(t, 0)
		quiet, never := l.join(t, 1), l.join(t, 2)
		never.mute.Store(true)
		l.g.Rekey(true, false)
		after(time.Minute)
		quiet.mute.Store(true)
		for i := range 3 {
			if n := l.group().Members.Len(); n != 3 {
				t.Fatalf("%d members after %d silent rekeys", n, i)
			}
			l.g.Rekey(true, false)
			after(time.Minute)
		}
		g := l.group()
		if g.Members.Len() != 2 || g.Members.At(0).Addr != gmAddr(0) || g.Members.At(1).Addr != gmAddr(2) || g.Counters.MembersEjected != 1 {
			t.Errorf("%+v", g.Members)
		}
		if e := l.events(); e["KSMemberEjected"] != 1 || e["GMDeleted"] != 1 {
			t.Errorf("%v", e)
		}
		if g.Members.At(0).AcksRcvd != 4 || g.Members.At(0).AcksMissed != 0 || g.Members.At(1).AcksMissed != 4 {
			t.Errorf("%+v", g.Members)
		}
		n := len(quiet.numbers())
		l.g.Rekey(true, false)
		after(time.Minute)
		if len(quiet.numbers()) != n {
			t.Error("an ejected member still gets rekeys")
		}
		l.join(t, 1) // it comes back
		if l.group().Members.Len() != 3 {
			t.Error("it can't come back")
		}
	})
}

// The case's numbers: 7200 s of life, 5000 s left, shortened to 360 s at key server and
// members; with 60 s left it stays 60 s.
func Test_esp_12_ReplacedTEKEndsEarly(t *testing.T) {
	live(t, func() *Setup { return lifeSetup(7200*time.Second, unicast(0, 0)) }, func(t *testing.T, l *life) {
		m := l.join(t, 0)
		old := m.spis()[0]
		after(2200 * time.Second)
		next := lifeSetup(7200*time.Second, l.g.setup.Rekey)
		next.Entries[0].Transform = gcm128
		if err := l.g.Apply(next, config.Effects{Rekey: true, NewTEKs: []int{1}}); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		if r := m.last(); r.Shorten || len(r.Offer.TEKs) != 2 || r.Offer.TEKs[1].Transform != gcm128 || r.Offer.TEKs[0].Transform != cbc128 {
			t.Fatalf("a changed transform: %+v", r.Offer)
		}
		if err := l.g.Rekey(true, false); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		r := m.last()
		if !r.Shorten || len(r.Offer.TEKs) != 1 || slices.Contains([]uint32{r.Offer.TEKs[0].SPI}, old) {
			t.Errorf("policy replace: %+v", r)
		}
		var left time.Duration
		l.g.do(func() { left = l.g.ring.teks[0][0].expires.Sub(l.g.now()) })
		if left != 359*time.Second {
			t.Errorf("a second later the old TEK has %v left, want 359 s", left)
		}
		if policy.Shortened(60*time.Second, 7200*time.Second) != 60*time.Second {
			t.Error("60 s left")
		}
		after(6 * time.Minute)
		if slices.Contains(l.ringSPIs(), old) {
			t.Error("the old TEK outlives its end")
		}
	})
}

// replace-now: the old TEKs are deleted by the message that brings the new ones, and
// linger for as long as members receive with them: who missed a message gets them with
// the next one.
func TestReplaceNow(t *testing.T) {
	live(t, func() *Setup { return lifeSetup(time.Hour, unicast(2, 10*time.Second)) }, func(t *testing.T, l *life) {
		m := l.join(t, 0)
		old := m.spis()
		if err := l.g.Rekey(true, true); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		if r := m.last(); !slices.Equal(r.Delete.TEKs, old) || len(r.Offer.TEKs) != 2 || r.Offer.KEK != nil ||
			r.Offer.Activation != 12*time.Second || r.Offer.Deactivation != 17*time.Second || r.Offer.TEKs[0].Lifetime != 17*time.Second {
			t.Errorf("%+v", r)
		}
		if got := m.spis(); !slices.Equal(got, l.ringSPIs()) || len(got) != 2 {
			t.Errorf("member %v, key server %v", got, l.ringSPIs())
		}
		for range 50 {
			l.g.Rekey(true, true)
			after(2 * time.Second)
		}
		if got := l.ringSPIs(); len(got) > 10 || len(m.bad) != 0 {
			t.Errorf("after 50: %v %v", got, m.bad)
		}
		after(20 * time.Second)
		if got := l.ringSPIs(); len(got) != 1 {
			t.Errorf("20 s after the last one: %v", got)
		}
	})
}

// A pseudotime sync is due every 7200 s with a window of 100 s, and goes with a key
// rekey that is due within 60 s.
func TestPseudotimeSync(t *testing.T) {
	setup := func() *Setup {
		s := lifeSetup(30*24*time.Hour, unicast(0, 0))
		s.Rekey.Lifetime = 30 * 24 * time.Hour
		s.Entries[0].Replay = ipsec.Replay{Mode: ipsec.ReplayTime, Window: 100}
		return s
	}
	live(t, setup, func(t *testing.T, l *life) {
		start := time.Now()
		m := l.join(t, 0)
		if got := l.firstPush(t, start, 3*time.Hour); got != 7200*time.Second {
			t.Errorf("first sync after %v", got)
		}
		after(time.Second)
		c := m.last().Offer.Clock
		if c == nil || c.Pseudotime.Round(time.Second) != 7200*time.Second || c.Tick != pseudoTick || c.Header != metadataLen {
			t.Errorf("clock %+v", c)
		}
		spis := m.spis()
		after(24 * time.Hour)
		if n := len(m.numbers()); n != 13 {
			t.Errorf("%d rekeys in 26 hours", n)
		}
		if !slices.Equal(spis, m.spis()) {
			t.Error("a sync made new keys")
		}
	})
}

// Half a second at a time: a message with the pseudotime isn't older than a quarter of
// the window when it leaves.
func TestSlices(t *testing.T) {
	setup := func() *Setup {
		s := lifeSetup(time.Hour, unicast(0, 0))
		s.Entries[0].Replay = ipsec.Replay{Mode: ipsec.ReplayTime, Window: 1}
		return s
	}
	live(t, setup, func(t *testing.T, l *life) {
		for i := range 10 {
			l.join(t, i)
		}
		times := map[time.Duration]bool{}
		l.air.slow = 100 * time.Millisecond
		// One member a batch, so that a slow wire spreads them over time.
		l.g.do(func() {
			l.g.setup.Group.Local.Address = netip.Addr{}
			for i, m := range l.g.roster.list {
				m.local = gmAddr(i)
			}
		})
		l.g.Rekey(false, false)
		after(10 * time.Second)
		for _, m := range l.gms {
			r := m.last()
			if r == nil {
				t.Fatal("no rekey")
			}
			times[r.Offer.Clock.Pseudotime] = true
			if r.Seq != 1 {
				t.Errorf("SEQ %d: slices share one", r.Seq)
			}
		}
		if len(times) != 4 { // 10 batches of 100 ms, a signature every 250 ms
			t.Errorf("%d signatures", len(times))
		}
	})
}

// What is due within a minute goes out in one message.
func TestMerge(t *testing.T) {
	now := time.Unix(1e9, 0)
	ring := newKeyring([]keySpec{{transform: cbc128, lifetime: time.Hour}, {transform: cbc128, lifetime: time.Hour + 50*time.Second}},
		&kekSpec{cipher: gdoi.KEKAESCBC, keyBits: 128, lifetime: 24 * time.Hour, signer: testSigner()}, rand.Reader)
	if err := ring.reset(now); err != nil {
		t.Fatal(err)
	}
	tm := timing{sync: 3200 * time.Second}
	if got := tm.next(ring, now); !got.Equal(now.Add(3210 * time.Second)) {
		t.Errorf("next %v: a sync 10 s before a TEK rekey waits for it", got.Sub(now))
	}
	n := tm.due(ring, now, now.Add(3210*time.Second))
	if !slices.Equal(n.teks, []int{0, 1}) || n.kek || !n.sync {
		t.Errorf("%+v: both entries and the sync", n)
	}
	tm.sync = 3000 * time.Second
	if n := tm.due(ring, now, now.Add(3000*time.Second)); !n.sync || len(n.teks) != 0 {
		t.Errorf("%+v: a sync alone", n)
	}
	// The KEK's rekey takes TEKs past half their life with it.
	at := tm.kekDue(ring.kek)
	ring.teks[0] = []*tek{{keySpec: ring.specs[0], created: at.Add(-31 * time.Minute), expires: at.Add(29 * time.Minute)}}
	ring.teks[1] = []*tek{{keySpec: ring.specs[1], created: at.Add(-10 * time.Minute), expires: at.Add(50 * time.Minute)}}
	tm.sync = 0
	if n := tm.due(ring, at, at); !n.kek || !slices.Equal(n.teks, []int{0}) {
		t.Errorf("%+v", n)
	}
}

// A measured sending time replaces the guide's estimate where that is the larger part,
// and only ever makes a rekey later.
func TestMeasuredSendingTime(t *testing.T) {
	for _, c := range []struct {
		life    time.Duration
		members int
		fanout  time.Duration
		want    time.Duration
	}{
		{3600 * time.Second, 100, 0, 3200 * time.Second},
		{3600 * time.Second, 100, time.Second, 3200 * time.Second},       // the guide's example stays
		{3600 * time.Second, 10000, 0, 2210 * time.Second},               // 1000 s planned
		{3600 * time.Second, 10000, 2 * time.Second, 3208 * time.Second}, // 2 s measured
		{3600 * time.Second, 10000, time.Hour, 2210 * time.Second},       // never earlier than planned
		{600 * time.Second, 10000, 0, 300 * time.Second},                 // never before half
	} {
		tm := timing{retransmits: 3, interval: 10 * time.Second, unicast: true, members: c.members, fanout: c.fanout}
		if got := tm.tekAt(c.life); got != c.want {
			t.Errorf("life %v, %d members, measured %v: rekey at %v, want %v", c.life, c.members, c.fanout, got, c.want)
		}
	}
	for life := 300 * time.Second; life < 31*24*time.Hour; life = life * 5 / 4 {
		for _, tm := range []timing{{}, {retransmits: 10, interval: time.Minute}, {unicast: true, members: 10000}} {
			k := tm.kekAt(life)
			if k < life/2 || life-k < min(kekReserve, life/2) || tm.tekAt(life) < life/2 || tm.tekAt(life) >= life {
				t.Errorf("life %v: KEK rekey at %v, TEK rekey at %v", life, k, tm.tekAt(life))
			}
		}
	}
}

// Reminders go to who hasn't answered, ever more rarely, until it has.
func TestPeriodicReminders(t *testing.T) {
	setup := func() *Setup {
		s := lifeSetup(30*24*time.Hour, unicast(0, 30*time.Second))
		s.Rekey.Periodic, s.Rekey.Lifetime = true, 30*24*time.Hour
		return s
	}
	live(t, setup, func(t *testing.T, l *life) {
		a, b := l.join(t, 0), l.join(t, 1)
		b.off.Store(true)
		l.g.Rekey(true, false)
		after(24 * time.Hour)
		if n := len(a.numbers()); n != 1 {
			t.Errorf("who answered got %d", n)
		}
		if s := l.group().KEK.Seq; s < 20 || s > 40 {
			t.Errorf("%d reminders in a day", s)
		}
		b.off.Store(false)
		after(time.Hour + time.Minute)
		if n := len(b.numbers()); n != 1 || l.group().Unanswered != 0 || !slices.Equal(a.spis(), b.spis()) {
			t.Errorf("who is back got %d", n)
		}
	})
}

// A member whose policy was replaced between message 2 and 4 is told of it.
func TestRegisteredWithAnOldOffer(t *testing.T) {
	live(t, func() *Setup { return lifeSetup(time.Hour, unicast(0, 0)) }, func(t *testing.T, l *life) {
		l.join(t, 0)
		m := l.join(t, 1)
		w, x, three := l.upToThree(t, m.addr.Addr(), ourVID, ours())
		l.g.do(func() { l.g.rekey(l.g.now(), order{teks: []int{0}}) })
		after(time.Second)
		m.teks = map[uint32]time.Time{}
		l.s.handle(w, three)
		d, err := x.Finish(<-w.sent)
		if err != nil {
			t.Fatal(err)
		}
		m.install(t, d)
		if len(m.spis()) != 1 {
			t.Fatal("the offer is as it was")
		}
		after(time.Minute)
		if !slices.Equal(m.spis(), l.ringSPIs()) || len(m.spis()) != 2 {
			t.Errorf("member %v, key server %v", m.spis(), l.ringSPIs())
		}
		if n := m.numbers(); !slices.Equal(n, []uint32{1, 2}) {
			t.Errorf("told %v: once is enough for who answers", n)
		}
		// What was deleted meanwhile is never delivered.
		w, _, three = l.upToThree(t, m.addr.Addr(), ourVID, ours())
		l.g.Rekey(true, true)
		l.s.handle(w, three)
		if g := l.settle(); g.Rejected["stale-offer"] != 1 || len(w.sent) != 0 {
			t.Errorf("%v", g.Rejected)
		}
	})
}
