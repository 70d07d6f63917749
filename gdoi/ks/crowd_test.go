package ks_test

// Thousands of members at one key server, under a fake clock. The key server is the
// product's engine and endpoint; a member is one while it registers, in between it is a
// record. The key server's Diffie-Hellman takes time: what is served in a second is what
// a small machine does.

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mrand "math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/gm"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/gdoi/ks"
	"getvpn/gdoi/policy"
	"getvpn/internal/memnet"
	"getvpn/internal/secret"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

// capacity is how many Diffie-Hellman exchanges a second the key server does: DH 14 on
// two small cores.
const capacity = 1000

// slowly is a random source whose 32 octets (a private value, a nonce: two for each
// member) take time.
type slowly time.Duration

func (s slowly) Read(b []byte) (int, error) {
	if len(b) == 32 {
		time.Sleep(time.Duration(s) / 2)
	}
	return rand.Read(b)
}

type crowd struct {
	t       *testing.T
	net     *memnet.Network
	cost    time.Duration // of a Diffie-Hellman at the key server
	setup   *ks.Setup
	limits  ike.Limits
	members []*crowdMember

	store  *model.Store
	ep     *ike.Endpoint
	group  *ks.Group
	cancel context.CancelFunc
	ended  chan struct{}

	mu       sync.Mutex
	done     int
	failures map[string]int // attempts
	longest  time.Duration  // from a member's first message to its keys
}

// crowdMember is a member between two registrations.
type crowdMember struct {
	addr netip.Addr
	left time.Duration // of its TEK when it got it
	ends time.Time
	at   time.Time // when it got its last keys
}

var keyServer = netip.MustParseAddr("192.0.2.1")

func crowdConfig() *ike.Config {
	return &ike.Config{
		Policies: []ike.Policy{{Priority: 10, Encr: ike.EncrAES, KeyBits: 128, Hash: ike.HashSHA256, Auth: ike.AuthPSK, Group: 19}},
		Keys:     []ike.Key{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), PSK: secret.Bytes("crowd")}},
	}
}

// gather makes n members and a key server whose load for them is that of so many.
func gather(t *testing.T, n, standFor int, life time.Duration) *crowd {
	c := &crowd{t: t, net: memnet.New(7), cost: time.Second / capacity * time.Duration(standFor) / time.Duration(n)}
	c.net.SetAll(memnet.Link{Delay: 10 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.005})
	for i := range n {
		c.members = append(c.members, &crowdMember{addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})})
	}
	permit := ipsec.ACE{Action: ipsec.Permit, Family: ipsec.IPv4, Src: ipsec.MatchPrefix(netip.MustParsePrefix("10.0.0.0/8")), Dst: ipsec.MatchPrefix(netip.MustParsePrefix("10.0.0.0/8"))}
	c.setup = &ks.Setup{
		Group:   config.Group{Name: "crowd", HasNumber: true, Number: 1, Local: &config.LocalServer{Address: keyServer}},
		SIDBits: 24,
		Entries: []ks.SetupEntry{{Seq: 1, Profile: "P", ACL: "A", Lifetime: life, ACEs: []ipsec.ACE{permit},
			Transform: ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: 128, ICVLen: 16}}},
	}
	return c
}

// start starts the key server, which knows nothing of an earlier one.
func (c *crowd) start() {
	c.t.Helper()
	listen := func(a netip.AddrPort) (ike.PacketConn, error) { return memnet.As[ike.Datagram](c.net.Listen(a)) }
	c.store = model.NewStore(model.Snapshot{})
	bus := event.NewBus()
	var err error
	// One worker: two that wait for the same exchange would stop the fake clock.
	c.ep, err = ike.New(ike.Options{Locals: []netip.Addr{keyServer}, NATTPort: -1, Listen: listen, Config: crowdConfig(), Store: c.store,
		VendorIDs: [][]byte{gdoi.OurCapability().VendorID()}, Events: bus, Rand: slowly(c.cost), Workers: 1, Limits: c.limits})
	if err != nil {
		c.t.Fatal(err)
	}
	s := ks.NewServer(ks.Options{Store: c.store, Events: bus, Rand: rand.Reader, Files: ks.Disk{}, Dir: c.t.TempDir(), Machine: "m", Push: c.ep})
	if c.group, err = s.Add(c.setup); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel, c.ended = cancel, make(chan struct{})
	go func() {
		defer close(c.ended)
		c.group.Run(ctx)
	}()
	c.ep.HandlePull(s.HandlePull)
}

func (c *crowd) stop() {
	c.cancel()
	<-c.ended
	c.ep.Close()
}

