package ike

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
	"getvpn/model/event"
)

const gm, ks = "172.16.1.2", "172.16.8.2"

// recorder keeps emitted events.
type recorder struct {
	mu  sync.Mutex
	all []event.Event
}

func (r *recorder) Emit(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, e)
}

// emitted are the events of a kind.
func emitted[T event.Event](r *recorder) (out []T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.all {
		if x, ok := e.(T); ok {
			out = append(out, x)
		}
	}
	return out
}

func count[T event.Event](r *recorder) int { return len(emitted[T](r)) }

// echoKS answers each PULL message: HASH(2) for the first, then HASH(4), as a key
// server's exchange would, and closes.
func echoKS(t testing.TB, e *Endpoint) {
	first := map[*Exchange]bool{}
	var mu sync.Mutex
	e.HandlePull(func(x *Exchange, b []byte) {
		ps, raw, err := x.Decrypt(b)
		if err != nil {
			return
		}
		if !bytes.Equal(ps[0].Body, x.Hash(raw)) {
			return
		}
		x.Accept()
		out, err := pullMsg(x, "answer to "+string(ps[1].Body))
		if err != nil {
			t.Error(err)
			return
		}
		if err := x.Send(out); err != nil && !errors.Is(err, Closed) {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if first[x] {
			delete(first, x)
			x.Close()
			return
		}
		first[x] = true
	})
}

// pullMsg is HASH(prf(SKEYID_a, M-ID | rest)), NONCE.
func pullMsg(x *Exchange, text string) ([]byte, error) {
	rest := []isakmp.Payload{isakmp.NoncePayload([]byte(text))}
	chain, err := isakmp.AppendChain(nil, rest)
	if err != nil {
		return nil, err
	}
	return x.Encrypt(isakmp.GroupKeyPull, append([]isakmp.Payload{isakmp.HashPayload(x.Hash(chain))}, rest...))
}

// pull runs an exchange of two round trips.
func pull(ctx context.Context, sa *SA) error {
	x := sa.NewExchange(isakmp.GroupKeyPull)
	defer x.Close()
	for _, text := range []string{"first message", "third message"} {
		out, err := pullMsg(x, text)
		if err != nil {
			return err
		}
		_, err = x.RoundTrip(ctx, out, func(reply []byte) error {
			ps, raw, err := x.Decrypt(reply)
			if err != nil {
				return err
			}
			if !bytes.Equal(ps[0].Body, x.Hash(raw)) {
				return errors.New("hash")
			}
			if got := string(ps[1].Body); got != "answer to "+text {
				return fmt.Errorf("answer %q", got)
			}
			x.Accept()
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func ksPort() netip.AddrPort { return netip.MustParseAddrPort(ks + ":848") }

func TestConnectAndPullOverABadNetwork(t *testing.T) {
	for seed := range uint64(12) {
		for _, aggressive := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				n := memnet.New(seed)
				n.SetAll(memnet.Link{Loss: 0.15, Duplicate: 0.2, Jitter: 300 * time.Millisecond})
				c := *pskConfig("s3cret")
				c.Aggressive = true
				g := endpoint(t, n, gm, &c, nil)
				k := endpoint(t, n, ks, &c, nil)
				echoKS(t, k)
				ctx := t.Context()
				var done int
				for i := range 6 {
					sa, err := g.Connect(ctx, ksPort(), ConnectOptions{Aggressive: aggressive, Fresh: i%3 == 0})
					if err != nil {
						t.Logf("seed %d: %v", seed, err)
						continue
					}
					if err := pull(ctx, sa); err != nil {
						t.Logf("seed %d: %v; gm %v ks %v", seed, err, g.Drops(), k.Drops())
						continue
					}
					done++
				}
				if done < 5 { // 15 % loss, 5 transmissions: a failure is one in thousands
					t.Errorf("seed %d aggressive %v: %d of 6 exchanges; gm %v ks %v", seed, aggressive, done, g.Drops(), k.Drops())
				}
				g.Close()
				k.Close()
			})
		}
	}
}

func TestConnectReusesAndShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		n.SetAll(memnet.Link{Jitter: 10 * time.Millisecond})
		g, k := endpoint(t, n, gm, pskConfig("k"), nil), endpoint(t, n, ks, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		var wg sync.WaitGroup
		ids := make([]uint32, 8)
		for i := range ids {
			wg.Go(func() {
				sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				ids[i] = sa.ID()
			})
		}
		wg.Wait()
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if id != sa.ID() || id != firstConnID {
				t.Errorf("SAs %v, then %d", ids, sa.ID())
			}
		}
		if p := sa.Peer(); p.Remote != ksPort() || p.Local != netip.MustParseAddrPort(gm+":848") || p.Identity.String() != ks || p.NATT {
			t.Errorf("peer %+v", p)
		}
	})
}

// The key server restarts: the member's SA is dead, which Connect finds out by DPD.
func TestConnectFindsADeadSA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		g, k := endpoint(t, n, gm, pskConfig("k"), nil), endpoint(t, n, ks, pskConfig("k"), nil)
		defer g.Close()
		old, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n.Cut(netip.MustParseAddr(gm), netip.MustParseAddr(ks)) // its delete is lost
		k.Close()
		n.HealAll()
		k = endpoint(t, n, ks, pskConfig("k"), nil)
		defer k.Close()
		time.Sleep(time.Minute)
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if sa == old || old.Alive() {
			t.Error("the dead SA is in use")
		}
	})
}

