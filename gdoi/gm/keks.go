package gm

// The rekey SAs of a member: the KEK in force, the one before while the key server may
// still repeat its last message, and the SPIs of those that are gone, so that what is
// replayed under them is refused by name.

import (
	"crypto"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/policy"
	"getvpn/model/event"
)

const (
	// rollingOver is how long the KEK before still opens rekeys: the message that
	// brought the new one comes again under the old one when our acknowledgement was
	// lost.
	// What comes under a KEK that went sooner is judged as long, but not followed.
	rollingOver = 5 * time.Minute
	// remembered is how many SPIs of ended KEKs are listened to.
	remembered = 8
)

// rekeySA is a KEK as the member uses it.
type rekeySA struct {
	sa      gdoi.RekeySA
	pub     crypto.PublicKey
	src     netip.Addr // where rekeys come from, as the key server says
	dst     netip.Addr // where they go to
	ack     gdoi.AckRequest
	ends    time.Time
	last    uint32    // sequence number accepted last
	at      time.Time // when it was
	ended   bool
	judged  time.Time // until when the keys of an ended one stay, to tell what the key server still sends from replays
	release func()
}

// pushed is a datagram for a rekey SA.
type pushed struct {
	sa *rekeySA
	d  ike.Datagram
}

// maxPushed is how many rekeys may wait: a key server that sends more at once repeats.
const maxPushed = 32

// newRekeySA makes the SA of a KEK. public is the key of the SA before, for a rekey
// that doesn't say it.
func newRekeySA(k *policy.KEK, public crypto.PublicKey, ends time.Time) (*rekeySA, error) {
	if len(k.Public) > 0 {
		var err error
		if public, err = gdoi.ParsePublic(k.Public); err != nil {
			return nil, fmt.Errorf("public key of rekeys: %w", err)
		}
	}
	if public == nil {
		return nil, fmt.Errorf("no public key of rekeys")
	}
	return &rekeySA{sa: gdoi.RekeySA{SPI: k.SPI, Algorithm: k.Cipher, IV: k.IV.Clone(), Key: k.Key.Clone(), SigHash: k.SigHash, SigAlg: k.SigAlg},
		pub: public, src: k.Src.Addr(), dst: k.Dst.Addr(), ack: k.Ack, ends: ends, last: k.Seq}, nil
}

// is reports whether k is this SA.
func (r *rekeySA) is(k *policy.KEK) bool { return r.sa.SPI == k.SPI && r.sa.Key.Equal(k.Key) }

// kekNow is the SA in force; nil: none.
func (m *Member) kekNow() *rekeySA {
	if n := len(m.keks); n > 0 {
		return m.keks[n-1]
	}
	return nil
}

// adopt makes the KEK of a download or a rekey the one in force. keep leaves the one
// before open for a while. A KEK that is held already keeps its sequence number if the
// download's is lower: that is stale (RFC 6407 §3.2).
func (m *Member) adopt(k *policy.KEK, ends, now time.Time, keep bool) error {
	cur := m.kekNow()
	if cur != nil && cur.is(k) {
		cur.last, cur.ends, cur.ack = max(cur.last, k.Seq), ends, k.Ack
		cur.src, cur.dst = k.Src.Addr(), k.Dst.Addr()
		if len(k.Public) > 0 {
			pub, err := gdoi.ParsePublic(k.Public)
			if err != nil {
				return fmt.Errorf("public key of rekeys: %w", err)
			}
			cur.pub = pub
		}
		return nil
	}
	var public crypto.PublicKey
	if cur != nil {
		public = cur.pub
	}
	n, err := newRekeySA(k, public, ends)
	if err != nil {
		return err
	}
	for _, x := range slices.Clone(m.keks) {
		x.succeeded(now)
		if !keep || x != cur {
			m.endKEK(x, now)
		}
	}
	if keep && cur != nil {
		if end := now.Add(rollingOver); end.Before(cur.ends) {
			cur.ends = end
		}
	}
	m.keks = append(m.keks, n)
	m.listen(n)
	if cur != nil {
		m.later(event.GMKEKUpdated{})
		switch was, is := cur.dst.IsMulticast(), n.dst.IsMulticast(); {
		case was && !is:
			m.later(event.GMRekeyToUnicast{Group: m.o.Group.Name})
		case is && !was:
			m.later(event.GMRekeyToMulticast{Group: m.o.Group.Name})
		}
	}
	return nil
}

// listen gives the SA's datagrams to the actor. The endpoint's goroutine never waits:
// what doesn't fit is dropped and counted, and the key server sends it again.
func (m *Member) listen(r *rekeySA) {
	if m.o.Rekeys == nil {
		return
	}
	ci, cr := r.sa.SPI.Cookies()
	r.release = m.o.Rekeys.HandlePush(ci, cr, func(d ike.Datagram) {
		select {
		case m.pushes <- pushed{r, d}:
		default:
			m.overflow.Add(1)
		}
	})
}

// succeeded notes that the key server has put an end to the SA before its time. It goes
// on sending under it, to members that don't know that yet: in a multicast group, to all.
func (r *rekeySA) succeeded(now time.Time) {
	if r.judged.IsZero() {
		r.judged = now.Add(rollingOver)
		if r.ends.Before(r.judged) {
			r.judged = r.ends
		}
	}
}

// endKEK ends an SA: nothing is done any more that is said under it. Its keys go with it,
// or when nothing is judged by them any more; its cookies are listened to for a while.
func (m *Member) endKEK(r *rekeySA, now time.Time) {
	m.keks = slices.DeleteFunc(m.keks, func(x *rekeySA) bool { return x == r })
	if r.ended {
		return
	}
	r.ended = true
	if !now.Before(r.judged) {
		r.zero()
	}
	m.gone = append(m.gone, r)
	if len(m.gone) > remembered {
		m.gone[0].zero()
		m.gone[0].silence()
		m.gone = m.gone[1:]
	}
}

func (r *rekeySA) zero() {
	r.sa.IV.Zero()
	r.sa.Key.Zero()
	r.judged = time.Time{}
}

func (r *rekeySA) silence() {
	if r.release != nil {
		r.release()
		r.release = nil
	}
}

// endKEKs ends all of them.
func (m *Member) endKEKs(now time.Time) {
	for _, r := range slices.Clone(m.keks) {
		m.endKEK(r, now)
	}
	m.h.kek = nil
}

// forgetKEKs ends all of them and leaves no key.
func (m *Member) forgetKEKs(now time.Time) {
	m.endKEKs(now)
	for _, r := range m.gone {
		r.zero()
	}
}

// expireKEKs ends what has lived; reports whether the one in force did.
func (m *Member) expireKEKs(now time.Time) (last bool) {
	for _, r := range slices.Clone(m.keks) {
		if now.Before(r.ends) {
			continue
		}
		if r == m.kekNow() {
			last = true
			m.h.kek = nil
		}
		m.endKEK(r, now)
	}
	for _, r := range m.gone {
		if !now.Before(r.judged) {
			r.zero()
		}
	}
	return last
}

// silenceAll ends the registrations at the endpoint, when the actor ends.
func (m *Member) silenceAll() {
	for _, r := range slices.Concat(m.keks, m.gone) {
		r.silence()
	}
}
