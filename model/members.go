package model

// The members of a group as a paged table: a tree of pages sorted by address, of which
// no page ever changes. A new table shares all pages with the one before but those on
// the way to what changed, so that one acknowledgement among ten thousand members costs
// a row and a few pages of pointers. The keys of a page, which order it, are shared
// too until somebody joins or leaves.

import (
	"encoding/json"
	"iter"
	"net/netip"
	"slices"
	"unsafe"
)

const (
	// pageMost is how many rows, or pages, a page holds at most.
	pageMost = 32
	// pageLeast is below what a page joins a neighbour that has room.
	pageLeast = 8
)

// MemberTable is an immutable list of members sorted by address; the zero value is
// empty. Rows belong to the table: read them only.
type MemberTable struct{ root *memberPage }

// memberPage has rows or pages below it, one a key.
type memberPage struct {
	owner *int // the edit that made it; see MemberEdit
	own   bool // keys were copied by that edit
	n     int  // rows here and below
	keys  []netip.Addr
	rows  []*Member
	below []*memberPage // keys are the first ones below
}

// NewMemberTable makes a table of rows in any order; of those with the same address the
// last one counts.
func NewMemberTable(rows ...Member) MemberTable {
	e := MemberTable{}.Edit()
	for _, m := range rows {
		e.Put(m)
	}
	return e.Table()
}

// Len is the number of members.
func (t MemberTable) Len() int {
	if t.root == nil {
		return 0
	}
	return t.root.n
}

// Find is the member of an address, nil if there is none.
func (t MemberTable) Find(a netip.Addr) *Member {
	p := t.root
	for p != nil && p.below != nil {
		p = p.below[p.child(a)]
	}
	if p == nil {
		return nil
	}
	if i, ok := p.find(a); ok {
		return p.rows[i]
	}
	return nil
}

// At is the member at a place in the order, from 0; nil outside.
func (t MemberTable) At(i int) *Member {
	p := t.root
	if p == nil || i < 0 || i >= p.n {
		return nil
	}
descend:
	for p.below != nil {
		for _, b := range p.below {
			if i < b.n {
				p = b
				continue descend
			}
			i -= b.n
		}
	}
	return p.rows[i]
}

// All yields the members in order.
func (t MemberTable) All() iter.Seq[*Member] {
	return func(yield func(*Member) bool) {
		if t.root != nil {
			t.root.walk(yield)
		}
	}
}

// After yields the members behind an address, which needn't be there, in order.
func (t MemberTable) After(a netip.Addr) iter.Seq[*Member] {
	return func(yield func(*Member) bool) {
		if t.root != nil {
			t.root.after(a, yield)
		}
	}
}

// MarshalJSON writes the table as a list.
func (t MemberTable) MarshalJSON() ([]byte, error) {
	rows := make([]*Member, 0, t.Len())
	for m := range t.All() {
		rows = append(rows, m)
	}
	return json.Marshal(rows)
}

// UnmarshalJSON reads a list.
func (t *MemberTable) UnmarshalJSON(b []byte) error {
	var rows []Member
	if err := json.Unmarshal(b, &rows); err != nil {
		return err
	}
	*t = NewMemberTable(rows...)
	return nil
}

func (p *memberPage) walk(yield func(*Member) bool) bool {
	for _, b := range p.below {
		if !b.walk(yield) {
			return false
		}
	}
	for _, m := range p.rows {
		if !yield(m) {
			return false
		}
	}
	return true
}

func (p *memberPage) after(a netip.Addr, yield func(*Member) bool) bool {
	if p.below != nil {
		i := p.child(a)
		if !p.below[i].after(a, yield) {
			return false
		}
		for _, b := range p.below[i+1:] {
			if !b.walk(yield) {
				return false
			}
		}
		return true
	}
	i, found := p.find(a)
	if found {
		i++
	}
	for _, m := range p.rows[i:] {
		if !yield(m) {
			return false
		}
	}
	return true
}

func (p *memberPage) find(a netip.Addr) (int, bool) {
	return slices.BinarySearchFunc(p.keys, a, netip.Addr.Compare)
}

// child is the page below that has a, or would have it.
func (p *memberPage) child(a netip.Addr) int {
	i, found := p.find(a)
	if !found && i > 0 {
		i--
	}
	return i
}

// MemberEdit makes a table from another one. What it copied once it changes in place,
// so that many changes together cost less than one by one. It is for one goroutine, and
// ends with Table.
type MemberEdit struct {
	root   *memberPage
	owner  *int // of the pages that nobody else sees yet
	copied uint64
}

// Edit begins a successor of t.
func (t MemberTable) Edit() *MemberEdit { return &MemberEdit{root: t.root, owner: new(int)} }

// Copied is how many octets were copied so far: rows, pages and keys.
func (e *MemberEdit) Copied() uint64 { return e.copied }

// Table is the result; the edit is over.
func (e *MemberEdit) Table() MemberTable {
	t := MemberTable{e.root}
	e.root, e.owner = nil, nil
	return t
}

// Put replaces the row of m's address, or adds it. The table keeps m's slices.
func (e *MemberEdit) Put(m Member) {
	e.copied += uint64(unsafe.Sizeof(m))
	if e.root == nil {
		e.root = &memberPage{owner: e.owner, own: true}
	}
	root, right := e.put(e.root, &m)
	if right != nil {
		root = &memberPage{owner: e.owner, own: true, n: root.n + right.n,
			keys: []netip.Addr{root.keys[0], right.keys[0]}, below: []*memberPage{root, right}}
	}
	e.root = root
}

