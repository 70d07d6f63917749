package gm

// What a member does by its own configuration: directions, fail-close, recovery, tracked
// objects, acceptable policy, multicast.

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/config"
	"getvpn/gdoi/policy"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

// Directions: the command until the next rekey, the configuration, the key server.
func TestDirections(t *testing.T) {
	receiveOnly := func(s *server) {
		for i := range s.teks {
			s.teks[i].Direction = ipsec.InboundOnly
		}
	}
	type want struct {
		dir           string
		passive, only bool
	}
	both, optional, inbound := want{"Both", false, false}, want{"Inbound Optional", true, false}, want{"Inbound Only", false, true}
	check := func(t *testing.T, w *world, when string, x want) {
		t.Helper()
		p, g := w.plane.policy(), w.model()
		d := p.TEKs[len(p.TEKs)-1].Direction
		if g.Direction != x.dir || p.Passive != x.passive || p.ReceiveOnly != x.only || (d == ipsec.InboundOnly) != x.only {
			t.Errorf("%s: %s, passive %v, receive-only %v, TEK %v; want %+v", when, g.Direction, p.Passive, p.ReceiveOnly, d, x)
		}
	}
	live(t, func(t *testing.T) { // receive-only → passive → both
		s := newServer(t, 24*time.Hour)
		s.tek(300, 2*time.Hour)
		receiveOnly(s)
		w := newWorld(t, s)
		check(t, w, "receive-only", inbound)
		if n, _ := has[event.GMReceiveOnly](w.records()); n != 1 {
			t.Error("not told")
		}
		time.Sleep(time.Minute)
		s.tek(400, 2*time.Hour)
		s.teks = s.teks[1:]
		w.push(func(r *policy.Rekey) { r.Shorten = true })
		check(t, w, "converted", optional)
		if n, _ := has[event.GMConvertedDuplex](w.records()); n != 1 {
			t.Error("not told")
		}
		if in := time.Until(w.model().DirectionUntil); in != 5*time.Minute {
			t.Errorf("changes in %v", in)
		}
		for range 4 {
			time.Sleep(time.Minute)
			w.push(func(r *policy.Rekey) { r.Shorten = true }) // a repetition begins nothing
			if in := time.Until(w.model().DirectionUntil) % time.Minute; in != 0 {
				t.Errorf("changes %v later", in)
			}
		}
		w.m.Clear() // nor does a registration
		synctest.Wait()
		if in := time.Until(w.model().DirectionUntil); in != time.Minute {
			t.Errorf("changes in %v", in)
		}
		s.tek(500, 2*time.Hour)
		w.push(nil) // a rekey begins the five minutes anew
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		check(t, w, "4 minutes after the next rekey", optional)
		time.Sleep(time.Minute)
		synctest.Wait()
		check(t, w, "5 minutes after it", both)
		// And back.
		receiveOnly(s)
		w.push(nil)
		check(t, w, "receive-only again", inbound)
	})
	live(t, func(t *testing.T) { // the command
		s := newServer(t, 24*time.Hour)
		s.tek(300, 2*time.Hour)
		receiveOnly(s)
		w := newWorld(t, s)
		w.records()
		w.m.Direction(ipsec.InboundOptional)
		synctest.Wait()
		check(t, w, "inbound optional", optional)
		w.m.Direction(ipsec.Both)
		synctest.Wait()
		check(t, w, "both", both)
		if n, _ := has[event.GMConvertedDuplexLocal](w.records()); n != 1 || !w.model().DirectionByCommand {
			t.Error("not told")
		}
		w.m.Clear() // a registration isn't a rekey
		synctest.Wait()
		check(t, w, "registered again", both)
		w.push(nil)
		check(t, w, "after a repetition", both)
		s.tek(400, 2*time.Hour)
		receiveOnly(s)
		w.push(nil)
		check(t, w, "after the rekey", inbound)
	})
	live(t, func(t *testing.T) { // passive has priority over the key server
		s := newServer(t, 24*time.Hour)
		s.tek(300, 2*time.Hour)
		receiveOnly(s)
		w := newWorld(t, s, func(o *Options) { o.Group.Passive = true })
		check(t, w, "passive", optional)
		w.m.Direction(ipsec.InboundOnly)
		synctest.Wait()
		check(t, w, "the command over it", inbound)
		s.tek(400, 2*time.Hour)
		w.push(nil)
		check(t, w, "after the rekey", optional)
	})
}

