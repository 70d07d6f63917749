package sealed

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"getvpn/internal/secret"
)

func testKey(t testing.TB, fill byte) *Key {
	t.Helper()
	k, err := NewKey(bytes.Repeat([]byte{fill}, KeyLen))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var (
	errCrash = errors.New("crash")
	// named are the refusals.
	named = []error{ErrNotSealed, ErrVersion, ErrOtherKey, ErrOtherMachine, ErrDamaged, ErrRolledBack, ErrMark}
)

func refused(err error) bool {
	return slices.ContainsFunc(named, func(n error) bool { return errors.Is(err, n) })
}

// mem takes the steps of an atomic write in memory. After a crash nothing works.
type mem struct {
	m     map[string][]byte
	steps int // until the crash; negative: none
}

func (f *mem) step() error {
	if f.steps == 0 {
		return errCrash
	}
	f.steps--
	return nil
}

func (f *mem) ReadFile(path string) ([]byte, error) {
	if b, ok := f.m[path]; ok {
		return slices.Clone(b), nil
	}
	return nil, fs.ErrNotExist
}

func (f *mem) WriteFile(path string, data []byte) error {
	for _, name := range []string{"create", "write", "sync", "rename", "syncdir"} {
		if err := f.step(); err != nil {
			return err
		}
		if name == "rename" {
			f.m[path] = slices.Clone(data)
		}
	}
	return nil
}

func (f *mem) Remove(path string) error {
	if _, ok := f.m[path]; !ok {
		return fs.ErrNotExist
	}
	delete(f.m, path)
	return nil
}

func memStore(t testing.TB) (*Store, *mem) {
	f := &mem{m: map[string][]byte{}, steps: -1}
	return &Store{Files: f, Key: testKey(t, 7), Dir: "d", Marks: "run", Machine: "m", Rand: rand.Reader}, f
}

// reopened is the store of the next process.
func reopened(s *Store) *Store {
	return &Store{Files: s.Files, Key: s.Key, Dir: s.Dir, Marks: s.Marks, Machine: s.Machine, Rand: s.Rand}
}

func TestSealAndOpen(t *testing.T) {
	k := testKey(t, 1)
	for _, body := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("keys"), 5000)} {
		f, err := k.Seal(rand.Reader, "g", "m", 9, body)
		if err != nil {
			t.Fatal(err)
		}
		n, got, err := k.Open("g", "m", f)
		if err != nil || n != 9 || !bytes.Equal(got, body) {
			t.Errorf("%d octets: number %d, %v", len(body), n, err)
		}
		if len(body) > 8 && bytes.Contains(f, body[:8]) {
			t.Error("the body is in clear")
		}
	}
}

// Every way in which a file isn't the one that was sealed has its name, and gives nothing.
func TestRefusals(t *testing.T) {
	k := testKey(t, 1)
	good, err := k.Seal(rand.Reader, "g", "m", 9, []byte("the body"))
	if err != nil {
		t.Fatal(err)
	}
	with := func(at int, x byte) []byte { c := bytes.Clone(good); c[at] ^= x; return c }
	for name, c := range map[string]struct {
		k       *Key
		as, on  string
		file    []byte
		because error
	}{
		"another key":     {testKey(t, 2), "g", "m", good, ErrOtherKey},
		"another machine": {k, "g", "n", good, ErrOtherMachine},
		"another name":    {k, "h", "m", good, ErrDamaged},
		"a later format":  {k, "g", "m", with(atVersion, 3), ErrVersion},
		"an older format": {k, "g", "m", with(atVersion, 1), ErrVersion},
		"no magic":        {k, "g", "m", with(0, 1), ErrNotSealed},
		"empty":           {k, "g", "m", nil, ErrNotSealed},
		"number changed":  {k, "g", "m", with(atSerial+7, 1), ErrDamaged},
		"salt changed":    {k, "g", "m", with(atSalt, 1), ErrDamaged},
		"longer":          {k, "g", "m", append(bytes.Clone(good), 0), ErrDamaged},
	} {
		if _, body, err := c.k.Open(c.as, c.on, c.file); !errors.Is(err, c.because) || body != nil {
			t.Errorf("%s: %v, want %v", name, err, c.because)
		}
	}
	for n := range good {
		if _, body, err := k.Open("g", "m", good[:n]); !refused(err) || body != nil {
			t.Errorf("cut to %d: %v", n, err)
		}
		for bit := range 8 {
			if _, body, err := k.Open("g", "m", with(n, 1<<bit)); !refused(err) || body != nil {
				t.Errorf("bit %d of octet %d: %v", bit, n, err)
			}
		}
	}
}

