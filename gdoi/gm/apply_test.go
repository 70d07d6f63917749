package gm

// A changed setup of a running member: what stays, what takes effect and when.

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/ipsec"
	"getvpn/model/event"
)

// board is a dataplane by interface.
type board struct {
	mu   sync.Mutex
	now  map[string]ipsec.GroupPolicy
	full string // an interface without room
}

func (b *board) Install(p ipsec.GroupPolicy) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.Interface == b.full {
		return errors.New("no room")
	}
	b.now[p.Interface] = p
	return nil
}

func (b *board) Remove(_, iface string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.now, iface)
	return nil
}

func (b *board) on(iface string) (ipsec.GroupPolicy, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.now[iface]
	return p, ok
}

// changed is a member's setup with a change.
func changed(m *Member, f func(*Setup)) Setup {
	s := m.o.Setup
	s.Attach = slices.Clone(s.Attach)
	f(&s)
	return s
}

// apply gives the member a changed setup.
func (w *world) apply(f func(*Setup)) {
	w.t.Helper()
	if err := w.m.Apply(changed(w.m, f)); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

func (s *server) asked() []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pulls)
}

// What the dataplane is told at once, and what else stays: keys, registration, rekey SA.
func TestApplyKeepsWhatIsHeld(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		b := &board{now: map[string]ipsec.GroupPolicy{}}
		w := newWorld(t, s, func(o *Options) { o.Inst = b })
		time.Sleep(time.Minute)
		synctest.Wait()
		w.records()
		was := w.model()

		telnet := ipsec.ACE{Seq: 10, Action: ipsec.Deny, Proto: 6, DstPort: ipsec.PortMatch{Op: ipsec.PortEq, Lo: 23}}
		w.apply(func(s *Setup) {
			s.Group.Passive = true
			s.Group.Client.Recovery = time.Minute
			s.Attach[0].Local, s.Attach[0].LocalName = []ipsec.ACE{telnet}, "L"
			s.Attach[0].FailClose = ipsec.FailClose{Active: true, ACEs: []ipsec.ACE{ssh}}
			s.Attach = append(s.Attach, Attachment{Interface: "eth1", MapName: "MAP", MapSeq: 10})
		})
		for _, name := range []string{"eth0", "eth1"} {
			if p, ok := b.on(name); !ok || p.State != ipsec.Registered || !p.Passive || len(p.TEKs) != 1 || p.Entries[1].SPI != 300 ||
				(len(p.Local) == 1) != (name == "eth0") || p.FailClose.Active != (name == "eth0") {
				t.Errorf("%s: %+v", name, p)
			}
		}
		ev := w.records()
		attached, _ := has[event.GMCryptoMapAttach](ev)
		merged, _ := has[event.GMACLMerge](ev)
		if attached != 1 || merged != 1 || len(ev) != 2 {
			t.Errorf("told %v", ev)
		}
		g := w.model()
		if g.Direction != "Inbound Optional" || g.LocalACL != "L" || !g.FailClose || g.Recovery.Interval != time.Minute {
			t.Errorf("model: %+v", g)
		}
		if g.ReRegisters.Sub(was.ReRegisters).Abs() > time.Millisecond || !g.RegisteredAt.Equal(was.RegisteredAt) || g.Attempted != was.Attempted ||
			!reflect.DeepEqual(g.KEK.SPI, was.KEK.SPI) || g.Status != was.Status || !g.TEKs[0].Expires.Equal(was.TEKs[0].Expires) {
			t.Errorf("was %+v, is %+v", was, g)
		}
		w.push(nil) // the same rekey SA
		if n := w.model().RekeysReceived; n != 1 {
			t.Errorf("%d rekeys", n)
		}

		w.apply(func(s *Setup) { s.Group.Passive, s.Attach = false, s.Attach[1:] })
		_, there := b.on("eth0")
		if p, _ := b.on("eth1"); there || p.Passive || p.Entries[1].SPI != 300 {
			t.Errorf("moved: %v %+v", there, p)
		}
		if n, _ := has[event.GMCryptoMapDetach](w.records()); n != 1 || w.model().Interface != "eth1" {
			t.Error("the first interface isn't left")
		}
		if s.registrations() != 1 {
			t.Errorf("registered %d times", s.registrations())
		}
	})
}

