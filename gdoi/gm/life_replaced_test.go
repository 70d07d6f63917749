package gm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/policy"
	"getvpn/model/event"
)

// What the key server still sends under a KEK that it has replaced or deleted, as to a
// multicast group of which some haven't followed yet, is counted and no failure; a
// captured rekey, a forged one and what comes much later are told as ever.
func TestRekeysUnderAReplacedKEK(t *testing.T) {
	for name, leave := range map[string]func(w *world, old gdoi.RekeySA) []byte{
		"deleted by the rekey that brings the next": func(w *world, old gdoi.RekeySA) []byte {
			r := w.rekey(nil)
			w.s.newKEK(w.t, time.Hour)
			w.s.mu.Lock()
			r.Offer.KEK = w.s.offer().KEK
			w.s.mu.Unlock()
			r.Delete.KEKs = []gdoi.KEKSPI{old.SPI}
			d := w.seal(old, r, w.s.key)
			w.deliver(d)
			return d
		},
		"replaced by a registration": func(w *world, old gdoi.RekeySA) []byte {
			d := w.push(nil)
			w.s.newKEK(w.t, time.Hour)
			w.m.ClearSAs()
			synctest.Wait()
			return d
		},
		"deleted": func(w *world, old gdoi.RekeySA) []byte {
			d := w.seal(old, &policy.Rekey{Seq: w.s.seq + 1, Delete: gdoi.Delete{AllKEKs: true, AllTEKs: true}}, w.s.key)
			w.s.newKEK(w.t, time.Hour)
			w.deliver(d)
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			live(t, func(t *testing.T) {
				s := newServer(t, 24*time.Hour)
				s.tek(300, time.Hour)
				w := newWorld(t, s)
				old := s.sa()
				captured := leave(w, old)
				acks, received := len(w.w.sent()), w.model().RekeysReceived
				w.records()
				expect := func(when, reason string, failures, sequences int, d []byte) {
					t.Helper()
					before := w.model().RekeysRefused
					if !w.deliver(d) {
						t.Fatalf("%s: nobody listens", when)
					}
					ev := w.records()
					f, _ := has[event.GMRekeyFailure](ev)
					q, _ := has[event.GMRekeySeqFailure](ev)
					after := w.model().RekeysRefused
					if f != failures || q != sequences || after[reason] != before[reason]+1 {
						t.Errorf("%s: told %v, counted %v", when, ev, after)
					}
					if w.model().RekeysReceived != received || len(w.w.sent()) != acks {
						t.Errorf("%s: it was taken", when)
					}
				}
				under := func(seq uint32, key *ecdsa.PrivateKey) []byte {
					return w.seal(old, w.rekey(func(r *policy.Rekey) { r.Seq, r.Offer.KEK = seq, nil }), key)
				}
				expect("a repetition", "kek-replaced", 0, 0, under(20, s.key))
				expect("the next round", "kek-replaced", 0, 0, under(21, s.key))
				time.Sleep(30 * time.Second)
				expect("a captured one", gdoi.Replayed.String(), 0, 1, captured)
				other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				expect("a forged one", gdoi.BadSignature.String(), 1, 0, under(22, other))
				expect("the genuine one afterwards", "kek-replaced", 0, 0, under(22, s.key))
				time.Sleep(rollingOver)
				synctest.Wait()
				for _, r := range w.m.gone {
					if r.sa.SPI == old.SPI && (!allZero(r.sa.Key) || !allZero(r.sa.IV)) {
						t.Error("its keys are still there")
					}
				}
				acks, received = len(w.w.sent()), w.model().RekeysReceived
				w.records()
				expect("much later", "kek-ended", 1, 0, under(23, s.key))
			})
		})
	}
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
