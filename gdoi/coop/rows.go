package coop

// Members on their way, and whose row of a member counts.

import (
	"math"
	"net/netip"
	"slices"
	"time"
)

// cursor is how far a table has been sent to a peer.
type cursor struct {
	next  uint64    // sent up to here
	acked uint64    // confirmed
	moved time.Time // when it was confirmed, or sent again, last
	tries int       // how often it was sent again since anything was confirmed
	full  bool      // the table is sent anew
	since time.Time // since when the peer is behind; zero: it isn't
}

const (
	burst     = 64                    // messages of rows at once
	pause     = 20 * time.Millisecond // between bursts
	resend    = 1500 * time.Millisecond
	confirm   = 100 * time.Millisecond // rows are confirmed after
	byOthers  = 5 * time.Second        // rows of a third key server are passed on after
	rowsFrame = 128                    // octets of a message of rows beside them
)

// feed sends peers rows that they lack.
func (m *Machine) feed() {
	for _, a := range m.order {
		p := m.peers[a]
		if !p.alive || len(p.sessions) == 0 || p.last == nil || m.now.Before(p.bulk.Add(pause)) {
			continue
		}
		left := burst
		for _, t := range m.sorted() {
			m.feedTable(p, t, &left)
		}
		if left < burst {
			p.bulk = m.now
		}
	}
}

func (m *Machine) sorted() []*table {
	l := make([]*table, 0, len(m.tables))
	for _, t := range m.tables {
		l = append(l, t)
	}
	slices.SortFunc(l, func(a, b *table) int {
		if a.id.less(b.id) {
			return -1
		}
		return 1
	})
	return l
}

// again is when what isn't confirmed is sent again: ever later while nothing is, so that a
// peer which never confirms costs little.
func (c *cursor) again() time.Time { return c.moved.Add(resend << c.tries) }

// its is a peer's progress with a table.
func (p *peer) its(id tableID) progress {
	for _, x := range p.last.tables {
		if x.table == id {
			return x
		}
	}
	return progress{table: id}
}

// lacks returns the peer's cursor of a table if we should send some of it, now or later.
func (m *Machine) lacks(p *peer, t *table) (c *cursor, its progress) {
	c, its = p.cursors[t.id], p.its(t.id)
	if its.have >= t.have || t.id.origin == p.addr && t.id.incarnation == p.incarnation {
		delete(p.cursors, t.id)
		return nil, its
	}
	if c == nil {
		c = &cursor{next: its.have, acked: its.have, moved: m.now, since: m.now}
		p.cursors[t.id] = c
	}
	return c, its
}

// passes reports whether a table of a third key server is ours to send, since when.
func (m *Machine) passes(t *table, c *cursor) time.Time {
	o := m.peers[t.id.origin]
	if t == m.own || o == nil || !o.alive || o.incarnation != t.id.incarnation {
		return c.since
	}
	return c.since.Add(byOthers)
}

func (m *Machine) feedTable(p *peer, t *table, left *int) {
	c, its := m.lacks(p, t)
	if c == nil || m.now.Before(m.passes(t, c)) {
		return
	}
	if its.have != c.acked {
		c.acked, c.moved, c.tries = its.have, m.now, 0
	}
	if c.full && its.have >= t.floor {
		c.full = false
	}
	c.next = max(c.next, its.have)
	if !m.now.Before(c.again()) {
		if c.next > its.have {
			p.counters.Resent++
		}
		c.next, c.moved, c.tries = its.have, m.now, min(c.tries+1, 5)
	}
	if !c.full && c.next < t.floor {
		c.full, c.next = true, 0
		if its.have > 0 {
			its = progress{}
		}
	}
	for *left > 0 && c.next < t.have {
		limit := t.have
		for _, s := range its.more {
			if s.from <= c.next && c.next < s.to {
				c.next = s.to
			}
		}
		for _, s := range its.more {
			if s.from > c.next {
				limit = min(limit, s.from)
			}
		}
		if c.next >= t.have {
			break
		}
		part := t.cut(c.next, limit, m.c.MTU-rowsFrame, c.full)
		m.send(p, kindRows, 0, part.encode)
		c.next = part.to
		*left--
	}
}

