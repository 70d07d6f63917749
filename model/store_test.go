package model

import (
	"fmt"
	"sync"
	"testing"
)

// Readers see whole publications only, generations never repeat, and a snapshot in
// a reader's hands doesn't change.
func TestUpdatesAreWholeAndOrdered(t *testing.T) {
	st := NewStore(Snapshot{})
	first := st.Load()
	const writers, each = 4, 200
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				st.Update(func(s *Snapshot) {
					n := len(s.Members)
					s.Members = append(append([]GMGroup(nil), s.Members...), GMGroup{Name: fmt.Sprint(n)})
				})
			}
		})
	}
	var last uint64
	for last < writers*each {
		s := st.Load()
		if s.Generation < last {
			t.Fatalf("generation went from %d to %d", last, s.Generation)
		}
		last = s.Generation
		if uint64(len(s.Members)) != s.Generation {
			t.Fatalf("generation %d with %d members", s.Generation, len(s.Members))
		}
	}
	wg.Wait()
	if first.Generation != 0 || first.Members != nil {
		t.Error("an old snapshot changed")
	}
}
