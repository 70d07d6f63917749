package ks

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi"
	"getvpn/internal/clock"
	"getvpn/internal/sealed"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

// A key server whose process ends and starts again on what it has left on disk.

// removable is memFiles with what a vault needs beside.
type removable struct{ *memFiles }

func (f removable) Remove(p string) error {
	if _, ok := f.m[p]; !ok {
		return fs.ErrNotExist
	}
	delete(f.m, p)
	return nil
}

// host is a machine with key servers on it, one after the other.
type host struct {
	*life
	clock   *clock.Fake
	files   sealed.Files
	key     *sealed.Key
	machine string // generation
	boot    string // machine and boot
	blind   bool   // it has no hardware clock
	dir     string
	log     bytes.Buffer
}

func newHost(t *testing.T, files sealed.Files, dir string) *host {
	t.Helper()
	k, err := sealed.NewKey(bytes.Repeat([]byte("key "), 8))
	if err != nil {
		t.Fatal(err)
	}
	h := &host{clock: clock.NewFake(), files: files, key: k, machine: "m", boot: "m 1", dir: dir}
	h.life = newLife(t, daily()) // for its wire; its group isn't used
	h.stop()
	h.events()
	return h
}

func (h *host) stop() {
	h.cancel()
	<-h.g.done
	h.s.Remove(h.g)
}

// start is a new process.
func (h *host) start(t *testing.T, setup *Setup) {
	t.Helper()
	h.store = model.NewStore(model.Snapshot{})
	bus := event.NewBus()
	h.sub = bus.Subscribe("test", 100000)
	st := &State{}
	st.Use(&sealed.Store{Files: h.files, Key: h.key, Dir: h.dir, Marks: filepath.Join(h.dir, "run"), Machine: h.machine, Rand: rand.Reader})
	h.s = NewServer(Options{Store: h.store, Events: bus, Log: slog.New(slog.NewTextHandler(&h.log, nil)), Rand: rand.Reader,
		Files: h.files, Dir: h.dir, Marks: filepath.Join(h.dir, "run"), Machine: h.boot, Moment: h.moment, Clock: h.clock, Push: h.air, State: st})
	g, err := h.s.Add(setup)
	if err != nil {
		t.Fatal(err)
	}
	h.g = g
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	go g.Run(ctx)
	t.Cleanup(func() { cancel(); <-g.done })
}

// moment is the machine's clocks.
func (h *host) moment() clock.Moment {
	m := clock.Moment{Boot: h.clock.Boot(), Awake: h.clock.Awake(), Wall: h.clock.Now()}
	if !h.blind {
		m.RTC = time.Now().Add(h.clock.Boot() - h.clock.Awake()).Unix()
	}
	return m
}

// reboot is a machine that was off for d.
func (h *host) reboot(d time.Duration, boot string) {
	h.boot = boot
	time.Sleep(d)
	h.clock = clock.NewFake()
	h.loseMarks()
}

// loseMarks empties /run.
func (h *host) loseMarks() {
	if f, ok := h.files.(removable); ok {
		maps.DeleteFunc(f.m, func(p string, _ []byte) bool { return strings.HasPrefix(p, filepath.Join(h.dir, "run")+"/") })
	}
}

// onHost runs f in a bubble with a host whose files are in memory.
func onHost(t *testing.T, f func(t *testing.T, h *host)) {
	t.Helper()
	testSigner()
	synctest.Test(t, func(t *testing.T) {
		f(t, newHost(t, removable{&memFiles{crash: func(string) error { return nil }}}, "d"))
	})
}

func gcmSetup() *Setup {
	s := daily()
	s.Entries[0].Transform = gcm128
	return s
}

