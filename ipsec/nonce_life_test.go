package ipsec

// The safety property over the life of a group: TEKs come and go by rekeys that some
// members miss or get late or twice, lives are shortened, TEKs replaced at once,
// members clear, register again and restart, metadata and replay policy change. No
// (key, IV) may reach the wire twice, whoever sends.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// lifeTEK is a TEK at the key server.
type lifeTEK struct {
	seed byte
	ends time.Time // shortened or not
}

// lifeMember is a member's dataplane.
type lifeMember struct {
	db      *SADB
	sids    []uint32
	sas     map[byte]*SA
	sealers map[byte][]*Sealer // also of SAs that are gone
	openers map[byte]*Opener
}

// lifeGroup is the group: a key server that never gives a Sender ID twice, and its
// members.
type lifeGroup struct {
	t       *testing.T
	rt      *rapid.T
	tr      Transform
	bits    int
	now     time.Time
	teks    []lifeTEK
	older   [][]lifeTEK // rekeys that may come late, or again
	seeds   byte
	sid     uint32
	members []*lifeMember
	led     *ledger
	pkt     []byte
}

func (g *lifeGroup) draw(what string, n int) int { return rapid.IntRange(0, n-1).Draw(g.rt, what) }

func (g *lifeGroup) newSID() []uint32 {
	if (g.sid+1)>>g.bits != 0 {
		g.rt.Skip("no Sender ID left: the key server would start anew with other keys")
	}
	g.sid++
	return []uint32{g.sid}
}

// install is what a member does with a rekey or a registration.
func (g *lifeGroup) install(m *lifeMember, teks []lifeTEK, sids []uint32) {
	m.sas = map[byte]*SA{}
	for _, k := range teks {
		tek := testTEK(g.tr, k.seed)
		tek.Expires = k.ends
		tek.SIDBits, tek.SIDs = g.bits, sids
		tek.FirstSeq = rapid.Uint32Range(0, 1<<31).Draw(g.rt, "first seq")
		tek.Metadata = Metadata{Header: rapid.SampledFrom([]int{0, MetadataShort, MetadataLong}).Draw(g.rt, "header"), SGT: rapid.Bool().Draw(g.rt, "tags")}
		if rapid.Bool().Draw(g.rt, "by time") {
			tek.Replay = Replay{Mode: ReplayTime, Window: 100}
		} else {
			tek.Replay = Replay{}
		}
		sa, err := m.db.Install(tek, g.now)
		if errors.Is(err, ErrExpired) {
			continue
		}
		if err != nil {
			g.rt.Fatal(err)
		}
		if m.sas[k.seed] = sa; len(m.sealers[k.seed]) > 0 && m.sealers[k.seed][len(m.sealers[k.seed])-1].SA() == sa {
			continue
		}
		for range 2 {
			s, err := sa.NewSealer(nil)
			if err != nil {
				g.rt.Fatal(err)
			}
			m.sealers[k.seed] = append(m.sealers[k.seed], s)
		}
		if m.openers[k.seed], err = sa.NewOpener(); err != nil {
			g.rt.Fatal(err)
		}
	}
}

func (g *lifeGroup) retire(m *lifeMember) {
	m.db.Retire(func(sa *SA) bool {
		for _, x := range m.sas {
			if x == sa && !sa.Expired(g.now) {
				return true
			}
		}
		return false
	}, g.now, time.Minute, time.Hour)
}

// send seals with any sealer that the member ever had for a TEK.
func (g *lifeGroup) send(m *lifeMember) {
	if len(m.sealers) == 0 {
		return
	}
	seed := byte(1 + g.draw("TEK", int(g.seeds)))
	all := m.sealers[seed]
	if len(all) == 0 {
		return
	}
	s := all[g.draw("sealer", len(all))]
	s.Stamp, s.SGT = Stamp(g.now.Sub(t0)/StampUnit), 7
	if rapid.Bool().Draw(g.rt, "batch") {
		s.Reserve(1 + g.draw("batch of", 40))
	}
	buf := roomFor(g.pkt)
	for range 1 + g.draw("packets", 12) {
		copy(buf[Headroom:], g.pkt)
		start, n, why := s.Seal(buf, Headroom, len(g.pkt))
		if why == DropSeqLimit || why == DropNoSID {
			return
		}
		if why != DropNone {
			g.rt.Fatal(why)
		}
		g.led.add(g.rt, seed, binary.BigEndian.Uint64(buf[start+28:]))
		// Who else has the SA opens it, whatever form he sends himself.
		for _, far := range g.members {
			if sa := far.sas[seed]; sa != nil && far.openers[seed].SA() == sa && sa.Replay().Mode != ReplayTime {
				if got, why := far.openers[seed].Open(bytes.Clone(buf[start : start+n])); why != DropNone || !bytes.Equal(got, g.pkt) {
					g.rt.Fatalf("at another member: %v", why)
				}
			}
		}
	}
}

