package ks

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"maps"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"getvpn/internal/clock"
)

var errCrash = errors.New("crash")

func newGen() (g Generation) {
	rand.Read(g[:])
	return g
}

// memFiles takes the steps of Disk without a disk.
type memFiles struct {
	m     map[string][]byte
	crash func(string) error
}

func (f *memFiles) ReadFile(path string) ([]byte, error) {
	if b, ok := f.m[path]; ok {
		return slices.Clone(b), nil
	}
	return nil, fs.ErrNotExist
}

func (f *memFiles) WriteFile(path string, data []byte) error {
	for _, step := range []string{"create", "write", "sync", "rename"} {
		if err := f.crash(step); err != nil {
			return err
		}
	}
	if f.m == nil {
		f.m = map[string][]byte{}
	}
	f.m[path] = slices.Clone(data)
	return f.crash("syncdir")
}

// ledgerHost is a machine as a ledger sees it.
type ledgerHost struct {
	disk Files
	boot string
	now  clock.Moment
}

func newLedgerHost(disk Files) *ledgerHost {
	return &ledgerHost{disk: disk, boot: "m1", now: clock.Moment{Boot: time.Hour, Awake: time.Hour, Wall: time.Unix(1e9, 0), RTC: 1e9}}
}

// pass lets time pass in which the machine runs.
func (h *ledgerHost) pass(d time.Duration) {
	h.now.Boot, h.now.Awake, h.now.Wall, h.now.RTC = h.now.Boot+d, h.now.Awake+d, h.now.Wall.Add(d), h.now.RTC+int64(d/time.Second)
}

func (h *ledgerHost) store(dir string) LedgerStore {
	return LedgerStore{Files: h.disk, Path: LedgerPath(dir, "g/1"), Mark: LedgerPath(filepath.Join(dir, "run"), "g/1"),
		Machine: h.boot, Moment: func() clock.Moment { return h.now }, Rand: rand.Reader}
}

// Random life of a key server: registrations, exhaustion, orderly restarts with the
// same keys, crashes at every step of every write, a reboot; the directory of an earlier
// moment put back, with and without the marks of /run, a virtual machine put back to a
// snapshot that was taken while nobody ran. No (key, SID) pair may be handed out twice.
func Test_esp_10_NoSIDTwiceUnderOneKey(t *testing.T) {
	var resumes, doubts int
	for seed := range uint64(120) {
		r := mrand.New(mrand.NewPCG(seed, 1))
		dir := t.TempDir()
		type pair struct {
			gen Generation
			sid uint32
		}
		seen := map[pair]bool{}
		crashAt := -1 // steps until the crash
		crash := func(string) error {
			if crashAt == 0 {
				return errCrash
			}
			crashAt--
			return nil
		}
		mem := &memFiles{crash: crash, m: map[string][]byte{}}
		h := newLedgerHost(mem)
		if seed == 0 { // the real one is slow
			h.disk = Disk{crash: crash}
		}
		mark := h.store(dir).Mark
		gen := newGen() // the key server's state says so; it is put back with the ledger
		var l *Ledger
		open := func() {
			for l == nil {
				got, doubt, err := h.store(dir).Open(gen, 6)
				if err == nil && doubt != "" {
					doubts++
					gen = newGen() // a clean slate needs new keys
					err = got.Reset(gen)
				} else if err == nil {
					resumes++
				}
				if err != nil {
					if !errors.Is(err, errCrash) {
						t.Fatal(err)
					}
					crashAt = -1
					continue
				}
				l = got
			}
		}
		die := func(orderly bool) {
			if orderly {
				l.Close()
			}
			l, crashAt = nil, -1
			h.pass(time.Duration(r.IntN(100)) * time.Second)
		}
		type snapshot struct {
			files map[string][]byte
			gen   Generation
			boot  string
			now   clock.Moment
		}
		var old []snapshot
		take := func() {
			if len(old) < 20 {
				old = append(old, snapshot{maps.Clone(mem.m), gen, h.boot, h.now})
			} else {
				old[r.IntN(20)] = snapshot{maps.Clone(mem.m), gen, h.boot, h.now}
			}
		}
		open()
		for range 300 {
			if r.IntN(6) == 0 {
				crashAt = r.IntN(12)
			}
			switch op := r.IntN(28); {
			case op < 15:
				h.pass(time.Second)
				sids, err := l.Take(1 + r.IntN(5))
				switch {
				case errors.Is(err, ErrNoSID):
					g := newGen()
					if err := l.Reset(g); err == nil {
						gen = g
					} else {
						die(false) // with the disk
						open()
					}
				case err != nil:
					die(false)
					open()
				}
				for _, s := range sids {
					if s >= 64 {
						t.Fatalf("seed %d: SID %d has more than 6 bits", seed, s)
					}
					if seen[pair{gen, s}] {
						t.Fatalf("seed %d: SID %d handed out twice under one key", seed, s)
					}
					seen[pair{gen, s}] = true
				}
			case op < 18: // orderly restart, keys kept
				die(true)
				take()
				open()
			case op < 20: // kill -9
				take()
				die(false)
				take()
				open()
			case op < 21: // a reboot, or the state directory wakes up on another machine
				die(true)
				h.boot += "'"
				h.now.Boot, h.now.Awake = 0, 0
				delete(mem.m, mark)
				open()
			case op < 23: // the mark is lost
				die(r.IntN(2) == 0)
				delete(mem.m, mark)
				open()
			case len(old) == 0 || seed == 0:
			case op < 26: // the directory is put back, the mark not always
				die(r.IntN(2) == 0)
				s := old[r.IntN(len(old))]
				m, ok := mem.m[mark]
				mem.m = maps.Clone(s.files)
				if gen = s.gen; r.IntN(3) == 0 {
					delete(mem.m, mark)
				} else if delete(mem.m, mark); ok {
					mem.m[mark] = m
				}
				open()
			default: // the whole machine is put back to when nobody ran; real time goes on
				die(r.IntN(2) == 0)
				s := old[r.IntN(len(old))]
				rtc, wall := h.now.RTC+4, h.now.Wall.Add(4*time.Second)
				mem.m, gen, h.boot, h.now = maps.Clone(s.files), s.gen, s.boot, s.now
				h.now.RTC = rtc
				if r.IntN(2) == 0 {
					h.now.Wall = wall // it was set right
				}
				open()
			}
		}
	}
	t.Logf("%d starts went on, %d didn't", resumes, doubts)
	if resumes < 500 || doubts < 500 {
		t.Error("that shows little")
	}
}

