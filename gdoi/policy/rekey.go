package policy

// Rekeys: the policy in force as GROUPKEY-PUSH carries it, both ways.

import (
	"getvpn/gdoi"
)

// Rekey is the content of a GROUPKEY-PUSH. Offer is the whole policy in force, with
// keys: every TEK that lives, oldest first, so that a member that missed rekeys has
// everything again after one; nil when the rekey only deletes. Its KEK is the one that
// holds from now on, nil when nothing about it is said.
type Rekey struct {
	Seq    uint32
	Offer  *Offer
	Delete gdoi.Delete
	// Shorten: the policy was replaced, TEKs that the offer doesn't name end early
	// (Shortened). Not in a group marked "interop rfc6407".
	Shorten bool
}

// EncodeRekey makes the message. interop as for Offer.SA: nothing private; Shorten
// is then left out, and so is the pseudotime.
func EncodeRekey(r *Rekey, interop bool) (*gdoi.Push, error) {
	p := &gdoi.Push{Seq: r.Seq, Delete: r.Delete}
	if r.Offer == nil {
		return p, nil
	}
	sa, err := r.Offer.SA(interop)
	if err != nil {
		return nil, err
	}
	if r.Shorten && !interop {
		if sa.GAP == nil {
			sa.GAP = &gdoi.GAP{}
		}
		sa.GAP.Replaced = true
	}
	p.SA, p.KD = sa, r.Offer.KD(Keys{})
	return p, nil
}

// DecodeRekey reads what RekeySA.Open returned, with keys. The KEK's Seq is 0: a new
// KEK starts there, one that the member has keeps its own. The error is a *RejectError.
func DecodeRekey(p *gdoi.Push) (*Rekey, error) {
	r := &Rekey{Seq: p.Seq, Delete: p.Delete}
	if p.SA == nil {
		return r, nil
	}
	if p.SA.SAK != nil && p.KD.KEK == nil {
		return nil, unsupported("KEK by LKH")
	}
	o, err := decodeSA(p.SA)
	if err != nil {
		return nil, err
	}
	o.AddKeys(p.KD, 0)
	r.Offer, r.Shorten = o, p.SA.GAP != nil && p.SA.GAP.Replaced
	return r, nil
}