// fed is when more must be sent to a peer; far off when nothing.
func (m *Machine) fed(p *peer) time.Time {
	w := m.now.Add(time.Hour)
	if len(p.sessions) == 0 || p.last == nil {
		return w
	}
	at := func(t time.Time) {
		if b := p.bulk.Add(pause); t.Before(b) {
			t = b
		}
		if t.Before(w) {
			w = t
		}
	}
	for _, t := range m.tables {
		c := p.cursors[t.id]
		switch {
		case c == nil:
		case m.now.Before(m.passes(t, c)):
			at(m.passes(t, c))
		case c.next < t.have:
			at(m.now)
		default:
			at(c.again())
		}
	}
	return w
}

// takeRows takes rows of a peer's or a third key server's table.
func (m *Machine) takeRows(p *peer, r *rowsPart) error {
	if r.table == m.own.id {
		return refuse(Unexpected, "rows of our own table")
	}
	t := m.tables[r.table]
	if t == nil {
		m.tidy()
		most := maxTables
		if r.table.origin != m.c.Self && m.peers[r.table.origin] == nil {
			most /= 2 // a key server that was removed: its members are still here
		}
		if len(m.tables) >= most {
			return refuse(TooLarge, "%d tables of members", len(m.tables))
		}
		t = newTable(r.table)
	}
	total := len(r.rows)
	for _, x := range m.tables {
		if total += len(x.rows); x.fresh != nil {
			total += len(x.fresh.rows)
		}
	}
	if total > maxRows {
		return refuse(TooLarge, "%d members", total)
	}
	m.tables[r.table] = t
	news := t.take(r)
	if p.report.IsZero() {
		p.report = m.now.Add(confirm)
	}
	var changed []Member
	for _, x := range news {
		if m.judgeRow(t.id, x) {
			changed = append(changed, x)
		}
	}
	if len(changed) > 0 {
		m.tell(MembersChanged{t.id.origin, changed})
	}
	return nil
}

// newest is the row of a member that counts, which may say that it is gone, and its table.
// All who have the same rows find the same one, in whatever order they came.
func (m *Machine) newest(a netip.Addr) (in tableID, row *row) {
	for id, t := range m.tables {
		if r := t.rows[a]; r != nil && (row == nil || r.beats(row, in.less(id))) {
			in, row = id, r
		}
	}
	return in, row
}

// beats orders rows of a member: the newest, then that it is gone, then that of the higher
// table.
func (r *row) beats(o *row, higher bool) bool {
	if r.Stamp != o.Stamp {
		return r.newer(o.Member)
	}
	if r.Gone != o.Gone {
		return r.Gone
	}
	return higher
}

// judgeRow finds out what follows from a new row of a table; true: it is to be told.
func (m *Machine) judgeRow(id tableID, x Member) bool {
	was, had := m.best[x.Addr]
	in, row := m.newest(x.Addr)
	live := row != nil && !row.Gone
	if live {
		m.best[x.Addr] = in
	} else {
		delete(m.best, x.Addr)
	}
	if had && was == m.own.id && in != was {
		old := m.own.rows[x.Addr].Member
		if m.stays(in, row, old) {
			old.Stamp = row.Stamp + 1
			m.own.put(old)
			m.best[x.Addr], m.soon = was, true
			return false
		}
		old.Gone = true
		m.own.put(old)
		m.soon = true
		m.tell(MemberMoved{x.Addr})
		return live && in == id
	}
	if row == nil || in == id {
		return had || live
	}
	if live && had && was == id { // an older row of another table counts again
		m.tell(MembersChanged{in.origin, []Member{row.Member}})
	}
	return false
}

// stays reports whether a member of ours stays one although another table's row beats ours:
// it is what we told before a restart, or somebody took it off whom we don't follow, for
// whom it was out of reach.
func (m *Machine) stays(in tableID, row *row, own Member) bool {
	if row.Stamp == math.MaxUint64 {
		return false
	}
	if in.origin == m.c.Self {
		return !row.Gone && row.Stamp == own.Stamp
	}
	return row.Gone && in.origin != m.primary
}

// tidy forgets tables of which no row counts any more.
func (m *Machine) tidy() {
	count := map[tableID]int{}
	for _, id := range m.best {
		count[id]++
	}
	for id := range m.tables {
		if p := m.peers[id.origin]; id != m.own.id && count[id] == 0 && (p == nil || p.incarnation != id.incarnation) {
			delete(m.tables, id)
		}
	}
}

// Registered counts the members of each key server, ours among them.
func (m *Machine) Registered() map[netip.Addr]int {
	out := map[netip.Addr]int{}
	for _, id := range m.best {
		out[id.origin]++
	}
	return out
}
