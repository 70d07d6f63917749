// Package rfcdecode is a second decoder of IKEv1 and GDOI messages, written from the
// texts of RFC 2407, 2408, 2409, 6407 and 8263 alone and without knowledge of the product's
// codec. It judges: every rule of the texts that a message breaks is a problem with
// its section. Tests use it where tshark can't judge (the SA payload under DOI 2, SAT
// identities with one-octet lengths, GAP, KD).
package rfcdecode

import (
	"encoding/binary"
	"fmt"
)

// Payload types: RFC 2408 §3.1, RFC 6407 §5.
const (
	TypeNone   = 0
	TypeSA     = 1
	TypeKE     = 4
	TypeID     = 5
	TypeCERT   = 6
	TypeCR     = 7
	TypeHASH   = 8
	TypeSIG    = 9
	TypeNONCE  = 10
	TypeNOTIFY = 11
	TypeDELETE = 12
	TypeVID    = 13
	TypeSAK    = 15
	TypeSAT    = 16
	TypeKD     = 17
	TypeSEQ    = 18
	TypeNATD   = 20
	TypeGAP    = 22
)

// Exchange types: RFC 2408 §3.1, RFC 6407 §3.2.1 and §4.2.
const (
	MainMode      = 2
	Aggressive    = 4
	Informational = 5
	Pull          = 32
	Push          = 33
)

// Message is a decoded ISAKMP message in clear.
type Message struct {
	ICookie, RCookie [8]byte
	Next             uint8
	Version          uint8
	Exchange         uint8
	Flags            uint8
	ID               uint32
	Length           uint32
	Payloads         []Payload
	Padding          []byte // after the last payload, decrypted messages only
	Problems         []string
}

// Payload is one payload of the message's own chain. Value is the decoded body: *SA,
// *GroupSA, *Identity, *KeyDownload, Sequence, *Notify, *Delete, *Policy, or nil for
// payloads that are octets only.
type Payload struct {
	Type  uint8
	Raw   []byte // with generic header
	Body  []byte
	Value any
}

// Get returns the first payload of a type, nil when there is none.
func (m *Message) Get(t uint8) *Payload {
	for i := range m.Payloads {
		if m.Payloads[i].Type == t {
			return &m.Payloads[i]
		}
	}
	return nil
}

// Types lists the payloads' types in order.
func (m *Message) Types() []uint8 {
	var out []uint8
	for _, p := range m.Payloads {
		out = append(out, p.Type)
	}
	return out
}

// HeaderLen of ISAKMP (RFC 2408 §3.1, figure 2).
const HeaderLen = 28

// judge collects problems.
type judge struct{ problems []string }

func (j *judge) must(ok bool, section, format string, args ...any) bool {
	if !ok {
		j.problems = append(j.problems, section+": "+fmt.Sprintf(format, args...))
	}
	return ok
}

var be = binary.BigEndian

// Header reads the fixed header alone.
func Header(b []byte) (Message, bool) {
	if len(b) < HeaderLen {
		return Message{}, false
	}
	return Message{ICookie: [8]byte(b), RCookie: [8]byte(b[8:]), Next: b[16], Version: b[17], Exchange: b[18],
		Flags: b[19], ID: be.Uint32(b[20:]), Length: be.Uint32(b[24:])}, true
}

// Decode reads a whole message in clear: one that was sent so, or one whose body was
// decrypted in place (encrypted is then true, and padding may follow the payloads).
func Decode(b []byte, encrypted bool) Message {
	var j judge
	m, ok := Header(b)
	if !ok {
		return Message{Problems: []string{fmt.Sprintf("RFC 2408 §3.1: %d octets are no header", len(b))}}
	}
	j.must(m.Version == 0x10, "RFC 2408 §3.1", "version %#x", m.Version)
	j.must(m.Flags&^7 == 0, "RFC 2408 §3.1", "flags %#x", m.Flags)
	j.must((m.Flags&1 != 0) == encrypted, "RFC 2408 §3.1", "encryption bit of flags %#x, encrypted %v", m.Flags, encrypted)
	j.must(int(m.Length) == len(b), "RFC 2408 §3.1", "length %d of %d octets", m.Length, len(b))
	j.must(m.ICookie != [8]byte{}, "RFC 2408 §2.5.3", "initiator cookie is zero")
	switch m.Exchange {
	case MainMode, Aggressive:
		j.must(m.ID == 0, "RFC 2408 §3.1", "message ID %#x in phase 1", m.ID)
	case Pull:
		j.must(m.ID != 0 && m.RCookie != [8]byte{}, "RFC 6407 §3.2.1", "message ID %#x, responder cookie %x", m.ID, m.RCookie)
		j.must(encrypted, "RFC 6407 §3.2", "GROUPKEY-PULL in clear")
	}
	rest := b[HeaderLen:]
	for next := m.Next; next != TypeNone; {
		p, after, then, ok := generic(&j, next, rest)
		if !ok {
			m.Problems = j.problems
			return m
		}
		p.Value = decodeBody(&j, m.Exchange, &p)
		m.Payloads = append(m.Payloads, p)
		rest, next = after, then
	}
	if encrypted {
		m.Padding = rest
		j.must(len(rest) < 16, "RFC 2409 App. B", "%d octets of padding", len(rest))
	} else {
		j.must(len(rest) == 0, "RFC 2408 §3.1", "%d octets after the last payload", len(rest))
	}
	order(&j, &m, encrypted)
	m.Problems = j.problems
	return m
}

