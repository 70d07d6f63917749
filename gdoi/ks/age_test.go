package ks

import (
	"crypto/rand"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/policy"
	"getvpn/model"
	"getvpn/model/event"
)

// A member that doesn't register again goes when its last key has ended; one that does
// stays, and the list shrinks with nobody asking.
func TestMembersAgeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 24)
		sub := b.s.o.Events.(*event.Bus).Subscribe("test", 1000)
		gm2 := netip.MustParseAddr("198.51.100.2")
		b.register(t, gm1, ours()) // an hour of life
		b.register(t, gm2, ours())
		time.Sleep(55 * time.Minute)
		b.register(t, gm2, ours()) // gets the successor too: another hour at least
		synctest.Wait()
		time.Sleep(5*time.Minute + memberMargin - time.Second)
		synctest.Wait()
		if g := b.store.Load().KeyServers[0]; g.Members.Len() != 2 || g.Counters.MembersAged != 0 {
			t.Errorf("before its time: %+v", g.Members)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		g := b.store.Load().KeyServers[0]
		if g.Members.Len() != 1 || g.Members.At(0).Addr != gm2 || g.Counters.MembersAged != 1 {
			t.Errorf("an hour and the margin later: %+v", g.Members)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if g := b.store.Load().KeyServers[0]; g.Members.Len() != 0 || g.Counters.MembersAged != 2 {
			t.Errorf("at last: %+v", g.Members)
		}
		if b.g.roster.len() != 0 || len(b.g.roster.byAddr) != 0 || len(b.g.book.slots) != 0 || !b.g.roster.ageing.IsZero() {
			t.Error("something is left")
		}
		deleted := 0
		for len(sub.C()) > 0 {
			if _, ok := (<-sub.C()).Event.(event.GMDeleted); ok {
				deleted++
			}
		}
		if deleted != 2 {
			t.Errorf("%d events", deleted)
		}
	})
}

// A full group refuses who isn't on its list, at message 1 and at message 3, serves who
// is, and has room again when somebody has gone.
func TestFullGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 24)
		b.g.do(func() { b.g.roster.limit = 2 })
		gm2, gm3 := netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("198.51.100.3")
		late, _, three := b.upToThree(t, gm3, ourVID, ours())
		b.register(t, gm1, ours())
		b.register(t, gm2, ours())
		b.s.handle(late, three)
		w := b.firstOnly(t, gm3)
		if g := b.settle(); g.Rejected["group-full"] != 2 || g.Members.Len() != 2 || len(late.sent) != 0 || len(w.sent) != 0 || !w.closed.Load() {
			t.Errorf("%+v", g)
		}
		b.register(t, gm1, ours())
		time.Sleep(3 * time.Hour)
		b.register(t, gm3, ours())
		if g := b.settle(); g.Members.Len() != 1 {
			t.Errorf("%+v", g.Members)
		}
	})
}

// firstOnly sends message 1.
func (b *bench) firstOnly(t *testing.T, a netip.Addr) *wire {
	t.Helper()
	b.mid++
	w := newWire(b.mid, a, ourVID)
	_, d, err := gdoi.NewPullInitiator(w, policy.GroupID(model.GroupID{Number: 1}), rand.Reader, gdoi.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.s.handle(w, d)
	return w
}

// A datagram that finds the mailbox full is as one that was lost: the exchange is
// abandoned, not ended, so that the member's copy of it starts again.
func TestFullMailbox(t *testing.T) {
	b := newBench(t, 24)
	hold := make(chan struct{})
	go b.g.do(func() { <-hold })
	for len(b.g.box) < mailbox || b.g.Dropped() == 0 {
		b.g.post(&conversation{x: newWire(0, gm1, ourVID), r: gdoi.NewPullResponder(newWire(0, gm1, ourVID), rand.Reader, gdoi.PullOptions{})}, []byte{})
	}
	w := b.firstOnly(t, gm1)
	if !w.gone.Load() || w.closed.Load() {
		t.Error("the exchange wasn't abandoned")
	}
	b.s.mu.Lock()
	n := len(b.s.convs)
	b.s.mu.Unlock()
	if n != 0 {
		t.Errorf("%d conversations", n)
	}
	close(hold)
	b.settle()
	b.register(t, gm1, ours())
	if g := b.settle(); g.Rejected["mailbox-full"] < 1 || g.Rejected["admission"] < 1 || g.Counters.PullsCompleted != 1 {
		t.Errorf("%+v", g)
	}
}
