package gdoi

// Group Associated Policy (RFC 6407 §5.4): from the key server inside an SA, from a
// member in message 3 of PULL.

import "getvpn/gdoi/isakmp"

// GAP is a group associated policy. Times are in seconds; nil or zero means absent.
type GAP struct {
	ActivationDelay   *uint16
	DeactivationDelay *uint16
	SIDRequest        uint16 // Sender IDs that the member asks for

	// Private attributes of ours (docs/protocol/private-attributes.md).
	Capability *Capability
	Denies     []WireACE // with their places among the SATs
	Pseudotime *Pseudotime
	// Replaced marks a rekey whose policy replaces another one: data SAs that it
	// doesn't name end early.
	Replaced bool

	Private []isakmp.Attr // other private attributes, kept as they came
}

// ParseGAP reads a GAP's body.
func ParseGAP(body []byte, d Dialect) (*GAP, error) {
	g := &GAP{}
	var seen classSet
	dec := isakmp.NewAttrDecoder(isakmp.PayloadGAP, body, 0)
	for a, ok := dec.Next(); ok; a, ok = dec.Next() {
		if seen.again(a.Type) {
			dec.Fail(isakmp.AttributeRepeated, a)
		}
		switch a.Type {
		case gapATD:
			v := dec.Uint16(a)
			g.ActivationDelay = &v
		case gapDTD:
			v := dec.Uint16(a)
			g.DeactivationDelay = &v
		case gapSIDRequest:
			g.SIDRequest = nonZero(dec, a)
		default:
			if d.Strict || !g.private(dec, a) {
				keepPrivate(dec, a, privateGAP(a.Type), d, &g.Private)
			}
		}
	}
	if dec.Err() != nil {
		return nil, dec.Err()
	}
	return g, nil
}

// Payload encodes the GAP.
func (g *GAP) Payload() isakmp.Payload {
	return isakmp.Payload{Type: isakmp.PayloadGAP, Body: g.body()}
}

func (g *GAP) body() []byte {
	b := []byte{}
	if g.ActivationDelay != nil {
		b = isakmp.AppendBasic(b, gapATD, *g.ActivationDelay)
	}
	if g.DeactivationDelay != nil {
		b = isakmp.AppendBasic(b, gapDTD, *g.DeactivationDelay)
	}
	b = appendNonZero(b, gapSIDRequest, g.SIDRequest)
	b = g.appendPrivate(b)
	return appendAttrs(b, g.Private)
}
