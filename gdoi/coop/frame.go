package coop

// Messages as octets. All begin alike; an announcement is a list of sections, of which
// unknown ones are passed over, so that a later minor version may add some. Integers
// are big-endian; lists are counted and bounded before anything is made of them.

import (
	"net/netip"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Protocol version. Another major version isn't understood.
const (
	Major = 1
	Minor = 0
)

type kind uint8

const (
	kindAnn   kind = 1
	kindKeys  kind = 2
	kindRows  kind = 3
	kindRelay kind = 4
	kindAcks  kind = 5
)

type flag uint8

const (
	wantAnswer flag = 1 << iota // the peer is asked for its state
	leaving                     // the sender gives up the group
	yielding                    // the sender was primary and gives up the role
	free                        // the sender leaves its leases to the addressee
	optimized                   // protocol version optimize
)

// header begins each message.
type header struct {
	minor       uint8
	kind        kind
	flags       flag
	group       []byte
	incarnation uint64
	seq         uint64
}

func (h *header) encode(b *cryptobyte.Builder) {
	b.AddUint8(Major)
	b.AddUint8(Minor)
	b.AddUint8(uint8(h.kind))
	b.AddUint8(uint8(h.flags))
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(h.group) })
	b.AddUint64(h.incarnation)
	b.AddUint64(h.seq)
}

// GroupOf is the group that a message is about, for whoever serves several.
func GroupOf(data []byte) ([]byte, error) {
	h, _, err := decodeHeader(data)
	if err != nil {
		return nil, err
	}
	return h.group, nil
}

func decodeHeader(data []byte) (header, cryptobyte.String, error) {
	s := cryptobyte.String(data)
	var h header
	var major, k, f uint8
	var group cryptobyte.String
	if !s.ReadUint8(&major) || !s.ReadUint8(&h.minor) {
		return h, nil, refuse(Malformed, "%d octets", len(data))
	}
	if major != Major {
		return h, nil, refuse(Incompatible, "protocol version %d.%d", major, h.minor)
	}
	if !s.ReadUint8(&k) || !s.ReadUint8(&f) || !s.ReadUint8LengthPrefixed(&group) || !s.ReadUint64(&h.incarnation) || !s.ReadUint64(&h.seq) {
		return h, nil, refuse(Malformed, "header of %d octets", len(data))
	}
	h.kind, h.flags, h.group = kind(k), flag(f), group
	return h, s, nil
}

func addAddr(b *cryptobyte.Builder, a netip.Addr) {
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(a.AsSlice()) })
}

// readAddr reads an address; none at all is the zero value.
func readAddr(s *cryptobyte.String, a *netip.Addr) bool {
	var o cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&o) {
		return false
	}
	if len(o) == 0 {
		*a = netip.Addr{}
		return true
	}
	v, ok := netip.AddrFromSlice(o)
	if !ok || v.Is4In6() {
		return false
	}
	*a = v
	return true
}

// addList writes a counted list.
func addList[T any](b *cryptobyte.Builder, l []T, f func(*cryptobyte.Builder, T)) {
	b.AddUint16(uint16(len(l)))
	for _, x := range l {
		f(b, x)
	}
}

// readList reads a list of at most most elements.
func readList[T any](s *cryptobyte.String, most int, l *[]T, f func(*cryptobyte.String, *T) bool) bool {
	var n uint16
	if !s.ReadUint16(&n) || int(n) > most || int(n) > len(*s) {
		return false
	}
	out := make([]T, 0, n)
	for range n {
		var x T
		if !f(s, &x) {
			return false
		}
		out = append(out, x)
	}
	if n > 0 {
		*l = out
	}
	return true
}

func addID(b *cryptobyte.Builder, k KeysID) {
	addAddr(b, k.Maker)
	b.AddUint64(k.Epoch)
	b.AddUint64(k.Version)
}

func readID(s *cryptobyte.String, k *KeysID) bool {
	return readAddr(s, &k.Maker) && s.ReadUint64(&k.Epoch) && s.ReadUint64(&k.Version) && k.Epoch < 1<<62 && k.Version < 1<<62
}

