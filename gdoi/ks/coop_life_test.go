package ks

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"getvpn/config"
	"getvpn/gdoi/coop"
	"getvpn/ipsec"
	"getvpn/model"
)

// What is told of a split and a merge, once each, and what the model shows.
func Test_coop_01_SplitIsToldAndShown(t *testing.T) {
	among(t, 2, nil, func(t *testing.T, l *league) {
		after(10 * time.Second)
		a, b := l.ks[0], l.ks[1]
		for i := range 20 {
			l.join(i, l.ks[i%2])
		}
		after(20 * time.Second)
		if e := a.events(); e["CoopPeerAdded"] != 1 || e["CoopElection"] != 1 || e["CoopBecamePrimary"] != 1 || e["CoopUnreachable"] != 0 {
			t.Errorf("the first tells %v", e)
		}
		if e := b.events(); e["CoopPeerAdded"] != 1 || e["CoopElection"] != 1 || e["CoopBecamePrimary"] != 0 {
			t.Errorf("the second tells %v", e)
		}
		x, y := a.model().Coop, b.model().Coop
		if x.Role != model.CoopPrimary || y.Role != model.CoopSecondary || y.Primary != a.addr || x.Peers[0].Status != model.CoopAlive ||
			!x.Peers[0].IKE || x.Peers[0].Registered != 10 || y.Peers[0].Role != model.CoopPrimary || y.Peers[0].Sequence == 0 ||
			x.Peers[0].Counters.AnnSent == 0 || x.Next.IsZero() || y.Gate != model.CoopOpen || x.Version != y.Peers[0].Version {
			t.Errorf("shown: %+v and %+v", x, y)
		}
		l.apart(0, 1)
		after(180 * time.Second)
		for _, s := range l.ks {
			if err := s.g.Rekey(false, false); err != nil {
				t.Fatal(err)
			}
			if c := s.model().Coop; c.Role != model.CoopPrimary || c.Peers[0].Status != model.CoopDead || c.Peers[0].IKE {
				t.Errorf("shown in the split: %+v", c)
			}
		}
		after(30 * time.Second)
		if e := a.events(); e["CoopUnreachable"] != 1 || e["CoopElection"] != 0 {
			t.Errorf("the first tells %v of the split", e)
		}
		if e := b.events(); e["CoopUnreachable"] != 1 || e["CoopElection"] != 1 || e["CoopBecamePrimary"] != 1 {
			t.Errorf("the second tells %v of the split", e)
		}
		l.apart(0, 0)
		after(40 * time.Second) // two announcements
		if e := a.events(); e["CoopReachable"] != 1 || e["CoopElection"] != 0 {
			t.Errorf("the first tells %v of the merge", e)
		}
		if e := b.events(); e["CoopReachable"] != 1 || e["CoopBecamePrimary"] != 0 {
			t.Errorf("the second tells %v of the merge", e)
		}
		if a.role() != coop.Primary || b.role() != coop.Secondary {
			t.Errorf("roles %v and %v", a.role(), b.role())
		}
		teks, kek := a.ring()
		for i, m := range l.gms {
			if !subset(teks, m.spis()) || len(m.faults()) > 0 || m.kek() != kek {
				t.Errorf("member %d has %x of %x, %v", i, m.spis(), teks, m.faults())
			}
		}
	})
}

