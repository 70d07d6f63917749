package gm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/config"
	"getvpn/gdoi/policy"
	"getvpn/internal/secret"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

var (
	gcm     = ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: 128, ICVLen: 16}
	permit  = ipsec.ACE{Seq: 10, Action: ipsec.Permit, Family: ipsec.IPv4, Src: ipsec.MatchPrefix(netip.MustParsePrefix("10.0.0.0/8")), Dst: ipsec.MatchPrefix(netip.MustParsePrefix("10.0.0.0/8"))}
	ssh     = ipsec.ACE{Seq: 5, Action: ipsec.Deny, Family: ipsec.IPv4, Proto: 6, DstPort: ipsec.PortMatch{Op: ipsec.PortEq, Lo: 22}}
	server1 = netip.MustParseAddr("192.0.2.1")
	server2 = netip.MustParseAddr("192.0.2.2")
)

func tekOf(spi uint32, life time.Duration) policy.TEK {
	return policy.TEK{SPI: spi, Transform: gcm, Lifetime: life, Key: slices.Repeat(secret.Bytes{byte(spi)}, 20)}
}

func offer(teks ...policy.TEK) *PullResult {
	r := &PullResult{Offer: policy.Offer{Entries: []policy.Entry{{ACE: ssh}, {ACE: permit}}, TEKs: teks},
		Keys: policy.Keys{SIDBits: 24, SIDs: []uint32{7}}, Asked: time.Now(), At: time.Now(), Local: netip.MustParseAddrPort("198.51.100.1:848"), Remote: netip.AddrPortFrom(server1, 848)}
	for _, t := range teks {
		r.Offer.Entries[1].SPIs = append(r.Offer.Entries[1].SPIs, t.SPI)
	}
	return r
}

type pullFunc func(context.Context, PullRequest) (*PullResult, error)

func (f pullFunc) Pull(ctx context.Context, r PullRequest) (*PullResult, error) { return f(ctx, r) }

// plane remembers what was installed.
type plane struct {
	mu   sync.Mutex
	last ipsec.GroupPolicy
	n    int
	fail error
}

func (p *plane) Install(g ipsec.GroupPolicy) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return p.fail
	}
	p.last, p.n = g, p.n+1
	return nil
}
func (p *plane) Remove(string, string) error { return nil }

func (p *plane) policy() ipsec.GroupPolicy {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

func (p *plane) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

func (p *plane) sending() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.last.Entries {
		if e.ACE.Action == ipsec.Permit {
			return e.SPI
		}
	}
	return 0
}

func (p *plane) receives() (out []uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.last.TEKs {
		out = append(out, t.SPI)
	}
	return out
}

type rig struct {
	m     *Member
	plane *plane
	store *model.Store
	sub   *event.Sub
	stop  func()
}

func newRig(p Puller, attach ...Attachment) *rig {
	bus := event.NewBus()
	r := &rig{plane: &plane{}, store: model.NewStore(model.Snapshot{}), sub: bus.Subscribe("test", 1000)}
	if attach == nil {
		attach = []Attachment{{Interface: "eth0", MapName: "MAP", MapSeq: 10}}
	}
	r.m = New(Options{Setup: Setup{Group: config.Group{Name: "g", HasNumber: true, Number: 1, Servers: []netip.Addr{server1, server2}},
		Attach: attach}, Puller: p, Inst: r.plane, Store: r.store, Events: bus, Random: func() float64 { return 0.5 }})
	return r
}

func (r *rig) events() (out []string) {
	for {
		select {
		case e := <-r.sub.C():
			out = append(out, fmt.Sprintf("%T", e.Event)[len("event."):])
		default:
			return out
		}
	}
}

func (r *rig) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.m.Run(ctx); close(done) }()
	r.stop = func() { cancel(); <-done }
	t.Cleanup(r.stop)
}

func TestRegistersInstallsPublishesEmits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(pullFunc(func(context.Context, PullRequest) (*PullResult, error) { return offer(tekOf(300, time.Hour)), nil }))
		if p := r.m.Prepare(); len(p) != 0 {
			t.Fatal("a policy before there is one", p)
		}
		r.run(t)
		synctest.Wait()
		if r.plane.sending() != 300 || r.plane.policy().State != ipsec.Registered {
			t.Fatalf("installed %+v", r.plane.policy())
		}
		g := r.store.Load().Members[0]
		if g.Status != model.Registered || g.Succeeded != 1 || g.Attempted != 1 || len(g.TEKs) != 1 || g.RegisteredWith != server1 {
			t.Errorf("published %+v", g)
		}
		if in := time.Until(g.ReRegisters); in < 3600*time.Second-360*time.Second || in > 3540*time.Second {
			t.Errorf("re-registers in %v", in)
		}
		want := []string{"GMCryptoMapAttach", "GMRegister", "GMRegistrationComplete", "GMInstallSuccess"}
		if got := r.events(); !slices.Equal(got, want) {
			t.Errorf("events %v", got)
		}
	})
}

func TestFailCloseIsInstalledFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(pullFunc(func(ctx context.Context, _ PullRequest) (*PullResult, error) { <-ctx.Done(); return nil, ctx.Err() }),
			Attachment{Interface: "eth0", FailClose: ipsec.FailClose{Active: true, ACEs: []ipsec.ACE{ssh}}})
		for _, p := range r.m.Prepare() {
			r.plane.Install(p)
		}
		if r.plane.count() != 1 || r.plane.policy().State != ipsec.Unregistered || !r.plane.policy().FailClose.Active {
			t.Errorf("installed %+v", r.plane.policy())
		}
		r.run(t)
		synctest.Wait()
		if r.plane.count() != 1 {
			t.Error("fail-close was lifted without a registration")
		}
	})
}

