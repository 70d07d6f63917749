package ike

import (
	"crypto/sha256"
	"fmt"
	"io"

	"getvpn/gdoi/isakmp"
)

// This file is the responder: main mode messages 2, 4, 6 and aggressive message 2
// (RFC 2409 §5.4). In main mode no Diffie-Hellman is done before message 3, which
// carries our cookie and so proves that the peer receives at its address.

// NewResponder takes message 1 and makes message 2. The error's Reason may be
// DropProposal, DropNoPSK, DropAggressive or one of a malformed message.
func NewResponder(p Params, msg1 []byte, rand io.Reader) (*Phase1, Result, error) {
	msg, err := parsePhase1(msg1)
	if err != nil {
		return nil, Result{}, err
	}
	m := &Phase1{p: p, rand: rand}
	s := &state{ci: msg.h.ICookie}
	switch msg.h.Exchange {
	case isakmp.MainMode:
	case isakmp.Aggressive:
		s.aggressive = true
	default:
		return nil, Result{}, refuse(DropExchangeType, "not a phase 1")
	}
	if !msg.h.RCookie.IsZero() {
		return nil, Result{}, refuse(DropUnknownCookie, "message 1 with a responder cookie")
	}
	var out []byte
	if s.aggressive {
		out, err = m.aggr1(s, msg)
	} else {
		out, err = m.main1(s, msg)
	}
	if err != nil {
		return nil, Result{}, err
	}
	m.states = []*state{s}
	m.answered = []answer{{sha256.Sum256(msg1), out}}
	return m, Result{Reply: out}, nil
}

// takeOffer chooses a policy and draws our cookie.
func (m *Phase1) takeOffer(s *state, msg message) (isakmp.Payload, error) {
	body := msg.find(isakmp.PayloadSA)
	sa, err := isakmp.ParseSA1(body)
	if err != nil {
		return isakmp.Payload{}, err
	}
	s.sai = append([]byte(nil), body...)
	pol, reply, err := choose(m.p.Config.ordered(), sa)
	if err != nil {
		return isakmp.Payload{}, err
	}
	s.policy = pol
	m.takeVendorIDs(s, msg.payloads)
	s.cr, err = cookie(m.rand)
	return reply.Payload(), err
}

func (m *Phase1) main1(s *state, msg message) ([]byte, error) {
	if err := isakmp.Check(isakmp.Main1, msg.h.Encrypted(), msg.payloads); err != nil {
		return nil, err
	}
	key, _, ok := m.p.Config.psk(m.p.Remote.Addr(), Identity{})
	if !ok {
		return nil, &refusal{DropNoPSK, NoPSK}
	}
	s.auth = pskAuth{key}
	sa, err := m.takeOffer(s, msg)
	if err != nil {
		return nil, err
	}
	s.stage, s.next = StageMMSASetup, (*Phase1).main3
	return s.clear(append([]isakmp.Payload{sa}, m.ownVendorIDs()...))
}

// main3 takes message 3 and makes message 4.
func (m *Phase1) main3(old *state, msg message) (*state, Result, error) {
	if err := isakmp.Check(isakmp.Main3, msg.h.Encrypted(), msg.payloads); err != nil {
		return nil, Result{}, err
	}
	s := *old
	natt := s.natt
	m.takeVendorIDs(&s, msg.payloads)
	s.natt = natt // decided by message 1
	var err error
	if s.gxi, s.ni, err = s.takeKE(msg); err != nil {
		return nil, Result{}, err
	}
	if err := m.takeNAT(&s, msg.payloads); err != nil {
		return nil, Result{}, err
	}
	if s.dh, err = NewDH(s.policy.Group, m.rand); err != nil {
		return nil, Result{}, err
	}
	s.gxr = s.dh.Public()
	if err := s.share(s.gxi); err != nil {
		return nil, Result{}, err
	}
	if s.nr, err = nonce(m.rand); err != nil {
		return nil, Result{}, err
	}
	if err := s.derive(); err != nil {
		return nil, Result{}, err
	}
	out, err := s.clear(append([]isakmp.Payload{isakmp.KEPayload(s.gxr), isakmp.NoncePayload(s.nr)}, m.natPayloads(&s)...))
	if err != nil {
		return nil, Result{}, err
	}
	s.stage, s.next = StageMMKeyExch, (*Phase1).main5
	return &s, Result{Reply: out}, nil
}