func TestPeriodicDPD(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		c := pskConfig("k")
		c.Keepalive = Keepalive{Interval: 10 * time.Second, Retry: 2 * time.Second}
		g, k := endpoint(t, n, gm, c, nil), endpoint(t, n, ks, pskConfig("k"), nil)
		defer g.Close()
		defer k.Close()
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if !sa.Alive() {
			t.Fatalf("a living peer was taken for dead; gm %v ks %v", g.Drops(), k.Drops())
		}
		n.Cut(netip.Addr{}, netip.Addr{})
		start := time.Now()
		<-sa.Done()
		if d := time.Since(start); d < 15*time.Second || d > 25*time.Second {
			t.Errorf("dead after %v", d)
		}
	})
}

func TestLifetimeAndDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		c := pskConfig("k", Policy{Encr: EncrAES, Hash: HashSHA1, Group: 19, Lifetime: 300 * time.Second})
		g, k := endpoint(t, n, gm, pskConfig("k", Policy{Encr: EncrAES, Hash: HashSHA1, Group: 19}), nil), endpoint(t, n, ks, c, nil)
		defer g.Close()
		defer k.Close()
		sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		<-sa.Done() // by the key server's delete: its lifetime is the shorter one
		if d := time.Since(start); d != 300*time.Second {
			t.Errorf("ended after %v", d)
		}
		sa, err = g.Connect(t.Context(), ksPort(), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		theirs := k.SAs(netip.Addr{})
		sa.Close()
		synctest.Wait()
		if len(theirs) != 1 || theirs[0].Alive() || len(k.SAs(netip.Addr{})) != 0 {
			t.Error("the delete had no effect")
		}
	})
}

// A member that knows a wrong key: both sides say so and name the other, neither prints
// the key, transmissions follow the count, events stay bounded, the next server is next.
func Test_ike_01_WrongLastCharacter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		var gmEv, ksEv recorder
		g := endpoint(t, n, gm, pskConfig("s3cret-keY"), func(o *Options) { o.Events = &gmEv })
		defer g.Close()
		servers := []string{"172.16.8.2", "172.16.9.2", "172.16.10.2"}
		for _, a := range servers {
			k := endpoint(t, n, a, pskConfig("s3cret-key"), func(o *Options) { o.Events = &ksEv })
			defer k.Close()
		}
		deadline := time.Now().Add(5 * time.Minute)
		sent := map[string]int{}
		n.SetTap(func(from, to netip.AddrPort, b []byte) []byte {
			if from.Addr().String() == gm && b[19] == byte(isakmp.FlagEncrypted) {
				sent[to.Addr().String()]++
			}
			return b
		})
		attempts := 0
		for time.Now().Before(deadline) {
			for _, a := range servers {
				_, err := g.Connect(t.Context(), netip.AddrPortFrom(netip.MustParseAddr(a), 848), ConnectOptions{})
				attempts++
				var ce *ConnectError
				if !errors.As(err, &ce) || !errors.Is(err, AuthFailed) || ce.Tries != 5 || ce.Peer.Addr().String() != a {
					t.Fatalf("%v", err)
				}
				if strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), a) {
					t.Errorf("message %q", err)
				}
			}
		}
		n.SetTap(nil)
		total := 0
		for _, c := range sent {
			total += c
		}
		if total != 5*attempts {
			t.Errorf("%d transmissions of message 5 in %d attempts, want 5 each", total, attempts)
		}
		if c := count[event.IKEAuthFailed](&gmEv); c == 0 || c > attempts {
			t.Errorf("member: %d events in %d attempts", c, attempts)
		}
		if c := count[event.IKEAuthFailed](&ksEv); c < 3 || c > 3*(1+5*60/30) {
			t.Errorf("key servers: %d events", c)
		}
		for _, r := range []*recorder{&gmEv, &ksEv} {
			for _, e := range r.all {
				if s := fmt.Sprintf("%+v", e); strings.Contains(s, "s3cret") {
					t.Errorf("event prints the key: %s", s)
				}
			}
		}
	})
}

// 200 new phase 1s of one member leave two live SAs, and nothing after the lifetime.
func Test_ike_02_TwoLiveSAs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		c := pskConfig("k", Policy{Encr: EncrAES, Hash: HashSHA256, Group: 19, Lifetime: 300 * time.Second})
		g := endpoint(t, n, gm, c, nil)
		k := endpoint(t, n, ks, c, nil)
		echoKS(t, k)
		for i := range 200 {
			sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{Fresh: true})
			if err != nil {
				t.Fatal(i, err)
			}
			if err := pull(t.Context(), sa); err != nil {
				t.Fatal(i, err)
			}
			synctest.Wait()
			if live := len(k.SAs(netip.MustParseAddr(gm))); live > maxPerPeer {
				t.Fatalf("%d live SAs after %d", live, i+1)
			}
			time.Sleep(3 * time.Second)
		}
		time.Sleep(400 * time.Second)
		synctest.Wait()
		k.mu.Lock()
		left := len(k.sas) + len(k.byPeer) + len(k.byAddr) + len(k.half) + len(k.firsts) + len(k.halfSource) + k.unproved.Len()
		k.mu.Unlock()
		if left != 0 {
			t.Errorf("%d table entries left", left)
		}
		g.Close()
		k.Close()
	})
}