// number is what is known of the numbers under a KEK.
type number struct {
	spi        SPI
	last, base uint32
	holders    []netip.Addr
	lease      Lease // in keys that are handed over: what the receiver may use
	lost       bool  // more may have been used by right of the sender; in keys: of the receiver
}

func addNumber(b *cryptobyte.Builder, n number) {
	b.AddBytes(n.spi[:])
	b.AddUint32(n.last)
	b.AddUint32(n.base)
	b.AddUint32(n.lease.From)
	b.AddUint32(n.lease.To)
	addList(b, n.holders, addAddr)
	b.AddUint8(boolean(n.lost))
}

func readNumber(s *cryptobyte.String, n *number) bool {
	var lost uint8
	ok := s.CopyBytes(n.spi[:]) && s.ReadUint32(&n.last) && s.ReadUint32(&n.base) && s.ReadUint32(&n.lease.From) && s.ReadUint32(&n.lease.To) &&
		n.base <= n.last && readList(s, maxHolders, &n.holders, readMember) && len(n.holders) > 0 && s.ReadUint8(&lost) && lost <= 1
	n.lost = lost == 1
	return ok
}

// span is a range of row versions (From, To].
type span struct{ from, to uint64 }

// progress is how much of a table somebody has: everything up to have, and spans.
type progress struct {
	table tableID
	have  uint64
	more  []span
}

const maxSpans = 16

func addProgress(b *cryptobyte.Builder, p progress) {
	addAddr(b, p.table.origin)
	b.AddUint64(p.table.incarnation)
	b.AddUint64(p.have)
	addList(b, p.more, func(b *cryptobyte.Builder, s span) { b.AddUint64(s.from); b.AddUint64(s.to) })
}

func readProgress(s *cryptobyte.String, p *progress) bool {
	return readAddr(s, &p.table.origin) && p.table.origin.IsValid() && s.ReadUint64(&p.table.incarnation) && s.ReadUint64(&p.have) &&
		readList(s, maxSpans, &p.more, func(s *cryptobyte.String, x *span) bool {
			return s.ReadUint64(&x.from) && s.ReadUint64(&x.to) && x.from < x.to
		})
}

// announcement is what a key server says of itself.
type announcement struct {
	role       Role
	priority   uint8
	software   [3]uint8
	primary    netip.Addr // whom it follows; invalid: nobody
	running    bool       // the pseudotime
	pseudotime uint64     // milliseconds
	signing    [32]byte
	items      []Item
	sids       []SIDRange
	held       KeysID
	ancestors  []KeysID // keys that are contained in those held
	numbers    []number
	tables     []progress
	missing    fragments // of keys that are being fetched
	registered uint32
}

// fragments are the parts that are missing of keys.
type fragments struct {
	id    KeysID // invalid: none is being fetched
	parts []uint16
}

const (
	// maxPseudotime is 139 years: twice as much fits a time.Duration.
	maxPseudotime = 1 << 42
	maxItems      = 64
	maxRanges     = 64
	maxAncestors  = 32
	maxTables     = 64
	maxParts      = 1024
)

type section uint8

const (
	secSelf section = iota + 1
	secPseudotime
	secSigning
	secItems
	secSIDs
	secHeld
	secNumbers
	secTables
	secMissing
)