// constant is a broken source of randomness: that of a restored virtual machine.
type constant struct{}

func (constant) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// No two files share a key and nonce, even when random numbers repeat.
func TestSaltsDontRepeat(t *testing.T) {
	k := testKey(t, 1)
	seen := map[string]bool{}
	for i := range 200 {
		body := binary.BigEndian.AppendUint32(nil, uint32(i))
		for _, serial := range []uint64{1, 2} {
			f, err := k.Seal(constant{}, "g", "m", serial, body)
			if err != nil {
				t.Fatal(err)
			}
			salt := string(f[atSalt:headLen])
			if seen[salt] {
				t.Fatal("a salt repeats")
			}
			seen[salt] = true
		}
	}
	a, _ := k.Seal(rand.Reader, "g", "m", 1, nil)
	b, _ := k.Seal(rand.Reader, "g", "m", 1, nil)
	if bytes.Equal(a[atSalt:headLen], b[atSalt:headLen]) {
		t.Error("one body, one salt")
	}
}

// A crash at any step of a write leaves the old file or the new one, which the next
// process takes, and the one after that may write.
func TestCrashAtEveryStepLeavesOldOrNew(t *testing.T) {
	for before := range 3 {
		done := false
		for k := 0; !done; k++ {
			s, f := memStore(t)
			for i := range before {
				if err := s.Save("g", []byte{byte(i)}); err != nil {
					t.Fatal(err)
				}
			}
			f.steps = k
			done = s.Save("g", []byte("new")) == nil
			f.steps = -1
			got, err := reopened(s).Load("g")
			switch {
			case errors.Is(err, fs.ErrNotExist) && before == 0 && !done:
			case err != nil:
				t.Errorf("%d before, crash at step %d: %v", before, k, err)
			case string(got) == "new":
			case done || before == 0 || !bytes.Equal(got, []byte{byte(before - 1)}):
				t.Errorf("%d before, crash at step %d: %q", before, k, []byte(got))
			}
			again := reopened(s)
			if err := again.Save("g", []byte("next")); err != nil {
				t.Fatal(err)
			}
			if got, err := reopened(again).Load("g"); err != nil || string(got) != "next" {
				t.Errorf("%d before, after a crash at step %d: %q %v", before, k, []byte(got), err)
			}
		}
	}
}

