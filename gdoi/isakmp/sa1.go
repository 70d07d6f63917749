package isakmp

// The SA payload of phase 1 (RFC 2408 §3.4-3.6, RFC 2409 §5 and App. A): DOI,
// situation, proposals, transforms.

import "encoding/binary"

// Domains of interpretation.
const (
	DOIISAKMP uint32 = 0
	DOIIPsec  uint32 = 1
	DOIGDOI   uint32 = 2 // RFC 6407 §5.2
)

// SituationIdentityOnly goes with DOIIPsec (RFC 2407 §4.2.1); with DOIGDOI it is 0.
const SituationIdentityOnly uint32 = 1

// ProtoISAKMP is the protocol of a phase 1 proposal; KeyIKE its transform ID
// (RFC 2407 §4.4.1, §4.4.2).
const (
	ProtoISAKMP uint8 = 1
	KeyIKE      uint8 = 1
)

// Limits of a phase 1 SA.
const (
	maxProposals  = 16
	maxTransforms = 255 // the count is one octet
)

// SA1 is a phase 1 SA payload.
type SA1 struct {
	DOI, Situation uint32
	Proposals      []Proposal
}

// Proposal offers transforms for one protocol.
type Proposal struct {
	Number     uint8
	Protocol   uint8
	SPI        []byte // of no meaning in phase 1
	Transforms []Transform
}

// Transform is one offer.
type Transform struct {
	Number uint8
	ID     uint8
	Attrs  []Attr
}

// ParseSA1 reads the body of an SA payload of phase 1. DOI 1 and 2 are taken
// (RFC 6407 §2.1 wants 2, plain IKE peers send 1); the situation's value is kept
// but not judged, except that DOI 1's labelled forms are refused.
func ParseSA1(body []byte) (SA1, error) {
	if len(body) < 8 {
		return SA1{}, malformed(ShortBody, PayloadSA, len(body))
	}
	s := SA1{DOI: binary.BigEndian.Uint32(body), Situation: binary.BigEndian.Uint32(body[4:])}
	switch {
	case s.DOI != DOIIPsec && s.DOI != DOIGDOI:
		return SA1{}, malformed(BadDOI, PayloadSA, 0)
	case s.DOI == DOIIPsec && s.Situation != SituationIdentityOnly:
		return SA1{}, malformed(BadSituation, PayloadSA, 4)
	case len(body) == 8:
		return SA1{}, malformed(PayloadMissing, PayloadProposal, 8)
	}
	ps, rest, err := ParseChainLimit(PayloadProposal, body[8:], maxProposals)
	if err != nil {
		return SA1{}, err
	}
	if rest != 0 {
		return SA1{}, malformed(TrailingBody, PayloadSA, len(body)-rest)
	}
	for _, p := range ps {
		if p.Type != PayloadProposal {
			return SA1{}, malformed(BadNextPayload, p.Type, 0)
		}
		prop, err := parseProposal(p.Body)
		if err != nil {
			return SA1{}, err
		}
		s.Proposals = append(s.Proposals, prop)
	}
	return s, nil
}

func parseProposal(b []byte) (Proposal, error) {
	if len(b) < 4 {
		return Proposal{}, malformed(ShortBody, PayloadProposal, len(b))
	}
	p := Proposal{Number: b[0], Protocol: b[1]}
	spi, count := int(b[2]), int(b[3])
	if spi > 16 {
		return Proposal{}, malformed(BadSPISize, PayloadProposal, 2)
	}
	if len(b) < 4+spi {
		return Proposal{}, malformed(ShortBody, PayloadProposal, len(b))
	}
	if spi > 0 {
		p.SPI = b[4 : 4+spi]
	}
	if count == 0 {
		return Proposal{}, malformed(BadCount, PayloadProposal, 3)
	}
	ts, rest, err := ParseChainLimit(PayloadTransform, b[4+spi:], maxTransforms)
	if err != nil {
		return Proposal{}, err
	}
	if rest != 0 {
		return Proposal{}, malformed(TrailingBody, PayloadProposal, len(b)-rest)
	}
	if len(ts) != count {
		return Proposal{}, malformed(BadCount, PayloadProposal, 3)
	}
	for _, t := range ts {
		if t.Type != PayloadTransform {
			return Proposal{}, malformed(BadNextPayload, t.Type, 0)
		}
		if len(t.Body) < 4 {
			return Proposal{}, malformed(ShortBody, PayloadTransform, len(t.Body))
		}
		if t.Body[2] != 0 || t.Body[3] != 0 {
			return Proposal{}, malformed(BadReserved, PayloadTransform, 2)
		}
		attrs, err := ParseAttrs(PayloadTransform, t.Body[4:], 4)
		if err != nil {
			return Proposal{}, err
		}
		p.Transforms = append(p.Transforms, Transform{Number: t.Body[0], ID: t.Body[1], Attrs: attrs})
	}
	return p, nil
}

// Payload encodes the SA.
func (s SA1) Payload() Payload {
	b := binary.BigEndian.AppendUint32(nil, s.DOI)
	b = binary.BigEndian.AppendUint32(b, s.Situation)
	for i, p := range s.Proposals {
		b = appendLinked(b, PayloadProposal, i == len(s.Proposals)-1, p.body())
	}
	return Payload{Type: PayloadSA, Body: b}
}

func (p Proposal) body() []byte {
	b := []byte{p.Number, p.Protocol, byte(len(p.SPI)), byte(len(p.Transforms))}
	b = append(b, p.SPI...)
	for i, t := range p.Transforms {
		tb := []byte{t.Number, t.ID, 0, 0}
		for _, a := range t.Attrs {
			tb = AppendAttr(tb, a)
		}
		b = appendLinked(b, PayloadTransform, i == len(p.Transforms)-1, tb)
	}
	return b
}

// appendLinked appends one payload of a chain of equals. A length that doesn't fit
// its field makes the SA itself too long, which AppendChain reports.
func appendLinked(dst []byte, t PayloadType, last bool, body []byte) []byte {
	if last {
		t = PayloadNone
	}
	dst = append(dst, byte(t), 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(GenericLen+len(body)))
	return append(dst, body...)
}
