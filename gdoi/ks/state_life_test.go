package ks

import (
	"maps"
	mrand "math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/internal/clock"
)

// past is a host at an earlier moment.
type past struct {
	files map[string][]byte
	boot  string
	ran   time.Duration
	wall  time.Time
}

// Random lives of a key server under a counter mode, with its state: members register,
// keys roll over, it ends in order or is killed, its machine is booted or suspended,
// its directory is put back with or without the marks in /run, the marks are lost, the
// whole machine is put back to a snapshot taken while no daemon ran. No Sender ID is
// given out twice under one key, and the group always goes on.
func Test_esp_10_NoKeyAndSIDTwiceOverRandomLives(t *testing.T) {
	testSigner()
	var on, doubts int
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			r := mrand.New(mrand.NewPCG(seed, 3))
			mem := &memFiles{crash: func(string) error { return nil }, m: map[string][]byte{}}
			h := newHost(t, removable{mem}, "d")
			type pair struct {
				key string
				sid uint32
			}
			seen := map[pair]bool{}
			register := func() {
				d := h.register(t, gmAddr(r.IntN(6)), ours())
				for _, k := range d.KD.TEKs {
					for _, s := range d.KD.SIDs.Values {
						p := pair{string(k.Algorithm), s}
						if seen[p] {
							t.Fatalf("seed %d: Sender ID %d twice under one key", seed, s)
						}
						seen[p] = true
					}
				}
			}
			var old []past
			// down ends the process and remembers what that left.
			down := func() {
				if r.IntN(3) == 0 {
					was := maps.Clone(mem.m)
					h.stop()
					mem.m = was
				} else {
					h.stop()
				}
				old = append(old, past{maps.Clone(mem.m), h.boot, h.clock.Boot(), h.clock.Now()})
				time.Sleep(time.Duration(5+r.IntN(60)) * time.Second)
			}
			up := func() {
				h.start(t, gcmSetup())
				after(time.Duration(r.IntN(3)) * time.Second)
				h.g.do(func() {
					if h.g.rejected["state-unclean"]+h.g.rejected["state-refused"] > 0 {
						doubts++
					} else {
						on++
					}
				})
			}
			marks := func() map[string][]byte {
				m := maps.Clone(mem.m)
				maps.DeleteFunc(m, func(p string, _ []byte) bool { return p[:min(6, len(p))] != "d/run/" })
				return m
			}
			up()
			for i := range 40 {
				switch op := r.IntN(24); {
				case op < 10:
					register()
				case op < 12:
					h.g.Rekey(r.IntN(2) == 0, r.IntN(2) == 0)
					after(time.Duration(r.IntN(200)) * time.Second)
				case op < 15:
					down()
					up()
				case op < 16:
					down()
					h.reboot(time.Minute, string(rune('A'+i)))
					up()
				case op < 17:
					down()
					h.clock.Suspend(time.Minute)
					up()
				case op < 18:
					down()
					h.loseMarks()
					up()
				case op < 21: // the directory
					down()
					run := marks()
					mem.m = maps.Clone(old[r.IntN(len(old))].files)
					h.loseMarks()
					if r.IntN(2) == 0 {
						maps.Copy(mem.m, run)
					}
					up()
				default: // the machine
					down()
					p := old[r.IntN(len(old))]
					mem.m, h.boot, h.clock = maps.Clone(p.files), p.boot, clock.NewFakeAt(p.ran, p.wall)
					if r.IntN(2) == 0 {
						h.clock = clock.NewFakeAt(p.ran, time.Now())
					}
					old = slices.DeleteFunc(old, func(o past) bool { return r.IntN(3) == 0 })
					time.Sleep(5 * time.Second)
					up()
				}
				if r.IntN(2) == 0 {
					register()
				}
			}
			h.stop()
		})
	}
	t.Logf("%d starts went on, %d didn't", on, doubts)
	if on < 10 || doubts < 10 {
		t.Error("that shows little")
	}
}