// The whole of it on a disk: same KEK, next number, no registration; and no key can be
// found on that disk or in the log, in any spelling.
func TestKeyServerGoesOnAndLeavesNoKeyInClear(t *testing.T) {
	testSigner()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, Disk{}, dir)
		h.start(t, gcmSetup())
		m := h.join(t, 0)
		var keys [][]byte
		collect := func() {
			h.g.do(func() {
				for _, k := range h.g.ring.teks[0] {
					keys = append(keys, k.key)
				}
				keys = append(keys, h.g.ring.kek.key)
			})
		}
		collect()
		for range 3 {
			h.g.Rekey(true, true)
			after(10 * time.Second)
			collect()
		}
		kek := h.group().KEK.SPI
		h.stop()
		time.Sleep(5 * time.Second)
		h.start(t, gcmSetup())
		after(time.Second)
		g := h.group()
		if g.KEK.SPI != kek || g.KEK.Seq != 3 || g.Members.Len() != 1 || !slices.Equal(m.spis()[:1], h.ringSPIs()[:1]) {
			t.Errorf("%+v", g)
		}
		h.g.Rekey(true, true)
		after(time.Second)
		collect()
		if n := m.numbers(); m.joined != 1 || len(m.bad) != 0 || !slices.Equal(n, []uint32{1, 2, 3, 4}) {
			t.Errorf("numbers %v, %v", n, m.bad)
		}
		if h.events()["KSStateRestored"] != 1 {
			t.Error("nothing was told")
		}
		h.stop()
		filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			b, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			hold := map[string][]byte{p: b, "the log": h.log.Bytes()}
			for where, b := range hold {
				for _, k := range keys {
					for _, s := range [][]byte{k, k[:8], []byte(hex.EncodeToString(k)), []byte(strings.ToUpper(hex.EncodeToString(k))), []byte(base64.StdEncoding.EncodeToString(k))} {
						if bytes.Contains(b, s) {
							t.Errorf("%s holds a key", where)
						}
					}
				}
			}
			if st, _ := e.Info(); st.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v", p, st.Mode())
			}
			return nil
		})
	})
}

// How long keys live on is what really passed: by the boot clock while the machine runs,
// however the wall clock was set, by the wall clock over a reboot.
func TestTimeThatPassed(t *testing.T) {
	for _, c := range []struct {
		name string
		off  func(h *host)
		left time.Duration // of a TEK with 3600 s when the process ended
		kept bool
	}{
		{"restart", func(h *host) { time.Sleep(10 * time.Minute) }, 50 * time.Minute, true},
		{"restart, clock set ahead", func(h *host) { time.Sleep(time.Minute); h.clock.Step(24 * time.Hour) }, 59 * time.Minute, true},
		{"restart, clock set back", func(h *host) { time.Sleep(time.Minute); h.clock.Step(-24 * time.Hour) }, 59 * time.Minute, true},
		{"suspend", func(h *host) { h.clock.Suspend(20 * time.Minute) }, 40 * time.Minute, true},
		{"reboot", func(h *host) { h.reboot(5*time.Minute, "m 2") }, 55 * time.Minute, true},
		{"reboot, clock a little behind", func(h *host) { h.reboot(0, "m 2"); h.clock.Step(-30 * time.Second) }, time.Hour, true},
		{"reboot, clock back", func(h *host) { h.reboot(5*time.Minute, "m 2"); h.clock.Step(-24 * time.Hour) }, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.start(t, daily())
				m := h.join(t, 0)
				h.stop()
				c.off(h)
				h.start(t, daily())
				after(time.Second)
				e := h.events()
				if !c.kept {
					if e["KSStateRefused"] != 1 || h.group().KEK != nil {
						t.Errorf("%v", e)
					}
					h.join(t, 0)
					return
				}
				if e["KSStateRestored"] != 1 || !slices.Equal(m.spis(), h.ringSPIs()) {
					t.Fatalf("%v", e)
				}
				h.g.do(func() {
					got := h.g.ring.teks[0][0].expires.Sub(h.g.now())
					if d := got - c.left; d < -3*time.Second || d > 3*time.Second {
						t.Errorf("%v left, want %v", got, c.left)
					}
				})
			})
		})
	}
}

