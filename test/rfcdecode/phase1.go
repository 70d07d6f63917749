package rfcdecode

// Phase 1 and informational payloads: RFC 2408 §3.4-3.6, §3.8, §3.14, §3.15; the SA
// payload's DOI is the GDOI (RFC 6407 §2.1), its attributes RFC 2409 App. A.

// SA is the SA payload of phase 1.
type SA struct {
	DOI, Situation uint32
	Transforms     []Transform
}

// Transform is one transform of the one proposal.
type Transform struct {
	Number     uint8
	Attributes []Attribute
}

// DOI is the GDOI's number (RFC 6407 §5.2).
const DOI = 2

func phase1SA(j *judge, b []byte) *SA {
	if !j.must(len(b) >= 8+8, "RFC 2408 §3.4", "SA of %d octets", len(b)) {
		return nil
	}
	s := &SA{DOI: be.Uint32(b), Situation: be.Uint32(b[4:])}
	j.must(s.DOI == DOI, "RFC 6407 §2.1", "DOI %d", s.DOI)
	p, rest, next, ok := generic(j, 2, b[8:])
	if !ok {
		return s
	}
	j.must(next == 0 && len(rest) == 0, "RFC 2409 §5", "more than one proposal")
	if !j.must(len(p.Body) >= 4, "RFC 2408 §3.5", "proposal of %d octets", len(p.Body)) {
		return s
	}
	proto, spi, count := p.Body[1], int(p.Body[2]), int(p.Body[3])
	j.must(proto == 1, "RFC 2407 §4.4.1", "protocol %d", proto)
	if !j.must(spi <= 16 && 4+spi <= len(p.Body), "RFC 2408 §3.5", "SPI of %d octets", spi) {
		return s
	}
	ts := p.Body[4+spi:]
	for t := uint8(3); t != 0; {
		if !j.must(t == 3, "RFC 2408 §3.6", "payload %d among the transforms", t) {
			return s
		}
		p, rest, next, ok := generic(j, 3, ts)
		if !ok {
			return s
		}
		if !j.must(len(p.Body) >= 4, "RFC 2408 §3.6", "transform of %d octets", len(p.Body)) {
			return s
		}
		j.must(p.Body[1] == 1, "RFC 2407 §4.4.2", "transform ID %d", p.Body[1])
		j.must(be.Uint16(p.Body[2:]) == 0, "RFC 2408 §3.6", "RESERVED2 %#x", p.Body[2:4])
		tr := Transform{Number: p.Body[0], Attributes: attributes(j, "transform", p.Body[4:])}
		phase1Attributes(j, tr.Attributes)
		s.Transforms = append(s.Transforms, tr)
		ts, t = rest, next
	}
	j.must(len(ts) == 0, "RFC 2408 §3.6", "%d octets after the transforms", len(ts))
	j.must(len(s.Transforms) == count, "RFC 2408 §3.5", "%d transforms, %d announced", len(s.Transforms), count)
	return s
}

// Attribute classes of phase 1 (RFC 2409 App. A; key length RFC 3602 §5.3).
const (
	P1Encryption = 1
	P1Hash       = 2
	P1Auth       = 3
	P1Group      = 4
	P1LifeType   = 11
	P1Life       = 12
	P1KeyLength  = 14
)

func phase1Attributes(j *judge, as []Attribute) {
	form(j, "phase 1 transform", "RFC 2409 App. A", as, map[uint16]byte{
		P1Encryption: 'B', P1Hash: 'B', P1Auth: 'B', P1Group: 'B', P1LifeType: 'B', P1Life: 'V', 13: 'B', P1KeyLength: 'B',
	}, func(c uint16) bool { return c >= 16384 })
	seen := map[uint16]bool{}
	for _, a := range as {
		j.must(!seen[a.Class], "RFC 2409 App. A", "attribute %d twice", a.Class)
		seen[a.Class] = true
		if a.Class == P1Life {
			j.must(seen[P1LifeType], "RFC 2409 App. A", "a life duration before its type")
		}
	}
	for _, c := range []uint16{P1Encryption, P1Hash, P1Auth, P1Group} {
		j.must(seen[c], "RFC 2409 §5", "attribute %d is missing", c)
	}
	enc, _ := First(as, P1Encryption)
	switch enc.Number() {
	case 7:
		j.must(seen[P1KeyLength], "RFC 3602 §5.3", "AES without a key length")
	case 1, 5:
		j.must(!seen[P1KeyLength], "RFC 2409 App. A", "a key length for a cipher with a fixed one")
	}
}

// Identity is an identification payload (RFC 2408 §3.8, RFC 2407 §4.6.2).
type Identity struct {
	Type, Protocol uint8
	Port           uint16
	Data           []byte
}

func identity(j *judge, exchange uint8, b []byte) *Identity {
	if !j.must(len(b) >= 4, "RFC 2408 §3.8", "ID of %d octets", len(b)) {
		return nil
	}
	id := &Identity{Type: b[0], Protocol: b[1], Port: be.Uint16(b[2:]), Data: b[4:]}
	idLength(j, "RFC 2407 §4.6.2", id.Type, len(id.Data))
	if exchange == Pull {
		j.must(id.Protocol == 0 && id.Port == 0, "RFC 6407 §5.1", "DOI-specific ID data %d/%d", id.Protocol, id.Port)
		j.must(id.Type != 11 || len(id.Data) == 4, "RFC 6407 §5.1", "a group identifier of %d octets", len(id.Data))
	}
	return id
}

// idLength checks data of the fixed-size identity types (RFC 2407 §4.6.2.1).
func idLength(j *judge, section string, t uint8, n int) {
	if want := map[uint8]int{1: 4, 4: 8, 5: 16, 6: 32, 7: 8, 8: 32}[t]; want != 0 {
		j.must(n == want, section, "identity type %d with %d octets, not %d", t, n, want)
	} else {
		j.must(t != 0 && n > 0, section, "identity type %d with %d octets", t, n)
	}
}

// Notify is a notification payload (RFC 2408 §3.14).
type Notify struct {
	DOI      uint32
	Protocol uint8
	Type     uint16
	SPI      []byte
	Data     []byte
}

func notify(j *judge, b []byte) *Notify {
	if !j.must(len(b) >= 8 && len(b) >= 8+int(b[5]), "RFC 2408 §3.14", "notification of %d octets", len(b)) {
		return nil
	}
	n := int(b[5])
	return &Notify{DOI: be.Uint32(b), Protocol: b[4], Type: be.Uint16(b[6:]), SPI: b[8 : 8+n], Data: b[8+n:]}
}

// Delete is a delete payload (RFC 2408 §3.15).
type Delete struct {
	DOI      uint32
	Protocol uint8
	SPIs     [][]byte
}

func deletion(j *judge, b []byte) *Delete {
	if !j.must(len(b) >= 8, "RFC 2408 §3.15", "delete of %d octets", len(b)) {
		return nil
	}
	d := &Delete{DOI: be.Uint32(b), Protocol: b[4]}
	size, count := int(b[5]), int(be.Uint16(b[6:]))
	if j.must(size > 0 && 8+size*count == len(b), "RFC 2408 §3.15", "%d SPIs of %d octets in %d", count, size, len(b)-8) {
		for i := range count {
			d.SPIs = append(d.SPIs, b[8+i*size:8+(i+1)*size])
		}
	}
	return d
}