// What the dataplane refuses changes nothing.
func TestApplyThatFails(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		b := &board{now: map[string]ipsec.GroupPolicy{}, full: "eth1"}
		w := newWorld(t, s, func(o *Options) { o.Inst = b })
		w.m.Direction(ipsec.InboundOnly)
		synctest.Wait()
		was := w.model()
		before, _ := b.on("eth0")
		err := w.m.Apply(changed(w.m, func(s *Setup) {
			s.Group.Passive, s.Group.Servers = true, []netip.Addr{server2}
			s.Attach = []Attachment{{Interface: "eth1", MapName: "MAP", MapSeq: 10}}
		}))
		if err == nil {
			t.Fatal("no error")
		}
		after, _ := b.on("eth0")
		_, there := b.on("eth1")
		if there || before.ReceiveOnly != after.ReceiveOnly || before.Passive != after.Passive || !reflect.DeepEqual(w.model().Servers, was.Servers) || w.model().Direction != was.Direction {
			t.Errorf("was %+v, is %+v, %+v", before, after, w.model())
		}
		if err := w.m.Apply(changed(w.m, func(s *Setup) { s.Group.Number = 2 })); err == nil {
			t.Error("it became a member of another group")
		}
	})
}

// Key servers: the next registration asks the new ones; a series that fails begins again
// at once, and an attempt with one that is gone ends.
func TestApplyServers(t *testing.T) {
	server3 := netip.MustParseAddr("192.0.2.3")
	live(t, func(t *testing.T) { // registered
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s)
		due := w.model().ReRegisters
		w.apply(func(s *Setup) { s.Group.Servers = []netip.Addr{server3, server1} })
		if got := w.model(); len(s.asked()) != 1 || got.ReRegisters.Sub(due).Abs() > time.Millisecond || w.plane.sending() != 300 {
			t.Errorf("registers again because of the list: %+v", got)
		}
		time.Sleep(time.Until(due) + time.Second)
		synctest.Wait()
		if got := s.asked(); !slices.Equal(got, []netip.Addr{server1, server3}) {
			t.Errorf("asked %v", got)
		}
	})
	live(t, func(t *testing.T) { // waiting for the next round
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		s.setDown(true)
		w := newWorld(t, s)
		s.setDown(false)
		w.apply(func(s *Setup) { s.Group.Servers = []netip.Addr{server3} })
		if got := s.asked(); !slices.Equal(got, []netip.Addr{server1, server2, server3}) || w.plane.sending() != 300 {
			t.Errorf("asked %v, sends with %d", got, w.plane.sending())
		}
	})
	for _, x := range []struct {
		name string
		list []netip.Addr
		want []netip.Addr // asked until the first one answers
	}{
		{"gone", []netip.Addr{server2, server3}, []netip.Addr{server1, server2, server3}},
		{"still there", []netip.Addr{server2, server1, server3}, []netip.Addr{server1, server3}},
		{"none, then one", nil, []netip.Addr{server1, server3}},
	} {
		live(t, func(t *testing.T) { // an attempt under way
			s := newServer(t, 24*time.Hour)
			s.tek(300, 10*time.Hour)
			var mu sync.Mutex
			var asked []netip.Addr
			w := newWorld(t, s, func(o *Options) {
				o.Puller = pullFunc(func(ctx context.Context, r PullRequest) (*PullResult, error) {
					mu.Lock()
					asked = append(asked, r.Server)
					mu.Unlock()
					if r.Server == server3 {
						return s.Pull(ctx, r)
					}
					select {
					case <-ctx.Done():
					case <-time.After(time.Minute):
					}
					return nil, errors.New("nobody there")
				})
			})
			time.Sleep(10 * time.Second)
			w.apply(func(s *Setup) { s.Group.Servers = x.list })
			if len(x.list) == 0 {
				if n, _ := has[event.GMIncompleteConfig](w.records()); n != 1 {
					t.Error("not told of a group without key servers")
				}
				time.Sleep(time.Hour)
				w.apply(func(s *Setup) { s.Group.Servers = []netip.Addr{server3} })
			}
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(asked, x.want) || w.plane.sending() != 300 {
				t.Errorf("%s: asked %v, want %v", x.name, asked, x.want)
			}
		})
	}
}

