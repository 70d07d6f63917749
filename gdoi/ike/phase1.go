package ike

import (
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/secret"
)

// This file is the frame of the phase-1 machine: what it is made with, how a message
// is tried, what comes out. The steps are in initiator.go and responder.go.
//
// Until message 5 nothing is authenticated: a forged message 2, 3 or 4 can look as
// good as the genuine one. So the machine is a small tree: a message that fits makes a
// new state and the old one stays, up to maxStates; a later message is tried on the
// newest state first. Whoever forges messages costs the genuine peer nothing but a
// place in that list.

// Params are what a phase 1 starts with.
type Params struct {
	Config        *Config
	Local, Remote netip.AddrPort // as the datagrams carry them, for NAT detection
	NATT          bool           // offer NAT traversal
	Aggressive    bool           // initiator: which mode
	VendorIDs     [][]byte       // ours, beside NAT-T's and DPD's
}

// Phase1 is one phase 1 at one side. It isn't safe for concurrent use.
type Phase1 struct {
	p         Params
	initiator bool
	rand      io.Reader
	states    []*state // oldest first
	answered  []answer
	outcome   *Outcome
	steps     int // taken, each of which may have cost a Diffie-Hellman
}

// maxStates bounds the tree; the states of one honest run are at most 3.
const maxStates = 6

// maxSteps bounds the arithmetic that forged messages can cause; an honest run takes 2.
const maxSteps = 16

// answer remembers an accepted message and what was sent for it.
type answer struct {
	in  digest
	out []byte
}

// Result is what a message led to. Reply may be nil. Duplicate: the message was a copy,
// nothing moved, Reply is the former answer. Float: from this reply on the initiator
// uses port 4500 at both ends. Outcome is set when the message completed phase 1.
type Result struct {
	Reply     []byte
	Duplicate bool
	Float     bool
	Outcome   *Outcome
}

// Outcome is an established SA's content.
type Outcome struct {
	prot      protector
	policy    Policy
	identity  Identity
	vendorIDs [][]byte
	dpd       bool
	natt      bool // a NAT is between, port 4500 is in use
	natHere   bool // it is before us
	initial   bool // the peer says INITIAL-CONTACT
}

// Stage is how far a phase 1 is, in the vendor's words.
type Stage string

const (
	StageMMNoState  Stage = "MM_NO_STATE"
	StageMMSASetup  Stage = "MM_SA_SETUP"
	StageMMKeyExch  Stage = "MM_KEY_EXCH"
	StageMMKeyAuth  Stage = "MM_KEY_AUTH"
	StageAGNoState  Stage = "AG_NO_STATE"
	StageAGInitExch Stage = "AG_INIT_EXCH"
	StageAGAuth     Stage = "AG_AUTH"
	StageIdle       Stage = "GDOI_IDLE"
)

// state is a point between two messages. It is never changed once it is in the tree:
// a step works on a copy.
type state struct {
	stage      Stage
	aggressive bool
	ci, cr     isakmp.Cookie
	policies   []Policy // initiator: as offered
	policy     Policy
	auth       authenticator
	sai        []byte // body of the initiator's SA payload
	dh         *DH
	gxi, gxr   []byte
	ni, nr     []byte
	gxy        secret.Bytes
	km         Keymat
	block      cipher.Block
	iv         []byte
	idi, idr   []byte // bodies
	vendorIDs  [][]byte
	natt, dpd  bool // the peer sent those vendor IDs (and we offered NAT-T)
	nat        struct{ here, there, found bool }
	initial    bool
	// next handles the message that may come now.
	next func(m *Phase1, s *state, msg message) (*state, Result, error)
}

// message is a parsed phase-1 datagram.
type message struct {
	h        isakmp.Header
	raw      []byte
	payloads []isakmp.Payload // of a clear one
}

// find is the body of the first payload of the type, nil if there is none.
func (m message) find(t isakmp.PayloadType) []byte {
	p, _ := isakmp.Find(m.payloads, t)
	return p.Body
}

// Cookies are the newest state's pair; the responder's is zero before message 2.
func (m *Phase1) Cookies() (ci, cr isakmp.Cookie) {
	s := m.newest()
	return s.ci, s.cr
}

// Stage is the newest state's.
func (m *Phase1) Stage() Stage { return m.newest().stage }

// Policy is what was negotiated in the newest state, zero before that.
func (m *Phase1) Policy() Policy { return m.newest().policy }

// SentProof tells whether our identity and proof are under way unanswered: silence now
// means that the peer couldn't decrypt them.
func (m *Phase1) SentProof() bool {
	return m.initiator && m.outcome == nil && m.newest().stage == StageMMKeyAuth
}

func (m *Phase1) newest() *state { return m.states[len(m.states)-1] }

