package ks

// The ledger of Sender IDs. Two senders that share a key under a counter mode must
// never share a Sender ID (RFC 6054 §3), so the number that was reached has to
// outlive a crash: blocks are reserved on disk before any number of them is handed
// out, and what a crash leaves of a block is lost, never reused.
//
// A ledger is bound to the keys it counts for (a random generation) and to the
// machine and boot that wrote it. When any of these differ, or the last owner didn't
// close it, the numbers start at zero and the caller must make new keys.

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
)

// ErrNoSID reports that the Sender IDs of the key generation are used up
// (RFC 6407 §3.5 step 5).
var ErrNoSID = errors.New("ks: no Sender ID is left")

// Generation names a set of keys. New keys, new generation.
type Generation [16]byte

// Ledger hands out Sender IDs of one group in ascending order. Not safe for
// concurrent use: the group's actor owns it.
type Ledger struct {
	files   Files
	path    string
	machine string
	gen     Generation
	max     uint64 // 1 << bits
	bits    int
	next    uint64 // the next one to hand out
	upTo    uint64 // reserved on disk: next ≤ upTo
}

// ledgerFile is what stands on disk. Clean is set by an orderly Close alone; then
// Reserved is exact.
type ledgerFile struct {
	Version    int    `json:"version"`
	Machine    string `json:"machine"`
	Generation string `json:"generation"`
	Bits       int    `json:"bits"`
	Reserved   uint64 `json:"reserved"`
	Clean      bool   `json:"clean"`
}

// sidBlock is how many Sender IDs one write reserves, at most: the cost of a crash
// is as many numbers, the gain one fsync for as many registrations.
const sidBlock = 1024

// LedgerPath is the file of a group's ledger; any group name makes a file name of
// its own.
func LedgerPath(dir, group string) string {
	return filepath.Join(dir, "sid-"+url.PathEscape(group)+".json")
}

// OpenLedger opens the ledger of the keys called gen. resumed is false when nothing
// trustworthy is known about them: the numbers start at zero, which is safe only for
// keys that nobody has used, so the caller makes new ones and calls Reset.
func OpenLedger(files Files, path, machine string, gen Generation, bits int) (l *Ledger, resumed bool, err error) {
	if bits < 1 || bits > 32 {
		return nil, false, fmt.Errorf("ks: Sender IDs of %d bits", bits)
	}
	l = &Ledger{files: files, path: path, machine: machine, gen: gen, max: 1 << bits, bits: bits}
	f, ok, err := l.load()
	if err != nil {
		return nil, false, err
	}
	if ok && f.Clean && f.Machine == machine && f.Generation == hex.EncodeToString(gen[:]) && f.Bits == bits && f.Reserved <= l.max {
		l.next, l.upTo, resumed = f.Reserved, f.Reserved, true
	}
	// From now on the file says that somebody is using it. A crash before this
	// write leaves the clean mark, and nothing handed out.
	if err := l.store(l.upTo, false); err != nil {
		return nil, false, err
	}
	return l, resumed, nil
}

// load returns ok false for a missing or unreadable record, which is the same as no
// knowledge; only an I/O error is one.
func (l *Ledger) load() (f ledgerFile, ok bool, err error) {
	b, err := l.files.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, false, nil
	}
	if err != nil {
		return f, false, fmt.Errorf("ks: Sender ID ledger: %w", err)
	}
	if json.Unmarshal(b, &f) != nil || f.Version != 1 {
		return f, false, nil
	}
	return f, true, nil
}

func (l *Ledger) store(reserved uint64, clean bool) error {
	b, err := json.Marshal(ledgerFile{Version: 1, Machine: l.machine, Generation: hex.EncodeToString(l.gen[:]),
		Bits: l.bits, Reserved: reserved, Clean: clean})
	if err != nil {
		return fmt.Errorf("ks: Sender ID ledger: %w", err)
	}
	if err := l.files.WriteFile(l.path, append(b, '\n')); err != nil {
		return fmt.Errorf("ks: Sender ID ledger: %w", err)
	}
	return nil
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
		if err := l.store(upTo, false); err != nil {
			return nil, err
		}
		l.upTo = upTo
	}
	out := make([]uint32, n)
	for i := range out {
		out[i] = uint32(l.next) + uint32(i)
	}
	l.next = end
	return out, nil
}

// Reset begins a clean slate for keys that nobody has used yet.
func (l *Ledger) Reset(gen Generation) error {
	old := *l
	l.gen, l.next, l.upTo = gen, 0, 0
	if err := l.store(0, false); err != nil {
		*l = old
		return err
	}
	return nil
}

// Used is how many numbers have been handed out under the present keys.
func (l *Ledger) Used() uint64 { return l.next }

// Left is how many numbers can still be handed out.
func (l *Ledger) Left() uint64 { return l.max - l.next }

// Close marks an orderly end, so that the same keys may go on from here.
func (l *Ledger) Close() error { return l.store(l.next, true) }
