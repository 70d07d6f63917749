package rfcdecode

// The private attributes of docs/protocol/private-attributes.md, read from that page.

import "time"

// Private is what an SA payload says in private attributes.
type Private struct {
	Capability []byte
	Entries    []ListEntry // ACCESS_LIST
	Pseudo     *PseudoTime
	Replaced   bool
	SATs       []PrivateSAT // beside the SA's SATs
}

// PseudoTime is the attribute PSEUDOTIME.
type PseudoTime struct {
	Header int
	Tick   time.Duration
	Value  time.Duration
}

// PrivateSAT is what one SAT says: zero values are absent ones.
type PrivateSAT struct {
	ReplayMode, ReplayWindow uint64
	Age                      *uint32
	Exact                    []ListEntry
	MetadataLen              int
	SGT                      bool
}

// ListEntry is an entry of an access list.
type ListEntry struct {
	Place        uint16
	Permit, V6   bool
	Protocol     uint8
	Src, SrcMask []byte // nil: any
	Dst, DstMask []byte
	SrcOp, DstOp uint8
	SrcLo, SrcHi uint16
	DstLo, DstHi uint16
	ICMPType     *uint8
}

func (p *Private) empty() bool {
	if p == nil {
		return true
	}
	for _, s := range p.SATs {
		if s.ReplayMode != 0 || s.ReplayWindow != 0 || s.Age != nil || s.Exact != nil || s.MetadataLen != 0 || s.SGT {
			return false
		}
	}
	return p.Capability == nil && p.Entries == nil && p.Pseudo == nil && !p.Replaced
}

const page = "private-attributes.md"

// PrivateOf reads the private attributes of an SA payload.
func PrivateOf(sa *GroupSA) (*Private, []string) {
	var j judge
	p := &Private{}
	if sa.Policy != nil {
		for _, a := range sa.Policy.Attributes {
			p.gap(&j, a, len(sa.TEKs))
		}
	}
	for i := range sa.TEKs {
		p.SATs = append(p.SATs, privateSAT(&j, sa.TEKs[i].Attributes))
	}
	return p, j.problems
}

func (p *Private) gap(j *judge, a Attribute, sats int) {
	switch {
	case a.Class < 128:
	case a.Class == 128:
		j.must(!a.Basic && len(a.Value) == 8 && a.Value[0] == 1, page, "CAPABILITY %x", a.Value)
		p.Capability = a.Value
	case a.Class == 129:
		p.Entries = entries(j, a.Value, sats)
		j.must(!a.Basic && len(p.Entries) > 0, page, "ACCESS_LIST %x", a.Value)
	case a.Class == 130:
		if j.must(!a.Basic && len(a.Value) == 12 && a.Value[0] == 1, page, "PSEUDOTIME %x", a.Value) {
			v := a.Value
			p.Pseudo = &PseudoTime{int(v[1]), time.Duration(be.Uint16(v[2:])) * time.Millisecond, time.Duration(be.Uint64(v[4:])) * time.Millisecond}
			j.must(v[1] == 12 || v[1] == 16, page, "metadata header of %d", v[1])
			j.must(p.Pseudo.Tick > 0, page, "tick 0")
		}
	case a.Class == 131:
		p.Replaced = j.must(a.Basic && a.Number() == 1, page, "REPLACED %x", a.Value)
	default:
		j.must(false, page, "GAP attribute %d", a.Class)
	}
}

func privateSAT(j *judge, as []Attribute) (s PrivateSAT) {
	for _, a := range as {
		basic := a.Class == 32001 || a.Class == 32002 || a.Class == 32006
		if a.Class >= 32001 {
			j.must(a.Basic == basic, page, "SAT attribute %d: basic %v", a.Class, a.Basic)
		}
		switch a.Class {
		case 32001:
			s.ReplayMode = a.Number()
			j.must(s.ReplayMode >= 1 && s.ReplayMode <= 3, page, "REPLAY_MODE %d", s.ReplayMode)
		case 32002:
			s.ReplayWindow = a.Number()
			j.must(s.ReplayWindow != 0, page, "REPLAY_WINDOW 0")
		case 32003:
			if j.must(len(a.Value) == 4, page, "AGE of %d octets", len(a.Value)) {
				n := be.Uint32(a.Value)
				s.Age = &n
			}
		case 32004:
			s.Exact = entries(j, a.Value, 0)
			j.must(len(s.Exact) == 1 && s.Exact[0].Permit, page, "EXACT_ENTRY %x", a.Value)
		case 32006:
			s.MetadataLen, s.SGT = int(a.Number()&255), a.Number()&256 != 0
			j.must((s.MetadataLen == 12 || s.MetadataLen == 16) && a.Number()>>9 == 0, page, "METADATA %#x", a.Number())
		default:
			j.must(a.Class < 32001, page, "SAT attribute %d", a.Class)
		}
	}
	if s.ReplayMode != 0 {
		j.must((s.ReplayMode == 1) == (s.ReplayWindow == 0), page, "REPLAY_MODE %d with window %d", s.ReplayMode, s.ReplayWindow)
	}
	return s
}

// entries reads an access list.
func entries(j *judge, b []byte, sats int) []ListEntry {
	if !j.must(len(b) >= 4 && b[0] == 1 && b[1] == 0, page, "access list %x", b) {
		return nil
	}
	count := int(be.Uint16(b[2:]))
	j.must(count <= 1024, page, "%d entries", count)
	r := reader{b: b[4:]}
	var out []ListEntry
	for range count {
		e := ListEntry{Place: r.u16()}
		flags := r.u8()
		e.Permit, e.V6, e.Protocol = flags&1 != 0, flags&2 != 0, r.u8()
		e.SrcOp, e.DstOp = r.u8(), r.u8()
		n := 4
		if e.V6 {
			n = 16
		}
		if flags&4 != 0 {
			e.Src, e.SrcMask = r.take(n), r.take(n)
		}
		if flags&8 != 0 {
			e.Dst, e.DstMask = r.take(n), r.take(n)
		}
		if e.SrcOp != 0 {
			e.SrcLo, e.SrcHi = r.u16(), r.u16()
		}
		if e.DstOp != 0 {
			e.DstLo, e.DstHi = r.u16(), r.u16()
		}
		if flags&16 != 0 {
			t := r.u8()
			e.ICMPType = &t
		}
		if !j.must(!r.short, page, "an access list ends early") {
			return out
		}
		j.must(flags&^31 == 0 && e.SrcOp <= 5 && e.DstOp <= 5, page, "flags %#x, operators %d and %d", flags, e.SrcOp, e.DstOp)
		j.must(e.SrcOp == 0 && e.DstOp == 0 || e.Protocol == 6 || e.Protocol == 17 || e.Protocol == 132, page, "ports of protocol %d", e.Protocol)
		j.must(e.ICMPType == nil || e.Protocol == 1 || e.Protocol == 58, page, "ICMP type of protocol %d", e.Protocol)
		j.must(int(e.Place) <= sats, page, "place %d of %d", e.Place, sats)
		j.must(len(out) == 0 || out[len(out)-1].Place <= e.Place, page, "places descend")
		out = append(out, e)
	}
	j.must(len(r.b) == 0, page, "%d octets after an access list", len(r.b))
	return out
}

// reader takes octets and remembers when there were too few.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.short, r.b = true, nil
		return make([]byte, n)
	}
	x := r.b[:n]
	r.b = r.b[n:]
	return x
}

func (r *reader) u8() uint8   { return r.take(1)[0] }
func (r *reader) u16() uint16 { return be.Uint16(r.take(2)) }
