package gm

// What a rekey does to a member: sequence, copies, forgeries, KEK rollover and its loss.

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/policy"
	"getvpn/internal/secret"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

// A rekey brings a successor: received with at once, sent with 30 s before the old
// one's end, acknowledged under the KEK it came with; install, publish, emit, ACK.
func TestRekeyRollsOver(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s)
		w.records()
		first := w.model().ReRegisters
		w.at(3210 * time.Second)
		s.tek(400, time.Hour)
		w.push(nil)
		if got := w.plane.receives(); !slices.Equal(got, []uint32{300, 400}) {
			t.Fatalf("receives with %v", got)
		}
		if w.plane.sending() != 300 {
			t.Errorf("sends with %d at once", w.plane.sending())
		}
		if got := w.plane.policy().TEKs[1].SIDs; !slices.Equal(got, []uint32{1}) {
			t.Errorf("Sender IDs %v: a rekey frees none and gives none", got)
		}
		g := w.model()
		if g.RekeysReceived != 1 || g.LastRekeySeq != 1 || g.LastRekeyFrom != server1 || g.AcksSent != 1 || g.KEK.Seq != 1 || len(g.TEKs) != 2 ||
			!g.TEKs[1].Sending || g.TEKs[0].Sending {
			t.Errorf("published %+v", g)
		}
		if !g.ReRegisters.After(first.Add(50 * time.Minute)) {
			t.Errorf("registers again at %v, before at %v: the rekey brought successors", g.ReRegisters, first)
		}
		ev := w.records()
		if n, e := has[event.GMRecvRekey](ev); n != 1 || e.Seq != 1 || e.KS != server1 || e.Dst != memberAddr.Addr() {
			t.Errorf("events %v", ev)
		}
		acks := w.w.sent()
		sa := s.sa()
		if len(acks) != 1 || acks[0].Remote != serverPort || acks[0].Local.Addr() != memberAddr.Addr() {
			t.Fatalf("acknowledged %v", acks)
		}
		seq, id, err := sa.AckKey(gdoi.AckKEKSHA256).Open(acks[0].Data)
		if a, ok := id.Addr(); err != nil || seq != 1 || !ok || a != memberAddr.Addr() {
			t.Errorf("ACK of %d by %v, %v", seq, id, err)
		}
		w.at(3600*time.Second - 33*time.Second)
		if w.plane.sending() != 300 {
			t.Error("changed over too early")
		}
		w.at(3600*time.Second - 30*time.Second)
		if w.plane.sending() != 400 || len(w.plane.receives()) != 2 {
			t.Errorf("30 s before the end: sends with %d", w.plane.sending())
		}
		w.at(3601 * time.Second)
		if got := w.plane.receives(); !slices.Equal(got, []uint32{400}) || s.registrations() != 1 {
			t.Errorf("receives with %v, %d registrations", got, s.registrations())
		}
	})
}

// Not above the last number: refused and told; above it, however far: taken. A
// registration's lower number is stale.
func TestRekeySequence(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s)
		numbered := func(n uint32) func(*policy.Rekey) { return func(r *policy.Rekey) { r.Seq = n } }
		steps := []struct {
			seq   uint32
			taken bool
		}{{1, true}, {2, true}, {2, false}, {1, false}, {1000, true}, {999, false}, {1 << 31, true}, {5, false}, {1<<32 - 1, true}, {1<<32 - 1, false}}
		last := uint32(0)
		for i, x := range steps {
			time.Sleep(time.Minute)
			w.records()
			w.push(numbered(x.seq))
			ev := w.records()
			n, _ := has[event.GMRecvRekey](ev)
			f, e := has[event.GMRekeySeqFailure](ev)
			if x.taken {
				last = x.seq
			}
			if x.taken != (n == 1) || x.taken == (f == 1) || !x.taken && (e.Seq != x.seq || e.Last != last) || w.model().LastRekeySeq != last {
				t.Errorf("step %d, seq %d: %v", i, x.seq, ev)
			}
		}
		// The registration says less than is known.
		s.mu.Lock()
		s.seq = 7
		s.mu.Unlock()
		w.m.Clear()
		synctest.Wait()
		if g := w.model(); g.KEK.Seq != 1<<32-1 || g.Succeeded != 2 {
			t.Errorf("after a registration: seq %d", g.KEK.Seq)
		}
		if w.model().RekeysRefused["replayed"] == 0 {
			t.Errorf("refused %v", w.model().RekeysRefused)
		}
	})
}