func TestNonceNeverRepeatsInTheLifeOfAGroup(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := &lifeGroup{t: t, rt: rt, tr: rapid.SampledFrom([]Transform{{Cipher: CipherAESGCM, KeyBits: 128}, {Cipher: CipherAESGMAC, KeyBits: 256}}).Draw(rt, "transform"),
			bits: rapid.SampledFrom([]int{8, 12, 16, 24, 32}).Draw(rt, "bits"), now: t0, led: &ledger{seen: map[[2]uint64]bool{}}, pkt: ip4(40)}
		fresh := func() *lifeMember {
			return &lifeMember{db: &SADB{}, sealers: map[byte][]*Sealer{}, openers: map[byte]*Opener{}}
		}
		g.members = []*lifeMember{fresh(), fresh(), fresh()}
		any := func() *lifeMember { return g.members[g.draw("member", len(g.members))] }
		live := func() {
			var left []lifeTEK
			for _, k := range g.teks {
				if k.ends.After(g.now) {
					left = append(left, k)
				}
			}
			g.teks = left
		}
		// rekey sends the policy in force; some miss it and some get it later.
		rekey := func() {
			live()
			g.older = append(g.older, append([]lifeTEK(nil), g.teks...))
			for _, m := range g.members {
				if g.draw("gets it", 4) > 0 {
					g.install(m, g.teks, nil)
				}
			}
		}
		newTEK := func() {
			if g.seeds == 250 {
				rt.Skip("enough")
			}
			g.seeds++
			g.teks = append(g.teks, lifeTEK{g.seeds, g.now.Add(time.Duration(60+g.draw("life", 3600)) * time.Second)})
		}
		newTEK()
		for _, m := range g.members {
			m.sids = g.newSID()
			g.install(m, g.teks, m.sids)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"rekey": func(*rapid.T) { newTEK(); rekey() },
			"replace now": func(*rapid.T) {
				g.teks = nil
				newTEK()
				rekey()
			},
			"replace, the rest is shortened": func(*rapid.T) {
				for i := range g.teks {
					if end := g.now.Add(90 * time.Second); g.teks[i].ends.After(end) {
						g.teks[i].ends = end
					}
				}
				newTEK()
				rekey()
			},
			"rekey late or twice": func(*rapid.T) {
				if len(g.older) > 0 {
					g.install(any(), g.older[g.draw("which", len(g.older))], nil)
				}
			},
			"registers again": func(*rapid.T) {
				live()
				m := any()
				sids := g.newSID()
				if rapid.Bool().Draw(rt, "keeps the old one too") {
					sids = append(sids, m.sids...)
				}
				m.sids = sids
				g.install(m, g.teks, sids)
			},
			"clears and registers again": func(*rapid.T) {
				live()
				m := any()
				m.sas = nil
				g.retire(m)
				if rapid.Bool().Draw(rt, "after long") {
					g.now = g.now.Add(2 * time.Minute)
					g.retire(m)
					live()
				}
				m.sids = g.newSID()
				g.install(m, g.teks, m.sids)
			},
			"policy is taken off and put back": func(*rapid.T) { // the same registration, so the same Sender IDs
				live()
				m := any()
				m.sas = nil
				g.retire(m)
				g.now = g.now.Add(time.Duration(g.draw("seconds", 120)) * time.Second)
				g.retire(m)
				live()
				g.install(m, g.teks, m.sids)
				g.send(m)
			},
			"restarts": func(*rapid.T) { // a new process knows nothing, so it gets another Sender ID
				live()
				i := g.draw("member", len(g.members))
				g.members[i] = fresh()
				g.members[i].sids = g.newSID()
				g.install(g.members[i], g.teks, g.members[i].sids)
			},
			"time passes": func(*rapid.T) {
				g.now = g.now.Add(time.Duration(1+g.draw("seconds", 1200)) * time.Second)
				for _, m := range g.members {
					g.retire(m)
				}
			},
			"send": func(*rapid.T) { g.send(any()) },
			"send more": func(*rapid.T) {
				for _, m := range g.members {
					g.send(m)
				}
			},
		})
	})
}

// TestBuriedKeysGoOn is what the property rests on when a TEK that was replaced comes
// again with the very Sender ID: from a late rekey, after the SA was buried.
func TestBuriedKeysGoOn(t *testing.T) {
	var db SADB
	tek := testTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1)
	seen := map[uint64]bool{}
	now := t0
	for round := range 20 {
		sa, err := db.Install(tek, now)
		if err != nil {
			t.Fatal(err)
		}
		s := mustSealer(t, sa)
		s.Reserve(50)
		for range 10 {
			iv := binary.BigEndian.Uint64(sealOne(t, s, ip4(40))[28:])
			if seen[iv] {
				t.Fatalf("round %d: IV %x twice", round, iv)
			}
			seen[iv] = true
		}
		none := func(*SA) bool { return false }
		db.Retire(none, now, time.Minute, time.Hour)
		now = now.Add(time.Minute)
		if db.Retire(none, now, time.Minute, time.Hour); len(db.m) != 0 {
			t.Fatal("not buried")
		}
	}
}

// TestSADBStaysSmall: a TEK every 2 s for three hours, each with a life of an hour.
func TestSADBStaysSmall(t *testing.T) {
	var db SADB
	tr := Transform{Cipher: CipherAESGCM, KeyBits: 128}
	var installed []*SA
	most, graves := 0, 0
	for i := range 3 * 1800 {
		now := t0.Add(time.Duration(i) * 2 * time.Second)
		tek := testTEK(tr, byte(i))
		tek.SPI = uint32(1000 + i)
		tek.Expires = now.Add(time.Hour)
		sa, err := db.Install(tek, now)
		if err != nil {
			t.Fatal(err)
		}
		if installed = append(installed, sa); len(installed) > 2 {
			installed = installed[1:]
		}
		db.Retire(func(sa *SA) bool { return sa == installed[0] || sa == installed[len(installed)-1] }, now, 5*time.Minute, time.Hour)
		live, remembered := db.Live()
		most, graves = max(most, live), max(graves, remembered)
	}
	// Two in use, and those of the last five minutes; two hours of what came before.
	if most > 2+151 || graves > 3600 {
		t.Errorf("up to %d SAs live, %d remembered", most, graves)
	}
}
