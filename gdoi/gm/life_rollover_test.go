package gm

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/policy"
	"getvpn/ipsec"
	"getvpn/model/event"
)

// Case esp-12: what the replaced policy doesn't name keeps 360 of 5000 s, and with 60 s
// left it stays 60 s; traffic moves to the new SA when peers have it.
func Test_esp_12(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, 7200*time.Second)
		w := newWorld(t, s)
		w.at(2200 * time.Second)
		s.teks = nil
		s.tek(400, 7200*time.Second)
		w.push(func(r *policy.Rekey) { r.Shorten = true })
		ends := func(spi uint32) time.Duration {
			for _, x := range w.plane.policy().TEKs {
				if x.SPI == spi {
					return time.Until(x.Expires)
				}
			}
			return 0
		}
		if got := ends(300); got < 359*time.Second || got > 361*time.Second {
			t.Errorf("the old one has %v left", got)
		}
		if w.plane.sending() != 300 {
			t.Error("sends with the new one before peers can have it")
		}
		time.Sleep(activation)
		synctest.Wait()
		if w.plane.sending() != 400 {
			t.Errorf("sends with %d", w.plane.sending())
		}
		g := w.model()
		if !g.TEKs[0].Sending && !g.TEKs[1].Sending || !g.TEKs[1].Replaced && !g.TEKs[0].Replaced {
			t.Errorf("published %+v", g.TEKs)
		}
		time.Sleep(360 * time.Second)
		synctest.Wait()
		if got := w.plane.receives(); !slices.Equal(got, []uint32{400}) {
			t.Errorf("receives with %v", got)
		}
	})
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, 120*time.Second)
		w := newWorld(t, s)
		w.at(60 * time.Second)
		s.teks = nil
		s.tek(400, 7200*time.Second)
		w.push(func(r *policy.Rekey) { r.Shorten = true })
		if x := w.plane.policy().TEKs[0]; x.SPI != 300 || time.Until(x.Expires) < 59*time.Second || time.Until(x.Expires) > 60*time.Second {
			t.Errorf("%v left of 60 s", time.Until(x.Expires))
		}
	})
}

// replace-now: the deleted TEK isn't sent with once its successor may be, and is
// received with for a few seconds more; then it is gone.
func TestReplaceNow(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s)
		w.at(10 * time.Minute)
		w.records()
		s.teks = nil
		s.tek(400, time.Hour)
		w.push(func(r *policy.Rekey) { r.Delete.TEKs = []uint32{300} })
		if n, _ := has[event.GMRecvPolicyReplaceNow](w.records()); n != 1 {
			t.Error("not told")
		}
		if w.plane.sending() != 300 || len(w.plane.receives()) != 2 {
			t.Errorf("at once: sends with %d", w.plane.sending())
		}
		time.Sleep(activation)
		synctest.Wait()
		if w.plane.sending() != 400 || len(w.plane.receives()) != 2 {
			t.Errorf("after %v: sends with %d, receives with %v", activation, w.plane.sending(), w.plane.receives())
		}
		time.Sleep(lingering)
		synctest.Wait()
		if got := w.plane.receives(); !slices.Equal(got, []uint32{400}) {
			t.Errorf("receives with %v", got)
		}
	})
}