// pullOnce registers from an endpoint that is there for this alone.
func pullOnce(ctx context.Context, net *memnet.Network, c *ike.Config, from, server netip.Addr) (*gm.PullResult, error) {
	var sock *memnet.Conn
	ep, err := ike.New(ike.Options{Locals: []netip.Addr{from}, NATTPort: -1, Config: c, Workers: 1,
		VendorIDs: [][]byte{gdoi.OurCapability().VendorID()},
		Listen: func(a netip.AddrPort) (ike.PacketConn, error) {
			x, err := net.Listen(a)
			sock = x
			return memnet.As[ike.Datagram](x, err)
		}})
	if err != nil {
		return nil, err
	}
	defer func() {
		sock.Close() // first: the key server keeps its SA, as that of a member that lives
		ep.Close()
	}()
	return gm.NewEndpointPuller(ep, rand.Reader).Pull(ctx, gm.PullRequest{Server: server, Local: from, Group: model.GroupID{Number: 1}})
}

// register registers a member once.
func (c *crowd) register(m *crowdMember) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	r, err := pullOnce(ctx, c.net, crowdConfig(), m.addr, keyServer)
	if err != nil {
		return err
	}
	m.left = 0
	for _, t := range r.Offer.TEKs {
		m.left = max(m.left, t.Lifetime)
	}
	m.at = time.Now()
	m.ends = r.Asked.Add(m.left) // at the earliest
	return nil
}

// comeBack registers each member at its time, again after a failure as a member with one
// key server does, and waits for all of them.
func (c *crowd) comeBack(when func(*crowdMember) time.Time) {
	c.done, c.failures, c.longest = 0, map[string]int{}, 0
	var wg sync.WaitGroup
	for _, m := range c.members {
		at := when(m)
		wg.Go(func() {
			time.Sleep(time.Until(at))
			begin := time.Now()
			for pause := 5 * time.Second; ; pause = min(2*pause, time.Minute) {
				err := c.register(m)
				c.mu.Lock()
				if err == nil {
					c.done++
					c.longest = max(c.longest, time.Since(begin))
					c.mu.Unlock()
					return
				}
				c.failures[err.Error()]++
				c.mu.Unlock()
				time.Sleep(pause - time.Duration(mrand.Int64N(int64(pause/4))))
			}
		})
	}
	wg.Wait()
}

// window is the member's own choice between the guide's bounds.
func window(m *crowdMember) time.Time {
	last, jitter := policy.Window(m.left)
	return m.ends.Add(-last - time.Duration(mrand.Int64N(int64(jitter))))
}

// last is when the last member got its keys.
func (c *crowd) last() (t time.Time) {
	for _, m := range c.members {
		if m.at.After(t) {
			t = m.at
		}
	}
	return t
}

// shows asks the key server as an operator would, every half second until stop, and
// says how often it answered and how long that took at most.
func (c *crowd) shows() (stop func() (times int, longest time.Duration)) {
	quit, ended := make(chan struct{}), make(chan struct{})
	var times int
	var longest time.Duration
	go func() {
		defer close(ended)
		for {
			select {
			case <-quit:
				return
			case <-time.After(500 * time.Millisecond):
			}
			begin := time.Now()
			if err := c.group.ClearReplay(); err != nil { // passes through the actor
				c.t.Error(err)
			}
			g := c.store.Load().KeyServers[0]
			if b, err := json.Marshal(g); err != nil || len(b) < 100*g.Members.Len() {
				c.t.Errorf("a view of %d octets for %d members: %v", len(b), g.Members.Len(), err)
			}
			times, longest = times+1, max(longest, time.Since(begin))
		}
	}()
	return func() (int, time.Duration) {
		close(quit)
		<-ended
		return times, longest
	}
}

// inSize runs f for a few members, or with GETVPN_SOAK for all.
func inSize(t *testing.T, few, all int, f func(t *testing.T, n int)) {
	n := few
	if os.Getenv("GETVPN_SOAK") != "" {
		n = all
	}
	t.Logf("%d members", n)
	synctest.Test(t, func(t *testing.T) { f(t, n) })
}

// Ten thousand members whose TEK ends together and to which no rekey came are registered
// again before the 30-second mark. Life is short, 300 s: they all come within 30 s.
// Before that they all came in the same instant, which is a matter of seconds too.
func TestCrowdWhoseTEKEndsTogether(t *testing.T) {
	const all = 10000
	inSize(t, 300, all, func(t *testing.T, n int) {
		c := gather(t, n, all, 300*time.Second)
		c.start()
		defer c.stop()
		now := time.Now()
		c.comeBack(func(*crowdMember) time.Time { return now })
		took := c.last().Sub(now)
		t.Logf("at the same instant: all registered in %v, failures %v, drops %v", took, c.failures, c.ep.Drops())
		if most := 30 * time.Second; took > most {
			t.Errorf("that is more than %v", most)
		}
		end := c.members[0].ends
		for _, m := range c.members {
			if d := m.ends.Sub(end).Abs(); d > 5*time.Second {
				t.Fatalf("TEKs end %v apart", d)
			}
		}
		c.comeBack(window)
		before := end.Sub(c.last())
		t.Logf("in their windows: the last one %v before the end, the longest took %v, failures %v, drops %v", before, c.longest, c.failures, c.ep.Drops())
		if before < 30*time.Second || len(c.failures) != 0 {
			t.Error("not in time")
		}
		if g := c.store.Load().KeyServers[0]; g.Members.Len() != n || g.Counters.PullsCompleted != uint64(2*n) {
			t.Errorf("%d members, %d registrations", g.Members.Len(), g.Counters.PullsCompleted)
		}
	})
}

