package ike

import (
	"io"

	"getvpn/gdoi/isakmp"
)

// This file is the initiator: main mode messages 1, 3, 5 and aggressive messages 1, 3
// (RFC 2409 §5.4).

// NewInitiator makes message 1. It fails with NoPSK, NoPolicy or AggressiveRefused.
func NewInitiator(p Params, rand io.Reader) (*Phase1, []byte, error) {
	m := &Phase1{p: p, initiator: true, rand: rand}
	s := &state{aggressive: p.Aggressive, policies: p.Config.ordered()}
	if len(s.policies) == 0 {
		return nil, nil, NoPolicy
	}
	key, wild, ok := p.Config.psk(p.Remote.Addr(), Identity{})
	if !ok {
		return nil, nil, NoPSK
	}
	if p.Aggressive {
		if wild {
			return nil, nil, AggressiveRefused
		}
		s.policies = sameGroup(s.policies)
	}
	s.policies = s.policies[:min(len(s.policies), maxOffers)]
	s.auth = pskAuth{key}
	var err error
	if s.ci, err = cookie(rand); err != nil {
		return nil, nil, err
	}
	sa := offer(s.policies).Payload()
	s.sai = sa.Body
	payloads := []isakmp.Payload{sa}
	s.stage, s.next = StageMMNoState, (*Phase1).main2
	if p.Aggressive {
		s.stage, s.next = StageAGNoState, (*Phase1).aggr2
		if s.dh, err = NewDH(s.policies[0].Group, rand); err != nil {
			return nil, nil, err
		}
		if s.ni, err = nonce(rand); err != nil {
			return nil, nil, err
		}
		s.gxi, s.idi = s.dh.Public(), m.identity()
		payloads = append(payloads, isakmp.KEPayload(s.gxi), isakmp.NoncePayload(s.ni),
			isakmp.Payload{Type: isakmp.PayloadID, Body: s.idi})
	}
	out, err := s.clear(append(payloads, m.ownVendorIDs()...))
	if err != nil {
		return nil, nil, err
	}
	m.states = []*state{s}
	return m, out, nil
}

// sameGroup keeps the policies of the first one's group: in aggressive mode the group
// can't be negotiated.
func sameGroup(ps []Policy) []Policy {
	var out []Policy
	for _, p := range ps {
		if p.Group == ps[0].Group {
			out = append(out, p)
		}
	}
	return out
}

// takeAnswer reads the responder's cookie, SA and vendor IDs.
func (m *Phase1) takeAnswer(s *state, msg message) error {
	if msg.h.RCookie.IsZero() {
		return &isakmp.MalformedError{Reason: isakmp.ZeroCookie, Offset: 8}
	}
	s.cr = msg.h.RCookie
	sa, err := isakmp.ParseSA1(msg.find(isakmp.PayloadSA))
	if err != nil {
		return err
	}
	if s.policy, err = chosen(s.policies, sa); err != nil {
		return err
	}
	m.takeVendorIDs(s, msg.payloads)
	return nil
}

// main2 takes message 2 and makes message 3.
func (m *Phase1) main2(old *state, msg message) (*state, Result, error) {
	if err := isakmp.Check(isakmp.Main2, msg.h.Encrypted(), msg.payloads); err != nil {
		return nil, Result{}, err
	}
	s := *old
	if err := m.takeAnswer(&s, msg); err != nil {
		return nil, Result{}, err
	}
	var err error
	if s.dh, err = NewDH(s.policy.Group, m.rand); err != nil {
		return nil, Result{}, err
	}
	if s.ni, err = nonce(m.rand); err != nil {
		return nil, Result{}, err
	}
	s.gxi = s.dh.Public()
	out, err := s.clear(append([]isakmp.Payload{isakmp.KEPayload(s.gxi), isakmp.NoncePayload(s.ni)}, m.natPayloads(&s)...))
	if err != nil {
		return nil, Result{}, err
	}
	s.stage, s.next = StageMMSASetup, (*Phase1).main4
	return &s, Result{Reply: out}, nil
}