// What is left when keys end, by configuration, and the way back.
func TestFailCloseMatrix(t *testing.T) {
	for _, x := range []struct {
		name           string
		active, revert bool
		before, during ipsec.PolicyState // before the first registration, and when keys have ended
	}{
		{"open", false, false, ipsec.Unregistered, ipsec.Registered},
		{"open revert", false, true, ipsec.Unregistered, ipsec.Registered}, // no map to go back to
		{"close", true, false, ipsec.Unregistered, ipsec.Registered},
		{"close revert", true, true, ipsec.Unregistered, ipsec.Unregistered},
	} {
		live(t, func(t *testing.T) {
			s := newServer(t, 24*time.Hour)
			s.tek(300, 20*time.Minute)
			s.setDown(true)
			w := newWorld(t, s, func(o *Options) {
				o.Attach[0].FailClose = ipsec.FailClose{Active: x.active, ACEs: []ipsec.ACE{ssh}}
				o.Group.Client.Revert = x.revert
			})
			if p := w.plane.policy(); w.plane.count() > 0 != x.active || p.State != x.before || p.FailClose.Active != x.active {
				t.Errorf("%s: unregistered: %+v", x.name, p)
			}
			s.setDown(false)
			time.Sleep(time.Minute)
			synctest.Wait()
			if p := w.plane.policy(); p.State != ipsec.Registered || w.plane.sending() != 300 {
				t.Fatalf("%s: didn't register: %+v", x.name, p)
			}
			s.setDown(true)
			w.records()
			time.Sleep(18 * time.Minute)
			synctest.Wait()
			if w.plane.policy().State != ipsec.Registered || w.plane.sending() != 300 {
				t.Errorf("%s: keys gone before their end", x.name)
			}
			if r := w.model().Removal; r.IsZero() != !(x.active && x.revert) {
				t.Errorf("%s: removal %v", x.name, r)
			}
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			p := w.plane.policy()
			if p.State != x.during || len(p.TEKs) != 0 || w.plane.sending() != 0 {
				t.Errorf("%s: keys ended: %+v", x.name, p)
			}
			if n, _ := has[event.GMPolicyCleanup](w.records()); (n == 1) != (x.during == ipsec.Unregistered) {
				t.Errorf("%s: %d cleanups", x.name, n)
			}
			if p.State == ipsec.Registered && len(p.Entries) != 2 {
				t.Errorf("%s: the list is gone, its permits would pass", x.name)
			}
			// It returns by itself.
			s.setDown(false)
			s.teks = nil
			s.tek(400, time.Hour)
			time.Sleep(61 * time.Second)
			synctest.Wait()
			if w.plane.policy().State != ipsec.Registered || w.plane.sending() != 400 || w.model().Status != model.Registered {
				t.Errorf("%s: didn't come back", x.name)
			}
		})
	}
}

// "clear crypto gdoi" with no key server in reach goes back to the fail-close map; with
// one, nothing stops meanwhile; without a map keys stay.
func TestClearWithoutKeyServer(t *testing.T) {
	for _, active := range []bool{false, true} {
		live(t, func(t *testing.T) {
			s := newServer(t, 24*time.Hour)
			s.tek(300, time.Hour)
			w := newWorld(t, s, func(o *Options) { o.Attach[0].FailClose.Active = active })
			w.m.Clear()
			synctest.Wait()
			if s.registrations() != 2 || w.plane.sending() != 300 {
				t.Errorf("active %v: %d registrations, sends with %d", active, s.registrations(), w.plane.sending())
			}
			s.setDown(true)
			w.m.Clear()
			synctest.Wait()
			if p := w.plane.policy(); active != (p.State == ipsec.Unregistered) || active == (len(p.TEKs) == 1) {
				t.Errorf("active %v: %+v", active, p)
			}
			s.setDown(false)
			time.Sleep(6 * time.Second)
			synctest.Wait()
			if w.plane.sending() != 300 {
				t.Errorf("active %v: didn't come back", active)
			}
		})
	}
}

