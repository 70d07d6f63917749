package ks

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/ipsec"
)

// Changes of policy in a living group: what members are told and when.

func (l *life) apply(t *testing.T, e config.Effects, edit func(*Setup)) {
	t.Helper()
	next := *l.g.want
	next.Entries = slices.Clone(next.Entries)
	if next.Rekey != nil {
		r := *next.Rekey
		next.Rekey = &r
	}
	edit(&next)
	if err := l.g.Apply(&next, e); err != nil {
		t.Fatal(err)
	}
	after(time.Second)
}

func daily() *Setup { return lifeSetup(time.Hour, unicast(0, 0)) }

// Guide, scenario 1: the list changed. At once a rekey with the new list and the same
// keys.
func TestPolicyScenario1ListChanged(t *testing.T) {
	live(t, daily, func(t *testing.T, l *life) {
		m := l.join(t, 0)
		old := m.spis()
		l.apply(t, config.Effects{Rekey: true, ACL: true}, func(s *Setup) { s.Entries[0].ACEs = permit(3)[2:] })
		r := m.last()
		if r == nil || len(r.Offer.Entries) != 1 || r.Offer.Entries[0].ACE.Src != permit(3)[2].Src || !slices.Equal(m.spis(), old) || r.Shorten || len(r.Delete.TEKs) != 0 {
			t.Errorf("%+v", r)
		}
		if e := l.events(); e["KSSendUnicastRekey"] != 1 {
			t.Errorf("%v", e)
		}
	})
}

// Scenario 2: the transform set changed, 1000 s before the TEK ends. Both SAs are sent,
// the old one is the first to send with and keeps its end.
func TestPolicyScenario2TransformChanged(t *testing.T) {
	live(t, func() *Setup { return lifeSetup(2*time.Hour, unicast(0, 0)) }, func(t *testing.T, l *life) {
		m := l.join(t, 0)
		old := m.spis()[0]
		after(2*time.Hour - 1000*time.Second)
		n := len(m.numbers())
		l.apply(t, config.Effects{Rekey: true, NewTEKs: []int{1}}, func(s *Setup) {
			s.Entries[0].Transform, s.Entries[0].Replay = gcm128, ipsec.Replay{Mode: ipsec.ReplayTime, Window: 20}
		})
		r := m.last()
		if len(m.numbers()) != n+1 || len(r.Offer.TEKs) != 2 {
			t.Fatalf("%d TEKs", len(r.Offer.TEKs))
		}
		a, b := r.Offer.TEKs[0], r.Offer.TEKs[1]
		if a.SPI != old || a.Transform != cbc128 || a.Lifetime != 1000*time.Second || timeBased(a.Replay) || b.Transform != gcm128 || !timeBased(b.Replay) || r.Offer.Clock == nil {
			t.Errorf("%+v\n%+v", a, b)
		}
		if !slices.Equal(r.Offer.Entries[0].SPIs, []uint32{a.SPI, b.SPI}) {
			t.Error("the older one comes first")
		}
		after(17 * time.Minute)
		if got := m.spis(); slices.Contains(got, old) || !slices.Contains(got, b.SPI) {
			t.Errorf("%v", got)
		}
	})
}

// Scenario 3: both.
func TestPolicyScenario3ListAndTransformChanged(t *testing.T) {
	live(t, daily, func(t *testing.T, l *life) {
		m := l.join(t, 0)
		l.apply(t, config.Effects{Rekey: true, ACL: true, NewTEKs: []int{1}}, func(s *Setup) {
			s.Entries[0].ACEs, s.Entries[0].Transform = permit(3)[2:], gcm128
		})
		r := m.last()
		if len(m.numbers()) != 1 || len(r.Offer.TEKs) != 2 || len(r.Offer.Entries) != 1 || len(r.Offer.Entries[0].SPIs) != 2 || r.Offer.Entries[0].ACE.Src != permit(3)[2].Src {
			t.Errorf("%+v", r.Offer)
		}
	})
}

// Lifetimes: no rekey, the next TEK and KEK have the new ones; crypto gdoi ks rekey
// forces both.
func TestLifetimesChangeWithTheNextKeys(t *testing.T) {
	live(t, daily, func(t *testing.T, l *life) {
		m := l.join(t, 0)
		kek := l.group().KEK.SPI
		l.apply(t, config.Effects{NextRekey: true}, func(s *Setup) {
			s.Entries[0].Lifetime, s.Rekey.Lifetime = 2*time.Hour, 48*time.Hour
		})
		if len(m.numbers()) != 0 || l.events()["KSPolicyChange"] != 1 {
			t.Error("a rekey was sent, or nothing was said")
		}
		after(time.Hour - time.Minute) // the old TEK was rekeyed by its own life
		r := m.last()
		if len(m.numbers()) != 1 || len(r.Offer.TEKs) != 2 || r.Offer.TEKs[1].Lifetime != 2*time.Hour || r.Offer.KEK != nil {
			t.Errorf("%v %+v", m.numbers(), r.Offer)
		}
		l.g.Rekey(true, false)
		after(time.Second)
		if r = m.last(); r.Offer.KEK == nil || r.Offer.KEK.Lifetime != 48*time.Hour || l.group().KEK.SPI == kek {
			t.Error("ks rekey brings the KEK of the new life")
		}
	})
}