// A captured rekey, replayed a minute, a TEK and a KEK later.
func TestCapturedRekeyIsRefusedEverAfter(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 2*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s)
		s.tek(400, time.Hour)
		captured := w.push(nil)
		refused := func(when string) {
			t.Helper()
			w.records()
			before := w.plane.receives()
			if !w.deliver(captured) {
				t.Fatalf("%s: nobody listens, so nobody tells", when)
			}
			ev := w.records()
			n, _ := has[event.GMRekeySeqFailure](ev)
			m, _ := has[event.GMRekeyFailure](ev)
			if k, _ := has[event.GMRecvRekey](ev); k != 0 || n+m != 1 || !slices.Equal(before, w.plane.receives()) {
				t.Errorf("%s: %v", when, ev)
			}
		}
		w.deliver(captured) // the network's copy: no event
		if n, _ := has[event.GMRekeySeqFailure](w.records()); n != 0 || w.model().RekeysRefused["copy"] != 1 {
			t.Errorf("a copy: %d events, refused %v", n, w.model().RekeysRefused)
		}
		time.Sleep(time.Minute)
		refused("a minute later")
		w.at(59 * time.Minute)
		s.tek(500, 3*time.Hour)
		w.push(nil)
		w.at(62 * time.Minute)
		refused("a TEK later")
		// KEK rollover.
		old := s.sa()
		r := w.rekey(nil)
		s.newKEK(t, 2*time.Hour)
		o := s.offer()
		r.Offer.KEK = o.KEK
		if !w.deliver(w.seal(old, r, s.key)) {
			t.Fatal("nobody listens")
		}
		time.Sleep(15 * time.Second)
		if p := w.model().PreviousKEK; p == nil || p.SPI != old.SPI || w.model().KEK.SPI == old.SPI || p.Seq != r.Seq || time.Until(p.Expires) > rollingOver {
			t.Errorf("the KEK before: %+v", p)
		}
		refused("under the old KEK, which still opens")
		time.Sleep(time.Hour)
		if p := w.model().PreviousKEK; p != nil {
			t.Errorf("a KEK before that has ended: %+v", p)
		}
		refused("a KEK later")
		if w.model().RekeysRefused["kek-ended"] != 1 {
			t.Errorf("refused %v", w.model().RekeysRefused)
		}
	})
}

func TestForgedRekey(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s)
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		w.records()
		s.tek(666, time.Hour)
		// A member has the KEK, not the signing key.
		w.deliver(w.seal(s.sa(), w.rekey(func(r *policy.Rekey) { r.Seq = 50 }), other))
		ev := w.records()
		if n, _ := has[event.GMRekeyFailure](ev); n != 1 || w.model().RekeysRefused["bad-signature"] != 1 || len(w.plane.receives()) != 1 || len(w.w.sent()) != 0 {
			t.Errorf("forged: %v, refused %v", ev, w.model().RekeysRefused)
		}
		// The genuine one has a lower number and still works.
		s.teks = s.teks[:1]
		s.tek(400, time.Hour)
		w.push(func(r *policy.Rekey) { r.Seq = 1 })
		if got := w.plane.receives(); !slices.Equal(got, []uint32{300, 400}) {
			t.Errorf("receives with %v", got)
		}
		// Every single octet counts.
		d := w.seal(s.sa(), w.rekey(nil), s.key)
		for i := 16; i < len(d); i += 7 {
			b := slices.Clone(d)
			b[i] ^= 0x40
			w.deliver(b)
		}
		if w.model().RekeysReceived != 1 {
			t.Errorf("%d rekeys taken", w.model().RekeysReceived)
		}
		if w.deliver(d); w.model().RekeysReceived != 2 {
			t.Error("the genuine one wasn't taken afterwards")
		}
		// A flood makes no flood of lines.
		w.records()
		time.Sleep(time.Minute)
		for range 100 {
			w.deliver(w.seal(s.sa(), w.rekey(nil), other))
		}
		if n, _ := has[event.GMRekeyFailure](w.records()); n != 1 {
			t.Errorf("%d events", n)
		}
	})
}

