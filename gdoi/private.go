package gdoi

// The registry of private attributes, and those that are single numbers. It is
// written down for other implementers in docs/protocol/private-attributes.md; the
// test of that page reads these constants. None is ever sent in a group that is
// marked "interop rfc6407".

import (
	"fmt"

	"getvpn/gdoi/isakmp"
)

// Private classes of the GAP (range 128-255).
const (
	GAPCapability uint16 = 128 // V: Capability
	GAPAccessList uint16 = 129 // V: entries that no SAT can carry
	GAPPseudotime uint16 = 130 // V: Pseudotime
	GAPReplaced   uint16 = 131 // B: Replaced
)

// Private classes of the SAT (range 32001-32767).
const (
	SATReplayMode   uint16 = 32001 // B: ReplayMode
	SATReplayWindow uint16 = 32002 // B: packets, or seconds when time based
	SATAge          uint16 = 32003 // V, 4 octets: seconds since the TEK was made
	SATExactEntry   uint16 = 32004 // V: the access list entry in full
	SATReplayTick   uint16 = 32005 // reserved; the tick is a part of GAPPseudotime
	SATMetadata     uint16 = 32006 // B: Metadata
)

// ReplayMode is the anti-replay method of a data SA.
type ReplayMode uint16

const (
	ReplayNone    ReplayMode = 1
	ReplayCounter ReplayMode = 2
	ReplayTime    ReplayMode = 3
)

// Replay is the anti-replay policy of a data SA: Window counts packets for
// ReplayCounter, seconds for ReplayTime, and is 0 for ReplayNone.
type Replay struct {
	Mode   ReplayMode
	Window uint16
}

func (r Replay) valid() bool {
	switch r.Mode {
	case ReplayNone:
		return r.Window == 0
	case ReplayCounter, ReplayTime:
		return r.Window != 0
	}
	return false
}

// classSet remembers which classes a payload had, of those that may come once:
// IANA's and ours. Private ones of others may repeat; what is unknown is refused
// without it.
type classSet uint64

// again adds the class and reports whether it was there.
func (s *classSet) again(class uint16) bool {
	bit := class
	switch {
	case class < 48:
	case class >= GAPCapability && class <= GAPReplaced:
		bit = 48 + class - GAPCapability
	case class >= SATReplayMode && class <= SATMetadata:
		bit = 56 + class - SATReplayMode
	default:
		return false
	}
	had := *s&(1<<bit) != 0
	*s |= 1 << bit
	return had
}

// private reads a private attribute of ours; false when it is none that is in use.
func (s *SAT) private(dec *isakmp.AttrDecoder, a isakmp.Attr, mode, window *uint16) bool {
	switch a.Type {
	case SATReplayMode:
		*mode = nonZero(dec, a)
	case SATReplayWindow:
		*window = nonZero(dec, a)
	case SATAge:
		v := dec.Uint32(a)
		s.Age = &v
	case SATMetadata:
		m, ok := parseMetadata(dec.Uint16(a))
		if !ok {
			dec.Fail(isakmp.AttributeValue, a)
			return true
		}
		s.Metadata = &m
	case SATExactEntry:
		list, err := ParseACEs(a.Value)
		if err != nil || len(list) != 1 || list[0].Before != 0 {
			dec.Fail(isakmp.AttributeValue, a)
			return true
		}
		s.Exact = &list[0]
	default:
		return false
	}
	return true
}

func (s *SAT) appendPrivate(b []byte) []byte {
	if s.Replay != nil {
		b = isakmp.AppendBasic(b, SATReplayMode, uint16(s.Replay.Mode))
		b = appendNonZero(b, SATReplayWindow, s.Replay.Window)
	}
	if s.Age != nil {
		b = isakmp.AppendVar32(b, SATAge, *s.Age)
	}
	if s.Exact != nil {
		b = isakmp.AppendVar(b, SATExactEntry, AppendACEs(nil, []WireACE{*s.Exact}))
	}
	if s.Metadata != nil {
		b = isakmp.AppendBasic(b, SATMetadata, s.Metadata.wire())
	}
	return b
}

func (g *GAP) private(dec *isakmp.AttrDecoder, a isakmp.Attr) bool {
	switch a.Type {
	case GAPCapability:
		c, err := ParseCapability(a.Value)
		if err != nil {
			dec.Fail(isakmp.AttributeValue, a)
			return true
		}
		g.Capability = &c
	case GAPAccessList:
		list, err := ParseACEs(a.Value)
		if err != nil || len(list) == 0 {
			dec.Fail(isakmp.AttributeValue, a)
			return true
		}
		g.Denies = list
	case GAPPseudotime:
		p, err := ParsePseudotime(a.Value)
		if a.Basic || err != nil {
			dec.Fail(isakmp.AttributeValue, a)
			return true
		}
		g.Pseudotime = &p
	case GAPReplaced:
		if dec.Uint16(a) != 1 {
			dec.Fail(isakmp.AttributeValue, a)
		}
		g.Replaced = true
	default:
		return false
	}
	return true
}

func (g *GAP) appendPrivate(b []byte) []byte {
	if g.Capability != nil {
		b = isakmp.AppendVar(b, GAPCapability, g.Capability.Append(nil))
	}
	if len(g.Denies) > 0 {
		b = isakmp.AppendVar(b, GAPAccessList, AppendACEs(nil, g.Denies))
	}
	if g.Pseudotime != nil {
		b = isakmp.AppendVar(b, GAPPseudotime, g.Pseudotime.Append(nil))
	}
	if g.Replaced {
		b = isakmp.AppendBasic(b, GAPReplaced, 1)
	}
	return b
}

// OnlyRFC reports why an SA must not be sent in a group marked "interop rfc6407":
// it carries something private. nil: it doesn't.
func (s *SA) OnlyRFC() error {
	if s.PrivateCount() > 0 {
		return refuse(InconsistentSA, "private attributes in a group marked interop rfc6407")
	}
	if g := s.GAP; g != nil && (g.Capability != nil || len(g.Denies) > 0 || g.Pseudotime != nil || g.Replaced) {
		return refuse(InconsistentSA, "capability, deny entries, pseudotime or the mark of a replaced policy in a group marked interop rfc6407")
	}
	for i := range s.SATs {
		if t := &s.SATs[i]; t.Replay != nil || t.Age != nil || t.Exact != nil || t.Metadata != nil {
			return refuse(InconsistentSA, "private attribute at SPI %#x in a group marked interop rfc6407", t.SPI)
		}
	}
	return nil
}

// StripPrivate removes what OnlyRFC complains about.
func (s *SA) StripPrivate() {
	if s.SAK != nil {
		s.SAK.Private = nil
	}
	if g := s.GAP; g != nil {
		g.Capability, g.Denies, g.Pseudotime, g.Replaced, g.Private = nil, nil, nil, false, nil
		if len(g.body()) == 0 {
			s.GAP = nil
		}
	}
	for i := range s.SATs {
		t := &s.SATs[i]
		t.Replay, t.Age, t.Exact, t.Metadata, t.Private = nil, nil, nil, nil, nil
	}
}

// String prints the policy in words.
func (r Replay) String() string {
	switch r.Mode {
	case ReplayNone:
		return "none"
	case ReplayCounter:
		return fmt.Sprintf("counter, window %d", r.Window)
	case ReplayTime:
		return fmt.Sprintf("time, window %d s", r.Window)
	}
	return fmt.Sprintf("mode %d", r.Mode)
}