// Handle takes a datagram (whose header the caller has checked against the cookies).
// An error leaves everything as it was. errors.Is(err, AuthFailed) tells that the
// peer's proof was wrong or couldn't be decrypted.
func (m *Phase1) Handle(datagram []byte) (Result, error) {
	d := digest(sha256.Sum256(datagram))
	for _, a := range m.answered {
		if a.in == d {
			return Result{Reply: a.out, Duplicate: true}, nil
		}
	}
	if m.outcome != nil {
		return Result{}, refuse(DropUnexpected, "phase 1 is complete")
	}
	if m.steps == maxSteps {
		return Result{}, refuse(DropOverload, "too many different messages in one phase 1")
	}
	msg, err := parsePhase1(datagram)
	if err != nil {
		return Result{}, err
	}
	var first error
	for i := len(m.states) - 1; i >= 0; i-- {
		s := m.states[i]
		if msg.h.ICookie != s.ci || (!s.cr.IsZero() && msg.h.RCookie != s.cr) {
			continue
		}
		if want := modeOf(s.aggressive); msg.h.Exchange != want {
			continue
		}
		next, r, err := s.next(m, s, msg)
		if err != nil {
			if first == nil || errors.Is(err, AuthFailed) && !errors.Is(first, AuthFailed) {
				first = err
			}
			continue
		}
		m.steps++
		m.answered = append(m.answered, answer{d, r.Reply})
		if r.Outcome != nil {
			m.finish(next, r.Outcome)
			return r, nil
		}
		if len(m.states) == maxStates { // keep the root and the newest
			m.states = append(m.states[:1], m.states[2:]...)
			k := 1 // the answer that belongs to it: a responder's first is message 2
			if m.initiator {
				k = 0
			}
			m.answered = append(m.answered[:k], m.answered[k+1:]...)
		}
		m.states = append(m.states, next)
		return r, nil
	}
	if first == nil {
		first = refuse(DropUnexpected, "no state waits for this message")
	}
	return Result{}, first
}

// finish drops everything but the last state, whose secrets live on in the outcome.
func (m *Phase1) finish(s *state, o *Outcome) {
	for _, old := range m.states {
		if old.dh != nil {
			old.dh.Zero()
		}
		if len(old.km.A) > 0 && &old.km.A[0] != &s.km.A[0] { // a branch that led nowhere
			old.km.Zero()
			old.gxy.Zero()
		}
	}
	s.gxy.Zero()
	s.stage, s.dh, s.next = StageIdle, nil, nil
	m.states, m.outcome = []*state{s}, o
}

func parsePhase1(datagram []byte) (message, error) {
	h, err := isakmp.ParseHeader(datagram)
	if err != nil {
		return message{}, err
	}
	if h.MessageID != 0 {
		return message{}, refuse(DropUnexpected, "phase 1 with a message ID")
	}
	msg := message{h: h, raw: datagram}
	if !h.Encrypted() {
		_, msg.payloads, err = isakmp.ParseClear(datagram)
	}
	return msg, err
}

func modeOf(aggressive bool) isakmp.ExchangeType {
	if aggressive {
		return isakmp.Aggressive
	}
	return isakmp.MainMode
}

// clear makes an unencrypted message.
func (s *state) clear(payloads []isakmp.Payload) ([]byte, error) {
	return isakmp.AppendClear(nil, isakmp.Header{ICookie: s.ci, RCookie: s.cr, Exchange: modeOf(s.aggressive)}, payloads)
}

// sealed makes an encrypted message and moves the state's IV.
func (s *state) sealed(payloads []isakmp.Payload) ([]byte, error) {
	d, next, err := sealMessage(s.block, isakmp.Header{ICookie: s.ci, RCookie: s.cr, Exchange: modeOf(s.aggressive)}, s.iv, payloads)
	if err == nil {
		s.iv = next
	}
	return d, err
}

// opened decrypts msg in place and moves the state's IV. What doesn't parse afterwards
// is a sign of different keys.
func (s *state) opened(msg *message) error {
	payloads, _, next, err := openMessage(s.block, msg.h, s.iv, msg.raw)
	if err != nil {
		if r := Reason(err); r == DropDecrypt || r == DropTrailing {
			return &refusal{DropDecrypt, fmt.Errorf("%w: garbage after decryption", AuthFailed)}
		}
		return err
	}
	msg.payloads, s.iv = payloads, next
	return nil
}

// derive computes all keys from the shared secret.
func (s *state) derive() error {
	skeyid := s.auth.skeyid(s.policy.Hash, s.ni, s.nr, s.gxy)
	s.km = NewKeymat(s.policy.Hash, skeyid, s.gxy, s.ci, s.cr, s.policy.Encr.keyLen(s.policy.KeyBits))
	s.iv = IV1(s.policy.Hash, s.gxi, s.gxr, s.policy.Encr.Block())
	var err error
	s.block, err = s.policy.Encr.cipher(s.km.Key)
	return err
}

