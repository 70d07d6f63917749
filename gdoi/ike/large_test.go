package ike

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
	"getvpn/model"
	"getvpn/model/event"
)

// fragments is how many octets a datagram has that an MTU of 1500 cuts.
const fragments = 1500 - 20 - 8

// filtered drops what would be fragmented on its way to a host.
func filtered(n *memnet.Network, host string) {
	a := netip.MustParseAddr(host)
	n.SetTap(func(_, to netip.AddrPort, b []byte) []byte {
		if to.Addr() == a && len(b) > fragments {
			return nil
		}
		return b
	})
}

// largeKS answers the first message of each exchange with a large one.
func largeKS(t *testing.T, e *Endpoint) {
	e.HandlePull(func(x *Exchange, b []byte) {
		if _, _, err := x.Decrypt(b); err != nil {
			return
		}
		x.Accept()
		out, err := pullMsg(x, string(bytes.Repeat([]byte("large "), 600)))
		if err != nil {
			t.Error(err)
			return
		}
		if err := x.Send(out); err != nil {
			t.Error(err)
		}
	})
}

// ask sends a first message of that many octets of text and takes any answer.
func ask(ctx context.Context, t *testing.T, sa *SA, text int) error {
	t.Helper()
	x := sa.NewExchange(isakmp.GroupKeyPull)
	defer x.Close()
	out, err := pullMsg(x, string(bytes.Repeat([]byte{'x'}, text)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = x.RoundTrip(ctx, out, func(reply []byte) error {
		_, _, err := x.Decrypt(reply)
		x.Accept()
		return err
	})
	return err
}

// dial makes an SA from an address, with an endpoint of its own.
func dial(t *testing.T, n *memnet.Network, from string, edit func(*Options)) (*Endpoint, *SA) {
	t.Helper()
	e := endpoint(t, n, from, pskConfig("s3cret"), edit)
	sa, err := e.Connect(t.Context(), ksPort(), ConnectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return e, sa
}

// told are the events of large messages.
func (r *recorder) told() (out []event.IKELargeUnanswered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.all {
		if x, ok := e.(event.IKELargeUnanswered); ok {
			out = append(out, x)
		}
	}
	return out
}

// An answer that is larger than the MTU never arrives at one peer: it is told once the
// peer has asked as often as it does, while another peer is served.
func Test_ike_04_AnswerThatNeverArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, rec, store := memnet.New(1), &recorder{}, model.NewStore(model.Snapshot{})
		k := endpoint(t, n, ks, pskConfig("s3cret"), func(o *Options) { o.Events, o.Store = rec, store })
		defer k.Close()
		largeKS(t, k)
		filtered(n, gm)
		g, sa := dial(t, n, gm, nil)
		defer g.Close()
		h, other := dial(t, n, "172.16.1.3", nil)
		defer h.Close()
		begin := time.Now()
		silent := make(chan error, 1)
		go func() { silent <- ask(t.Context(), t, sa, 10) }()
		if err := ask(t.Context(), t, other, 10); err != nil || time.Since(begin) > time.Second {
			t.Errorf("the other peer: %v after %v", err, time.Since(begin))
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if n := rec.told(); len(n) != 0 || len(silent) != 0 {
			t.Errorf("before the last transmission's pause is over: told %v, %d ended", n, len(silent))
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		ev := rec.told()
		if err := <-silent; !errors.Is(err, ErrNoReply) || len(ev) != 1 || ev[0].Peer.String() != gm || ev[0].Octets < 3600 || ev[0].Tries != 5 {
			t.Fatalf("%v, told %+v", err, ev)
		}
		// It asks again, and again: one event each half a minute at most, each one counts.
		for range 3 {
			if err := ask(t.Context(), t, sa, 10); !errors.Is(err, ErrNoReply) {
				t.Error(err)
			}
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := k.Drops()[DropLargeUnanswered]; n != 4 || len(rec.told()) > 4 {
			t.Errorf("counted %d, told %d times", n, len(rec.told()))
		}
		if err := ask(t.Context(), t, other, 10); err != nil {
			t.Errorf("the other peer: %v", err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if store.Load().IKE.Drops[string(DropLargeUnanswered)] != 4 {
			t.Errorf("published %v", store.Load().IKE.Drops)
		}
	})
}

// A peer that gives up sooner, and says so, is told of too; one that got the answer at
// last isn't, nor one whose messages the network doubles.
func Test_ike_04_WhatIsNoSilence(t *testing.T) {
	for name, c := range map[string]struct {
		tries int
		link  memnet.Link
		until time.Duration // of the filter
		want  int
	}{
		"three transmissions": {tries: 3, until: time.Hour, want: 1},
		"two transmissions":   {tries: 2, until: time.Hour},
		"the fourth arrives":  {tries: 5, until: 5 * time.Second},
		"the fifth arrives":   {tries: 5, until: 10 * time.Second},
		"doubled":             {tries: 5, link: memnet.Link{Duplicate: 1, Jitter: 50 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, rec := memnet.New(1), &recorder{}
				n.SetAll(c.link)
				k := endpoint(t, n, ks, pskConfig("s3cret"), func(o *Options) { o.Events = rec })
				defer k.Close()
				echo := 0
				k.HandlePull(func(x *Exchange, b []byte) {
					if _, _, err := x.Decrypt(b); err != nil {
						return
					}
					x.Accept()
					out, err := pullMsg(x, string(make([]byte, 3000)))
					if err != nil {
						t.Error(err)
						return
					}
					if err := x.Send(out); err != nil {
						t.Error(err)
					}
					if echo++; echo == 2 {
						x.Close()
					}
				})
				g, sa := dial(t, n, gm, func(o *Options) { o.Retry.Count = c.tries })
				defer g.Close()
				if c.until > 0 {
					filtered(n, gm)
					time.AfterFunc(c.until, func() { n.SetTap(nil) })
				}
				x := sa.NewExchange(isakmp.GroupKeyPull)
				defer x.Close()
				for range 2 {
					out, err := pullMsg(x, "message")
					if err != nil {
						t.Fatal(err)
					}
					if _, err = x.RoundTrip(t.Context(), out, func(reply []byte) error {
						_, _, err := x.Decrypt(reply)
						x.Accept()
						return err
					}); err != nil {
						if c.until < time.Minute {
							t.Error(err)
						}
						sa.Close()
						break
					}
				}
				time.Sleep(3 * time.Minute)
				synctest.Wait()
				if ev := rec.told(); len(ev) != c.want {
					t.Errorf("told %+v", ev)
				}
			})
		})
	}
}

// The last answer of an exchange may be the large one: nothing follows it but copies of
// what it answers.
func Test_ike_04_LastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, rec := memnet.New(1), &recorder{}
		k := endpoint(t, n, ks, pskConfig("s3cret"), func(o *Options) { o.Events = rec })
		defer k.Close()
		k.HandlePull(func(x *Exchange, b []byte) {
			if _, _, err := x.Decrypt(b); err != nil {
				return
			}
			x.Accept()
			out, err := pullMsg(x, string(make([]byte, 2000)))
			if err == nil {
				err = x.Send(out)
			}
			if err != nil {
				t.Error(err)
			}
			x.Close()
		})
		filtered(n, gm)
		g, sa := dial(t, n, gm, nil)
		defer g.Close()
		err := ask(t.Context(), t, sa, 10)
		sa.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		if ev := rec.told(); !errors.Is(err, ErrNoReply) || len(ev) != 1 || ev[0].Octets < 2000 {
			t.Errorf("%v, told %+v", err, ev)
		}
	})
}

