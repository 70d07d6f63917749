package machine

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// cloned is a generator that says the same in every clone.
type cloned struct{ n byte }

func (c *cloned) Read(b []byte) (int, error) {
	for i := range b {
		c.n++
		b[i] = c.n
	}
	return len(b), nil
}

func octets(t *testing.T, r io.Reader, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// Two clones of one generator part at Stir, and a third from its own past.
func TestStirPartsClones(t *testing.T) {
	a, b := NewRandom(&cloned{}), NewRandom(&cloned{})
	if x, y := octets(t, a, 64), octets(t, b, 64); !bytes.Equal(x, y) || x[0] != 1 {
		t.Fatalf("not the source's octets: %x %x", x, y)
	}
	seen := map[string]bool{}
	for range 8 {
		for _, r := range []*Random{a, b} {
			if err := r.Stir(); err != nil {
				t.Fatal(err)
			}
		}
		for range 4 {
			for _, r := range []*Random{a, b} {
				x := string(octets(t, r, 16))
				if seen[x] {
					t.Fatalf("%x again", x)
				}
				seen[x] = true
			}
		}
	}
}

func TestRandomNeedsItsSource(t *testing.T) {
	broken := errors.New("broken")
	r := NewRandom(iotest.ErrReader(broken))
	b := []byte{1, 2, 3}
	if _, err := r.Read(b); !errors.Is(err, broken) || !bytes.Equal(b, make([]byte, 3)) {
		t.Errorf("%v, %x", err, b)
	}
	if err := r.Stir(); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func BenchmarkStir(b *testing.B) {
	r := NewRandom(&cloned{})
	for b.Loop() {
		if err := r.Stir(); err != nil {
			b.Fatal(err)
		}
	}
}
