package main

// Members register as the product's do: phase 1 in main mode with a pre-shared key,
// then GROUPKEY-PULL, each by an IKE endpoint of its own that ends afterwards without
// a word to the key server.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/gm"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/policy"
	"getvpn/internal/secret"
	"getvpn/model"
)

// groupNumber is the identity of the group.
const groupNumber = 7

// phase1 is what both sides are configured with. One key for each network of peers.
func phase1(groups []int, peers ...netip.Prefix) *ike.Config {
	c := &ike.Config{}
	for _, p := range peers {
		c.Keys = append(c.Keys, ike.Key{Prefix: p, PSK: secret.Bytes("a pre-shared key of a benchmark")})
	}
	for i, g := range groups {
		c.Policies = append(c.Policies, ike.Policy{Priority: 10 * (i + 1), Encr: ike.EncrAES, KeyBits: 128, Hash: ike.HashSHA256, Auth: ike.AuthPSK, Group: g})
	}
	return c
}

// vendorIDs say what we can.
func vendorIDs() [][]byte { return [][]byte{gdoi.OurCapability().VendorID()} }

// register does it once.
func (c *Crowd) register(ctx context.Context, m *member, cfg *ike.Config) (*gm.PullResult, error) {
	var conns []*conn
	listen := func(a netip.AddrPort) (ike.PacketConn, error) {
		x := m.open(c, a)
		conns = append(conns, x)
		return x, nil
	}
	ep, err := ike.New(ike.Options{Locals: []netip.Addr{m.addr}, Listen: listen, Config: cfg, VendorIDs: vendorIDs(), Workers: 1})
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, x := range conns {
			x.Close()
		}
		ep.Close()
	}()
	return gm.NewEndpointPuller(ep, rand.Reader).Pull(ctx, gm.PullRequest{Server: keyServer, Local: m.addr, Group: model.GroupID{Number: groupNumber}})
}

// RegisterArgs: all members register, Parallel of them at a time, by a Diffie-Hellman
// group.
type RegisterArgs struct{ Parallel, DH int }

// Registered is what came of it. A failed attempt is repeated.
type Registered struct {
	Took   time.Duration
	Failed map[string]int // attempts, by reason
}

// Register registers all members.
func (c *Crowd) Register(a RegisterArgs, r *Registered) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience+time.Duration(len(c.members))*20*time.Millisecond)
	defer cancel()
	cfg := phase1([]int{a.DH}, netip.PrefixFrom(keyServer, 32))
	next := make(chan *member)
	var t tries
	var wg sync.WaitGroup
	begin := time.Now()
	for range max(1, a.Parallel) {
		wg.Go(func() {
			for m := range next {
				c.insist(ctx, m, cfg, &t)
			}
		})
	}
	for _, m := range c.members {
		next <- m
	}
	close(next)
	wg.Wait()
	r.Took, r.Failed = time.Since(begin), t.failed
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %v", errLate, t.failed)
	}
	return nil
}

// tries counts attempts that failed.
type tries struct {
	mu     sync.Mutex
	failed map[string]int
}

func (t *tries) note(err error) {
	reason := err.Error()
	var p *gm.PullError
	if errors.As(err, &p) {
		reason = p.Reason
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == nil {
		t.failed = map[string]int{}
	}
	t.failed[reason]++
}

// insist registers until it succeeds, with the pause of a member whose servers are all
// silent.
func (c *Crowd) insist(ctx context.Context, m *member, cfg *ike.Config, t *tries) bool {
	for ctx.Err() == nil {
		res, err := c.register(ctx, m, cfg)
		if err == nil {
			err = m.take(res)
		}
		if err == nil {
			return true
		}
		t.note(err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second + rand2(time.Second)):
		}
	}
	return false
}

func rand2(d time.Duration) time.Duration { return time.Duration(mrand.Int64N(int64(d))) }

// AgainArgs: every member registers again in its window before the end of its TEK.
type AgainArgs struct{ DH int }

// Again is what came of it. Times are before the end of the TEK.
type Again struct {
	Life          time.Duration // that was left when the first member got the TEK
	First, Last   time.Duration // beginning of the first, end of the last registration
	Median        time.Duration // end of the middle one
	Longest       time.Duration // from a member's first message to its keys
	InTime, Total int           // done before the mark
	Failed        map[string]int
}

// mark is before the end of a TEK: the earliest moment at which senders change to the
// next one, that of lives from six minutes (policy.SwitchBefore).
const mark = 30 * time.Second

// Again waits for the windows and registers everybody, as members do to which no rekey
// came; it returns when all have new keys or the old ones have ended.
func (c *Crowd) Again(a AgainArgs, r *Again) error {
	end := c.members[0].keys.ends
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	cfg := phase1([]int{a.DH}, netip.PrefixFrom(keyServer, 32))
	var mu sync.Mutex
	var done []time.Duration
	var t tries
	var wg sync.WaitGroup
	r.First = -time.Hour
	for _, m := range c.members {
		last, jitter := policy.Window(m.keys.left)
		at := m.keys.ends.Add(-last - rand2(jitter))
		r.Life = max(r.Life, m.keys.left)
		wg.Go(func() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(at)):
			}
			begin := time.Now()
			if !c.insist(ctx, m, cfg, &t) {
				return
			}
			now := time.Now()
			mu.Lock()
			defer mu.Unlock()
			done = append(done, end.Sub(now))
			r.First, r.Longest = max(r.First, end.Sub(begin)), max(r.Longest, now.Sub(begin))
		})
	}
	wg.Wait()
	slices.SortFunc(done, func(a, b time.Duration) int { return int(b - a) })
	r.Total, r.Failed = len(done), t.failed
	for _, d := range done {
		if d >= mark {
			r.InTime++
		}
	}
	if len(done) > 0 {
		r.Median, r.Last = done[len(done)/2], done[len(done)-1]
	}
	return nil
}
