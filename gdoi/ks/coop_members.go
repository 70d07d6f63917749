package ks

// Members that registered with other key servers: rows of the same list, marked with
// where they registered. The primary tells all of them of new keys, and it alone judges
// who is gone.

import (
	"net/netip"
	"slices"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/coop"
	"getvpn/internal/secret"
	"getvpn/model"
)

// sharedRow is what other key servers are told of a member.
type sharedRow struct {
	Path          netip.AddrPort
	Alt           netip.Addr
	NAT           bool // only the key server where it registered reaches it
	Identity      string
	Version       string
	Registered    time.Time
	LastPull      time.Time
	Registrations uint64
	SIDs          []uint32
	KEK           gdoi.KEKSPI // that it was given
	Generation    Generation  // of the keys that it registered for
	Keys          coop.KeysID // that it was offered
}

// sharedText and sharedSIDs bound a row, which must stay far below the machine's limit.
const (
	sharedText = 64
	sharedSIDs = 16
)

func (r *sharedRow) walk(c *coder) {
	c.addrPort(&r.Path)
	c.addr(&r.Alt)
	c.flag(&r.NAT)
	c.text(&r.Identity)
	c.text(&r.Version)
	c.moment(&r.Registered)
	c.moment(&r.LastPull)
	number(c, &r.Registrations)
	list(c, &r.SIDs, 1, func(s *uint32) { number(c, s) })
	c.array(r.KEK[:])
	c.array(r.Generation[:])
	walkKeysID(c, &r.Keys)
}

func walkKeysID(c *coder, k *coop.KeysID) {
	c.addr(&k.Maker)
	number(c, &k.Epoch)
	number(c, &k.Version)
}

func (r *sharedRow) encode() ([]byte, error) {
	b := make(secret.Bytes, 0, 256)
	c := &coder{to: &b}
	c.put(rowVersion)
	r.walk(c)
	return b, c.err
}

// rowVersion is the form of a row; another one is passed over.
const rowVersion = 1

func decodeRow(b []byte) (r sharedRow, err error) {
	if len(b) == 0 || b[0] != rowVersion {
		return r, errCoded
	}
	c := &coder{from: b[1:]}
	r.walk(c)
	if c.err == nil && (len(c.from) > 0 || !r.Path.IsValid() || len(r.Identity) > sharedText || len(r.Version) > sharedText || len(r.SIDs) > sharedSIDs) {
		c.fail()
	}
	return r, c.err
}

// tellMember tells other key servers of a member that registered here.
func (g *Group) tellMember(m *member, offered coop.KeysID) {
	c := g.coop
	if c == nil {
		return
	}
	r := sharedRow{Path: m.path, Alt: m.slot.alt, NAT: m.nat, Identity: bounded(m.row.Identity), Version: bounded(m.row.Version),
		Registered: m.row.Registered, LastPull: m.row.LastPull, Registrations: m.row.Registrations,
		SIDs: m.row.SIDs[:min(len(m.row.SIDs), sharedSIDs)], Keys: offered, Generation: m.gen}
	if k := g.keks[m.holds]; k != nil {
		r.KEK = k.spi
	}
	b, err := r.encode()
	if err != nil {
		g.s.o.Log.Error("member for other key servers", "group", g.Name(), "member", m.row.Addr, "error", err)
		return
	}
	g.cooperate(c.m.PutMembers([]coop.Member{{Addr: m.row.Addr, Stamp: uint64(max(0, m.row.LastPull.UnixMilli())), Blob: b}}, g.now()))
}

func bounded(s string) string { return s[:min(len(s), sharedText)] }

// untellMembers tells other key servers of members that are off the list: as they were
// known here, for they may have registered again where we hadn't heard of it.
func (g *Group) untellMembers(list []*member) {
	c := g.coop
	if c == nil || len(list) == 0 {
		return
	}
	var rows []coop.Member
	for _, m := range list {
		rows = append(rows, coop.Member{Addr: m.row.Addr, Stamp: uint64(max(0, m.row.LastPull.UnixMilli())) + 1, Gone: true})
	}
	g.cooperate(c.m.PutMembers(rows, g.now()))
}

