package model

import (
	"sync"
	"sync/atomic"
)

// Store holds the current snapshot. Load never blocks; Update serialises the
// engines, each of which replaces only its own part.
type Store struct {
	mu  sync.Mutex
	cur atomic.Pointer[Snapshot]
}

// NewStore returns a store whose first snapshot is s.
func NewStore(s Snapshot) *Store {
	st := &Store{}
	st.cur.Store(&s)
	return st
}

// Load returns the current snapshot. Never change it.
func (s *Store) Load() *Snapshot { return s.cur.Load() }

// Update publishes a copy of the current snapshot that edit has changed. edit must
// replace slices and maps, never write into them.
func (s *Store) Update(edit func(*Snapshot)) *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := *s.cur.Load()
	edit(&next)
	next.Generation++
	s.cur.Store(&next)
	return &next
}
