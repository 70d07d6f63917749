package main

// A member's keys, and what it does with a rekey: everything that the protocol asks of
// it (RFC 6407 §4.4, RFC 8263 §4), with the product's own code, once for each member,
// although all get the same datagram. It installs nothing.

import (
	"crypto"
	"errors"
	"fmt"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/gm"
	"getvpn/gdoi/isakmp"
	"getvpn/gdoi/policy"
)

// keys are what a member got last.
type keys struct {
	sa   gdoi.RekeySA
	pub  crypto.PublicKey
	ask  gdoi.AckRequest
	last uint32        // number of the rekey accepted last
	left time.Duration // of the newest TEK's life, when it came
	ends time.Time
}

var errOffer = errors.New("an offer without keys")

// take keeps what a registration brought.
func (m *member) take(r *gm.PullResult) error {
	k := r.Offer.KEK
	if k == nil || len(r.Offer.TEKs) == 0 {
		return errOffer
	}
	pub, err := gdoi.ParsePublic(k.Public)
	if err != nil {
		return fmt.Errorf("public key of rekeys: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t := newest(&r.Offer)
	m.keys = keys{sa: gdoi.RekeySA{SPI: k.SPI, Algorithm: k.Cipher, IV: k.IV.Clone(), Key: k.Key.Clone(), SigHash: k.SigHash, SigAlg: k.SigAlg},
		pub: pub, ask: k.Ack, last: k.Seq, left: t.Lifetime, ends: r.At.Add(t.Lifetime)}
	return nil
}

func newest(o *policy.Offer) *policy.TEK {
	best := &o.TEKs[0]
	for i := range o.TEKs {
		if t := &o.TEKs[i]; t.Lifetime > best.Lifetime {
			best = t
		}
	}
	return best
}

// rekey opens a rekey and returns the acknowledgement.
func (m *member) rekey(d []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ack, seq, err := m.keys.open(d, m.keys.last, m)
	if err == nil {
		m.keys.last = seq
	}
	return ack, err
}

// prepare makes the acknowledgement of the next rekey in advance: the key server can't
// tell it from one of a member that has read the rekey.
func (m *member) prepare() {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := &m.keys
	a := k.sa.AckKey(k.ask)
	defer a.Zero()
	m.prepared = a.Seal(k.last+1, isakmp.AddrID(m.addr), k.sa.SPI)
}

// unread is what was prepared, once.
func (m *member) unread() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.prepared
	if a != nil {
		m.prepared = nil
		m.keys.last++
	}
	return a
}

// again opens a rekey that was opened before and returns the acknowledgement anew.
func (m *member) again(d []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ack, _, err := m.keys.open(d, 0, m)
	return ack, err
}

func (k *keys) open(d []byte, last uint32, m *member) (ack []byte, seq uint32, err error) {
	p, err := k.sa.Open(d, last, k.pub)
	if err != nil {
		return nil, 0, err
	}
	r, err := policy.DecodeRekey(p)
	if err != nil {
		return nil, 0, err
	}
	if r.Offer == nil || len(r.Offer.TEKs) == 0 {
		return nil, 0, errOffer
	}
	a := k.sa.AckKey(k.ask)
	defer a.Zero()
	return a.Seal(r.Seq, isakmp.AddrID(m.addr), k.sa.SPI), p.Seq, nil
}
