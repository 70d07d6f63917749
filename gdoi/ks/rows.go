package ks

// The members as the management model shows them: a table that is brought up to date
// from the rows that changed since the last publication.

import "getvpn/model"

// rows is what was published, and what differs from it now.
type rows struct {
	table  model.MemberTable
	fresh  []*member // touched
	stale  []*member // off the list
	acks   uint64    // of the members in the table
	octets uint64    // copied for publications so far
}

// touch notes that a member's row has changed.
func (r *rows) touch(m *member) {
	if !m.touched {
		m.touched = true
		r.fresh = append(r.fresh, m)
	}
}

// left notes that a member is off the list.
func (r *rows) left(m *member) {
	m.gone = true
	r.stale = append(r.stale, m)
}

// published is the table with all changes.
func (r *rows) published() model.MemberTable {
	if len(r.fresh) == 0 && len(r.stale) == 0 {
		return r.table
	}
	e := r.table.Edit()
	for _, m := range r.stale { // first: their addresses may be back
		e.Delete(m.row.Addr)
		r.acks -= m.counted
	}
	for _, m := range r.fresh {
		m.touched = false
		if m.gone {
			continue
		}
		row := m.row
		row.KeyServer = m.origin
		e.Put(row)
		r.acks += m.row.AcksRcvd - m.counted
		m.counted = m.row.AcksRcvd
	}
	clear(r.fresh)
	r.fresh, r.stale = r.fresh[:0], nil
	r.octets += e.Copied()
	r.table = e.Table()
	return r.table
}