// A registration leaves from elsewhere: it is made again at once, over one under way;
// keys stay in use meanwhile.
func TestApplySource(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		var from []netip.Addr
		slow := false
		w := newWorld(t, s, func(o *Options) {
			o.Puller = pullFunc(func(ctx context.Context, r PullRequest) (*PullResult, error) {
				from = append(from, r.Local)
				if slow {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return s.Pull(ctx, r)
			})
		})
		lo := func(a string) func(*Setup) {
			return func(s *Setup) {
				s.Source, s.Local = a, func(netip.Addr) netip.Addr { return netip.MustParseAddr(a) }
			}
		}
		slow = true
		w.apply(lo("203.0.113.1"))
		slow = false
		time.Sleep(time.Second)
		synctest.Wait()
		if w.plane.sending() != 300 {
			t.Error("the keys are gone")
		}
		w.apply(lo("203.0.113.2"))
		if len(from) != 3 || from[1].String() != "203.0.113.1" || from[2].String() != "203.0.113.2" || w.model().Succeeded != 2 {
			t.Errorf("registered from %v", from)
		}
	})
}

// What is accepted counts from the next rekey on; keys that are held stay.
func TestApplyAccept(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s)
		w.apply(func(s *Setup) {
			s.Accept.Transforms = []ipsec.Transform{{Cipher: ipsec.CipherAESGCM, KeyBits: 256, ICVLen: 16}}
			s.Group.Client.TransformSets = []string{"STRONG"}
		})
		if w.plane.sending() != 300 || s.registrations() != 1 || !slices.Equal(w.model().AcceptTransforms, []string{"STRONG"}) {
			t.Error("keys in force were judged")
		}
		s.tek(400, time.Hour)
		w.push(nil)
		if n := w.model().RekeysRefused[refusedPolicy]; n != 1 || slices.Contains(w.plane.receives(), 400) {
			t.Errorf("refused %d", n)
		}
		w.apply(func(s *Setup) { s.Accept = Accept{} })
		w.push(nil)
		if !slices.Contains(w.plane.receives(), 400) {
			t.Error("still refused")
		}
	})
	live(t, func(t *testing.T) { // a refused registration is tried again at once
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s, func(o *Options) {
			o.Accept.Transforms = []ipsec.Transform{{Cipher: ipsec.CipherAESGCM, KeyBits: 256, ICVLen: 16}}
		})
		w.apply(func(s *Setup) { s.Accept = Accept{} })
		if w.plane.sending() != 300 {
			t.Error("not registered")
		}
	})
}

// Revert that is switched on when keys have ended already; a tracked object that takes
// another's place.
func TestApplyRevertAndTrack(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, 10*time.Minute)
		one, two := &tracking{}, &tracking{}
		w := newWorld(t, s, func(o *Options) {
			o.Attach[0].FailClose = ipsec.FailClose{Active: true, ACEs: []ipsec.ACE{ssh}}
			o.Tracker, o.Group.Client.Track = one, 1
		})
		w.apply(func(s *Setup) { s.Tracker, s.Group.Client.Track = two, 2 })
		w.apply(func(s *Setup) { s.Tracker = &tracking{} }) // the same object
		if !slices.Equal(one.states, []bool{false, true, false}) || !slices.Equal(two.states, []bool{true}) || w.model().Track.ID != 2 {
			t.Errorf("set to %v, %v", one.states, two.states)
		}
		s.setDown(true)
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if p := w.plane.policy(); p.State != ipsec.Registered {
			t.Fatalf("%+v", p)
		}
		w.apply(func(s *Setup) { s.Group.Client.Revert = true })
		if p := w.plane.policy(); p.State != ipsec.Unregistered || !p.FailClose.Active {
			t.Errorf("not back in fail-close: %+v", p)
		}
		if !slices.Equal(two.states, []bool{true, false}) {
			t.Errorf("set to %v", two.states)
		}
	})
}

// The tracked object of a member that ends is down, and nothing waits for a member that
// has ended.
func TestEndedMember(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		k := &tracking{}
		w := newWorld(t, s, func(o *Options) { o.Tracker, o.Group.Client.Track = k, 1 })
		w.stop()
		if !slices.Equal(k.states, []bool{false, true, false}) {
			t.Errorf("set to %v", k.states)
		}
		if err := w.m.Apply(w.m.o.Setup); !errors.Is(err, ErrEnded) {
			t.Errorf("error %v", err)
		}
	})
}
