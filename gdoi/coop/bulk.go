package coop

// The messages that carry state: parts of keys, ranges of rows, relayed rekeys,
// acknowledgements.

import (
	"net/netip"

	"golang.org/x/crypto/cryptobyte"
)

// keysPart is one part of a group's keys. Numbers, KEKs and ancestors are in each.
type keysPart struct {
	id        KeysID
	ancestors []KeysID
	keks      []SPI
	numbers   []number
	length    uint32 // of the whole
	index     uint16
	size      uint16 // of all parts but the last
	octets    []byte
}

func (p *keysPart) encode(b *cryptobyte.Builder) {
	addID(b, p.id)
	addList(b, p.ancestors, addID)
	addList(b, p.keks, func(b *cryptobyte.Builder, s SPI) { b.AddBytes(s[:]) })
	addList(b, p.numbers, addNumber)
	b.AddUint32(p.length)
	b.AddUint16(p.index)
	b.AddUint16(p.size)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p.octets) })
}

func decodeKeysPart(s cryptobyte.String) (*keysPart, error) {
	p := &keysPart{}
	var octets cryptobyte.String
	if !readID(&s, &p.id) || !p.id.Valid() || !readList(&s, maxAncestors, &p.ancestors, readID) ||
		!readList(&s, maxKEKs, &p.keks, func(s *cryptobyte.String, k *SPI) bool { return s.CopyBytes(k[:]) }) ||
		!readList(&s, maxKEKs, &p.numbers, readNumber) ||
		!s.ReadUint32(&p.length) || !s.ReadUint16(&p.index) || !s.ReadUint16(&p.size) || !s.ReadUint16LengthPrefixed(&octets) || !s.Empty() {
		return nil, refuse(Malformed, "keys")
	}
	if p.length > maxKeys {
		return nil, refuse(TooLarge, "keys of %d octets", p.length)
	}
	n := p.parts()
	if p.size == 0 || n > maxParts || int(p.index) >= max(n, 1) {
		return nil, refuse(Malformed, "part %d of keys of %d octets", p.index, p.length)
	}
	if want := min(int(p.size), int(p.length)-int(p.index)*int(p.size)); len(octets) != want {
		return nil, refuse(Malformed, "part %d of keys has %d octets, not %d", p.index, len(octets), want)
	}
	p.octets = octets
	return p, nil
}

// parts is how many there are.
func (p *keysPart) parts() int { return (int(p.length) + int(p.size) - 1) / max(int(p.size), 1) }

// rowsPart is a range of one table's versions: all rows whose last change lies in it.
type rowsPart struct {
	table tableID
	span
	top  uint64 // the table's last version
	full bool   // the receiver's older rows of this table are void (from is 0)
	rows []row
}

type row struct {
	version uint64
	Member
}

func (p *rowsPart) encode(b *cryptobyte.Builder) {
	addAddr(b, p.table.origin)
	b.AddUint64(p.table.incarnation)
	b.AddUint64(p.from)
	b.AddUint64(p.to)
	b.AddUint64(p.top)
	b.AddUint8(boolean(p.full))
	addList(b, p.rows, addRow)
}

func addRow(b *cryptobyte.Builder, r row) {
	b.AddUint64(r.version)
	addAddr(b, r.Addr)
	b.AddUint64(r.Stamp)
	b.AddUint8(boolean(r.Gone))
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(r.Blob) })
}

// rowSize is an upper bound of a row's octets.
func rowSize(r *row) int { return 8 + 17 + 8 + 1 + 2 + len(r.Blob) }

func boolean(v bool) uint8 {
	if v {
		return 1
	}
	return 0
}

func decodeRowsPart(s cryptobyte.String) (*rowsPart, error) {
	p := &rowsPart{}
	var full uint8
	if !readAddr(&s, &p.table.origin) || !p.table.origin.IsValid() || !s.ReadUint64(&p.table.incarnation) || !s.ReadUint64(&p.from) ||
		!s.ReadUint64(&p.to) || !s.ReadUint64(&p.top) || !s.ReadUint8(&full) || full > 1 || p.from >= p.to || p.to > p.top || p.top > 1<<62 {
		return nil, refuse(Malformed, "rows")
	}
	p.full = full == 1
	last := p.from
	ok := readList(&s, 1024, &p.rows, func(s *cryptobyte.String, r *row) bool {
		var gone uint8
		var blob cryptobyte.String
		ok := s.ReadUint64(&r.version) && readAddr(s, &r.Addr) && r.Addr.IsValid() && s.ReadUint64(&r.Stamp) && s.ReadUint8(&gone) && gone <= 1 &&
			s.ReadUint16LengthPrefixed(&blob) && len(blob) <= maxRow && r.version > last && r.version <= p.to
		last, r.Gone = r.version, gone == 1
		if len(blob) > 0 {
			r.Blob = append([]byte(nil), blob...)
		}
		return ok
	})
	if !ok || !s.Empty() {
		return nil, refuse(Malformed, "rows of %v", p.table.origin)
	}
	return p, nil
}

// relay asks a peer to send a rekey on.
type relay struct {
	datagram []byte
	members  []netip.Addr
}

func (r *relay) encode(b *cryptobyte.Builder) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(r.datagram) })
	addList(b, r.members, addAddr)
}

func decodeRelay(s cryptobyte.String) (*relay, error) {
	r := &relay{}
	var d cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&d) || len(d) == 0 || !readList(&s, maxRows, &r.members, readMember) || !s.Empty() {
		return nil, refuse(Malformed, "relay")
	}
	r.datagram = append([]byte(nil), d...)
	return r, nil
}

func readMember(s *cryptobyte.String, a *netip.Addr) bool { return readAddr(s, a) && a.IsValid() }

// acks are acknowledgements that came to a secondary.
type acks struct {
	spi     SPI
	seq     uint32
	members []netip.Addr
}

func (a *acks) encode(b *cryptobyte.Builder) {
	b.AddBytes(a.spi[:])
	b.AddUint32(a.seq)
	addList(b, a.members, addAddr)
}

func decodeAcks(s cryptobyte.String) (*acks, error) {
	a := &acks{}
	if !s.CopyBytes(a.spi[:]) || !s.ReadUint32(&a.seq) || !readList(&s, maxRows, &a.members, readMember) || !s.Empty() {
		return nil, refuse(Malformed, "acknowledgements")
	}
	return a, nil
}