// The next server of the list is tried at once, the whole list again after a pause
// that doubles, is bounded and jittered.
func Test_ike_01_ServerListAndBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type try struct {
			at     time.Duration
			server netip.Addr
		}
		start := time.Now()
		var tries []try
		var mu sync.Mutex
		var up atomic.Bool
		r := newRig(pullFunc(func(_ context.Context, q PullRequest) (*PullResult, error) {
			mu.Lock()
			tries = append(tries, try{time.Since(start), q.Server})
			mu.Unlock()
			time.Sleep(time.Second)
			if up.Load() && q.Server == server2 {
				return offer(tekOf(300, time.Hour)), nil
			}
			return nil, errors.New("nobody there")
		}))
		r.run(t)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		for i, x := range tries {
			if want := []netip.Addr{server1, server2}[i%2]; x.server != want {
				t.Fatalf("try %d went to %v", i, x.server)
			}
			if i > 0 {
				pause := x.at - tries[i-1].at - time.Second
				switch {
				case i%2 == 1 && pause != 0:
					t.Errorf("try %d: %v of pause before the next server", i, pause)
				case i%2 == 0 && (pause < 3*time.Second || pause > 60*time.Second):
					t.Errorf("try %d: round after %v", i, pause)
				}
			}
		}
		if n := len(tries); n < 12 || n > 24 {
			t.Errorf("%d tries in 5 minutes", n)
		}
		g := r.store.Load().Members[0]
		if g.Status != model.Registering && g.Status != model.NotRegistered || g.FailuresByReason["no-answer"] == 0 {
			t.Errorf("published %+v", g)
		}
		up.Store(true)
		mu.Unlock()
		time.Sleep(70 * time.Second)
		synctest.Wait()
		mu.Lock()
		if r.plane.sending() != 300 {
			t.Error("not registered within the back-off")
		}
	})
}

// Key servers away: keys are used until they end, then permits drop; back: the member
// registers again unaided.
func TestKeyServerAwayUntilTheTEKEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		up.Store(true)
		r := newRig(pullFunc(func(context.Context, PullRequest) (*PullResult, error) {
			if up.Load() {
				return offer(tekOf(300, 2*time.Minute)), nil
			}
			return nil, errors.New("nobody there")
		}))
		r.run(t)
		synctest.Wait()
		up.Store(false)
		time.Sleep(119 * time.Second)
		synctest.Wait()
		if r.plane.sending() != 300 {
			t.Fatal("the key went before its end")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if r.plane.sending() != 0 || len(r.plane.receives()) != 0 || r.plane.policy().State != ipsec.Registered {
			t.Fatalf("after the end: %+v", r.plane.policy())
		}
		if s := r.store.Load().Members[0].Status; s == model.Registered {
			t.Errorf("status %v without a key", s)
		}
		up.Store(true)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if r.plane.sending() != 300 {
			t.Error("not back within the back-off")
		}
	})
}

// A successor comes in the window, is received at once and sent with from the
// change-over on; the old one is received until its end.
func TestChangeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := newRig(pullFunc(func(context.Context, PullRequest) (*PullResult, error) {
			el := time.Since(start)
			if el < 60*time.Second {
				return offer(tekOf(300, 120*time.Second)), nil
			}
			return offer(tekOf(300, (120*time.Second-el).Truncate(time.Second)), tekOf(301, 180*time.Second-el)), nil
		}))
		r.run(t)
		at := func(s time.Duration, sending uint32, receives ...uint32) {
			t.Helper()
			time.Sleep(time.Until(start.Add(s * time.Second)))
			synctest.Wait()
			if r.plane.sending() != sending || !slices.Equal(r.plane.receives(), receives) {
				t.Errorf("at %ds: sends with %d, receives %v", s, r.plane.sending(), r.plane.receives())
			}
		}
		at(67, 300, 300)
		at(81, 300, 300, 301)
		at(109, 300, 300, 301)
		at(111, 301, 300, 301)
		at(121, 301, 301)
	})
}

func TestClearRegistersAgainAndKeepsTheKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Uint32
		r := newRig(pullFunc(func(context.Context, PullRequest) (*PullResult, error) {
			n.Add(1)
			time.Sleep(100 * time.Millisecond)
			return offer(tekOf(300, time.Hour)), nil
		}))
		r.run(t)
		time.Sleep(time.Second)
		for i := range uint32(200) {
			r.m.Clear()
			time.Sleep(50 * time.Millisecond)
			if r.plane.sending() != 300 {
				t.Fatal("the key was given up")
			}
			if i%7 == 0 {
				r.m.Clear() // in the middle of an attempt: another one follows
			}
			time.Sleep(250 * time.Millisecond)
		}
		if n.Load() != 230 {
			t.Errorf("%d registrations", n.Load())
		}
		r.m.SeqNearEnd(300)
		r.m.SeqNearEnd(300)
		time.Sleep(time.Second)
		r.m.SeqNearEnd(300)
		time.Sleep(time.Second)
		if n.Load() != 231 {
			t.Errorf("%d registrations after the sequence warning", n.Load())
		}
	})
}

func TestInstallFailureIsAFailedRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(pullFunc(func(context.Context, PullRequest) (*PullResult, error) { return offer(tekOf(300, time.Hour)), nil }))
		r.plane.fail = errors.New("no engine")
		r.run(t)
		synctest.Wait()
		g := r.store.Load().Members[0]
		if g.Succeeded != 0 || g.FailuresByReason["install-failed"] != 2 || len(g.TEKs) != 0 {
			t.Errorf("published %+v", g)
		}
		r.plane.mu.Lock()
		r.plane.fail = nil
		r.plane.mu.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if r.plane.sending() != 300 {
			t.Error("not installed later")
		}
	})
}
