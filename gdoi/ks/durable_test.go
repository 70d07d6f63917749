package ks

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/ipsec"
)

// memSaver keeps the last state of each group.
type memSaver struct {
	d     map[string]durable
	saves int
	fail  error
}

func (s *memSaver) save(g string, d durable) error {
	if s.fail != nil {
		return s.fail
	}
	s.d[g], s.saves = d, s.saves+1
	return nil
}

func (s *memSaver) forget(g string) error { delete(s.d, g); return nil }

func (s *memSaver) load(g string) (durable, bool, error) { d, ok := s.d[g]; return d, ok, nil }

// restart ends the group's actor and starts another one from what was saved: in order,
// or as after a crash.
func (l *life) restart(t *testing.T, setup *Setup, crash bool) {
	t.Helper()
	st := l.s.o.State.(*memSaver)
	state := st.d["g"]
	l.cancel()
	<-l.g.done
	if crash {
		st.d["g"] = state // what the orderly end saved never was
	}
	l.s.Remove(l.g)
	l.add(t, setup)
}

// A key server that restarts goes on: same keys, same KEK, next number, same members;
// after a crash some numbers are skipped, none comes again.
func TestRestartGoesOn(t *testing.T) {
	for _, crash := range []bool{false, true} {
		setup := func() *Setup {
			s := lifeSetup(time.Hour, unicast(0, 0))
			s.Entries[0].Replay = ipsec.Replay{Mode: ipsec.ReplayTime, Window: 100}
			return s
		}
		testSigner()
		synctest.Test(t, func(t *testing.T) {
			st := &memSaver{d: map[string]durable{}}
			l := newLifeWith(t, setup(), st)
			m, n := l.join(t, 0), l.join(t, 1)
			for range 3 {
				l.g.Rekey(true, true)
				after(10 * time.Second)
			}
			before := l.group()
			l.restart(t, setup(), crash)
			after(time.Second)
			g := l.group()
			want, acks := uint32(4), uint64(4) // with time-based anti-replay members hear the time at once
			if crash {
				want, acks = seqBlock+1, 3 // what was counted since the last save is lost
			}
			if g.KEK.Seq != want {
				t.Errorf("crash %v: SEQ %d, want %d", crash, g.KEK.Seq, want)
			}
			if g.KEK.SPI != before.KEK.SPI || g.Members.Len() != 2 || g.Members.At(0).AcksRcvd != acks || !slices.Equal(m.spis(), l.ringSPIs()) {
				t.Errorf("crash %v: %+v", crash, g)
			}
			after(time.Minute)
			l.g.Rekey(true, true)
			after(time.Second)
			r := m.last()
			if len(m.bad) != 0 || len(n.bad) != 0 || r.Seq <= 3 || !slices.Equal(m.spis(), l.ringSPIs()) || m.joined != 1 {
				t.Errorf("crash %v: SEQ %d, %v", crash, r.Seq, m.bad)
			}
			if p := r.Offer.Clock.Pseudotime.Round(time.Second); p < 90*time.Second || p > 100*time.Second {
				t.Errorf("crash %v: pseudotime %v", crash, p)
			}
			if g := l.group(); g.Unanswered != 0 {
				t.Errorf("crash %v: %d unanswered", crash, g.Unanswered)
			}
		})
	}
}

// Nothing leaves that isn't saved: while the disk refuses, no rekey is sent and the old
// keys stay; then it goes out by itself.
func TestNoRekeyWithoutADisk(t *testing.T) {
	testSigner()
	synctest.Test(t, func(t *testing.T) {
		st := &memSaver{d: map[string]durable{}}
		l := newLifeWith(t, daily(), st)
		m := l.join(t, 0)
		old := l.ringSPIs()
		l.g.do(func() { st.fail = errors.New("disk full") })
		if err := l.g.Rekey(true, true); err == nil || !slices.Equal(old, l.ringSPIs()) {
			t.Error("a rekey was taken on without a disk")
		}
		after(time.Hour - 4*time.Minute)
		if len(m.numbers()) != 0 || l.events()["KSRekeyFailed"] == 0 {
			t.Error("a rekey left")
		}
		l.g.do(func() { st.fail = nil })
		after(10 * time.Second)
		if n := m.numbers(); len(n) != 1 || !slices.Equal(m.spis(), l.ringSPIs()) {
			t.Errorf("%v", n)
		}
	})
}

// Sequence numbers are saved in blocks, before the first of a block is used.
func TestSequenceIsReserved(t *testing.T) {
	testSigner()
	synctest.Test(t, func(t *testing.T) {
		st := &memSaver{d: map[string]durable{}}
		l := newLifeWith(t, daily(), st)
		l.join(t, 0)
		for range 3 * seqBlock {
			l.g.do(func() { l.g.rekey(l.g.now(), order{}) })
			after(time.Second)
			l.g.do(func() {
				d := st.d["g"]
				if k := d.KEKs[len(d.KEKs)-1]; k.Reserved < l.g.ring.kek.seq.last {
					t.Fatalf("number %d was used, %d is saved", l.g.ring.kek.seq.last, k.Reserved)
				}
			})
		}
	})
}

// Counter modes: state is taken up only when the ledger was closed in order and is of
// the same keys.
func TestRestartWithSenderIDs(t *testing.T) {
	for _, crash := range []bool{false, true} {
		setup := func() *Setup {
			s := daily()
			s.Entries[0].Transform = gcm128
			return s
		}
		testSigner()
		synctest.Test(t, func(t *testing.T) {
			st := &memSaver{d: map[string]durable{}}
			l := newLifeWith(t, setup(), st)
			l.join(t, 0)
			old := l.ringSPIs()
			if crash {
				l.disk.crash = func(string) error { return errors.New("crash") }
			}
			l.cancel()
			<-l.g.done
			l.disk.crash = func(string) error { return nil }
			l.s.Remove(l.g)
			l.add(t, setup())
			d := l.register(t, gmAddr(0), ours())
			if same := slices.Equal(old, l.ringSPIs()); same == crash {
				t.Errorf("crash %v: same keys %v", crash, same)
			}
			if want := uint32(1); !crash && d.KD.SIDs.Values[0] != want || crash && d.KD.SIDs.Values[0] != 0 {
				t.Errorf("crash %v: Sender ID %d", crash, d.KD.SIDs.Values[0])
			}
		})
	}
}