// replace-now every two seconds, 200 times, three members; each rekey is lost for a
// member with a chance of one in four, and comes up to half a second late. No packet
// meets a peer without its key, senders change over for each, and what is held is
// bounded.
func TestReplaceNowStorm(t *testing.T) {
	live(t, func(t *testing.T) {
		const members, rekeys = 3, 200
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		var ws []*world
		for range members {
			ws = append(ws, newWorld(t, s))
		}
		rnd := uint64(1)
		random := func(n uint64) uint64 { rnd = rnd*6364136223846793005 + 1442695040888963407; return rnd >> 33 % n }
		var switches [members]int
		var last [members]uint32
		most := 0
		look := func() {
			for i, w := range ws {
				spi := w.plane.sending()
				if spi == 0 {
					t.Fatalf("member %d sends with nothing", i)
				}
				if spi != last[i] {
					switches[i]++
					last[i] = spi
				}
				for j, peer := range ws {
					if !slices.Contains(peer.plane.receives(), spi) {
						t.Fatalf("member %d sends with %d, member %d has %v", i, spi, j, peer.plane.receives())
					}
				}
				most = max(most, len(w.plane.receives()))
			}
		}
		// The key server keeps what it deleted in its messages while it lingers.
		deleted := map[uint32]time.Time{}
		const activate, linger = 12 * time.Second, 17 * time.Second
		for i := range rekeys {
			now := time.Now()
			deleted[s.teks[len(s.teks)-1].SPI] = now
			s.teks = slices.DeleteFunc(s.teks, func(x policy.TEK) bool {
				at, ok := deleted[x.SPI]
				return ok && now.Sub(at) >= linger
			})
			s.tek(uint32(1000+i), time.Hour)
			r := ws[0].rekey(func(r *policy.Rekey) {
				r.Offer.Activation, r.Offer.Deactivation = activate, linger
				for i := range r.Offer.TEKs {
					x := &r.Offer.TEKs[i]
					if at, ok := deleted[x.SPI]; ok {
						x.Lifetime = min(x.Lifetime, max(time.Second, linger-now.Sub(at)))
						r.Delete.TEKs = append(r.Delete.TEKs, x.SPI)
					}
				}
			})
			d := ws[0].seal(s.sa(), r, s.key)
			for _, w := range ws {
				if random(4) == 0 {
					continue
				}
				time.AfterFunc(time.Duration(random(500))*time.Millisecond, func() {
					f := w.w.handlers[s.kek.SPI]
					f(rekeyDatagram(d))
				})
			}
			for range 20 {
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
				look()
			}
		}
		for i, n := range switches {
			if n < rekeys-8 {
				t.Errorf("member %d changed over %d times", i, n)
			}
		}
		if most > 16 {
			t.Errorf("up to %d TEKs at once", most)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		look()
		for _, w := range ws {
			if got := w.plane.receives(); len(got) != 1 {
				t.Errorf("afterwards: %v", got)
			}
		}
		if s.registrations() != members {
			t.Errorf("%d registrations", s.registrations())
		}
	})
}

// "clear crypto gdoi ks members": without now keys are shortened and the member comes
// back before they end; with now everything goes at once.
func TestMembersCleared(t *testing.T) {
	del := func(d gdoi.Delete) func(*policy.Rekey) {
		return func(r *policy.Rekey) { r.Offer, r.Delete = nil, d }
	}
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s)
		w.records()
		w.push(del(gdoi.Delete{AllKEKs: true}))
		if n, _ := has[event.GMRecvDelete](w.records()); n != 1 || w.model().KEK != nil || w.plane.sending() != 300 {
			t.Errorf("KEK %v, sends with %d", w.model().KEK, w.plane.sending())
		}
		if x := time.Until(w.plane.policy().TEKs[0].Expires); x < 170*time.Second || x > 181*time.Second {
			t.Errorf("%v left", x)
		}
		if len(w.w.sent()) != 1 {
			t.Error("a rekey that deletes its own KEK wasn't acknowledged (RFC 8263 §4)")
		}
		time.Sleep(leavingPeriod)
		synctest.Wait()
		if s.registrations() != 2 || w.plane.sending() == 0 {
			t.Errorf("%d registrations", s.registrations())
		}
	})
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s)
		w.records()
		s.setDown(true)
		w.push(del(gdoi.Delete{AllKEKs: true, AllTEKs: true}))
		n, e := has[event.GMRecvDeleteImmediate](w.records())
		if n != 1 || e.Secs != 10 || len(w.plane.receives()) != 0 || w.plane.sending() != 0 || w.model().KEK != nil {
			t.Errorf("receives with %v", w.plane.receives())
		}
		if p := w.plane.policy(); p.State != ipsec.Registered || len(p.Entries) != 2 {
			t.Errorf("permits don't drop: %+v", p)
		}
		s.setDown(false)
		s.teks = nil
		s.tek(400, time.Hour)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s.registrations() < 2 || w.plane.sending() != 400 {
			t.Errorf("%d registrations, sends with %d", s.registrations(), w.plane.sending())
		}
	})
}