// generic reads one payload by its generic header (RFC 2408 §3.2).
func generic(j *judge, t uint8, b []byte) (p Payload, rest []byte, next uint8, ok bool) {
	if !j.must(len(b) >= 4, "RFC 2408 §3.2", "payload %d: %d octets left", t, len(b)) {
		return
	}
	n := int(be.Uint16(b[2:]))
	if !j.must(n >= 4 && n <= len(b), "RFC 2408 §3.2", "payload %d of length %d, %d octets left", t, n, len(b)) {
		return
	}
	j.must(b[1] == 0, "RFC 2408 §3.2", "payload %d: RESERVED is %d", t, b[1])
	return Payload{Type: t, Raw: b[:n], Body: b[4:n]}, b[n:], b[0], true
}

func decodeBody(j *judge, exchange uint8, p *Payload) any {
	switch p.Type {
	case TypeSA:
		if exchange == MainMode || exchange == Aggressive {
			return phase1SA(j, p.Body)
		}
		return groupSA(j, p.Body)
	case TypeID:
		return identity(j, exchange, p.Body)
	case TypeNONCE:
		if exchange == Pull {
			j.must(len(p.Body) >= 8 && len(p.Body) <= 128, "RFC 6407 §5.8", "nonce of %d octets", len(p.Body))
		} else {
			j.must(len(p.Body) >= 8 && len(p.Body) <= 256, "RFC 2409 §5", "nonce of %d octets", len(p.Body))
		}
	case TypeKD:
		return keyDownload(j, p.Body)
	case TypeSEQ:
		if j.must(len(p.Body) == 4, "RFC 6407 §5.7", "SEQ payload of length %d", len(p.Raw)) {
			return Sequence(be.Uint32(p.Body))
		}
	case TypeGAP:
		return policy(j, p.Body)
	case TypeNOTIFY:
		return notify(j, p.Body)
	case TypeDELETE:
		return deletion(j, p.Body)
	case TypeSAK, TypeSAT:
		j.must(false, "RFC 6407 §5.2", "an SA attribute payload in the message's own chain")
	case TypeKE, TypeCERT, TypeCR, TypeHASH, TypeSIG, TypeVID, TypeNATD:
		j.must(len(p.Body) > 0, "RFC 2408 §3", "payload %d is empty", p.Type)
	default:
		j.must(false, "RFC 2408 §3.1", "payload type %d", p.Type)
	}
	return nil
}

// order checks what the exchanges' pictures say of order: SA first in phase 1
// (RFC 2409 §5), HASH first in what phase 1 protects (§5.5, RFC 6407 §3.2).
func order(j *judge, m *Message, encrypted bool) {
	types := m.Types()
	if !j.must(len(types) > 0, "RFC 2408 §3", "no payload") {
		return
	}
	for i, t := range types {
		if t == TypeSA && (m.Exchange == MainMode || m.Exchange == Aggressive) {
			j.must(i == 0, "RFC 2409 §5", "SA is payload %d", i+1)
		}
	}
	if encrypted && (m.Exchange == Pull || m.Exchange == Informational) {
		j.must(types[0] == TypeHASH, "RFC 6407 §3.2", "first payload is %d, not HASH", types[0])
	}
	if m.Exchange == Pull {
		allowed := [][]uint8{
			{TypeHASH, TypeNONCE, TypeID}, {TypeHASH, TypeNONCE, TypeSA},
			{TypeHASH}, {TypeHASH, TypeGAP}, {TypeHASH, TypeKD}, {TypeHASH, TypeSEQ, TypeKD},
		}
		ok := false
		for _, a := range allowed {
			ok = ok || string(a) == string(types)
		}
		j.must(ok, "RFC 6407 §3.2", "payloads %v are none of the four messages", types)
	}
}

// Attribute is a data attribute (RFC 2408 §3.3).
type Attribute struct {
	Class uint16
	Basic bool // TV form
	Value []byte
}

// Number is the value as a big-endian integer.
func (a Attribute) Number() uint64 {
	var n uint64
	for _, b := range a.Value {
		n = n<<8 | uint64(b)
	}
	return n
}

func attributes(j *judge, where string, b []byte) []Attribute {
	var out []Attribute
	for len(b) > 0 {
		if !j.must(len(b) >= 4, "RFC 2408 §3.3", "%s: %d octets are no attribute", where, len(b)) {
			return out
		}
		a := Attribute{Class: be.Uint16(b) & 0x7fff, Basic: b[0]&0x80 != 0}
		if a.Basic {
			a.Value, b = b[2:4], b[4:]
		} else {
			n := int(be.Uint16(b[2:]))
			if !j.must(4+n <= len(b), "RFC 2408 §3.3", "%s: attribute %d of %d octets, %d left", where, a.Class, n, len(b)-4) {
				return out
			}
			a.Value, b = b[4:4+n], b[4+n:]
		}
		out = append(out, a)
	}
	return out
}

// form checks attributes against a table: 'B' must be basic; 'V' may be either
// (RFC 2409 App. A lets a short variable one be sent basic).
func form(j *judge, where, section string, as []Attribute, table map[uint16]byte, private func(uint16) bool) {
	for _, a := range as {
		f, known := table[a.Class]
		switch {
		case known && f == 'B':
			j.must(a.Basic, section, "%s: attribute %d must be basic", where, a.Class)
		case !known:
			j.must(private(a.Class), section, "%s: attribute %d is neither assigned nor private", where, a.Class)
		}
	}
}

// First returns the first attribute of a class.
func First(as []Attribute, class uint16) (Attribute, bool) {
	for _, a := range as {
		if a.Class == class {
			return a, true
		}
	}
	return Attribute{}, false
}