// An end that was orderly is one that can be proved to be the last: what each proof
// costs, and what its lack is called.
func TestLedgerResumesAfterTheLastOrderlyEndOnly(t *testing.T) {
	for _, c := range []struct {
		name, says string
		do         func(h *ledgerHost, dir string, gen *Generation, bits *int)
	}{
		{"orderly", "", func(*ledgerHost, string, *Generation, *int) {}},
		{"a minute later", "", func(h *ledgerHost, _ string, _ *Generation, _ *int) { h.pass(time.Minute) }},
		{"reboot", "booted since", func(h *ledgerHost, _ string, _ *Generation, _ *int) { h.boot = "m2" }},
		{"keys", "other keys", func(_ *ledgerHost, _ string, gen *Generation, _ *int) { *gen = newGen() }},
		{"width", "width", func(_ *ledgerHost, _ string, _ *Generation, bits *int) { *bits = 16 }},
		{"mark lost", "missing", func(_ *ledgerHost, dir string, _ *Generation, _ *int) {
			os.RemoveAll(filepath.Join(dir, "run"))
		}},
		{"mark of another end", "earlier end", func(h *ledgerHost, dir string, gen *Generation, _ *int) {
			was, _ := os.ReadFile(h.store(dir).Path)
			l, doubt, err := h.store(dir).Open(*gen, 24)
			if err != nil || doubt != "" {
				panic(doubt)
			}
			l.Take(1)
			l.Close()
			os.WriteFile(h.store(dir).Path, was, 0o600)
		}},
		{"mark in use", "earlier end", func(h *ledgerHost, dir string, gen *Generation, _ *int) {
			was, _ := os.ReadFile(h.store(dir).Path)
			l, _, _ := h.store(dir).Open(*gen, 24)
			l.Take(1)
			os.WriteFile(h.store(dir).Path, was, 0o600)
		}},
		{"crash", "wasn't orderly", func(h *ledgerHost, dir string, gen *Generation, _ *int) { h.store(dir).Open(*gen, 24) }},
		{"restored", "hardware clock", func(h *ledgerHost, _ string, _ *Generation, _ *int) { h.now.RTC += 3600 }},
		{"no witness", "put back", func(h *ledgerHost, _ string, _ *Generation, _ *int) { h.now.RTC = 0 }},
		{"garbage", "can't be read", func(h *ledgerHost, dir string, _ *Generation, _ *int) {
			os.WriteFile(h.store(dir).Path, []byte("{"), 0o600)
		}},
		{"gone", "no record", func(h *ledgerHost, dir string, _ *Generation, _ *int) { os.Remove(h.store(dir).Path) }},
	} {
		dir, gen, bits := t.TempDir(), newGen(), 24
		h := newLedgerHost(Disk{})
		l, doubt, err := h.store(dir).Open(gen, bits)
		if err != nil || doubt == "" {
			t.Fatal(doubt, err)
		}
		if got, err := l.Take(3); err != nil || !slices.Equal(got, []uint32{0, 1, 2}) {
			t.Fatal(got, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		c.do(h, dir, &gen, &bits)
		l, doubt, err = h.store(dir).Open(gen, bits)
		if err != nil || !strings.Contains(doubt, c.says) || (doubt == "") != (c.says == "") {
			t.Errorf("%s: %q %v", c.name, doubt, err)
		}
		want := uint32(3)
		if doubt != "" {
			want = 0
		}
		if got, _ := l.Take(1); got[0] != want {
			t.Errorf("%s: SID %d, want %d", c.name, got[0], want)
		}
		st, err := os.Stat(h.store(dir).Path)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) != 0 {
			t.Errorf("temporary files left: %v", left)
		}
	}
}

// Without a place for marks, or clocks, nothing is trusted.
func TestLedgerWithoutMarks(t *testing.T) {
	for _, edit := range []func(*LedgerStore){func(s *LedgerStore) { s.Mark = "" }, func(s *LedgerStore) { s.Moment = nil }} {
		gen := newGen()
		s := newLedgerHost(Disk{}).store(t.TempDir())
		edit(&s)
		for range 2 {
			l, doubt, err := s.Open(gen, 24)
			if err != nil || doubt == "" {
				t.Errorf("%q %v", doubt, err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestLedgerRefusesAReadableFile(t *testing.T) {
	s := newLedgerHost(Disk{}).store(t.TempDir())
	os.WriteFile(s.Path, []byte("{"), 0o644)
	os.Chmod(s.Path, 0o644)
	if _, _, err := s.Open(newGen(), 8); err == nil {
		t.Error("a file that others can read was taken")
	}
}