// main4 takes message 4 and makes message 5.
func (m *Phase1) main4(old *state, msg message) (*state, Result, error) {
	if err := isakmp.Check(isakmp.Main4, msg.h.Encrypted(), msg.payloads); err != nil {
		return nil, Result{}, err
	}
	s := *old
	m.takeVendorIDs(&s, msg.payloads)
	var err error
	if s.gxr, s.nr, err = s.takeKE(msg); err != nil {
		return nil, Result{}, err
	}
	s.natt = old.natt // decided by message 2
	if err := m.takeNAT(&s, msg.payloads); err != nil {
		return nil, Result{}, err
	}
	if err := s.share(s.gxr); err != nil {
		return nil, Result{}, err
	}
	if err := s.derive(); err != nil {
		return nil, Result{}, err
	}
	s.idi = m.identity()
	proof, err := s.auth.prove(s.hashI())
	if err != nil {
		return nil, Result{}, err
	}
	out, err := s.sealed(append([]isakmp.Payload{{Type: isakmp.PayloadID, Body: s.idi}}, proof...))
	if err != nil {
		return nil, Result{}, err
	}
	s.stage, s.next = StageMMKeyAuth, (*Phase1).main6
	return &s, Result{Reply: out, Float: s.nat.found}, nil
}

// main6 takes message 6, which completes the exchange.
func (m *Phase1) main6(old *state, msg message) (*state, Result, error) {
	s := *old
	if err := s.opened(&msg); err != nil {
		return nil, Result{}, err
	}
	row, _, _ := s.auth.messages()
	if err := s.authenticate(row, msg, true); err != nil {
		return nil, Result{}, err
	}
	o, err := s.done(s.idr)
	return &s, Result{Outcome: o}, err
}

// authenticate checks the legality and the proof of an ID, HASH message; fromR tells
// whose it is.
func (s *state) authenticate(row isakmp.Message, msg message, fromR bool) error {
	if err := isakmp.Check(row, msg.h.Encrypted(), msg.payloads); err != nil {
		return &refusal{DropDecrypt, classed(AuthFailed, err)}
	}
	id := append([]byte(nil), msg.find(isakmp.PayloadID)...)
	if _, err := isakmp.ParseID(id); err != nil {
		return &refusal{DropIdentity, err}
	}
	var want []byte
	if fromR {
		s.idr = id
		want = s.hashR()
	} else {
		s.idi = id
		want = s.hashI()
	}
	if err := s.auth.verify(want, msg.payloads); err != nil {
		return err
	}
	s.takeNotifies(msg.payloads)
	return nil
}

// aggr2 takes aggressive message 2 and makes message 3, which completes the exchange.
func (m *Phase1) aggr2(old *state, msg message) (*state, Result, error) {
	_, row, _ := old.auth.messages()
	if err := isakmp.Check(row, msg.h.Encrypted(), msg.payloads); err != nil {
		return nil, Result{}, err
	}
	s := *old
	if err := m.takeAnswer(&s, msg); err != nil {
		return nil, Result{}, err
	}
	var err error
	if s.gxr, s.nr, err = s.takeKE(msg); err != nil {
		return nil, Result{}, err
	}
	if err := m.takeNAT(&s, msg.payloads); err != nil {
		return nil, Result{}, err
	}
	if err := s.share(s.gxr); err != nil {
		return nil, Result{}, err
	}
	if err := s.derive(); err != nil {
		return nil, Result{}, err
	}
	if err := s.authenticate(row, msg, true); err != nil {
		return nil, Result{}, err
	}
	proof, err := s.auth.prove(s.hashI())
	if err != nil {
		return nil, Result{}, err
	}
	out, err := s.sealed(append(proof, m.natPayloads(&s)...))
	if err != nil {
		return nil, Result{}, err
	}
	o, err := s.done(s.idr)
	return &s, Result{Reply: out, Float: s.nat.found, Outcome: o}, err
}
