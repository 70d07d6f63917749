package gm

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/ipsec"
	"getvpn/model"
)

// notebook is a Memory in memory.
type notebook struct {
	list  []ipsec.ACE
	saves int
	fail  error
}

func (n *notebook) Load() ([]ipsec.ACE, error) { return n.list, n.fail }
func (n *notebook) Save(l []ipsec.ACE) error {
	if n.fail != nil {
		return n.fail
	}
	n.list, n.saves = slices.Clone(l), n.saves+1
	return nil
}
func (n *notebook) Forget() error { n.list = nil; return n.fail }

func silent() Puller {
	return pullFunc(func(ctx context.Context, _ PullRequest) (*PullResult, error) { return nil, errors.New("no answer") })
}

// The next process drops what the last one protected until it has registered.
func TestListOutlivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &notebook{}
		r := newRig(pullFunc(func(context.Context, PullRequest) (*PullResult, error) { return offer(tekOf(300, 10*time.Minute)), nil }))
		r.m.o.Memory = n
		if p := r.m.Prepare(); len(p) != 0 {
			t.Fatalf("a first start isn't open: %+v", p)
		}
		r.run(t)
		time.Sleep(time.Hour) // several registrations, one list
		synctest.Wait()
		if !slices.Equal(n.list, []ipsec.ACE{ssh, permit}) || n.saves != 1 {
			t.Fatalf("saved %d times: %+v", n.saves, n.list)
		}

		next := newRig(silent())
		next.m.o.Memory = n
		ps := next.m.Prepare()
		if len(ps) != 1 || ps[0].State != ipsec.Registered || len(ps[0].Entries) != 2 || ps[0].Entries[1].ACE != permit ||
			ps[0].Entries[1].SPI != 0 || len(ps[0].TEKs) != 0 {
			t.Fatalf("the next process starts with %+v", ps)
		}
		g := next.store.Load().Members[0]
		if g.Status != model.NotRegistered || len(g.DownloadedACEs) != 2 {
			t.Errorf("published %+v", g)
		}
		next.run(t)
		time.Sleep(time.Hour)
		synctest.Wait()
		if next.plane.count() != 0 {
			t.Errorf("without a key server the policy became %+v", next.plane.policy())
		}

		// An operator's clear makes it a member that never was.
		next.m.Clear()
		synctest.Wait()
		if p := next.plane.policy(); next.plane.count() != 1 || p.State != ipsec.Unregistered || len(p.Entries) != 0 || n.list != nil {
			t.Errorf("after a clear %+v, remembered %+v", p, n.list)
		}
	})
}

func TestClearOfARegisteredMemberKeepsTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &notebook{}
		r := newRig(pullFunc(func(context.Context, PullRequest) (*PullResult, error) { return offer(tekOf(300, time.Hour)), nil }))
		r.m.o.Memory = n
		r.m.Prepare()
		r.run(t)
		synctest.Wait()
		r.m.Clear()
		synctest.Wait()
		if len(n.list) != 2 || r.plane.policy().State != ipsec.Registered {
			t.Errorf("remembered %+v, installed %+v", n.list, r.plane.policy())
		}
		if err := r.m.Leave(); err != nil || n.list != nil {
			t.Errorf("remembered after leaving: %+v %v", n.list, err)
		}
	})
}

// A disk that refuses neither stops a start nor a registration.
func TestMemoryThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(pullFunc(func(context.Context, PullRequest) (*PullResult, error) { return offer(tekOf(300, time.Hour)), nil }))
		r.m.o.Memory = &notebook{fail: errors.New("disk")}
		if p := r.m.Prepare(); len(p) != 0 {
			t.Errorf("%+v", p)
		}
		r.run(t)
		synctest.Wait()
		if r.plane.sending() != 300 {
			t.Errorf("installed %+v", r.plane.policy())
		}
	})
}