// hashI and hashR are what the sides prove.
func (s *state) hashI() []byte { return s.km.HashI(s.gxi, s.gxr, s.ci, s.cr, s.sai, s.idi) }
func (s *state) hashR() []byte { return s.km.HashR(s.gxi, s.gxr, s.ci, s.cr, s.sai, s.idr) }

// done makes the outcome; peer is the body of its ID payload.
func (s *state) done(peer []byte) (*Outcome, error) {
	id, err := isakmp.ParseID(peer)
	if err != nil {
		return nil, err
	}
	return &Outcome{
		prot:   protector{ci: s.ci, cr: s.cr, encr: s.policy.Encr, km: s.km, block: s.block, lastBlock: s.iv},
		policy: s.policy, identity: Identity{id.Type, string(id.Data)}, vendorIDs: s.vendorIDs,
		dpd: s.dpd, natt: s.nat.found, natHere: s.nat.here, initial: s.initial,
	}, nil
}

// ownVendorIDs are the VID payloads of our first message.
func (m *Phase1) ownVendorIDs() []isakmp.Payload {
	var out []isakmp.Payload
	if m.p.NATT {
		out = append(out, isakmp.VendorIDPayload([]byte(vidNATT)))
	}
	out = append(out, isakmp.VendorIDPayload([]byte(vidDPD)))
	for _, v := range m.p.VendorIDs {
		out = append(out, isakmp.VendorIDPayload(v))
	}
	return out
}

// takeVendorIDs notes the peer's; unknown ones are kept, none is required.
func (m *Phase1) takeVendorIDs(s *state, payloads []isakmp.Payload) {
	for _, p := range payloads {
		if p.Type != isakmp.PayloadVendorID {
			continue
		}
		switch vendorID(p.Body) {
		case vidNATT:
			s.natt = m.p.NATT
		case vidDPD:
			s.dpd = true
		}
		s.vendorIDs = append(s.vendorIDs[:len(s.vendorIDs):len(s.vendorIDs)], append([]byte(nil), p.Body...))
	}
}

// takeNAT compares the peer's NAT-D payloads, if both sides offered NAT traversal.
func (m *Phase1) takeNAT(s *state, payloads []isakmp.Payload) error {
	if !s.natt {
		return nil
	}
	here, there, present, err := natDetect(s.policy.Hash, s.ci, s.cr, m.p.Local, m.p.Remote, payloads)
	if err != nil {
		return err
	}
	if !present {
		s.natt = false
	}
	s.nat.here, s.nat.there, s.nat.found = here, there, here || there
	return nil
}

// natPayloads are ours, nil without NAT traversal.
func (m *Phase1) natPayloads(s *state) []isakmp.Payload {
	if !s.natt {
		return nil
	}
	return natPayloads(s.policy.Hash, s.ci, s.cr, m.p.Local, m.p.Remote)
}

// identity is the body of our ID payload; protocol and port are 0 (RFC 3947 §4).
func (m *Phase1) identity() []byte {
	id := m.p.Config.Identity
	if id == (Identity{}) {
		id = AddrIdentity(m.p.Local.Addr())
	}
	return isakmp.ID{Type: id.Type, Data: []byte(id.Data)}.Body()
}

// takeNotifies looks for INITIAL-CONTACT in a protected message.
func (s *state) takeNotifies(payloads []isakmp.Payload) {
	for _, p := range payloads {
		if p.Type != isakmp.PayloadNotify {
			continue
		}
		if n, err := isakmp.ParseNotify(p.Body); err == nil && n.Type == isakmp.NotifyInitialContact {
			s.initial = true
		}
	}
}

// nonce draws 32 octets.
func nonce(r io.Reader) ([]byte, error) {
	b := make([]byte, 32)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("random numbers: %w", err)
	}
	return b, nil
}

// cookie draws 8 octets that aren't all zero.
func cookie(r io.Reader) (c isakmp.Cookie, err error) {
	for range 8 {
		if _, err = io.ReadFull(r, c[:]); err != nil {
			return c, fmt.Errorf("random numbers: %w", err)
		}
		if !c.IsZero() {
			return c, nil
		}
	}
	return c, errors.New("random source yields zeros")
}

// takeKE checks the peer's KE and nonce payloads.
func (s *state) takeKE(msg message) (ke, n []byte, err error) {
	ke = append([]byte(nil), msg.find(isakmp.PayloadKE)...)
	if err := CheckPublic(s.policy.Group, ke); err != nil {
		return nil, nil, &refusal{DropPublicValue, err}
	}
	n, err = isakmp.ParseNonce(msg.find(isakmp.PayloadNonce), isakmp.MinNonce, isakmp.MaxNonce)
	if err != nil {
		return nil, nil, &refusal{DropNonce, err}
	}
	return ke, append([]byte(nil), n...), nil
}

// share computes g^xy with the peer's value.
func (s *state) share(peer []byte) error {
	z, err := s.dh.Shared(peer)
	if err != nil {
		return &refusal{DropPublicValue, err}
	}
	s.gxy = z
	return nil
}
