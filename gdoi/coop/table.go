package coop

// Members, as tables of rows: each key server has one of those that registered with it,
// and copies of all others. A row carries the table's version at its last change, so
// that "everything up to 17" says what somebody has, and a range of versions can be sent
// alone, in any order.

import (
	"net/netip"
	"slices"
	"sort"
)

// tableID names a table: a key server that starts anew begins a new one.
type tableID struct {
	origin      netip.Addr
	incarnation uint64
}

func (t tableID) less(o tableID) bool {
	if c := t.origin.Compare(o.origin); c != 0 {
		return c < 0
	}
	return t.incarnation < o.incarnation
}

// table holds rows by address and in the order of their last change.
type table struct {
	id    tableID
	top   uint64 // of ours: the last version
	have  uint64 // everything up to it is here; of ours: top
	more  []span // what is here beyond have
	rows  map[netip.Addr]*row
	order []*row // ascending versions; entries that a later change replaced are nil
	holes int
	floor uint64 // rows of members that are gone were forgotten up to this version
	gone  int
	// fresh collects a table that is sent anew; nil: none.
	fresh *table
}

// maxGone is how many rows of members that are gone a table keeps.
const maxGone = 4096

func newTable(id tableID) *table { return &table{id: id, rows: map[netip.Addr]*row{}} }

// put changes one row of a table of ours; it reports whether something is new.
func (t *table) put(m Member) bool {
	if old := t.rows[m.Addr]; old != nil && old.equal(m) {
		return false
	}
	t.top++
	t.have = t.top
	t.set(&row{t.top, m})
	t.forget()
	return true
}

// set puts a row in its place, if it is newer than what is there.
func (t *table) set(r *row) bool {
	old := t.rows[r.Addr]
	if old != nil && old.version >= r.version {
		return false
	}
	if old != nil {
		t.drop(old)
	}
	if r.Gone {
		t.gone++
	}
	t.rows[r.Addr] = r
	if n := len(t.order); n == 0 || t.last() < r.version {
		t.order = append(t.order, r)
		return true
	}
	i := t.after(r.version)
	t.order = slices.Insert(t.order, i, r)
	return true
}

// last is the version of the last entry; the last is never a hole.
func (t *table) last() uint64 { return t.order[len(t.order)-1].version }

func (t *table) drop(old *row) {
	if old.Gone {
		t.gone--
	}
	delete(t.rows, old.Addr)
	i := t.after(old.version - 1)
	for t.order[i] != old {
		i++
	}
	if t.holes++; t.holes*2 > len(t.order)+16 || i == len(t.order)-1 {
		t.order[i] = nil
		t.order = slices.DeleteFunc(t.order, func(r *row) bool { return r == nil })
		t.holes = 0
		return
	}
	t.order[i] = nil
}

// after is the index of the first entry with a version beyond v; holes count as what
// follows them.
func (t *table) after(v uint64) int {
	return sort.Search(len(t.order), func(i int) bool {
		for ; i < len(t.order); i++ {
			if r := t.order[i]; r != nil {
				return r.version > v
			}
		}
		return true
	})
}

// forget bounds the memory of members that are gone.
func (t *table) forget() {
	if t.gone <= maxGone {
		return
	}
	for _, r := range slices.Clone(t.order) {
		if r != nil && r.Gone {
			t.floor = r.version
			t.drop(r)
			if t.gone <= maxGone/2 {
				return
			}
		}
	}
}

// cut makes the message that brings somebody from version v on, at most room octets of
// rows and not beyond limit. full: it is part of the table anew.
func (t *table) cut(v, limit uint64, room int, full bool) *rowsPart {
	p := &rowsPart{table: t.id, span: span{from: v}, top: t.have, full: full}
	size := 0
	for i := t.after(v); i < len(t.order); i++ {
		r := t.order[i]
		if r == nil {
			continue
		}
		if r.version > limit {
			break
		}
		if size += rowSize(r); size > room && len(p.rows) > 0 || len(p.rows) == 1000 {
			p.to = p.rows[len(p.rows)-1].version
			return p
		}
		p.rows = append(p.rows, *r)
	}
	p.to = min(limit, t.have)
	return p
}

// take puts a message's rows in their places and returns those that are new.
func (t *table) take(p *rowsPart) (news []Member) {
	if p.full {
		return t.takeFresh(p)
	}
	for i := range p.rows {
		r := p.rows[i]
		if t.set(&r) {
			news = append(news, r.Member)
		}
	}
	t.advance(p.span)
	t.top = max(t.top, p.top)
	return news
}

// takeFresh collects a table anew and puts it in place when it is complete.
func (t *table) takeFresh(p *rowsPart) (news []Member) {
	f := t.fresh
	if f == nil || p.from == 0 && f.have == 0 {
		if p.from > 0 {
			return nil
		}
		f = newTable(t.id)
		f.floor = p.top // complete with it
		t.fresh = f
	}
	for i := range p.rows {
		r := p.rows[i]
		f.set(&r)
	}
	f.advance(p.span)
	f.top = max(f.top, p.top)
	if f.have < f.floor {
		return nil
	}
	for _, r := range t.order {
		if r != nil && r.version > f.have {
			f.set(r)
		}
	}
	for a, old := range t.rows {
		if f.rows[a] == nil && !old.Gone {
			gone := old.Member
			gone.Gone = true
			news = append(news, gone)
		}
	}
	for a, r := range f.rows {
		if old := t.rows[a]; old == nil || !old.equal(r.Member) {
			news = append(news, r.Member)
		}
	}
	slices.SortFunc(news, func(a, b Member) int { return a.Addr.Compare(b.Addr) })
	f.floor = 0
	*t = *f
	return news
}

// advance notes that a range is here.
func (t *table) advance(s span) {
	all := append(slices.Clone(t.more), s)
	slices.SortFunc(all, func(a, b span) int {
		if a.from < b.from {
			return -1
		}
		return 1
	})
	t.more = t.more[:0]
	for _, x := range all {
		switch n := len(t.more); {
		case x.from <= t.have:
			t.have = max(t.have, x.to)
		case n > 0 && x.from <= t.more[n-1].to:
			t.more[n-1].to = max(t.more[n-1].to, x.to)
		default:
			t.more = append(t.more, x)
		}
	}
	t.more = slices.DeleteFunc(t.more, func(x span) bool { return x.to <= t.have })
	if len(t.more) > 256 { // what is beyond comes again
		t.more = t.more[:256]
	}
}

// progress is what of the table is here.
func (t *table) progress() progress {
	p := progress{table: t.id, have: t.have, more: t.more}
	if f := t.fresh; f != nil {
		p.have, p.more = f.have, f.more
	}
	if len(p.more) > maxSpans {
		p.more = p.more[:maxSpans]
	}
	return p
}
