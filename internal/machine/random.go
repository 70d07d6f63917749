package machine

// A clone has its original's random numbers too: without a generation ID device its
// kernel repeats them until it reseeds itself, which takes up to a minute, and a key
// server would make "new" keys that its former self has made, or has shown in part as
// nonces. So what the kernel gives is mixed with something that the clone can't share:
// how long its own instructions take.

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"getvpn/internal/clock"
)

// Random passes an entropy source through until Stir is called, and from then on a
// mixture of it with a key stream of its own. The mixture is at least as good as the
// source. Safe for concurrent use.
type Random struct {
	src io.Reader

	mu     sync.Mutex
	key    [sha256.Size]byte
	stream cipher.Stream // nil: never stirred
}

// NewRandom returns a Random over src, which is usually crypto/rand.Reader.
func NewRandom(src io.Reader) *Random { return &Random{src: src} }

// Read fills b or fails.
func (r *Random) Read(b []byte) (int, error) {
	if n, err := io.ReadFull(r.src, b); err != nil {
		clear(b)
		return n, fmt.Errorf("machine: random octets: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stream != nil {
		r.stream.XORKeyStream(b, b)
	}
	return len(b), nil
}

// jitterSamples are timed; one holds a bit or more of what can't be foreseen, and 256
// are needed.
const jitterSamples = 8192

// Stir makes what follows differ from what a copy of this process will read: call it
// when the machine turns out to be restored. It takes some milliseconds.
func (r *Random) Stir() error {
	h := sha256.New()
	var src [sha256.Size]byte
	if _, err := io.ReadFull(r.src, src[:]); err != nil {
		return fmt.Errorf("machine: random octets: %w", err)
	}
	h.Write(src[:])
	c := clock.System{}
	var t [8]byte
	put := func(d int64) { binary.BigEndian.PutUint64(t[:], uint64(d)); h.Write(t[:]) }
	put(int64(c.Boot()))
	put(c.Now().UnixNano())
	for last, i := time.Now(), 0; i < jitterSamples; i++ {
		src = sha256.Sum256(src[:]) // work to be timed
		now := time.Now()
		put(int64(now.Sub(last)))
		last = now
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h.Write(r.key[:])
	h.Sum(r.key[:0])
	block, err := aes.NewCipher(r.key[:])
	if err != nil {
		return fmt.Errorf("machine: %w", err)
	}
	var iv [aes.BlockSize]byte // the key is used for one stream
	r.stream = cipher.NewCTR(block, iv[:])
	return nil
}