// "clear crypto sa" registers again and never leads back to fail-close by itself: with no
// key server in reach keys stay to their end, and then "client fail-close revert" says
// what is next, as without it.
func TestClearSAsWithoutKeyServer(t *testing.T) {
	for _, revert := range []bool{false, true} {
		live(t, func(t *testing.T) {
			s := newServer(t, 24*time.Hour)
			s.tek(300, 20*time.Minute)
			w := newWorld(t, s, func(o *Options) {
				o.Attach[0].FailClose.Active, o.Group.Client.Revert = true, revert
			})
			w.m.ClearSAs()
			synctest.Wait()
			if s.registrations() != 2 || w.plane.sending() != 300 {
				t.Errorf("revert %v: %d registrations, sends with %d", revert, s.registrations(), w.plane.sending())
			}
			s.setDown(true)
			w.records()
			w.m.ClearSAs()
			w.at(19 * time.Minute)
			if p := w.plane.policy(); p.State != ipsec.Registered || w.plane.sending() != 300 || s.registrations() < 6 {
				t.Errorf("revert %v: %d registrations, %+v", revert, s.registrations(), p)
			}
			w.at(22 * time.Minute)
			if p := w.plane.policy(); revert != (p.State == ipsec.Unregistered) {
				t.Errorf("revert %v: when keys have ended: %+v", revert, p)
			}
			ev := w.records()
			cleared, _ := has[event.GMClearRegister](ev)
			if n, _ := has[event.GMPolicyCleanup](ev); cleared != 0 || (n == 1) != revert {
				t.Errorf("revert %v: %d cleanups, %d clears", revert, n, cleared)
			}
		})
	}
}

// Errors of the dataplane: the next server of the list, at a random moment, at most
// once an interval.
func TestRecoveryCheck(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, 4*time.Hour)
		w := newWorld(t, s, func(o *Options) { o.Group.Client.Recovery = 300 * time.Second })
		time.Sleep(time.Minute)
		w.records()
		for range 10 {
			w.m.DataError(InvalidSPI)
			w.m.DataError(ReplayFailed)
			synctest.Wait()
		}
		n, e := has[event.GMRecoveryRegistration](w.records())
		if n != 1 || e.Secs != 10 || s.registrations() != 1 {
			t.Fatalf("%d events, %d registrations", n, s.registrations())
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s.registrations() != 2 || s.pulls[1] != server2 || w.model().Recovery.Executed != 1 {
			t.Fatalf("registered with %v", s.pulls)
		}
		time.Sleep(100 * time.Second)
		w.records()
		w.m.DataError(DecryptFailed)
		synctest.Wait()
		p, pe := has[event.GMRecoveryPostponed](w.records())
		if p != 1 || pe.Secs < 190 || pe.Secs > 200 || w.model().Recovery.Postponed != 1 {
			t.Errorf("%d postponed, %d s", p, pe.Secs)
		}
		time.Sleep(180 * time.Second)
		if s.registrations() != 2 {
			t.Error("within the interval")
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if s.registrations() != 3 || s.pulls[2] != server1 {
			t.Errorf("registered with %v", s.pulls)
		}
	})
	live(t, func(t *testing.T) { // off by default
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s)
		w.m.DataError(InvalidSPI)
		time.Sleep(time.Minute)
		if s.registrations() != 1 {
			t.Error("recovers without being told to")
		}
	})
}

type tracking struct {
	states []bool
	err    error
}

func (k *tracking) Set(up bool) error { k.states = append(k.states, up); return k.err }