// What makes another rekey SA: cipher, signing key, hash, transport. The old one says so.
func TestKEKChanges(t *testing.T) {
	other := func() *Signer {
		s, _ := LoadSigner(&memFiles{crash: func(string) error { return nil }}, "d", KeyRef("K", true))
		return s
	}
	signer2 := other()
	for name, edit := range map[string]func(*SetupRekey){
		"cipher":    func(r *SetupRekey) { r.KeyBits = 256 },
		"3des":      func(r *SetupRekey) { r.Cipher, r.KeyBits = gdoi.KEK3DES, 192 },
		"key":       func(r *SetupRekey) { r.Signer = signer2 },
		"multicast": func(r *SetupRekey) { r.Multicast, r.Ack = mcastGroup, 0 },
	} {
		t.Run(name, func(t *testing.T) {
			live(t, daily, func(t *testing.T, l *life) {
				m := l.join(t, 0)
				l.apply(t, config.Effects{Rekey: true, NewKEK: true}, func(s *Setup) { edit(s.Rekey) })
				r := m.last()
				if r == nil || r.Seq != 1 || r.Offer.KEK == nil || len(r.Offer.TEKs) != 1 {
					t.Fatalf("%+v", r)
				}
				after(time.Minute)
				l.g.Rekey(true, false)
				after(time.Second)
				if got := m.last(); len(m.bad) != 0 || got.Seq != 1 || got == r {
					t.Errorf("under the new KEK: %v", m.bad)
				}
				e := l.events()
				if (name == "multicast") != (e["KSRekeyTransMulticast"] == 1) || (name == "multicast") != (e["KSSendMcastRekey"] == 1) {
					t.Errorf("%v", e)
				}
				if name != "multicast" {
					return
				}
				l.apply(t, config.Effects{Rekey: true, NewKEK: true}, func(s *Setup) { s.Rekey.Multicast, s.Rekey.Ack = netip.AddrPort{}, gdoi.AckKEKSHA256 })
				after(time.Minute)
				l.g.Rekey(true, false)
				after(time.Second)
				if g := l.group(); len(m.bad) != 0 || g.Members.At(0).AcksRcvd == 0 || !g.KEK.Unicast || l.events()["KSRekeyTransUnicast"] != 1 {
					t.Errorf("back to unicast: %v %+v", m.bad, g.Members.At(0))
				}
			})
		})
	}
}

// Receive-only on and off are told at once, with the same keys; the direction is the
// configuration's at once.
func TestReceiveOnlyOnAndOff(t *testing.T) {
	live(t, daily, func(t *testing.T, l *life) {
		m := l.join(t, 0)
		old := m.spis()
		on := func(d ipsec.Direction) {
			l.apply(t, config.Effects{Rekey: true}, func(s *Setup) { s.Entries[0].Direction = d })
			if r := m.last(); r.Offer.TEKs[0].Direction != d || !slices.Equal(old, m.spis()) {
				t.Errorf("%+v", r.Offer.TEKs)
			}
		}
		on(ipsec.InboundOnly)
		on(ipsec.Both)
		if e := l.events(); e["KSConvSAsIngress"] != 1 || e["KSConvSAsDuplex"] != 1 || e["KSSendUnicastRekey"] != 2 {
			t.Errorf("%v", e)
		}
	})
}