// put is Put below p: the page instead of p, and the one right of it if it had to be
// divided.
func (e *MemberEdit) put(p *memberPage, m *Member) (_, right *memberPage) {
	p = e.mine(p)
	if p.below == nil {
		i, found := p.find(m.Addr)
		if found {
			p.rows[i] = m
			return p, nil
		}
		e.keys(p)
		p.keys, p.rows = slices.Insert(p.keys, i, m.Addr), slices.Insert(p.rows, i, m)
		p.n++
		return p, e.divide(p)
	}
	i := p.child(m.Addr)
	was := p.below[i].n
	left, right := e.put(p.below[i], m)
	p.below[i] = left
	p.n += left.n - was
	if p.keys[i] != left.keys[0] {
		e.keys(p)
		p.keys[i] = left.keys[0]
	}
	if right == nil {
		return p, nil
	}
	e.keys(p)
	p.keys, p.below = slices.Insert(p.keys, i+1, right.keys[0]), slices.Insert(p.below, i+1, right)
	p.n += right.n
	return p, e.divide(p)
}

// divide takes the right half of a page that is too full.
func (e *MemberEdit) divide(p *memberPage) *memberPage {
	if len(p.keys) <= pageMost {
		return nil
	}
	const half = (pageMost + 1) / 2
	r := &memberPage{owner: e.owner, own: true, keys: slices.Clone(p.keys[half:])}
	p.keys = p.keys[:half]
	if p.below == nil {
		r.rows, p.rows = slices.Clone(p.rows[half:]), cut(p.rows, half)
		r.n = len(r.rows)
	} else {
		r.below, p.below = slices.Clone(p.below[half:]), cut(p.below, half)
		for _, b := range r.below {
			r.n += b.n
		}
	}
	p.n -= r.n
	e.count(r)
	return r
}

// Delete takes a member out; false if it wasn't there.
func (e *MemberEdit) Delete(a netip.Addr) bool {
	if (MemberTable{e.root}).Find(a) == nil {
		return false
	}
	e.root = e.remove(e.root, a)
	for len(e.root.below) == 1 {
		e.root = e.root.below[0]
	}
	if e.root.n == 0 {
		e.root = nil
	}
	return true
}

// remove is Delete below p, where a is.
func (e *MemberEdit) remove(p *memberPage, a netip.Addr) *memberPage {
	p = e.mine(p)
	p.n--
	if p.below == nil {
		i, _ := p.find(a)
		e.keys(p)
		p.keys, p.rows = slices.Delete(p.keys, i, i+1), slices.Delete(p.rows, i, i+1)
		return p
	}
	i := p.child(a)
	b := e.remove(p.below[i], a)
	p.below[i] = b
	switch {
	case len(b.keys) == 0:
		e.keys(p)
		p.keys, p.below = slices.Delete(p.keys, i, i+1), slices.Delete(p.below, i, i+1)
	case p.keys[i] != b.keys[0]:
		e.keys(p)
		p.keys[i] = b.keys[0]
		fallthrough
	default:
		if len(b.keys) < pageLeast {
			e.join(p, max(i-1, 0))
		}
	}
	return p
}

// join makes one of the pages i and i+1 below p, where both fit with room to grow.
func (e *MemberEdit) join(p *memberPage, i int) {
	if i+1 >= len(p.below) || len(p.below[i].keys)+len(p.below[i+1].keys) > pageMost-pageLeast {
		return
	}
	l, r := e.mine(p.below[i]), p.below[i+1]
	e.keys(l)
	l.keys, l.rows, l.below = append(l.keys, r.keys...), append(l.rows, r.rows...), append(l.below, r.below...)
	l.n += r.n
	e.count(r)
	e.keys(p)
	p.below[i] = l
	p.keys, p.below = slices.Delete(p.keys, i+1, i+2), slices.Delete(p.below, i+1, i+2)
}

// mine is p if this edit made it, else a copy that shares the keys.
func (e *MemberEdit) mine(p *memberPage) *memberPage {
	if p.owner == e.owner {
		return p
	}
	c := *p
	c.owner, c.own = e.owner, false
	c.rows, c.below = slices.Clone(p.rows), slices.Clone(p.below)
	e.copied += uint64(unsafe.Sizeof(c)) + pointers(p)
	return &c
}

// keys lets p have keys of its own.
func (e *MemberEdit) keys(p *memberPage) {
	if !p.own {
		p.keys, p.own = slices.Clone(p.keys), true
		e.copied += uint64(len(p.keys)) * uint64(unsafe.Sizeof(netip.Addr{}))
	}
}

// count counts a page that was copied with its keys.
func (e *MemberEdit) count(p *memberPage) {
	e.copied += uint64(unsafe.Sizeof(*p)) + pointers(p) + uint64(len(p.keys))*uint64(unsafe.Sizeof(netip.Addr{}))
}

func pointers(p *memberPage) uint64 {
	return uint64(len(p.rows)+len(p.below)) * uint64(unsafe.Sizeof(p))
}

// cut shortens a list and forgets the rest.
func cut[T any](s []*T, n int) []*T {
	clear(s[n:])
	return s[:n]
}