// main5 takes message 5 and makes message 6, which completes the exchange.
func (m *Phase1) main5(old *state, msg message) (*state, Result, error) {
	s := *old
	if err := s.opened(&msg); err != nil {
		return nil, Result{}, err
	}
	row, _, _ := s.auth.messages()
	if err := s.authenticate(row, msg, false); err != nil {
		return nil, Result{}, err
	}
	s.idr = m.identity()
	proof, err := s.auth.prove(s.hashR())
	if err != nil {
		return nil, Result{}, err
	}
	out, err := s.sealed(append([]isakmp.Payload{{Type: isakmp.PayloadID, Body: s.idr}}, proof...))
	if err != nil {
		return nil, Result{}, err
	}
	o, err := s.done(s.idi)
	return &s, Result{Reply: out, Outcome: o}, err
}

func (m *Phase1) aggr1(s *state, msg message) ([]byte, error) {
	if err := isakmp.Check(isakmp.Aggr1, msg.h.Encrypted(), msg.payloads); err != nil {
		return nil, err
	}
	if !m.p.Config.Aggressive {
		return nil, refuse(DropAggressive, "aggressive mode is off")
	}
	s.idi = append([]byte(nil), msg.find(isakmp.PayloadID)...)
	id, err := isakmp.ParseID(s.idi)
	if err != nil {
		return nil, &refusal{DropIdentity, err}
	}
	key, wild, ok := m.p.Config.psk(m.p.Remote.Addr(), Identity{id.Type, string(id.Data)})
	switch {
	case !ok:
		return nil, &refusal{DropNoPSK, NoPSK}
	case wild:
		return nil, &refusal{DropAggressive, AggressiveRefused}
	}
	s.auth = pskAuth{key}
	sa, err := m.takeOffer(s, msg)
	if err != nil {
		return nil, err
	}
	if s.gxi, s.ni, err = s.takeKE(msg); err != nil {
		return nil, err
	}
	if s.dh, err = NewDH(s.policy.Group, m.rand); err != nil {
		return nil, err
	}
	s.gxr = s.dh.Public()
	if err := s.share(s.gxi); err != nil {
		return nil, err
	}
	if s.nr, err = nonce(m.rand); err != nil {
		return nil, err
	}
	if err := s.derive(); err != nil {
		return nil, err
	}
	s.idr = m.identity()
	proof, err := s.auth.prove(s.hashR())
	if err != nil {
		return nil, err
	}
	s.stage, s.next = StageAGInitExch, (*Phase1).aggr3
	payloads := append([]isakmp.Payload{sa, isakmp.KEPayload(s.gxr), isakmp.NoncePayload(s.nr),
		{Type: isakmp.PayloadID, Body: s.idr}}, proof...)
	return s.clear(append(append(payloads, m.natPayloads(s)...), m.ownVendorIDs()...))
}

// aggr3 takes aggressive message 3, clear or encrypted, which completes the exchange.
func (m *Phase1) aggr3(old *state, msg message) (*state, Result, error) {
	s := *old
	if msg.h.Encrypted() {
		if err := s.opened(&msg); err != nil {
			return nil, Result{}, err
		}
	}
	_, _, row := s.auth.messages()
	if err := isakmp.Check(row, msg.h.Encrypted(), msg.payloads); err != nil {
		return nil, Result{}, &refusal{DropDecrypt, classed(AuthFailed, err)}
	}
	if err := s.auth.verify(s.hashI(), msg.payloads); err != nil {
		return nil, Result{}, err
	}
	if err := m.takeNAT(&s, msg.payloads); err != nil {
		return nil, Result{}, err
	}
	s.takeNotifies(msg.payloads)
	o, err := s.done(s.idi)
	return &s, Result{Outcome: o}, err
}

// classed joins a class and a detail in one line.
func classed(class, detail error) error { return fmt.Errorf("%w: %w", class, detail) }