// takeRows takes members of other key servers in.
func (g *Group) takeRows(r coop.MembersChanged, now time.Time) {
	for _, x := range r.Rows {
		if x.Addr == r.Origin {
			g.takeLedger(r.Origin, x, now)
			continue
		}
		if x.Gone {
			if m := g.roster.find(x.Addr); m != nil {
				g.roster.drop(m)
			}
			continue
		}
		row, err := decodeRow(x.Blob)
		if err != nil {
			g.rejected["coop-member"]++
			continue
		}
		if g.roster.full(x.Addr) {
			g.rejected["group-full"]++
			continue
		}
		g.takeRow(r.Origin, x.Addr, &row, now)
	}
	g.unsaved(now)
}

func (g *Group) takeRow(origin, a netip.Addr, row *sharedRow, now time.Time) {
	if slices.Contains(g.ring.ended, row.Generation) {
		// It must leave: its Sender IDs are given out anew. Perhaps nobody has told it.
		if g.leads() && g.roster.find(a) == nil {
			g.expel(&member{row: model.Member{Addr: a}, slot: &ackSlot{addr: a, alt: row.Alt}, origin: origin, nat: row.NAT, path: row.Path,
				spi: row.KEK, gen: row.Generation, local: g.coop.self}, now)
		}
		return
	}
	m := g.roster.join(a, row.Alt, row.Registered)
	m.origin, m.nat, m.path, m.spi = origin, row.NAT, row.Path, row.KEK
	m.gen = row.Generation
	m.local = g.coop.self
	m.row.Identity, m.row.Version = row.Identity, row.Version
	m.row.Registered, m.row.LastPull, m.row.Registrations, m.row.SIDs = row.Registered, row.LastPull, row.Registrations, slices.Clone(row.SIDs)
	m.holds, m.learns, m.silent, m.asked = 0, 0, 0, 0
	g.place(m)
	g.roster.touch(m)
	g.roster.lives(m, later(g.ring.lastKey(), now))
	if g.rekeying() && row.Keys != g.coop.keys {
		g.missed(m, now)
	}
	g.spare(a)
}

// purge takes members off the list that registered for keys which all had to leave: they
// mustn't get later ones by rekey, for their Sender IDs are given out anew. A secondary
// leaves its own to the primary, which tells those who may not have heard.
func (g *Group) purge(now time.Time) {
	if g.coop == nil || len(g.ring.ended) == 0 {
		return
	}
	gone := g.roster.remove(func(m *member) bool {
		return slices.Contains(g.ring.ended, m.gen) && (g.leads() || m.origin.IsValid())
	})
	if !g.leads() {
		return
	}
	for _, m := range gone {
		if !m.origin.IsValid() {
			g.left(m)
		}
		g.expel(m, now)
	}
}

// expel tells a member that must leave to do so, if it can be reached under the KEK that
// it holds, and other key servers that it is off the list.
func (g *Group) expel(m *member, now time.Time) {
	given := g.kekOf(coop.SPI(m.spi))
	if m.holds == 0 && given != nil {
		m.holds = given.ord
	}
	known := !m.origin.IsValid() || given != nil // else what it holds is a guess
	if k := g.keks[m.holds]; known && k != nil && (g.ring.kek == nil || k.ord != g.ring.kek.ord) {
		g.dismissLate(m, now)
	}
	g.untellMembers([]*member{m})
}

// foreign reports whether a member has keys of another side, which aren't here yet.
func (g *Group) foreign(m *member) bool {
	known := func(list []Generation) bool { return slices.Contains(list, m.gen) }
	return g.coop != nil && m.origin.IsValid() && m.gen != g.ring.gen && !known(g.ring.contains) && !known(g.ring.ended) &&
		g.kekOf(coop.SPI(m.spi)) == nil
}

// retellMembers tells a new machine of the members that registered here before.
func (g *Group) retellMembers() {
	for _, m := range g.roster.all() {
		if !m.origin.IsValid() {
			g.tellMember(m, coop.KeysID{})
		}
	}
}

// moved takes a member off that has registered elsewhere, or that the primary took off.
func (g *Group) moved(a netip.Addr) {
	if m := g.roster.find(a); m != nil && !m.origin.IsValid() {
		g.roster.drop(m)
	}
}