func TestTrackFollowsTheKeys(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, 10*time.Minute)
		s.setDown(true)
		k := &tracking{}
		w := newWorld(t, s, func(o *Options) { o.Tracker = k; o.Group.Client.Track = 99 })
		s.setDown(false)
		time.Sleep(time.Minute)
		s.setDown(true)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if !slices.Equal(k.states, []bool{false, true, false}) || w.model().Track != (model.GMTrack{ID: 99}) {
			t.Errorf("set to %v", k.states)
		}
		k.err = errors.New("read-only file system")
		s.teks = nil
		s.tek(400, time.Hour)
		s.setDown(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		ev := w.records()
		if n, _ := has[event.GMTrack](ev); n != 3 {
			t.Errorf("%d events", n)
		}
		if n, e := has[event.GMTrackError](ev); n != 1 || e.ID != 99 || e.State != "UP" {
			t.Errorf("%d errors, %+v", n, e)
		}
	})
}

// client rekey encryption, client rekey hash, client transform-sets.
func TestAcceptablePolicy(t *testing.T) {
	gcm256 := ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: 256, ICVLen: 16}
	for _, x := range []struct {
		name, item string
		client     config.Client
		ok         bool
	}{
		{"anything", "", config.Client{}, true},
		{"cipher", "", config.Client{RekeyCiphers: []config.RekeyCipher{{Encr: config.Encr3DES}, {Encr: config.EncrAES, KeyBits: 128}}}, true},
		{"other cipher", "encryption", config.Client{RekeyCiphers: []config.RekeyCipher{{Encr: config.EncrAES, KeyBits: 256}}}, false},
		{"hash", "", config.Client{RekeyHashes: []string{"sha256"}}, true},
		{"other hash", "hash", config.Client{RekeyHashes: []string{"sha", "sha512"}}, false},
		{"transform", "", config.Client{TransformSets: []string{"T256", "T128"}}, true},
		{"other transform", "", config.Client{TransformSets: []string{"T256"}}, false},
	} {
		live(t, func(t *testing.T) {
			s := newServer(t, 24*time.Hour)
			s.tek(300, time.Hour)
			asConfigured := ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: 128} // 16 octets of ICV go without saying
			sets := []config.TransformSet{{Name: "T128", Transform: asConfigured}, {Name: "T256", Transform: gcm256}}
			w := newWorld(t, s, func(o *Options) { o.Accept = AcceptOf(x.client, sets) })
			ev := w.records()
			n, e := has[event.GMRejectingSAPayload](ev)
			c, ce := has[event.GMRekeyCipherHash](ev)
			if x.ok != (w.plane.sending() == 300) || x.ok == (n > 0) || !x.ok && (e.KS != server2 || !strings.Contains(e.Reason, "acceptable")) {
				t.Errorf("%s: %v", x.name, ev)
			}
			if (x.item != "") != (c > 0) || ce.Item != x.item {
				t.Errorf("%s: %d, %+v", x.name, c, ce)
			}
		})
	}
	live(t, func(t *testing.T) { // a rekey with what isn't taken
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s, func(o *Options) { o.Accept.Transforms = []ipsec.Transform{gcm} })
		w.records()
		x := s.tek(400, time.Hour)
		x.Transform, x.Key = gcm256, make([]byte, 36)
		s.teks[1] = x
		w.push(nil)
		ev := w.records()
		if n, _ := has[event.GMRejectingSAPayload](ev); n != 1 || len(w.plane.receives()) != 1 || len(w.w.sent()) != 0 || w.model().RekeysRefused["policy-rejected"] != 1 {
			t.Errorf("%v", ev)
		}
	})
}

type joiner struct {
	mu     sync.Mutex
	joined map[Membership]int
	fail   error
}

func (j *joiner) Join(iface string, group, source netip.Addr) (func(), error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fail != nil {
		return nil, j.fail
	}
	k := Membership{iface, group, source}
	j.joined[k]++
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.joined[k]--
	}, nil
}