// Off for longer than its TEKs live: the KEK that still lives brings new ones at once.
func TestOffForLongerThanATEK(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.start(t, daily())
		m := h.join(t, 0)
		h.stop()
		h.reboot(100*time.Minute, "m 2")
		h.start(t, daily())
		after(time.Second)
		n := m.numbers()
		if m.joined != 1 || len(m.bad) != 0 || len(n) != 1 || n[0] < 6000 || !slices.Equal(m.spis(), h.ringSPIs()) {
			t.Errorf("numbers %v, %v", n, m.bad) // skipped: the state may have been put back
		}
		h.stop()
		h.reboot(25*time.Hour, "m 3")
		h.start(t, daily()) // KEK gone too: everybody comes by himself
		after(time.Second)
		h.join(t, 0)
		h.g.Rekey(true, true)
		after(time.Second)
		if !slices.Equal(m.spis(), h.ringSPIs()) || len(m.bad) != 0 {
			t.Errorf("%v", m.bad)
		}
	})
}

// What the configuration became while the process was down is a change of policy when it
// starts, by the rules of config's table.
func TestPolicyChangedWhileDown(t *testing.T) {
	setup := func() *Setup { return lifeSetup(time.Hour, unicast(0, 0)) }
	for _, c := range []struct {
		name     string
		edit     func(*Setup)
		rekeys   int
		tek, kek bool // new
	}{
		{"nothing", func(*Setup) {}, 0, false, false},
		{"tek-lifetime", func(s *Setup) { s.Entries[0].Lifetime = 2 * time.Hour }, 0, false, false},
		{"kek-lifetime", func(s *Setup) { s.Rekey.Lifetime = 48 * time.Hour }, 0, false, false},
		{"replay-counter-window", func(s *Setup) { s.Entries[0].Replay.Window = 128 }, 0, false, false},
		{"rekey-retransmit", func(s *Setup) { s.Rekey.Retransmits, s.Rekey.Interval = 2, 10*time.Second }, 0, false, false},
		{"tek-acl", func(s *Setup) { s.Entries[0].ACEs = permit(3)[2:] }, 1, false, false},
		{"receive-only-on", func(s *Setup) { s.Entries[0].Direction = ipsec.InboundOnly }, 1, false, false},
		{"tek-transform", func(s *Setup) { s.Entries[0].Transform.Auth = ipsec.AuthSHA512 }, 1, true, false},
		{"to a counter mode", func(s *Setup) { s.Entries[0].Transform = gcm128 }, 1, true, false},
		{"replay-counter-off", func(s *Setup) { s.Entries[0].Replay = ipsec.Replay{} }, 1, true, false},
		{"replay-time-on", func(s *Setup) { s.Entries[0].Replay = ipsec.Replay{Mode: ipsec.ReplayTime, Window: 20} }, 1, true, false},
		{"tag", func(s *Setup) { s.Entries[0].Tag = true }, 1, true, false},
		{"sa-added", func(s *Setup) {
			e := s.Entries[0]
			e.Seq, e.ACEs = 2, permit(3)[2:]
			s.Entries = append(s.Entries, e)
		}, 1, true, false},
		{"kek-cipher", func(s *Setup) { s.Rekey.KeyBits = 256 }, 1, false, true},
		{"kek-hash", func(s *Setup) { s.Rekey.Hash = gdoi.SigHashSHA512 }, 1, false, true},
		{"transport-multicast", func(s *Setup) { s.Rekey.Multicast, s.Rekey.Ack = mcastGroup, 0 }, 1, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				s := setup()
				s.Entries[0].Replay = ipsec.Replay{Mode: ipsec.ReplayCounter, Window: 64}
				h.start(t, s)
				m := h.join(t, 0)
				old, kek := m.spis(), h.group().KEK.SPI
				h.stop()
				s = setup()
				s.Entries[0].Replay = ipsec.Replay{Mode: ipsec.ReplayCounter, Window: 64}
				c.edit(s)
				h.start(t, s)
				after(2 * time.Second)
				if n := len(m.numbers()); n != c.rekeys || m.joined != 1 || len(m.bad) != 0 {
					t.Fatalf("%d rekeys, want %d; %v", n, c.rekeys, m.bad)
				}
				if got := m.spis(); !slices.Contains(got, old[0]) || len(got) > len(old) != c.tek {
					t.Errorf("TEKs %v, were %v", got, old)
				}
				if is := h.group().KEK.SPI != kek; is != c.kek {
					t.Errorf("new KEK: %v", is)
				}
				n := len(m.numbers())
				after(2 * time.Hour) // and it lives on
				if len(m.numbers()) <= n || len(m.bad) != 0 || !slices.Equal(m.spis(), h.ringSPIs()) {
					t.Errorf("%v; %v, the group has %v", m.bad, m.spis(), h.ringSPIs())
				}
			})
		})
	}
}