// Our own large messages: in an exchange, and in phase 1 on both sides.
func Test_ike_04_OurOwnMessages(t *testing.T) {
	long := func(o *Options) { // as certificates will be
		for i := range 30 {
			o.VendorIDs = append(o.VendorIDs, bytes.Repeat([]byte{byte(i)}, 60))
		}
	}
	for name, c := range map[string]struct {
		gm, ks func(*Options)
		to     string // who gets no fragments
		text   int
	}{
		"an exchange's first message":   {to: ks, text: 3000},
		"phase 1, the initiator's part": {gm: long, to: ks},
		"phase 1, the responder's part": {ks: long, to: gm},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := memnet.New(1)
				recs := map[string]*recorder{gm: {}, ks: {}}
				side := func(addr string, edit func(*Options)) *Endpoint {
					return endpoint(t, n, addr, pskConfig("s3cret"), func(o *Options) {
						o.Events = recs[addr]
						if edit != nil {
							edit(o)
						}
					})
				}
				k, g := side(ks, c.ks), side(gm, c.gm)
				defer k.Close()
				defer g.Close()
				echoKS(t, k)
				filtered(n, c.to)
				sa, err := g.Connect(t.Context(), ksPort(), ConnectOptions{})
				if c.text > 0 && err == nil {
					err = ask(t.Context(), t, sa, c.text)
				}
				if err == nil {
					t.Fatal("it arrived")
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				from := map[string]string{ks: gm, gm: ks}[c.to]
				ev, other := recs[from].told(), recs[c.to].told()
				if len(ev) != 1 || ev[0].Peer.String() != c.to || ev[0].Octets <= fragments || len(other) != 0 {
					t.Errorf("%s told %+v, %s %+v", from, ev, c.to, other)
				}
			})
		})
	}
}