func (a *announcement) encode(b *cryptobyte.Builder) {
	add := func(s section, f func(*cryptobyte.Builder)) {
		b.AddUint8(uint8(s))
		b.AddUint16LengthPrefixed(f)
	}
	add(secSelf, func(b *cryptobyte.Builder) {
		b.AddUint8(uint8(a.role))
		b.AddUint8(a.priority)
		b.AddBytes(a.software[:])
		addAddr(b, a.primary)
		b.AddUint32(a.registered)
	})
	if a.running {
		add(secPseudotime, func(b *cryptobyte.Builder) { b.AddUint64(a.pseudotime) })
	}
	if a.signing != ([32]byte{}) {
		add(secSigning, func(b *cryptobyte.Builder) { b.AddBytes(a.signing[:]) })
	}
	add(secItems, func(b *cryptobyte.Builder) {
		addList(b, a.items, func(b *cryptobyte.Builder, i Item) {
			b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(i.Name)) })
			b.AddBytes(i.Digest[:])
		})
	})
	add(secSIDs, func(b *cryptobyte.Builder) {
		addList(b, a.sids, func(b *cryptobyte.Builder, r SIDRange) { b.AddUint32(r.Low); b.AddUint32(r.High) })
	})
	if a.held.Valid() {
		add(secHeld, func(b *cryptobyte.Builder) { addID(b, a.held); addList(b, a.ancestors, addID) })
	}
	add(secNumbers, func(b *cryptobyte.Builder) { addList(b, a.numbers, addNumber) })
	add(secTables, func(b *cryptobyte.Builder) { addList(b, a.tables, addProgress) })
	if a.missing.id.Valid() {
		add(secMissing, func(b *cryptobyte.Builder) {
			addID(b, a.missing.id)
			addList(b, a.missing.parts, func(b *cryptobyte.Builder, n uint16) { b.AddUint16(n) })
		})
	}
}

func decodeAnnouncement(s cryptobyte.String) (*announcement, error) {
	a := &announcement{}
	var seen [256]bool
	for !s.Empty() {
		var t uint8
		var v cryptobyte.String
		if !s.ReadUint8(&t) || !s.ReadUint16LengthPrefixed(&v) {
			return nil, refuse(Malformed, "section %d", t)
		}
		if seen[t] {
			return nil, refuse(Malformed, "two sections %d", t)
		}
		seen[t] = true
		known, ok := a.section(section(t), &v)
		if !ok || known && !v.Empty() {
			return nil, refuse(Malformed, "section %d", t)
		}
	}
	if !seen[secSelf] || a.role > Secondary {
		return nil, refuse(Malformed, "no word of the sender")
	}
	return a, nil
}

func (a *announcement) section(t section, v *cryptobyte.String) (known, ok bool) {
	known = true
	switch t {
	case secSelf:
		var r uint8
		ok = v.ReadUint8(&r) && v.ReadUint8(&a.priority) && v.CopyBytes(a.software[:]) && readAddr(v, &a.primary) && v.ReadUint32(&a.registered)
		a.role = Role(r)
	case secPseudotime:
		a.running = true
		ok = v.ReadUint64(&a.pseudotime) && a.pseudotime < maxPseudotime
	case secSigning:
		ok = v.CopyBytes(a.signing[:])
	case secItems:
		ok = readList(v, maxItems, &a.items, func(s *cryptobyte.String, i *Item) bool {
			var name cryptobyte.String
			ok := s.ReadUint8LengthPrefixed(&name) && s.CopyBytes(i.Digest[:])
			i.Name = string(name)
			return ok && printable(i.Name)
		})
	case secSIDs:
		ok = readList(v, maxRanges, &a.sids, func(s *cryptobyte.String, r *SIDRange) bool {
			return s.ReadUint32(&r.Low) && s.ReadUint32(&r.High) && r.Low <= r.High
		})
	case secHeld:
		ok = readID(v, &a.held) && a.held.Valid() && readList(v, maxAncestors, &a.ancestors, readID)
	case secNumbers:
		ok = readList(v, maxKEKs, &a.numbers, readNumber)
	case secTables:
		ok = readList(v, maxTables, &a.tables, readProgress)
	case secMissing:
		ok = readID(v, &a.missing.id) && a.missing.id.Valid() &&
			readList(v, maxParts, &a.missing.parts, func(s *cryptobyte.String, n *uint16) bool { return s.ReadUint16(n) })
	default:
		return false, true
	}
	return known, ok
}

// printable keeps what a peer says out of the logs' structure.
func printable(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(c byte) bool { return c < ' ' || c > '~' })
}