// A group that became another one, a clone of the machine, another key, a damaged or an
// older file: begun anew, and why is told.
func TestStateThatIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, says string
		do         func(h *host, s *Setup, old []byte)
	}{
		{"identity", "another identity", func(_ *host, s *Setup, _ []byte) { s.Group.Number = 2 }},
		{"wire forms", "another identity or form", func(_ *host, s *Setup, _ []byte) { s.Group.Interop = true }},
		{"clone", "another machine", func(h *host, _ *Setup, _ []byte) { h.machine = "clone" }},
		{"key", "another key", func(h *host, _ *Setup, _ []byte) {
			h.key, _ = sealed.NewKey(bytes.Repeat([]byte("lost"), 8))
		}},
		{"damaged", "damaged", func(h *host, _ *Setup, _ []byte) { h.stateFile()[200] ^= 1 }},
		{"put back", "older file", func(h *host, _ *Setup, old []byte) { copy(h.stateFile(), old) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.start(t, daily())
				h.join(t, 0)
				kek := h.group().KEK.SPI
				old := bytes.Clone(h.stateFile())
				h.g.Rekey(true, false)
				after(time.Second)
				h.stop()
				s := daily()
				mem := h.files.(removable).m
				if c.name == "put back" {
					mem["d/group%20g.sealed"] = old
				} else {
					c.do(h, s, old)
				}
				h.start(t, s)
				after(time.Second)
				var why string
				for why == "" {
					select {
					case r := <-h.sub.C():
						if e, ok := r.Event.(event.KSStateRefused); ok {
							why = e.Reason
						}
					default:
						t.Fatal("nothing is told")
					}
				}
				if !strings.Contains(why, c.says) {
					t.Errorf("%q", why)
				}
				if g := h.group(); g.KEK != nil || g.Members.Len() != 0 || g.Rejected["state-refused"] != 1 {
					t.Errorf("%+v", g)
				}
				if c.name == "identity" || c.name == "wire forms" {
					return
				}
				m := h.join(t, 0)
				if h.group().KEK.SPI == kek || len(m.bad) != 0 {
					t.Error("the old KEK is in use")
				}
			})
		})
	}
}

func (h *host) stateFile() []byte { return h.files.(removable).m["d/group%20g.sealed"] }

// Counter modes: where it isn't sure which Sender IDs were given out, members are told
// under the old KEK to delete that and to come back, and whoever comes finds new keys
// only: no Sender ID is given out under an old one.
func TestUnsureSenderIDs(t *testing.T) {
	for _, c := range []struct {
		name, says string
		do         func(h *host, s *Setup)
	}{
		{"orderly", "", func(*host, *Setup) {}},
		{"reboot", "booted since", func(h *host, _ *Setup) { h.reboot(time.Minute, "m 2") }},
		{"width", "width", func(_ *host, s *Setup) { s.SIDBits = 16 }},
		{"ledger lost", "no record", func(h *host, _ *Setup) { delete(h.files.(removable).m, LedgerPath("d", "g")) }},
		{"marks lost", "mark of the last end is missing", func(h *host, _ *Setup) { h.loseMarks() }},
		{"no hardware clock", "nothing here would tell", func(h *host, _ *Setup) { h.blind = true }},
		{"suspended", "suspended", func(h *host, _ *Setup) { h.clock.Suspend(time.Minute) }},
		{"clock set", "wall clock", func(h *host, _ *Setup) { h.clock.Step(time.Hour) }},
		{"out of counter modes", "no record", func(h *host, s *Setup) {
			s.Entries[0].Transform = cbc128
			delete(h.files.(removable).m, LedgerPath("d", "g"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.start(t, gcmSetup())
				m := h.join(t, 0)
				h.g.Rekey(true, false)
				after(time.Minute)
				old := h.ringSPIs()
				h.stop()
				s := gcmSetup()
				c.do(h, s)
				h.start(t, s)
				after(2 * time.Second)
				if c.says == "" {
					if len(m.numbers()) != 1 || !slices.Equal(m.spis(), old) {
						t.Error("members were told something")
					}
					return
				}
				r := m.last()
				if len(m.numbers()) != 2 || r.Delete.AllTEKs || !r.Delete.AllKEKs || r.Offer != nil || len(m.bad) != 0 {
					t.Fatalf("numbers %v %+v", m.numbers(), r)
				}
				if e := h.events(); e["KSStateUnclean"] != 1 || e["KSReinitFinish"] != 1 {
					t.Errorf("%v", e)
				}
				if g := h.group(); g.Rejected["state-unclean"] != 1 || g.Members.Len() != 0 {
					t.Errorf("%+v", g)
				}
				d := h.register(t, m.addr.Addr(), ours())
				if got := h.ringSPIs(); slices.Contains(got, old[0]) || len(d.KD.TEKs) != 1 {
					t.Error("an old key is in force")
				}
			})
		})
	}
}