// Rekeys by multicast: any source, or the key server's in the ranges where one must be
// named; the group is left when another or unicast takes its place. ACKs are spread.
func TestMulticastRekeys(t *testing.T) {
	group := func(s string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(s), 848) }
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, 4*time.Hour)
		s.kek.Dst = group("239.1.1.1")
		j := &joiner{joined: map[Membership]int{}, fail: errors.New("no such device")}
		w := newWorld(t, s, func(o *Options) { o.Joiner = j })
		if n, e := has[event.GMJoinFailed](w.records()); n != 1 || e.Address != s.kek.Dst.Addr() || e.Interface != "eth0" {
			t.Errorf("%d, %+v", n, e)
		}
		j.mu.Lock()
		j.fail = nil
		j.mu.Unlock()
		time.Sleep(rejoin)
		synctest.Wait()
		asm := Membership{"eth0", netip.MustParseAddr("239.1.1.1"), netip.Addr{}}
		if j.joined[asm] != 1 || !slices.Equal(w.model().Joined, []netip.Addr{asm.Group}) {
			t.Fatalf("joined %v", j.joined)
		}
		w.deliverTo(w.seal(s.sa(), w.rekey(nil), s.key), s.kek.Dst)
		if n, e := has[event.GMRecvRekey](w.records()); n != 1 || e.Dst != asm.Group {
			t.Error("not taken")
		}
		if len(w.w.sent()) != 0 {
			t.Error("acknowledged at once")
		}
		time.Sleep(ackJitter)
		synctest.Wait()
		if a := w.w.sent(); len(a) != 1 || a[0].Local.Addr() != memberAddr.Addr() || a[0].Remote != serverPort {
			t.Errorf("acknowledged %v", a)
		}
		// Another group, source-specific, with a new KEK.
		roll := func(dst string) {
			old, r := s.sa(), w.rekey(nil)
			s.newKEK(t, 24*time.Hour)
			s.kek.Dst = group(dst)
			o := s.offer()
			r.Offer.KEK = o.KEK
			w.deliver(w.seal(old, r, s.key))
			time.Sleep(rollingOver)
			synctest.Wait()
			w.push(nil)
		}
		roll("232.1.1.1")
		ssm := Membership{"eth0", netip.MustParseAddr("232.1.1.1"), server1}
		if j.joined[ssm] != 1 || j.joined[asm] != 0 {
			t.Errorf("joined %v", j.joined)
		}
		w.records()
		roll("0.0.0.0")
		if n, _ := has[event.GMRekeyToUnicast](w.records()); n != 1 || j.joined[ssm] != 0 {
			t.Errorf("joined %v", j.joined)
		}
	})
}

// A member restarted under counter replay and CBC begins behind all that it can have
// sent, also under a TEK that a rekey brought.
func TestRestartUnderCounterReplay(t *testing.T) {
	live(t, func(t *testing.T) {
		cbc := ipsec.Transform{Cipher: ipsec.CipherAESCBC, KeyBits: 128, Auth: ipsec.AuthSHA256}
		s := newServer(t, 24*time.Hour)
		make1 := func(spi uint32) {
			x := s.tek(spi, time.Hour)
			x.Transform, x.Key, x.AuthKey = cbc, slices.Repeat([]byte{byte(spi)}, 16), make([]byte, 32)
			x.Replay = ipsec.Replay{Mode: ipsec.ReplayCounter, Window: 64}
			s.teks[len(s.teks)-1] = x
		}
		make1(300)
		w := newWorld(t, s)
		time.Sleep(30 * time.Minute)
		make1(400)
		time.Sleep(3 * time.Second) // on its way
		w.push(nil)
		first := func(p ipsec.GroupPolicy, spi uint32) uint32 {
			for _, x := range p.TEKs {
				if x.SPI == spi {
					return x.FirstSeq
				}
			}
			return 0
		}
		began := first(w.plane.policy(), 400)
		if began == 0 || began > 1<<32/1000 {
			t.Errorf("a member that got it in time begins at %d", began)
		}
		// 100,000 packets a second for 20 minutes, then the restart: another process.
		time.Sleep(20 * time.Minute)
		again := newWorld(t, s)
		if got := first(again.plane.policy(), 400); uint64(got) < uint64(began)+20*60*100_000 {
			t.Errorf("restarted: begins at %d, had begun at %d", got, began)
		}
		synctest.Wait()
	})
}