// Counter replay on, its window, off; the window of time-based replay waits for Clear.
func TestReplayChanges(t *testing.T) {
	live(t, daily, func(t *testing.T, l *life) {
		m := l.join(t, 0)
		set := func(e config.Effects, mode ipsec.ReplayMode, window int) {
			l.apply(t, e, func(s *Setup) { s.Entries[0].Replay = ipsec.Replay{Mode: mode, Window: window} })
		}
		newest := func() ipsec.Replay { return m.last().Offer.TEKs[len(m.last().Offer.TEKs)-1].Replay }
		now := config.Effects{Rekey: true, NewTEKs: []int{1}}
		set(now, ipsec.ReplayCounter, 64)
		if newest() != (ipsec.Replay{Mode: ipsec.ReplayCounter, Window: 64}) || m.last().Offer.TEKs[0].Replay.Mode != ipsec.ReplayNone || len(m.spis()) != 2 {
			t.Errorf("on: %+v", m.last().Offer.TEKs)
		}
		set(config.Effects{NextRekey: true}, ipsec.ReplayCounter, 128)
		if n := len(m.numbers()); n != 1 {
			t.Errorf("%d rekeys", n)
		}
		l.g.Rekey(true, true)
		after(time.Second)
		if newest().Window != 128 {
			t.Error("the next TEK has the new window")
		}
		set(now, ipsec.ReplayTime, 10)
		if newest() != (ipsec.Replay{Mode: ipsec.ReplayTime, Window: 10}) {
			t.Error("time")
		}
		set(config.Effects{AfterClear: true}, ipsec.ReplayTime, 50)
		l.g.Rekey(true, true)
		after(time.Second)
		if newest().Window != 10 {
			t.Errorf("window %d: the new one counts after Clear only", newest().Window)
		}
		if err := l.g.Clear(); err != nil {
			t.Fatal(err)
		}
		l.join(t, 0)
		if r := l.group().Policies[0].TEKs[0].Replay; r.Window != 50 {
			t.Errorf("after Clear: %+v", r)
		}
	})
}

// Entries come and go; the keys of the others stay.
func TestEntriesComeAndGo(t *testing.T) {
	live(t, daily, func(t *testing.T, l *life) {
		m := l.join(t, 0)
		old := m.spis()
		l.apply(t, config.Effects{Rekey: true, ACL: true, NewTEKs: []int{2}}, func(s *Setup) {
			s.Entries = append(s.Entries, SetupEntry{Seq: 2, Transform: cbc128, Lifetime: time.Hour, ACEs: permit(5)[4:]})
		})
		if r := m.last(); len(r.Offer.TEKs) != 2 || r.Offer.TEKs[0].SPI != old[0] || len(r.Offer.Entries) != 3 {
			t.Errorf("added: %+v", r.Offer)
		}
		l.apply(t, config.Effects{Rekey: true, ACL: true}, func(s *Setup) { s.Entries = s.Entries[1:] })
		if r := m.last(); len(r.Offer.TEKs) != 1 || r.Offer.TEKs[0].SPI == old[0] || len(r.Offer.Entries) != 1 {
			t.Errorf("removed: %+v", r.Offer)
		}
		if !slices.Contains(m.spis(), old[0]) {
			t.Error("a member keeps the SA of a removed entry to its end")
		}
		if err := l.g.Apply(l.g.want, config.Effects{Restart: true}); err == nil {
			t.Error("another group was taken for this one")
		}
	})
}

// From CBC to GCM: members have no Sender ID yet; those that register get one.
func TestCounterModeNeedsALedger(t *testing.T) {
	live(t, daily, func(t *testing.T, l *life) {
		l.join(t, 0)
		l.apply(t, config.Effects{Rekey: true, NewTEKs: []int{1}}, func(s *Setup) { s.Entries[0].Transform = gcm128 })
		d := l.register(t, gmAddr(0), ours())
		if d.KD.SIDs == nil || !slices.Equal(d.KD.SIDs.Values, []uint32{0}) {
			t.Errorf("%+v", d.KD.SIDs)
		}
		old := l.ringSPIs()
		l.apply(t, config.Effects{Reregister: true}, func(s *Setup) { s.SIDBits = 8 })
		if slices.Equal(old, l.ringSPIs()) || l.group().Members.Len() != 0 {
			t.Error("another width of Sender IDs is a clean slate")
		}
		if d := l.register(t, gmAddr(0), ours()); d.KD.SIDs.Bits != 8 {
			t.Errorf("%+v", d.KD.SIDs)
		}
	})
}

// A group that gets rekeys, and one that loses them.
func TestRekeysSwitchedOnAndOff(t *testing.T) {
	live(t, func() *Setup { return lifeSetup(time.Hour, nil) }, func(t *testing.T, l *life) {
		m := l.join(t, 0)
		if err := l.g.Rekey(true, false); err == nil {
			t.Error("a rekey without a signing key")
		}
		l.apply(t, config.Effects{Rekey: true, NewKEK: true}, func(s *Setup) { s.Rekey = unicast(0, 0) })
		if len(m.numbers()) != 0 || l.group().KEK == nil {
			t.Error("who registered without a KEK can't be told")
		}
		if e := l.events(); e["KSRekeysOn"] != 1 || e["KSSendUnicastRekey"] != 0 {
			t.Errorf("told %v", e)
		}
		l.join(t, 0)
		l.g.Rekey(true, false)
		after(time.Second)
		if len(m.numbers()) != 1 {
			t.Error("registered again: no rekey")
		}
		l.apply(t, config.Effects{}, func(s *Setup) { s.Rekey = nil })
		after(time.Hour)
		if len(m.numbers()) != 1 || l.group().KEK != nil {
			t.Error("rekeys after they were switched off")
		}
	})
}
