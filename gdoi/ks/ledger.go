package ks

// The ledger of Sender IDs. Two senders that share a key under a counter mode must
// never share a Sender ID (RFC 6054 §3), so the number that was reached has to
// outlive a crash: blocks are reserved on disk before any number of them is handed
// out, and what a crash leaves of a block is lost, never reused.
//
// A ledger is bound to the keys it counts for (a random generation) and to the machine
// and boot that wrote it. Its numbers go on only after an end that was orderly and that
// is proved to be the last one: the end leaves the same record once more where it ends
// with the boot (/run), and the next owner marks that one as used before it hands out
// anything. So a directory of an earlier end that is put back finds a mark that is used,
// of a later end, or none. What a restored virtual machine puts back is /run too; the
// record says what time it was by every clock there is, and only when they still agree
// is it the same machine (clock.Moment). In any doubt the numbers start at zero and
// the caller must make new keys.

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"

	"getvpn/gdoi/coop"
	"getvpn/internal/clock"
)

// ErrNoSID reports that the Sender IDs of the key generation are used up
// (RFC 6407 §3.5 step 5).
var ErrNoSID = errors.New("ks: no Sender ID is left")

// Generation names a set of keys. New keys, new generation.
type Generation [16]byte

// LedgerStore is where a group's ledger is kept.
type LedgerStore struct {
	Files Files
	Path  string
	// Mark is a file that ends with the boot. "": there is none, and no end is trusted.
	Mark    string
	Machine string // machine and boot
	// Moment reads the machine's clocks. Nil: nobody can, and no end is trusted.
	Moment func() clock.Moment
	Rand   io.Reader
	// Ranges are the numbers that it counts in, ascending; none: all of the width.
	Ranges []coop.SIDRange
}

// Ledger hands out Sender IDs of one group in ascending order. Not safe for
// concurrent use: the group's actor owns it.
type Ledger struct {
	in   LedgerStore
	id   ledgerID // ends when what it counted can't be trusted any more
	gen  Generation
	max  uint64 // how many there are
	bits int
	next uint64 // the next one to hand out
	upTo uint64 // reserved on disk: next ≤ upTo
}

// ledgerFile is what stands on disk. End is set by an orderly Close alone; then
// Reserved is exact.
type ledgerFile struct {
	Version    int        `json:"version"`
	Machine    string     `json:"machine"`
	Generation string     `json:"generation"`
	Bits       int        `json:"bits"`
	Ranges     string     `json:"ranges,omitempty"`
	ID         string     `json:"id"`
	Reserved   uint64     `json:"reserved"`
	End        *ledgerEnd `json:"end,omitempty"`
}

// ledgerEnd tells one orderly end from every other.
type ledgerEnd struct {
	Nonce  string       `json:"nonce"`
	Moment clock.Moment `json:"moment"`
}

const ledgerVersion = 3

// usedMark is the content of a mark whose record was taken up.
const usedMark = "in use\n"

// sidBlock is how many Sender IDs one write reserves, at most: the cost of a crash
// is as many numbers, the gain one fsync for as many registrations.
const sidBlock = 1024

// LedgerPath is the file of a group's ledger, in the state directory or in that of
// marks; any group name makes a file name of its own.
func LedgerPath(dir, group string) string {
	return filepath.Join(dir, "sid-"+url.PathEscape(group)+".json")
}

// Open opens the ledger of the keys called gen. doubt is "" when its numbers go on.
// Else it says why nothing trustworthy is known about them: the numbers start at zero,
// which is safe only for keys that nobody has used, so the caller makes new ones and
// calls Reset.
func (s LedgerStore) Open(gen Generation, bits int) (l *Ledger, doubt string, err error) {
	if bits < 1 || bits > 32 {
		return nil, "", fmt.Errorf("ks: Sender IDs of %d bits", bits)
	}
	l = &Ledger{in: s, gen: gen, max: size(s.Ranges, bits), bits: bits}
	f, doubt, err := l.load()
	if err != nil {
		return nil, "", err
	}
	if doubt == "" {
		l.next, l.upTo = f.Reserved, f.Reserved
	} else if err := l.renew(); err != nil {
		return nil, "", err
	}
	// From now on mark and file say that somebody is using it. A crash before the first
	// of these writes leaves the record of the end, and nothing handed out.
	if s.Mark != "" {
		if err := s.Files.WriteFile(s.Mark, []byte(usedMark)); err != nil {
			return nil, "", fmt.Errorf("ks: Sender ID ledger: mark: %w", err)
		}
	}
	if err := l.store(l.upTo); err != nil {
		return nil, "", err
	}
	return l, doubt, nil
}

