package ks

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/model"
)

// mostOctets is what the model may copy for one change of a row: the row and the pages
// on its way (model.TestOctetsCopiedPerChange).
const mostOctets = 1500

// populate adds members that nobody speaks for.
func (l *life) populate(n int) {
	l.g.do(func() {
		for i := l.g.roster.len(); i < n; i++ {
			m := l.g.roster.join(gmAddr(i), gmAddr(i), time.Now())
			m.path, m.local, m.holds = netip.AddrPortFrom(gmAddr(i), rekeyPort), l.g.source(), l.g.ring.kek.ord
		}
		l.g.note()
	})
}

// acks makes members acknowledge the last rekey.
func (l *life) acks(from, to int) {
	k := l.g.ring.kek
	key := k.sa().AckKey(k.ack)
	for i := from; i < to; i++ {
		l.air.acknowledge(key.Seal(k.seq.last, isakmp.AddrID(gmAddr(i)), k.spi), netip.AddrPortFrom(gmAddr(i), rekeyPort))
	}
}

// An acknowledgement costs the model a row and a page path, whether it comes alone or
// in a crowd, among a hundred members or ten thousand; readers see it within 100 ms,
// and no more than ten publications a second are made for them.
func TestOctetsCopiedPerAcknowledgement(t *testing.T) {
	for _, n := range []int{100, 10000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			live(t, func() *Setup { return lifeSetup(time.Hour, unicast(0, 10*time.Second)) }, func(t *testing.T, l *life) {
				l.join(t, 0)
				l.gms[0].mute.Store(true)
				l.populate(n)
				if err := l.g.Rekey(false, false); err != nil {
					t.Fatal(err)
				}
				after(time.Second)
				before := l.group()
				const alone = 50
				for i := range alone { // one in each publication
					l.acks(i, i+1)
					after(ackPublish + time.Millisecond)
				}
				g := l.group()
				each := (g.Counters.OctetsCopied - before.Counters.OctetsCopied) / alone
				if g.Counters.AcksRcvd != alone || each > mostOctets {
					t.Errorf("%d acknowledgements, %d octets for each alone", g.Counters.AcksRcvd, each)
				}
				before, gen := g, l.store.Load().Generation
				for i := alone; i < n; i++ {
					l.acks(i, i+1)
					if i%10 == 0 {
						time.Sleep(time.Millisecond)
					}
				}
				after(ackPublish + time.Millisecond)
				g = l.group()
				took := time.Duration(n-alone) * time.Millisecond / 10
				crowd := (g.Counters.OctetsCopied - before.Counters.OctetsCopied) / uint64(n-alone)
				if g.Counters.AcksRcvd != uint64(n) || g.Unanswered != 0 || g.Members.At(n-1).AcksRcvd != 1 || crowd > mostOctets {
					t.Errorf("%d acknowledgements, waiting for %d, %d octets each", g.Counters.AcksRcvd, g.Unanswered, crowd)
				}
				if made, most := l.store.Load().Generation-gen, uint64(took/ackPublish)+2; made > most {
					t.Errorf("%d publications in %v", made, took)
				}
				t.Logf("%d members: %d octets for an acknowledgement alone, %d in a crowd", n, each, crowd)
			})
		})
	}
}

// A registration is in the model before its event is told, and costs as little however
// many members there are.
func TestOctetsCopiedPerRegistration(t *testing.T) {
	live(t, func() *Setup { return lifeSetup(time.Hour, unicast(0, 10*time.Second)) }, func(t *testing.T, l *life) {
		l.join(t, 0)
		l.populate(10000)
		before := l.group().Counters.OctetsCopied
		for i := range 50 {
			l.register(t, gmAddr(10000+i), ours())
			synctest.Wait()
			if l.store.Load().KeyServers[0].Members.Find(gmAddr(10000+i)) == nil {
				t.Fatal("a member isn't shown at once")
			}
		}
		if each := (l.group().Counters.OctetsCopied - before) / 50; each > 3*mostOctets { // its pages' keys too
			t.Errorf("%d octets a registration", each)
		}
	})
}

// What the table shows is what the list says, whoever comes, goes and is back.
func TestRowsFollowTheList(t *testing.T) {
	r := newRoster(newAckBook())
	now := time.Unix(1000, 0)
	check := func(acks uint64) {
		t.Helper()
		tab := r.published()
		if tab.Len() != r.len() || r.acks != acks {
			t.Fatalf("%d rows of %d members, %d acknowledgements", tab.Len(), r.len(), r.acks)
		}
		for i, m := range r.list {
			if x := tab.At(i); x.Addr != m.row.Addr || x.AcksRcvd != m.row.AcksRcvd {
				t.Fatalf("row %d: %+v", i, x)
			}
		}
	}
	for i := range 200 {
		r.join(gmAddr(i*7%200), netip.Addr{}, now)
	}
	check(0)
	r.find(gmAddr(3)).slot.count.Store(5)
	r.find(gmAddr(4)).slot.count.Store(2)
	r.fold(func(*member) {})
	check(7)
	r.remove(func(m *member) bool { return m.row.Addr == gmAddr(3) || m.row.Addr == gmAddr(9) })
	r.join(gmAddr(3), netip.Addr{}, now) // back before anything was shown
	x := r.join(gmAddr(500), netip.Addr{}, now)
	r.remove(func(m *member) bool { return m == x }) // gone before it was shown
	check(2)
	if r.table.Find(gmAddr(500)) != nil || r.table.Find(gmAddr(3)).AcksRcvd != 0 {
		t.Error("a row of somebody who is gone")
	}
	old := r.table
	r.remove(func(*member) bool { return true })
	check(0)
	if old.Len() != 199 || (model.MemberTable{}) != r.table {
		t.Errorf("%d rows before, %d now", old.Len(), r.table.Len())
	}
}