// The KEK's rekey comes under the old KEK; the next one under the new one starts at 1.
// The old one still opens for a while, since our acknowledgement may be lost.
func TestKEKRollover(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, time.Hour)
		s.tek(300, 4*time.Hour)
		w := newWorld(t, s)
		w.push(nil)
		w.at(50 * time.Minute)
		w.records()
		old, seq := s.sa(), s.seq
		s.newKEK(t, time.Hour)
		o := s.offer()
		o.KEK.Seq, o.KEK.Public = 0, nil // as a rekey may say it
		bring := &policy.Rekey{Seq: seq + 1, Offer: &o}
		w.deliver(w.seal(old, bring, s.key))
		ev := w.records()
		if n, _ := has[event.GMKEKUpdated](ev); n != 1 {
			t.Errorf("events %v", ev)
		}
		acks := w.w.sent()
		if _, _, err := old.AckKey(gdoi.AckKEKSHA256).Open(acks[len(acks)-1].Data); err != nil {
			t.Errorf("the ACK isn't of the KEK that the rekey came under: %v", err)
		}
		if g := w.model(); g.KEK.SPI != s.kek.SPI || g.KEK.Seq != 0 {
			t.Errorf("holds %+v", g.KEK)
		}
		// Our ACK was lost: the key server repeats it, with the next number.
		bring.Seq++
		w.deliver(w.seal(old, bring, s.key))
		if n := len(w.w.sent()); n != len(acks)+1 {
			t.Errorf("%d ACKs, had %d", n, len(acks))
		}
		w.push(nil) // seq 1 under the new one
		if g := w.model(); g.LastRekeySeq != 1 || g.KEK.Seq != 1 {
			t.Errorf("under the new KEK: last %d", g.LastRekeySeq)
		}
		time.Sleep(6 * time.Minute)
		bring.Seq += 50
		w.deliver(w.seal(old, bring, s.key))
		if w.model().RekeysRefused["kek-ended"] != 1 {
			t.Errorf("the old KEK still opens: %v", w.model().RekeysRefused)
		}
		if s.registrations() != 1 {
			t.Errorf("%d registrations", s.registrations())
		}
	})
}

// No KEK rekey arrives: the member registers again before the KEK ends. Nobody answers:
// the KEK goes at its end, data keys stay in use.
func TestLostKEKRekey(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, time.Hour)
		s.tek(300, 4*time.Hour)
		w := newWorld(t, s)
		w.at(time.Hour - 125*time.Second)
		if s.registrations() != 1 {
			t.Fatal("registered again before the key server was late")
		}
		s.setDown(true)
		w.records()
		w.at(time.Hour - 25*time.Second)
		ev := w.records()
		if n, e := has[event.GMRekeyNotReceived](ev); s.registrations() < 2 || n != 1 || e.KS != server1 {
			t.Fatalf("%d registrations, %v", s.registrations(), ev)
		}
		w.at(time.Hour + time.Second)
		if n, _ := has[event.GMKEKExpired](w.records()); n != 1 || w.model().KEK != nil {
			t.Errorf("KEK %v", w.model().KEK)
		}
		if w.plane.sending() != 300 || w.model().Status != model.Registered {
			t.Errorf("sends with %d", w.plane.sending())
		}
		s.setDown(false)
		s.newKEK(t, time.Hour)
		time.Sleep(time.Minute)
		synctest.Wait()
		if w.model().KEK == nil {
			t.Error("didn't come back")
		}
		w.push(nil)
	})
}

// Case ike-03: the registration's ISAKMP SA has no part in a rekey.
func Test_ike_03(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s)
		s.setDown(true) // no phase 1, no PULL any more
		time.Sleep(400 * time.Second)
		s.tek(400, time.Hour)
		w.push(nil)
		g := w.model()
		if g.RekeysReceived != 1 || len(w.w.sent()) != 1 || g.Status != model.Registered || len(g.TEKs) != 2 || s.registrations() != 1 {
			t.Errorf("%+v", g)
		}
	})
}

