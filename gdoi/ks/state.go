package ks

// Where the state of groups is kept: in a vault that seals it, under the group's name.

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"getvpn/internal/secret"
)

// Vault keeps small secrets by name; internal/sealed is one. Save returns when the body
// would survive a crash; on error either it or what was there before does. Load returns
// fs.ErrNotExist when there is nothing; any other error is why what is there can't be
// trusted.
type Vault interface {
	Save(name string, body []byte) error
	Load(name string) (secret.Bytes, error)
	Forget(name string) error
}

// StatePrefix begins the names under which State keeps groups.
const StatePrefix = "group "

// State is the Saver of a vault. Safe for concurrent use.
type State struct {
	mu    sync.RWMutex
	vault Vault
}

var _ Saver = (*State)(nil)

// Use keeps state in v from now on; nil: nowhere ("crypto gdoi state off"). What the
// groups have now is saved with their next change, or by Server.Save.
func (s *State) Use(v Vault) {
	s.mu.Lock()
	s.vault = v
	s.mu.Unlock()
}

func (s *State) save(group string, d durable) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.vault == nil {
		return nil
	}
	b, err := d.encode()
	if err != nil {
		return err
	}
	defer b.Zero()
	if err := s.vault.Save(StatePrefix+group, b); err != nil {
		return fmt.Errorf("ks: saving state: %w", err)
	}
	return nil
}

func (s *State) load(group string) (durable, bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.vault == nil {
		return durable{}, false, nil
	}
	b, err := s.vault.Load(StatePrefix + group)
	if errors.Is(err, fs.ErrNotExist) {
		return durable{}, false, nil
	}
	if err != nil {
		return durable{}, false, err
	}
	defer b.Zero()
	d, err := decodeState(b)
	return d, err == nil, err
}

func (s *State) forget(group string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.vault == nil {
		return nil
	}
	return s.vault.Forget(StatePrefix + group)
}

// Save saves what every group has now. All groups that were added must be running or
// have ended.
func (s *Server) Save() error {
	s.mu.Lock()
	var groups []*Group
	for _, g := range s.groups {
		groups = append(groups, g)
	}
	s.mu.Unlock()
	var errs []error
	for _, g := range groups {
		if err := g.call(g.save); err != nil && !errors.Is(err, ErrEnded) {
			errs = append(errs, fmt.Errorf("group %s: %w", g.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// Forget removes what is saved of a group whose actor has ended: it is gone, or begins
// anew as another one.
func (s *Server) Forget(group string) error {
	if s.o.State == nil {
		return nil
	}
	return s.o.State.forget(group)
}

// form is what makes a group another one when it changes: its identity and the forms on
// the wire.
func (s *Setup) form() [32]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%v %v %v", identity(&s.Group), s.Group.Interop, s.Group.IPv6)
	return [32]byte(h.Sum(nil))
}

// policy is what members are told beside keys: lists and directions.
func (s *Setup) policy() [32]byte {
	h := sha256.New()
	for _, e := range s.Entries {
		fmt.Fprintf(h, "%d %d %d\n", e.Seq, e.Direction, len(e.ACEs))
		for _, a := range e.ACEs {
			fmt.Fprintf(h, "%+v\n", a)
		}
	}
	return [32]byte(h.Sum(nil))
}