// Five thousand members, a key server that is away for 30 s and comes back without its
// state: members come back spread by their jitter, all before their TEKs end, while the
// key server answers its operator. Then they all start again within two seconds: the
// key server sheds first messages that it has no room for, counts them, and everybody
// is registered within a minute.
func Test_scale_01_CrowdAfterARestartWithoutState(t *testing.T) {
	const all = 5000
	inSize(t, 300, all, func(t *testing.T, n int) {
		c := gather(t, n, all, 900*time.Second)
		c.limits.HalfOpen = n / 4 // less than come
		c.start()
		begin := time.Now()
		c.comeBack(func(*crowdMember) time.Time { return begin.Add(time.Duration(mrand.Int64N(int64(time.Minute)))) })
		if c.done != n || len(c.failures) != 0 {
			t.Fatalf("%d registered; %v", c.done, c.failures)
		}
		ends := map[netip.Addr]time.Time{}
		for _, m := range c.members {
			ends[m.addr] = m.ends
		}
		c.stop()
		time.Sleep(30 * time.Second)
		c.start()
		defer func() { c.stop() }()

		quiet := c.shows()
		c.comeBack(window)
		times, longest := quiet()
		if times < 20 || longest > time.Second {
			t.Errorf("%d views, one took %v", times, longest)
		}
		early := time.Hour
		seconds := map[int64]int{}
		for _, m := range c.members {
			early = min(early, ends[m.addr].Sub(m.at))
			seconds[m.at.Unix()]++
		}
		var busiest int
		for _, k := range seconds {
			busiest = max(busiest, k)
		}
		t.Logf("back in %d different seconds, %d in one at most, the last one %v before its TEK's end; failures %v, drops %v", len(seconds), busiest, early, c.failures, c.ep.Drops())
		if early < 30*time.Second || len(seconds) < 60 || busiest > n/20 {
			t.Error("not as their jitter says")
		}
		before := c.ep.Drops()[ike.DropOverload]
		quiet = c.shows()
		now := time.Now()
		c.comeBack(func(*crowdMember) time.Time { return now.Add(time.Duration(mrand.Int64N(int64(2 * time.Second)))) })
		times, longest = quiet()
		shed := c.ep.Drops()[ike.DropOverload] - before
		took := c.last().Sub(now)
		t.Logf("all within 2 s: registered in %v, %d messages shed, %d views, the slowest %v; failures %v, drops %v", took, shed, times, longest, c.failures, c.ep.Drops())
		if shed == 0 || took > time.Minute || longest > time.Second {
			t.Error("the key server doesn't shed, or not well")
		}
		if g := c.store.Load().KeyServers[0]; g.Members.Len() != n {
			t.Errorf("%d members", g.Members.Len())
		}
	})
}

// A flood of first messages from addresses that nobody has, all of them different, keeps
// no member out: whoever proves his address is served before those who can't.
func TestCrowdUnderAFloodOfFirstMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, all = 60, 600
		c := gather(t, n, all, 900*time.Second)
		c.limits.HalfOpen = 1024
		c.start()
		defer c.stop()
		var sample []byte
		c.net.SetTap(func(_, to netip.AddrPort, b []byte) []byte {
			if to.Addr() == keyServer && isakmp.ExchangeType(b[18]) == isakmp.MainMode && sample == nil {
				sample = slices.Clone(b)
			}
			return b
		})
		if err := c.register(c.members[0]); err != nil || sample == nil {
			t.Fatal(err)
		}
		c.net.SetTap(nil)
		quit := make(chan struct{})
		var flood sync.WaitGroup
		sent := 0
		flood.Go(func() {
			for ; ; sent++ {
				if sent%100 == 0 {
					select {
					case <-quit:
						return
					case <-time.After(50 * time.Millisecond): // 2000 a second
					}
				}
				b := slices.Clone(sample)
				b[0], b[1], b[2] = byte(sent>>16), byte(sent>>8), byte(sent)
				c.net.Deliver(netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, byte(sent >> 16), byte(sent >> 8), byte(sent)}), 848), netip.AddrPortFrom(keyServer, 848), b)
			}
		})
		time.Sleep(3 * time.Second)
		now := time.Now()
		c.comeBack(func(*crowdMember) time.Time { return now })
		took := c.last().Sub(now)
		close(quit)
		flood.Wait()
		t.Logf("%d members in %v among %d forged messages; failures %v, drops %v", n, took, sent, c.failures, c.ep.Drops())
		if took > 30*time.Second || len(c.failures) != 0 {
			t.Error(fmt.Sprint("members were kept out: ", c.failures))
		}
	})
}
