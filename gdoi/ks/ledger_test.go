package ks

import (
	"crypto/rand"
	"errors"
	"io/fs"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
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
		return b, nil
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

// Random life of a key server: registrations, exhaustion, orderly restarts with the
// same keys, crashes at every step of every write, another machine. No (key, SID)
// pair may be handed out twice.
func Test_esp_10_NoSIDTwiceUnderOneKey(t *testing.T) {
	for seed := range uint64(200) {
		r := mrand.New(mrand.NewPCG(seed, 1))
		path := LedgerPath(t.TempDir(), "g/1")
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
		var disk Files = &memFiles{crash: crash}
		if seed == 0 { // the real one is slow
			disk = Disk{crash: crash}
		}
		machine, gen := "m1", newGen()
		var l *Ledger
		open := func() {
			for l == nil {
				got, resumed, err := OpenLedger(disk, path, machine, gen, 6)
				if err == nil && !resumed {
					gen = newGen() // a clean slate needs new keys
					err = got.Reset(gen)
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
		open()
		for range 300 {
			if r.IntN(6) == 0 {
				crashAt = r.IntN(8)
			}
			switch op := r.IntN(20); {
			case op < 15:
				sids, err := l.Take(1 + r.IntN(5))
				switch {
				case errors.Is(err, ErrNoSID):
					g := newGen()
					if err := l.Reset(g); err == nil {
						gen = g
					} else {
						l, crashAt = nil, -1 // the process dies with the disk
						open()
					}
				case err != nil:
					l, crashAt = nil, -1
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
			case op < 17: // orderly restart, keys kept
				l.Close()
				l, crashAt = nil, -1
				open()
			case op < 19: // kill -9
				l, crashAt = nil, -1
				open()
			default: // the state directory wakes up on another machine
				l.Close()
				l, crashAt, machine = nil, -1, machine+"'"
				open()
			}
		}
	}
}

func TestLedgerResumesAfterAnOrderlyEndOnly(t *testing.T) {
	path := LedgerPath(t.TempDir(), "g")
	gen := newGen()
	l, resumed, err := OpenLedger(Disk{}, path, "m", gen, 24)
	if err != nil || resumed {
		t.Fatal(resumed, err)
	}
	if got, err := l.Take(3); err != nil || !slices.Equal(got, []uint32{0, 1, 2}) {
		t.Fatal(got, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, resumed, err = OpenLedger(Disk{}, path, "m", gen, 24)
	if err != nil || !resumed || l.Used() != 3 {
		t.Fatal(resumed, err)
	}
	if got, _ := l.Take(1); got[0] != 3 {
		t.Errorf("SID %d after an orderly restart, want 3", got[0])
	}
	for name, f := range map[string]func() (*Ledger, bool, error){
		"crash":   func() (*Ledger, bool, error) { return OpenLedger(Disk{}, path, "m", gen, 24) },
		"machine": func() (*Ledger, bool, error) { l.Close(); return OpenLedger(Disk{}, path, "n", gen, 24) },
		"keys":    func() (*Ledger, bool, error) { l.Close(); return OpenLedger(Disk{}, path, "m", newGen(), 24) },
		"width":   func() (*Ledger, bool, error) { l.Close(); return OpenLedger(Disk{}, path, "m", gen, 16) },
	} {
		if _, resumed, err := f(); err != nil || resumed {
			t.Errorf("%s: resumed %v, %v", name, resumed, err)
		}
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*.tmp"))
	if len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestLedgerRefusesAReadableFileAndABadOne(t *testing.T) {
	path := LedgerPath(t.TempDir(), "g")
	os.WriteFile(path, []byte("{"), 0o600)
	if _, resumed, err := OpenLedger(Disk{}, path, "m", newGen(), 8); err != nil || resumed {
		t.Errorf("garbage: resumed %v, %v", resumed, err)
	}
	os.Chmod(path, 0o644)
	if _, _, err := OpenLedger(Disk{}, path, "m", newGen(), 8); err == nil {
		t.Error("a file that others can read was taken")
	}
}