// All key servers stop and start again: their keys go on, whoever is primary then, and
// no number is used twice.
func TestAllKeyServersRestart(t *testing.T) {
	for _, orderly := range []bool{true, false} {
		among(t, 3, nil, func(t *testing.T, l *league) {
			after(10 * time.Second)
			for i := range 6 {
				l.join(i, l.ks[i%3])
			}
			after(5 * time.Second)
			if err := l.ks[0].g.Rekey(false, false); err != nil {
				t.Fatal(err)
			}
			after(30 * time.Second)
			teks, _ := l.ks[0].ring()
			for _, s := range l.ks {
				if orderly {
					s.stop()
				} else {
					s.kill()
				}
			}
			after(time.Minute)
			for _, s := range l.ks {
				s.restart(s.setup)
			}
			after(time.Minute)
			p := slices.IndexFunc(l.ks, func(s *server) bool { return s.role() == coop.Primary })
			if p < 0 {
				t.Fatal("no primary")
			}
			now, kek := l.ks[p].ring()
			if !subset(teks, now) {
				t.Errorf("orderly %v: TEKs %x before, %x after", orderly, teks, now)
			}
			for i, s := range l.ks {
				if x, y := s.ring(); !slices.Equal(x, now) || y != kek || s.model().Members.Len() != 6 || !s.open() {
					t.Errorf("orderly %v: ks%d has %x of %x, %d members", orderly, i+1, x, now, s.model().Members.Len())
				}
			}
			if err := l.ks[p].g.Rekey(false, false); err != nil {
				t.Fatal(err)
			}
			after(30 * time.Second)
			now, kek = l.ks[p].ring()
			for i, m := range l.gms {
				if !slices.Equal(m.spis(), now) || len(m.faults()) > 0 || m.kek() != kek {
					t.Errorf("orderly %v: member %d has %x of %x, numbers %v, %v", orderly, i, m.spis(), now, m.numbers(), m.faults())
				}
			}
		})
	}
}

// Redundancy is switched on at two key servers that each have members of their own, and
// off again: no member is lost.
func TestRedundancySwitchedOnAndOff(t *testing.T) {
	var parties [2]*CoopSetup
	among(t, 2, func(i int, s *Setup) { parties[i], s.Coop = s.Coop, nil }, func(t *testing.T, l *league) {
		a, b := l.ks[0], l.ks[1]
		for i := range 6 {
			l.join(i, l.ks[i%2])
		}
		after(5 * time.Second)
		one, _ := a.ring()
		two, _ := b.ring()
		for i, s := range l.ks {
			x := *s.setup
			x.Coop = parties[i]
			if err := s.g.Apply(&x, config.Effects{}); err != nil {
				t.Fatal(err)
			}
		}
		after(time.Minute)
		if a.role() != coop.Primary || b.role() != coop.Secondary {
			t.Fatalf("roles %v and %v", a.role(), b.role())
		}
		teks, kek := a.ring()
		for i, m := range l.gms {
			if !subset(one, m.spis()) || !subset(two, m.spis()) || !subset(teks, m.spis()) || m.kek() != kek {
				t.Errorf("member %d has %x of %x", i, m.spis(), teks)
			}
		}
		for _, s := range l.ks {
			if err := s.g.Apply(lonely(s.setup), config.Effects{}); err != nil {
				t.Fatal(err)
			}
		}
		after(2 * time.Minute)
		if c := a.model().Coop; c != nil {
			t.Errorf("shown: %+v", c)
		}
		teks, _ = a.ring()
		for i, m := range l.gms {
			if i%2 == 0 && !subset(teks, m.spis()) {
				t.Errorf("member %d has %x of %x alone", i, m.spis(), teks)
			}
			if len(m.faults()) > 0 {
				t.Errorf("member %d: %v", i, m.faults())
			}
		}
		l.join(1, b)
	})
}

func lonely(s *Setup) *Setup {
	n := *s
	n.Coop = nil
	return &n
}