// The vendor guide's pseudotime check, with its own example.
func TestPseudotimeOfRekeys(t *testing.T) {
	for _, x := range []struct {
		name         string
		window       int
		ahead        time.Duration // of the rekey's pseudotime
		taken, large bool
	}{
		{"same", 100, 0, true, false}, {"ahead within", 100, 29 * time.Second, true, false}, {"ahead", 100, 31 * time.Second, true, true},
		{"far ahead", 100, 9951 * time.Second, true, true}, {"behind within", 100, -29 * time.Second, true, false},
		{"behind", 100, -31 * time.Second, false, false}, {"small window", 5, -6 * time.Second, false, false}, {"small window within", 5, -4 * time.Second, true, false},
	} {
		live(t, func(t *testing.T) {
			s := newServer(t, 24*time.Hour)
			s.clock = &policy.Clock{Pseudotime: 10057 * time.Second, Tick: 100 * time.Millisecond, Header: 12}
			a := s.tek(300, time.Hour)
			a.Replay = ipsec.Replay{Mode: ipsec.ReplayTime, Window: x.window}
			s.teks[0] = a
			w := newWorld(t, s)
			time.Sleep(10 * time.Minute)
			w.records()
			ours := 10057*time.Second + 10*time.Minute
			if p := w.plane.policy().Pseudo; p == nil || p.Value != 10057*time.Second || p.Boot != 0 || p.Tick != 100*time.Millisecond {
				t.Fatalf("the dataplane's clock is %+v", p)
			}
			w.push(func(r *policy.Rekey) { r.Offer.Clock.Pseudotime = ours + x.ahead })
			ev := w.records()
			n, _ := has[event.GMRecvRekey](ev)
			l, le := has[event.GMPseudotimeLarge](ev)
			o, oe := has[event.GMPseudotimeTooOld](ev)
			if x.taken != (n == 1) || x.large != (l == 1) || x.taken == (o == 1) {
				t.Errorf("%s: %v", x.name, ev)
			}
			want := ours
			if x.taken {
				want += x.ahead
			}
			p := w.plane.policy().Pseudo
			if got := p.Value + w.c.Boot() - p.Boot; got != want {
				t.Errorf("%s: pseudotime %v, want %v", x.name, got, want)
			}
			if l == 1 && (le.KS != seconds(ours+x.ahead) || le.GM != seconds(ours)) {
				t.Errorf("%s: %+v", x.name, le)
			}
			if o == 1 && (oe.Skew != seconds(policy.Skew(time.Duration(x.window)*time.Second)) || w.model().RekeysRefused["pseudotime-old"] != 1 || len(w.w.sent()) != 0) {
				t.Errorf("%s: %+v, refused %v", x.name, oe, w.model().RekeysRefused)
			}
		})
	}
}

// Case esp-09: lifetimes and the pseudotime run on boot time; after a suspend the
// member doesn't send before it has registered again, and says so once.
func Test_esp_09_Suspend(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.clock = &policy.Clock{Tick: 100 * time.Millisecond, Header: 12}
		a := s.tek(300, time.Hour)
		a.Replay = ipsec.Replay{Mode: ipsec.ReplayTime, Window: 20}
		s.teks[0] = a
		w := newWorld(t, s)
		w.c.Step(-365 * 24 * time.Hour)
		time.Sleep(time.Minute)
		w.c.Step(2 * 365 * 24 * time.Hour)
		time.Sleep(time.Minute)
		synctest.Wait()
		if w.plane.sending() != 300 || s.registrations() != 1 {
			t.Fatal("a clock step did something")
		}
		w.records()
		s.setDown(true)
		w.c.Suspend(90 * time.Second)
		w.m.Slept(90 * time.Second)
		synctest.Wait()
		ev := w.records()
		if n, e := has[event.GMSlept](ev); n != 1 || e.Secs != 90 {
			t.Errorf("events %v", ev)
		}
		// Both servers were tried in vain by now: nobody can tell a better time.
		if w.plane.sending() != 300 {
			t.Errorf("without a key server: sends with %d", w.plane.sending())
		}
		if x := time.Until(w.plane.policy().TEKs[0].Expires); x > 3600*time.Second-120*time.Second-90*time.Second {
			t.Errorf("%v left: the suspended time doesn't count", x)
		}
		p := w.plane.policy().Pseudo
		if got := p.Value + w.c.Boot() - p.Boot; got != 2*time.Minute+90*time.Second {
			t.Errorf("pseudotime %v", got)
		}
	})
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.clock = &policy.Clock{Tick: 100 * time.Millisecond, Header: 12}
		a := s.tek(300, time.Hour)
		a.Replay = ipsec.Replay{Mode: ipsec.ReplayTime, Window: 20}
		s.teks[0] = a
		slow := make(chan struct{})
		first := true
		w := newWorld(t, s, func(o *Options) {
			o.Puller = pullFunc(func(ctx context.Context, r PullRequest) (*PullResult, error) {
				if !first {
					<-slow
				}
				first = false
				return s.Pull(ctx, r)
			})
		})
		w.c.Suspend(90 * time.Second)
		w.m.Slept(90 * time.Second)
		synctest.Wait()
		if w.plane.sending() != 0 || len(w.plane.receives()) != 1 {
			t.Errorf("before the registration: sends with %d", w.plane.sending())
		}
		close(slow)
		synctest.Wait()
		if w.plane.sending() != 300 || s.registrations() != 2 {
			t.Errorf("after it: sends with %d", w.plane.sending())
		}
	})
	live(t, func(t *testing.T) { // keys that ended meanwhile are gone, though no timer fired
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s)
		s.setDown(true)
		w.c.Suspend(2 * time.Hour)
		w.m.Slept(2 * time.Hour)
		synctest.Wait()
		if len(w.plane.receives()) != 0 || w.plane.sending() != 0 {
			t.Errorf("receives with %v", w.plane.receives())
		}
	})
}