// A rekey with the whole policy makes a member whole that missed the ones before.
func TestMissedRekeys(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s)
		w.at(10 * time.Minute)
		s.tek(400, time.Hour) // its rekey is lost
		w.at(20 * time.Minute)
		s.tek(500, time.Hour)
		w.push(func(r *policy.Rekey) { r.Seq = 9 })
		if got := w.plane.receives(); !slices.Equal(got, []uint32{300, 400, 500}) {
			t.Errorf("receives with %v", got)
		}
	})
}

// Without a Sender ID a counter mode isn't sent with; the member fetches one at once.
func TestRekeyWithoutSenderID(t *testing.T) {
	live(t, func(t *testing.T) {
		cbc := ipsec.Transform{Cipher: ipsec.CipherAESCBC, KeyBits: 128, Auth: ipsec.AuthSHA256}
		s := newServer(t, 24*time.Hour)
		x := s.tek(300, time.Hour)
		x.Transform, x.Key, x.AuthKey = cbc, make(secret.Bytes, 16), make(secret.Bytes, 32)
		s.teks[0] = x
		var none bool
		pull := pullFunc(func(ctx context.Context, r PullRequest) (*PullResult, error) {
			got, err := s.Pull(ctx, r)
			if got != nil && none {
				got.Keys = policy.Keys{}
			}
			return got, err
		})
		none = true
		w := newWorld(t, s, func(o *Options) { o.Puller = pull })
		none = false
		s.tek(400, time.Hour) // GCM
		w.push(nil)
		if len(w.plane.receives()) != 2 || s.registrations() != 1 {
			t.Errorf("receives with %v", w.plane.receives())
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if s.registrations() != 2 || len(w.plane.policy().TEKs[1].SIDs) != 1 {
			t.Errorf("%d registrations, Sender IDs %v", s.registrations(), w.plane.policy().TEKs[1].SIDs)
		}
	})
}

// More rekeys at once than the actor takes: dropped and counted, the endpoint never
// waits.
func TestRekeyQueueIsBounded(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.tek(300, time.Hour)
		w := newWorld(t, s)
		d := w.seal(s.sa(), w.rekey(nil), s.key)
		w.plane.mu.Lock() // the actor hangs in its dataplane
		f := w.w.handlers[s.kek.SPI]
		for range 3 * maxPushed {
			f(ike.Datagram{Data: d, Remote: serverPort, Local: memberAddr})
		}
		w.plane.mu.Unlock()
		synctest.Wait()
		if n := w.model().RekeysRefused["queue-full"]; n < maxPushed || w.model().RekeysReceived != 1 {
			t.Errorf("refused %v", w.model().RekeysRefused)
		}
	})
}

// A group gets rekeys while it runs: a member that registered without a KEK has it with
// its next registration, before its keys end, and takes rekeys from then on.
func TestRekeysSwitchedOnLater(t *testing.T) {
	live(t, func(t *testing.T) {
		s := newServer(t, 24*time.Hour)
		s.noKEK = true
		s.tek(300, 20*time.Minute)
		w := newWorld(t, s)
		if g := w.model(); g.KEK != nil || w.deliver(s.kek.SPI[:]) {
			t.Fatalf("a KEK before there is one: %+v", g.KEK)
		}
		s.mu.Lock()
		s.noKEK = false
		s.mu.Unlock()
		w.at(15 * time.Minute)
		s.tek(400, 20*time.Minute) // what the key server makes for those it can't tell
		if w.model().KEK != nil || s.registrations() != 1 {
			t.Error("heard of the KEK before it registered again")
		}
		w.at(19 * time.Minute)
		if g := w.model(); g.KEK == nil || s.registrations() != 2 || w.plane.sending() != 300 {
			t.Fatalf("%d registrations, %+v", s.registrations(), g)
		}
		s.tek(500, 40*time.Minute)
		w.push(nil)
		if g := w.model(); g.RekeysReceived != 1 || !slices.Contains(w.plane.receives(), 500) || len(w.w.sent()) != 1 {
			t.Errorf("%d rekeys, receives with %v", g.RekeysReceived, w.plane.receives())
		}
	})
}