// A secondary makes no keys and tells no members anything, whoever orders it to.
func TestSecondaryRefusesOrders(t *testing.T) {
	among(t, 2, nil, func(t *testing.T, l *league) {
		after(10 * time.Second)
		b := l.ks[1]
		for i := range 2 {
			l.join(i, b)
		}
		for _, err := range []error{b.g.Rekey(false, false), b.g.ClearMembers(true), b.g.ClearPolicy()} {
			if err != errNotPrimary {
				t.Errorf("%v", err)
			}
		}
		if err := b.g.Clear(); err != nil { // opens registrations, if they were closed
			t.Error(err)
		}
		teks, kek := b.ring()
		x := *b.setup
		x.Entries = append(slices.Clone(x.Entries), SetupEntry{Seq: 2, Transform: cbc128, Lifetime: time.Hour, ACEs: permit(1)})
		if err := b.g.Apply(&x, config.Effects{NewTEKs: []int{1}, Rekey: true}); err != nil {
			t.Fatal(err)
		}
		after(5 * time.Second)
		if t2, k2 := b.ring(); !slices.Equal(teks, t2) || kek != k2 {
			t.Errorf("%x %x became %x %x", teks, kek, t2, k2)
		}
		if b.open() {
			t.Error("members are registered for an entry without a key")
		}
		if e := b.events(); e["CoopConfigMismatch"] == 0 {
			t.Errorf("told: %v", e)
		}
	})
}

// The pseudotime of all key servers is one, through a change of roles (guide, pseudotime
// of announcements).
func TestPseudotimeIsOne(t *testing.T) {
	among(t, 2, func(_ int, s *Setup) { s.Entries[0].Replay = ipsec.Replay{Mode: ipsec.ReplayTime, Window: 20} }, func(t *testing.T, l *league) {
		after(10 * time.Second)
		for i := range 2 {
			l.join(i, l.ks[i])
		}
		after(10 * time.Minute)
		read := func() (v [2]time.Duration) {
			for i, s := range l.ks {
				s.in(func(g *Group) { v[i] = g.pseudo.at(g.now()) })
			}
			return v
		}
		if v := read(); (v[0]-v[1]).Abs() > 100*time.Millisecond || v[0] < 10*time.Minute {
			t.Errorf("pseudotimes %v", v)
		}
		l.ks[0].kill()
		after(2 * time.Minute)
		l.ks[0].disk.m, l.ks[0].state.d = nil, map[string]durable{}
		l.ks[0].restart(l.ks[0].setup)
		after(time.Minute)
		if v := read(); (v[0]-v[1]).Abs() > 100*time.Millisecond || v[0] < 13*time.Minute {
			t.Errorf("pseudotimes %v after a restart", v)
		}
	})
}

// Rows are kept as they are, and nothing that isn't one is taken.
func TestSharedRowsKeepEverything(t *testing.T) {
	r := sharedRow{Path: gmPath(3), Alt: gmAddr(4), NAT: true, Identity: "gm", Version: "1.0.17", Registered: time.Unix(5, 6), LastPull: time.Unix(7, 8),
		Registrations: 9, SIDs: []uint32{1, 1 << 31}, KEK: [16]byte{1, 2}, Generation: Generation{3}, Keys: coop.KeysID{Maker: gmAddr(5), Epoch: 1 << 40, Version: 2}}
	b, err := r.encode()
	if err != nil || len(b) > 200 {
		t.Fatal(len(b), err)
	}
	if got, err := decodeRow(b); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, %v", got, err)
	}
	lr := ledgerRow{sharedLedger{ledgerID{1}, 24, []coop.SIDRange{{Low: 1, High: 2}}}, Generation{4}}
	if b, err = lr.encode(); err != nil {
		t.Fatal(err)
	}
	if got, err := decodeLedgerRow(b); err != nil || !reflect.DeepEqual(got, lr) {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzDecodeSharedRows(f *testing.F) {
	r := sharedRow{Path: gmPath(3), Alt: gmAddr(4)}
	b, _ := r.encode()
	f.Add(b)
	lr := ledgerRow{sharedLedger{ledgerID{1}, 24, []coop.SIDRange{{Low: 1, High: 2}}}, Generation{4}}
	b, _ = lr.encode()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRow(b); err == nil {
			if again, err := r.encode(); err != nil || len(again) > len(b) {
				t.Errorf("%x became %x, %v", b, again, err)
			}
		}
		if r, err := decodeLedgerRow(b); err == nil {
			if _, err := r.encode(); err != nil {
				t.Error(err)
			}
		}
	})
}
