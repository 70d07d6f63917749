package ipsec

// Anti-replay by counter. A group SA has many senders, each with its own sequence
// numbers, so each has its own window. A sender is known by its Sender ID where the
// IV carries one (the ICV covers it), else by the source address, which Open has
// found equal to the encrypted one. A window is made only for a packet whose ICV was
// right.

import (
	"sync"
	"sync/atomic"
)

const (
	// MinWindow and MaxWindow bound Replay.Window in packets.
	MinWindow = 64
	MaxWindow = 1024

	// MaxSenders is how many senders one SA keeps windows for; packets of further
	// ones are refused as DropSenderLimit.
	MaxSenders = 65536
)

// senderKey names a sender: kind 1 a Sender ID, 4 or 6 an address.
type senderKey struct {
	kind   uint8
	hi, lo uint64
}

// senderTable holds the windows of an SA.
type senderTable struct {
	mu   sync.RWMutex
	m    map[senderKey]*window
	most *atomic.Uint32 // largest lateness of all
}

func (t *senderTable) init(most *atomic.Uint32) { t.m, t.most = map[senderKey]*window{}, most }

// find returns the sender's window, nil if there is none yet.
func (t *senderTable) find(k senderKey) *window {
	t.mu.RLock()
	w := t.m[k]
	t.mu.RUnlock()
	return w
}

// add returns the sender's window, made if needed, nil when the table is full.
func (t *senderTable) add(k senderKey) *window {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.m[k]
	if w == nil && len(t.m) < MaxSenders {
		w = &window{most: t.most}
		t.m[k] = w
	}
	return w
}

// window is the replay window of one sender: a ring of bits of which whole words are
// cleared as the top moves on (RFC 6479), so that a check costs the same for any size.
type window struct {
	mu      sync.Mutex
	top     uint32
	bits    []uint64 // a power of two of words, one more than the window needs
	drops   uint64
	maxLate uint32
	most    *atomic.Uint32
}

// windowWords is the ring's length for a window of size packets.
func windowWords(size int) int {
	n := 2
	for n < (size+63)/64+1 {
		n *= 2
	}
	return n
}

// fits reports whether seq is neither left of the window nor seen. The caller holds mu.
func (w *window) fits(seq uint32, size int) bool {
	if n := windowWords(size); len(w.bits) != n { // new, or the policy has changed
		w.resize(n)
	}
	if seq == 0 { // never sent (RFC 4303 §3.3.3)
		return false
	}
	if seq > w.top {
		return true
	}
	if w.top-seq >= uint32(size) || w.bits[seq/64%uint32(len(w.bits))]>>(seq%64)&1 == 1 {
		w.late(seq)
		return false
	}
	return true
}

func (w *window) late(seq uint32) {
	w.drops++
	w.maxLate = max(w.maxLate, w.top-seq)
	for l := w.maxLate; w.most != nil; {
		if was := w.most.Load(); l <= was || w.most.CompareAndSwap(was, l) {
			return
		}
	}
}

// check looks without marking, before the ICV is computed.
func (w *window) check(seq uint32, size int) bool {
	w.mu.Lock()
	ok := w.fits(seq, size)
	w.mu.Unlock()
	return ok
}

// commit checks again, since another goroutine may have been first, and marks.
func (w *window) commit(seq uint32, size int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.fits(seq, size) {
		return false
	}
	n := uint32(len(w.bits))
	if seq > w.top {
		from, to := w.top/64, seq/64
		for i := range min(to-from, n) {
			w.bits[(to-i)%n] = 0
		}
		w.top = seq
	}
	w.bits[seq/64%n] |= 1 << (seq % 64)
	return true
}

// resize keeps what is known of the newest numbers; what falls outside of the old ring
// counts as seen.
func (w *window) resize(n int) {
	old := w.bits
	w.bits = make([]uint64, n)
	if len(old) == 0 {
		return
	}
	top := w.top / 64
	for i := uint32(0); i < uint32(n) && i <= top; i++ {
		v := ^uint64(0)
		if i < uint32(len(old)) {
			v = old[(top-i)%uint32(len(old))]
		}
		w.bits[(top-i)%uint32(n)] = v
	}
}

// Sender describes one sender's window.
type Sender struct {
	SID     uint32 // when BySID
	BySID   bool
	Addr    [16]byte // otherwise; IPv4 in the last four octets
	IPv6    bool
	Top     uint32 // highest sequence number accepted
	Drops   uint64 // replayed or late
	MaxLate uint32 // largest distance behind Top that was refused
}

// Senders calls yield for each sender that has a window, in no order, until it
// returns false.
func (sa *SA) Senders(yield func(Sender) bool) {
	type pair struct {
		k senderKey
		w *window
	}
	sa.recv.mu.RLock()
	all := make([]pair, 0, len(sa.recv.m))
	for k, w := range sa.recv.m {
		all = append(all, pair{k, w})
	}
	sa.recv.mu.RUnlock()
	for _, p := range all {
		s := Sender{BySID: p.k.kind == 1, IPv6: p.k.kind == 6}
		if s.BySID {
			s.SID = uint32(p.k.lo)
		} else {
			for i := range 8 {
				s.Addr[i], s.Addr[8+i] = byte(p.k.hi>>(56-8*i)), byte(p.k.lo>>(56-8*i))
			}
		}
		p.w.mu.Lock()
		s.Top, s.Drops, s.MaxLate = p.w.top, p.w.drops, p.w.maxLate
		p.w.mu.Unlock()
		if !yield(s) {
			return
		}
	}
}
