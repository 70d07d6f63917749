package sealed

// A directory of sealed files. Beside each file stands its mark, the serial number of
// the newest one, authenticated. The file is written first, then the mark: a crash
// between them leaves a file that is newer than its mark, which is taken; a file that
// is older was put back, and is refused. A second directory of marks that doesn't
// outlive the boot (/run) tells of a state directory that was put back as a whole while
// the machine ran.

import (
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"getvpn/internal/secret"
)

// Store keeps files by name. Safe for concurrent use.
type Store struct {
	Files   Files
	Key     *Key
	Dir     string
	Marks   string // directory of the marks that end with the boot; "": none
	Machine string // generation of the machine
	Rand    io.Reader

	mu   sync.Mutex
	last map[string]uint64 // serial written or read last
}

const (
	sealedSuffix = ".sealed"
	markSuffix   = ".mark"
	markLen      = 8 + 16
)

// Path is the file that a name is kept in.
func (s *Store) Path(name string) string {
	return filepath.Join(s.Dir, url.PathEscape(name)+sealedSuffix)
}

// marks are the paths of a name's marks, the lasting one first.
func (s *Store) marks(name string) []string {
	m := []string{filepath.Join(s.Dir, url.PathEscape(name)+markSuffix)}
	if s.Marks != "" {
		m = append(m, filepath.Join(s.Marks, url.PathEscape(name)+markSuffix))
	}
	return m
}

// Save replaces what is kept under name. When it returns nil the body survives a
// crash; on error either it or what was there before does.
func (s *Store) Save(name string, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	serial, err := s.next(name)
	if err != nil {
		return err
	}
	b, err := s.Key.Seal(s.Rand, name, s.Machine, serial, body)
	if err != nil {
		return err
	}
	s.last[name] = serial // even a write that fails may have got there
	if err := s.Files.WriteFile(s.Path(name), b); err != nil {
		return fmt.Errorf("sealed: %w", err)
	}
	m := binary.BigEndian.AppendUint64(nil, serial)
	m = append(m, s.Key.mac("mark", []byte(name), m)[:16]...)
	for _, p := range s.marks(name) {
		if err := s.Files.WriteFile(p, m); err != nil {
			return fmt.Errorf("sealed: %w", err)
		}
	}
	return nil
}

// next is a serial number above all that may have been used. What can't be read is
// overwritten, so it counts as nothing.
func (s *Store) next(name string) (uint64, error) {
	if s.last == nil {
		s.last = map[string]uint64{}
	}
	if n, ok := s.last[name]; ok {
		return n + 1, nil
	}
	var n uint64
	b, err := s.Files.ReadFile(s.Path(name))
	if err == nil {
		if serial, body, err := s.Key.Open(name, s.Machine, b); err == nil {
			body.Zero()
			n = serial
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("sealed: %w", err)
	}
	for _, p := range s.marks(name) {
		if m, err := s.mark(p, name); err == nil {
			n = max(n, m)
		}
	}
	return n + 1, nil
}

// mark reads one; 0 when there is none.
func (s *Store) mark(path, name string) (uint64, error) {
	b, err := s.Files.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("sealed: %w", err)
	}
	if len(b) != markLen || !hmac.Equal(b[8:], s.Key.mac("mark", []byte(name), b[:8])[:16]) {
		return 0, ErrMark
	}
	return binary.BigEndian.Uint64(b), nil
}

// Load returns what is kept under name; the caller zeroes it. Errors are fs.ErrNotExist
// when there is nothing, the Err values, or the file system's.
func (s *Store) Load(name string) (secret.Bytes, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.Files.ReadFile(s.Path(name))
	if err != nil {
		return nil, fmt.Errorf("sealed: %w", err)
	}
	serial, body, err := s.Key.Open(name, s.Machine, b)
	if err != nil {
		return nil, err
	}
	var least uint64
	for i, p := range s.marks(name) {
		m, err := s.mark(p, name)
		if err == nil && i == 0 && m == 0 && serial > 1 {
			err = fmt.Errorf("%w: its mark is missing", ErrRolledBack) // only the very first write may have ended before it
		}
		if err != nil {
			body.Zero()
			return nil, err
		}
		least = max(least, m)
	}
	if serial < least {
		body.Zero()
		return nil, fmt.Errorf("%w: number %d, number %d was written", ErrRolledBack, serial, least)
	}
	if s.last == nil {
		s.last = map[string]uint64{}
	}
	s.last[name] = serial
	return body, nil
}

// Forget removes what is kept under name. Its marks stay: the file put back later is
// refused.
func (s *Store) Forget(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.Files.Remove(s.Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sealed: %w", err)
	}
	return nil
}

// asideSuffix ends the name of a sealed file that couldn't be opened.
const asideSuffix = ".refused"

// Aside moves what is kept under name to where nothing reads it, and says where: with the
// right key it could still be opened.
func (s *Store) Aside(name string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := s.Path(name)
	b, err := s.Files.ReadFile(path)
	if err == nil {
		err = s.Files.WriteFile(path+asideSuffix, b)
	}
	if err == nil {
		err = s.Files.Remove(path)
	}
	if err != nil {
		return "", fmt.Errorf("sealed: %w", err)
	}
	return path + asideSuffix, nil
}

// Names are those that begin with prefix and have a file in dir.
func Names(dir, prefix string) ([]string, error) {
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("sealed: %w", err)
	}
	var out []string
	for _, f := range found {
		base, ok := strings.CutSuffix(f.Name(), sealedSuffix)
		if n, err := url.PathUnescape(base); ok && err == nil && strings.HasPrefix(n, prefix) {
			out = append(out, n)
		}
	}
	return out, nil
}