// "crypto gdoi state off", and on again: what there was is gone, what there is is kept.
func TestStateOffAndOn(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.start(t, daily())
		h.join(t, 0)
		st := h.s.o.State.(*State)
		v := st.vault
		st.Use(nil)
		if err := v.Forget(StatePrefix + "g"); err != nil {
			t.Fatal(err)
		}
		h.g.Rekey(true, false)
		after(time.Second)
		if h.stateFile() != nil {
			t.Error("state is kept though it is off")
		}
		st.Use(v)
		if err := h.s.Save(); err != nil || h.stateFile() == nil {
			t.Errorf("%v", err)
		}
		kek := h.group().KEK.SPI
		h.stop()
		if err := h.s.Forget("other"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		h.start(t, daily())
		if h.group().KEK.SPI != kek {
			t.Error("not gone on")
		}
		h.stop()
		if err := h.s.Forget("g"); err != nil || h.stateFile() != nil {
			t.Errorf("%v", err)
		}
	})
}

// A crash at any step of any write in the midst of registrations and rekeys: the next
// process goes on, no number comes twice, and after one rekey every member that it knows
// has what the group has.
func TestCrashAtEveryStepOfALife(t *testing.T) {
	testSigner()
	const steps = 260
	for step := 3; step < steps; step += 4 {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				left := -1
				f := &memFiles{crash: func(string) error {
					if left == 0 {
						return errCrash
					}
					left--
					return nil
				}}
				h := newHost(t, removable{f}, "d")
				h.start(t, daily())
				a := h.join(t, 0)
				after(2 * time.Second) // it is on the saved list
				left = step
				h.join(t, 1)
				for range 8 {
					h.g.Rekey(true, true)
					after(2 * time.Second)
				}
				seen := a.numbers()
				h.stop()
				left = -1
				h.start(t, daily())
				after(11 * time.Second)
				if e := h.events(); e["KSStateRestored"] != 1 {
					t.Fatalf("%v", e)
				}
				h.g.Rekey(true, true)
				after(time.Second)
				n := a.numbers()
				if len(a.bad) != 0 || a.joined != 1 || len(n) <= len(seen) || slices.Contains(seen, n[len(n)-1]) {
					t.Errorf("numbers %v, before %v; %v", n, seen, a.bad)
				}
				for _, s := range h.ringSPIs() {
					if !slices.Contains(a.spis(), s) {
						t.Error("the member hasn't what the group has")
					}
				}
			})
		})
	}
}

// A crowd that registers is saved at most once a second.
func TestMembersAreSavedTogether(t *testing.T) {
	testSigner()
	synctest.Test(t, func(t *testing.T) {
		st := &memSaver{d: map[string]durable{}}
		l := newLifeWith(t, daily(), st)
		l.join(t, 0)
		l.g.do(func() {})
		before := st.saves
		for i := range 100 {
			l.join(t, 1+i)
			time.Sleep(30 * time.Millisecond)
		}
		after(2 * time.Second)
		if n := st.saves - before; n < 2 || n > 5 || len(st.d["g"].Members) != 101 {
			t.Errorf("%d saves in 3 s, %d members", n, len(st.d["g"].Members))
		}
	})
}