// load reads the record and judges it. A missing or unreadable one is no knowledge, and
// so a doubt; only an I/O error is an error.
func (l *Ledger) load() (f ledgerFile, doubt string, err error) {
	b, err := l.in.Files.ReadFile(l.in.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, "there is no record of them", nil
	case err != nil:
		return f, "", fmt.Errorf("ks: Sender ID ledger: %w", err)
	case json.Unmarshal(b, &f) != nil || f.Version != ledgerVersion:
		return f, "their record can't be read", nil
	case f.Bits != l.bits:
		return f, "the width of Sender IDs was changed", nil
	case f.Ranges != rangesText(l.in.Ranges) || f.Reserved > l.max:
		return f, "the range of Sender IDs was changed", nil
	case f.Machine != l.in.Machine:
		return f, "the machine was booted since", nil
	case f.End == nil:
		return f, "the last end wasn't orderly", nil
	case f.Generation != hex.EncodeToString(l.gen[:]):
		return f, "their record is of other keys", nil
	case l.in.Mark == "" || l.in.Moment == nil:
		return f, "there is no mark of the last end", nil
	}
	m, err := l.in.Files.ReadFile(l.in.Mark)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, "the mark of the last end is missing", nil
	case err != nil:
		return f, "", fmt.Errorf("ks: Sender ID ledger: mark: %w", err)
	case !bytes.Equal(m, b):
		return f, "the record is of an earlier end", nil
	}
	if id, err := hex.DecodeString(f.ID); err != nil || copy(l.id[:], id) != len(l.id) {
		return f, "their record can't be read", nil
	}
	return f, l.in.Moment().Doubt(f.End.Moment), nil
}

// renew gives the ledger another identity.
func (l *Ledger) renew() error {
	if _, err := io.ReadFull(l.in.Rand, l.id[:]); err != nil {
		return fmt.Errorf("ks: Sender ID ledger: %w", err)
	}
	return nil
}

// size is how many numbers there are.
func size(ranges []coop.SIDRange, bits int) (n uint64) {
	if len(ranges) == 0 {
		return 1 << bits
	}
	for _, r := range ranges {
		n += uint64(r.High-r.Low) + 1
	}
	return n
}

func rangesText(l []coop.SIDRange) string {
	var s []string
	for _, r := range l {
		s = append(s, fmt.Sprintf("%d-%d", r.Low, r.High))
	}
	return strings.Join(s, ",")
}

// number is the i-th number.
func (l *Ledger) number(i uint64) uint32 {
	for _, r := range l.in.Ranges {
		n := uint64(r.High-r.Low) + 1
		if i < n {
			return r.Low + uint32(i)
		}
		i -= n
	}
	return uint32(i)
}

// store records that numbers up to reserved may have been handed out.
func (l *Ledger) store(reserved uint64) error {
	_, err := l.write(reserved, nil)
	return err
}

// write returns what it has written.
func (l *Ledger) write(reserved uint64, end *ledgerEnd) ([]byte, error) {
	b, err := json.Marshal(ledgerFile{Version: ledgerVersion, Machine: l.in.Machine, Generation: hex.EncodeToString(l.gen[:]),
		Bits: l.bits, Ranges: rangesText(l.in.Ranges), ID: hex.EncodeToString(l.id[:]), Reserved: reserved, End: end})
	if err != nil {
		return nil, fmt.Errorf("ks: Sender ID ledger: %w", err)
	}
	b = append(b, '\n')
	if err := l.in.Files.WriteFile(l.in.Path, b); err != nil {
		return nil, fmt.Errorf("ks: Sender ID ledger: %w", err)
	}
	return b, nil
}

// Take hands out n numbers, reserving on disk first. ErrNoSID when fewer are left;
// any other error is the disk's. On error nothing is handed out.
func (l *Ledger) Take(n int) ([]uint32, error) {
	if n < 1 {
		return nil, fmt.Errorf("ks: %d Sender IDs asked for", n)
	}
	end := l.next + uint64(n)
	if end > l.max {
		return nil, ErrNoSID
	}
	if end > l.upTo {
		upTo := min(l.max, end+min(sidBlock, l.max/16))
		if err := l.store(upTo); err != nil {
			return nil, err
		}
		l.upTo = upTo
	}
	out := make([]uint32, n)
	for i := range out {
		out[i] = l.number(l.next + uint64(i))
	}
	l.next = end
	return out, nil
}

// Reset begins a clean slate for keys that nobody has used yet.
func (l *Ledger) Reset(gen Generation) error {
	old := *l
	l.gen, l.next, l.upTo = gen, 0, 0
	if err := l.store(0); err != nil {
		*l = old
		return err
	}
	return nil
}

// Rebind goes on with the same numbers under other keys: those that were given out may
// be used with them too.
func (l *Ledger) Rebind(gen Generation) error {
	old := l.gen
	l.gen = gen
	if err := l.store(l.upTo); err != nil {
		l.gen = old
		return err
	}
	return nil
}

// shared is the ledger as other key servers know it.
func (l *Ledger) shared() sharedLedger { return sharedLedger{l.id, l.bits, l.in.Ranges} }

// Used is how many numbers have been handed out under the present keys.
func (l *Ledger) Used() uint64 { return l.next }

// Left is how many numbers can still be handed out.
func (l *Ledger) Left() uint64 { return l.max - l.next }

// Close records an orderly end, so that the same keys may go on from here: in the file,
// then in the mark. A crash between the two is an end that wasn't orderly.
func (l *Ledger) Close() error {
	if l.in.Mark == "" || l.in.Moment == nil {
		return nil // it wouldn't be trusted
	}
	var nonce [16]byte
	if _, err := io.ReadFull(l.in.Rand, nonce[:]); err != nil {
		return fmt.Errorf("ks: Sender ID ledger: %w", err)
	}
	b, err := l.write(l.next, &ledgerEnd{hex.EncodeToString(nonce[:]), l.in.Moment()})
	if err != nil {
		return err
	}
	if err := l.in.Files.WriteFile(l.in.Mark, b); err != nil {
		return fmt.Errorf("ks: Sender ID ledger: mark: %w", err)
	}
	return nil
}
