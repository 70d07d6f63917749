package gdoi

// The SA payload as GDOI extends it: a chain of SAK, GAP and SATs inside (RFC 6407
// §5.2).

import (
	"encoding/binary"

	"getvpn/gdoi/isakmp"
)

// SA is a group's policy: the rekey SA if there is one, group associated policy,
// data SAs in the order in which the key server lists them.
type SA struct {
	SAK  *SAK
	GAP  *GAP
	SATs []SAT
}

const saFixed = 12 // DOI, situation, attribute next payload, reserved

// ParseSA reads an SA payload's body. The chain must be SAK, GAP, SATs in this
// order, with at least a SAK or a SAT (§5.2.1).
func ParseSA(body []byte, d Dialect) (*SA, error) {
	f := fields{b: body, payload: isakmp.PayloadSA}
	doi, situation, next, reserved := f.uint(4), f.uint(4), f.uint(2), f.uint(2)
	switch {
	case f.err != nil:
		return nil, f.err
	case doi != isakmp.DOIGDOI:
		return nil, malformed(isakmp.BadDOI, isakmp.PayloadSA, 0)
	case situation != 0:
		return nil, malformed(isakmp.BadSituation, isakmp.PayloadSA, 4)
	case next == 0 || next > 255:
		return nil, malformed(isakmp.BadNextPayload, isakmp.PayloadSA, 8)
	case reserved != 0:
		return nil, malformed(isakmp.BadReserved, isakmp.PayloadSA, 10)
	}
	chain, rest, err := isakmp.ParseChainLimit(isakmp.PayloadType(next), body[saFixed:], isakmp.MaxNested)
	if err != nil {
		return nil, err
	}
	if rest != 0 {
		return nil, malformed(isakmp.TrailingBody, isakmp.PayloadSA, len(body)-rest)
	}
	s, off := &SA{}, saFixed
	for _, p := range chain {
		switch {
		case p.Type == isakmp.PayloadSAK && s.SAK == nil && s.GAP == nil && len(s.SATs) == 0:
			s.SAK, err = parseSAK(p.Body, d)
		case p.Type == isakmp.PayloadGAP && s.GAP == nil && len(s.SATs) == 0:
			s.GAP, err = ParseGAP(p.Body, d)
		case p.Type == isakmp.PayloadSAT:
			var t SAT
			t, err = parseSAT(p.Body, d)
			s.SATs = append(s.SATs, t)
		default:
			err = malformed(isakmp.BadNextPayload, p.Type, off)
		}
		if err != nil {
			return nil, err
		}
		off += isakmp.GenericLen + len(p.Body)
	}
	if s.SAK == nil && len(s.SATs) == 0 {
		return nil, malformed(isakmp.PayloadMissing, isakmp.PayloadSAT, off)
	}
	if err := s.checkDenies(); err != nil {
		return nil, err
	}
	return s, nil
}

// Payload encodes the SA. It fails when one of its payloads is too long, or when
// there are more SATs than a reader of ours takes.
func (s *SA) Payload(d Dialect) (isakmp.Payload, error) {
	var chain []isakmp.Payload
	if s.SAK != nil {
		chain = append(chain, isakmp.Payload{Type: isakmp.PayloadSAK, Body: s.SAK.body(d)})
	}
	if s.GAP != nil {
		chain = append(chain, s.GAP.Payload())
	}
	for i := range s.SATs {
		chain = append(chain, isakmp.Payload{Type: isakmp.PayloadSAT, Body: s.SATs[i].body(d)})
	}
	if len(chain) > isakmp.MaxNested {
		return isakmp.Payload{}, malformed(isakmp.TooManyPayloads, isakmp.PayloadSA, 0)
	}
	b := binary.BigEndian.AppendUint32(nil, isakmp.DOIGDOI)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(isakmp.FirstType(chain)))
	b = append(b, 0, 0)
	b, err := isakmp.AppendChain(b, chain)
	if err != nil {
		return isakmp.Payload{}, err
	}
	return isakmp.Payload{Type: isakmp.PayloadSA, Body: b}, nil
}

// Counter reports whether any data SA needs Sender IDs.
func (s *SA) Counter() bool {
	for i := range s.SATs {
		if s.SATs[i].Counter() {
			return true
		}
	}
	return false
}

// PrivateCount is how many private attributes that aren't ours came with the SA,
// for the counter that says so.
func (s *SA) PrivateCount() int {
	n := 0
	if s.SAK != nil {
		n += len(s.SAK.Private)
	}
	if s.GAP != nil {
		n += len(s.GAP.Private)
	}
	for i := range s.SATs {
		n += len(s.SATs[i].Private)
	}
	return n
}

// checkDenies holds the places of deny entries against the number of SATs.
func (s *SA) checkDenies() error {
	if s.GAP == nil {
		return nil
	}
	for _, e := range s.GAP.Denies {
		if int(e.Before) > len(s.SATs) {
			return &isakmp.MalformedError{Reason: isakmp.AttributeValue, Payload: isakmp.PayloadGAP, Attr: GAPAccessList}
		}
	}
	return nil
}
