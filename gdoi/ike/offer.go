package ike

import (
	"time"

	"getvpn/gdoi/isakmp"
)

// This file makes, matches and checks the SA payloads of phase 1 (RFC 2409 §5).

// offer makes the initiator's SA from policies in order: one proposal, a transform for
// each policy. DOI is the GDOI (RFC 6407 §2.1) with situation 0.
func offer(policies []Policy) isakmp.SA1 {
	p := isakmp.Proposal{Number: 1, Protocol: isakmp.ProtoISAKMP}
	for i, pol := range policies {
		p.Transforms = append(p.Transforms, isakmp.Transform{Number: uint8(i + 1), ID: isakmp.KeyIKE, Attrs: pol.attrs().Attrs()})
	}
	return isakmp.SA1{DOI: isakmp.DOIGDOI, Proposals: []isakmp.Proposal{p}}
}

// maxOffers is how many transforms a proposal can count.
const maxOffers = 255

func (p Policy) attrs() isakmp.IKEAttrs {
	return isakmp.IKEAttrs{
		Encryption: uint16(p.Encr), KeyBits: uint16(p.KeyBits), Hash: uint16(p.Hash),
		Auth: uint16(p.Auth), Group: uint16(p.Group), Seconds: uint32(min(p.Lifetime/time.Second, 1<<32-1)),
	}
}

// matches tells whether a transform is the policy but for its lifetime. Unknown
// attributes and PRFs match nothing.
func (p Policy) matches(a isakmp.IKEAttrs) bool {
	return a.Encryption == uint16(p.Encr) && a.KeyBits == uint16(p.KeyBits) && a.Hash == uint16(p.Hash) &&
		a.Auth == uint16(p.Auth) && a.Group == uint16(p.Group) && a.PRF == 0 && len(a.Other) == 0
}

// agreed is the policy with the shorter of both lifetimes.
func (p Policy) agreed(a isakmp.IKEAttrs) Policy {
	if a.Seconds > 0 {
		p.Lifetime = min(p.Lifetime, time.Duration(a.Seconds)*time.Second)
	}
	return p
}

// choose is the responder's part: the first of our policies, by priority, that any of
// the peer's transforms matches. The answer mirrors DOI and situation and returns the
// transform as it came.
func choose(policies []Policy, in isakmp.SA1) (Policy, isakmp.SA1, error) {
	for _, pol := range policies {
		for _, prop := range in.Proposals {
			if prop.Protocol != isakmp.ProtoISAKMP {
				continue
			}
			for _, t := range prop.Transforms {
				if t.ID != isakmp.KeyIKE {
					continue
				}
				a, err := t.IKEAttrs()
				if err != nil || !pol.matches(a) {
					continue
				}
				prop.Transforms = []isakmp.Transform{t}
				return pol.agreed(a), isakmp.SA1{DOI: in.DOI, Situation: in.Situation, Proposals: []isakmp.Proposal{prop}}, nil
			}
		}
	}
	return Policy{}, isakmp.SA1{}, refuse(DropProposal, "no policy matches the offer")
}

// chosen is the initiator's part: which of our policies the answer names. It must be
// one proposal with one of our transforms, the values unchanged.
func chosen(policies []Policy, answer isakmp.SA1) (Policy, error) {
	if len(answer.Proposals) != 1 || len(answer.Proposals[0].Transforms) != 1 {
		return Policy{}, refuse(DropProposal, "the answer isn't one proposal with one transform")
	}
	p := answer.Proposals[0]
	t := p.Transforms[0]
	if p.Protocol != isakmp.ProtoISAKMP || t.ID != isakmp.KeyIKE {
		return Policy{}, refuse(DropProposal, "protocol %d, transform %d in the answer", p.Protocol, t.ID)
	}
	a, err := t.IKEAttrs()
	if err != nil {
		return Policy{}, err
	}
	for _, pol := range policies {
		if pol.matches(a) && pol.attrs().Seconds == a.Seconds && a.Kilobytes == 0 {
			return pol, nil
		}
	}
	return Policy{}, refuse(DropProposal, "the answer isn't one of our transforms")
}