// An older file that is put back is refused: alone, without its mark, with its mark as
// long as the machine runs, and after it was forgotten.
func TestRolledBack(t *testing.T) {
	s, f := memStore(t)
	s.Save("g", []byte("1"))
	s.Save("g", []byte("2"))
	old := map[string][]byte{}
	for p, b := range f.m {
		old[p] = b
	}
	s.Save("g", []byte("3"))
	file, mark := s.Path("g"), s.marks("g")[0]
	newest := f.m[mark]
	f.m[file] = old[file]
	if _, err := reopened(s).Load("g"); !errors.Is(err, ErrRolledBack) {
		t.Errorf("the file alone: %v", err)
	}
	f.m[mark] = old[mark]
	if _, err := reopened(s).Load("g"); !errors.Is(err, ErrRolledBack) {
		t.Errorf("with its mark: %v", err)
	}
	delete(f.m, mark)
	if _, err := reopened(s).Load("g"); !errors.Is(err, ErrRolledBack) {
		t.Errorf("without a mark: %v", err)
	}
	f.m[mark] = append(bytes.Clone(newest[:8]), make([]byte, 16)...)
	if _, err := reopened(s).Load("g"); !errors.Is(err, ErrMark) {
		t.Errorf("a forged mark: %v", err)
	}
	// After a reboot the lasting mark is all there is: a directory that is put back as a
	// whole is taken. docs/persistence.md says what follows.
	f.m[mark] = old[mark]
	delete(f.m, s.marks("g")[1])
	if got, err := reopened(s).Load("g"); err != nil || string(got) != "2" {
		t.Errorf("%v", err)
	}

	r := reopened(s)
	r.Save("g", []byte("4"))
	was := f.m[file]
	if err := r.Forget("g"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Load("g"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("forgotten: %v", err)
	}
	r = reopened(r)
	r.Save("g", []byte("5"))
	f.m[file] = was
	if _, err := reopened(s).Load("g"); !errors.Is(err, ErrRolledBack) {
		t.Errorf("one of before it was forgotten: %v", err)
	}
}

// A file of another key or machine is written over, not read.
func TestForeignFileIsReplaced(t *testing.T) {
	s, _ := memStore(t)
	s.Save("g", []byte("1"))
	for _, c := range []struct {
		edit func(*Store)
		want error
	}{
		{func(s *Store) { s.Machine = "n" }, ErrOtherMachine},
		{func(s *Store) { s.Key = testKey(t, 8) }, ErrOtherKey},
	} {
		r := reopened(s)
		c.edit(r)
		if _, err := r.Load("g"); !errors.Is(err, c.want) {
			t.Errorf("%v, want %v", err, c.want)
		}
		if err := r.Save("g", []byte("2")); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Load("g"); err != nil || string(got) != "2" {
			t.Errorf("%q %v", []byte(got), err)
		}
		s = r
	}
}

// disk is a plain Files for the tests of keys.
type disk struct{}

func (disk) ReadFile(path string) ([]byte, error)     { return os.ReadFile(path) }
func (disk) Remove(path string) error                 { return os.Remove(path) }
func (disk) WriteFile(path string, data []byte) error { return os.WriteFile(path, data, 0o600) }

func TestLoadKey(t *testing.T) {
	dir, cred := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, KeyFile)
	load := func(c string) (*Key, string, error) { return LoadKey(disk{}, rand.Reader, c, dir) }
	made, from, err := load("")
	if err != nil || from != path {
		t.Fatal(from, err)
	}
	again, _, err := load(cred) // a credentials directory without ours
	if err != nil || !again.prk.Equal(made.prk) {
		t.Errorf("the key isn't kept: %v", err)
	}
	os.WriteFile(filepath.Join(cred, Credential), []byte(strings.Repeat("secret", 8)), 0o440)
	k, from, err := load(cred)
	if err != nil || from != "credential "+Credential || k.prk.Equal(made.prk) {
		t.Errorf("%q %v", from, err)
	}
	os.WriteFile(filepath.Join(cred, Credential), []byte("short"), 0o440)
	if _, _, err = load(cred); err == nil || !strings.Contains(err.Error(), "too short") {
		t.Errorf("a short credential: %v", err)
	}
	for _, bad := range []struct {
		name, says string
		do         func()
	}{
		{"mode", "mode 0640", func() { os.Chmod(path, 0o640) }},
		{"short", "too short", func() { os.Chmod(path, 0o600); os.Truncate(path, 8) }},
		{"empty", "too short", func() { os.Truncate(path, 0) }},
		{"long", "more than", func() { os.Truncate(path, 5000) }},
		{"a link", "too many levels", func() { os.Rename(path, path+"x"); os.Symlink(path+"x", path) }},
		{"a folder", "not a regular file", func() { os.Remove(path); os.Mkdir(path, 0o700) }},
	} {
		bad.do()
		if _, _, err := load(""); err == nil || !strings.Contains(err.Error(), bad.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", bad.name, err)
		}
	}
	if err := private(&unix.Stat_t{Uid: uint32(os.Geteuid()) + 1, Mode: 0o600}); err == nil {
		t.Error("a key of somebody else is taken")
	}
}

// Names finds the files again by any name.
func TestNames(t *testing.T) {
	dir := t.TempDir()
	s := &Store{Files: disk{}, Key: testKey(t, 1), Dir: dir, Machine: "m", Rand: rand.Reader}
	for _, n := range []string{"group g/1", "group h", "other"} {
		if err := s.Save(n, secret.Bytes("x")); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Names(dir, "group ")
	if slices.Sort(got); err != nil || !slices.Equal(got, []string{"group g/1", "group h"}) {
		t.Errorf("%q %v", got, err)
	}
}

func FuzzOpen(f *testing.F) {
	k := testKey(f, 1)
	good, _ := k.Seal(rand.Reader, "g", "m", 3, []byte("body"))
	f.Add(good)
	f.Add(good[:headLen])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, body, err := k.Open("g", "m", b)
		if err == nil && !bytes.Equal(b, good) && string(body) != "body" {
			t.Error("a file that nobody sealed was opened")
		}
		if err != nil && !refused(err) {
			t.Errorf("no name: %v", err)
		}
	})
}
