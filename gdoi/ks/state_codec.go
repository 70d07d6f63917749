package ks

// The form of saved state: a version, then every field of durable in order. A form that
// this program doesn't know is refused; there is no reading of half of one.

import (
	"fmt"
	"net/netip"

	"getvpn/gdoi/coop"
	"getvpn/internal/secret"
	"getvpn/ipsec"
	"getvpn/model"
)

// stateVersion is the form. It changes with any field.
const stateVersion = 3

// encode makes octets of state; they hold keys, so the caller zeroes them.
func (d *durable) encode() (secret.Bytes, error) {
	b := make(secret.Bytes, 0, 4096+256*len(d.Members))
	c := &coder{to: &b}
	c.put(stateVersion)
	d.walk(c)
	if c.err != nil {
		b.Zero()
		return nil, c.err
	}
	return b, nil
}

// decodeState reads what encode made. It keeps nothing of b.
func decodeState(b []byte) (durable, error) {
	var d durable
	if len(b) == 0 {
		return d, errCoded
	}
	if b[0] != stateVersion {
		return d, fmt.Errorf("ks: saved state of form %d, this program knows %d", b[0], stateVersion)
	}
	c := &coder{from: b[1:]}
	d.walk(c)
	if c.err == nil && len(c.from) > 0 {
		c.fail()
	}
	if c.err == nil {
		c.err = d.check()
	}
	if c.err != nil {
		d.zero()
		return durable{}, c.err
	}
	return d, nil
}

func (d *durable) walk(c *coder) {
	c.moment(&d.At)
	c.text(&d.Machine)
	number(c, &d.Boot)
	c.flag(&d.Clean)
	c.array(d.Form[:])
	c.array(d.Policy[:])
	c.array(d.Generation[:])
	number(c, &d.SIDBits)
	number(c, &d.Epoch)
	number(c, &d.Version)
	number(c, &d.Ord)
	list(c, &d.Entries, 2, func(e *durableEntry) {
		number(c, &e.Seq)
		list(c, &e.TEKs, 10, func(t *durableTEK) { t.walk(c) })
	})
	list(c, &d.KEKs, 20, func(k *durableKEK) { k.walk(c) })
	c.flag(&d.InForce)
	number(c, &d.Pseudotime)
	c.flag(&d.Started)
	list(c, &d.Members, 20, func(m *durableMember) { m.walk(c) })
	c.flag(&d.Again)
	number(c, &d.RekeysSent)
	for _, l := range []*[]Generation{&d.Contains, &d.Ended} {
		list(c, l, 16, func(g *Generation) { c.array(g[:]) })
	}
	list(c, &d.Listed, 17, func(l *sharedLedger) { l.walk(c) })
	walkKeysID(c, &d.Coop.Keys)
	list(c, &d.Coop.Numbers, 20, func(k *coop.KEK) { walkNumbers(c, k) })
}

func (t *durableTEK) walk(c *coder) {
	number(c, &t.SPI)
	octets(c, &t.Key)
	octets(c, &t.AuthKey)
	c.moment(&t.Created)
	c.moment(&t.Expires)
	number(c, &t.Transform.Cipher)
	number(c, &t.Transform.KeyBits)
	number(c, &t.Transform.ICVLen)
	number(c, &t.Transform.Auth)
	number(c, &t.Transform.Mode)
	number(c, &t.Lifetime)
	number(c, &t.Replay.Mode)
	number(c, &t.Replay.Window)
	c.flag(&t.Tag)
}

func (k *durableKEK) walk(c *coder) {
	number(c, &k.Ord)
	c.array(k.SPI[:])
	octets(c, &k.IV)
	octets(c, &k.Key)
	c.moment(&k.Created)
	c.moment(&k.Expires)
	number(c, &k.Cipher)
	number(c, &k.KeyBits)
	number(c, &k.Hash)
	number(c, &k.Ack)
	number(c, &k.Lifetime)
	c.addrPort(&k.Multicast)
	octets(c, &k.Public)
	number(c, &k.Reserved)
	c.flag(&k.Side)
}

func walkNumbers(c *coder, k *coop.KEK) {
	c.array(k.SPI[:])
	number(c, &k.Last)
	number(c, &k.Base)
	list(c, &k.Holders, 1, func(a *netip.Addr) { c.addr(a) })
	c.flag(&k.Void)
}

func (m *durableMember) walk(c *coder) {
	walkRow(c, &m.Row)
	c.addrPort(&m.Path)
	c.addr(&m.Local)
	c.addr(&m.Alt)
	c.moment(&m.Ends)
	number(c, &m.Holds)
	number(c, &m.Silent)
	number(c, &m.Acks)
	c.addr(&m.Origin)
	c.flag(&m.NAT)
	c.array(m.SPI[:])
	c.array(m.Generation[:])
}

func walkRow(c *coder, r *model.Member) {
	c.addr(&r.Addr)
	c.text(&r.Identity)
	c.text(&r.Version)
	c.moment(&r.Registered)
	c.moment(&r.LastPull)
	number(c, &r.Registrations)
	number(c, &r.RekeysSent)
	number(c, &r.RekeyRetries)
	number(c, &r.AcksRcvd)
	number(c, &r.AcksMissed)
	list(c, &r.SIDs, 1, func(s *uint32) { number(c, s) })
	for i := range r.SentSeqs {
		number(c, &r.SentSeqs[i])
	}
	for i := range r.RcvdSeqs {
		number(c, &r.RcvdSeqs[i])
	}
}

// check finds what a group couldn't work with, whoever wrote it.
func (d *durable) check() error {
	for _, e := range d.Entries {
		for _, t := range e.TEKs {
			x := t.Transform
			if x.Cipher > ipsec.CipherAESGMAC || x.Auth > ipsec.AuthSHA512 || x.Mode > ipsec.Transport || t.Replay.Mode > ipsec.ReplayTime {
				return fmt.Errorf("%w: a transform that isn't known", errCoded)
			}
			if t.SPI <= 255 || len(t.Key) != x.CipherKeyLen() || len(t.AuthKey) != x.AuthKeyLen() || t.Lifetime <= 0 {
				return fmt.Errorf("%w: a TEK that can't be", errCoded)
			}
		}
	}
	last := uint32(0)
	for _, k := range d.KEKs {
		s := kekSpec{cipher: k.Cipher, keyBits: k.KeyBits}
		if k.Ord <= last || k.Ord > d.Ord || len(k.Key) != s.keyLen() || len(k.IV) != s.ivLen() || k.Lifetime <= 0 {
			return fmt.Errorf("%w: a KEK that can't be", errCoded)
		}
		last = k.Ord
	}
	for _, m := range d.Members {
		if !m.Row.Addr.IsValid() || !m.Path.IsValid() {
			return fmt.Errorf("%w: a member without an address", errCoded)
		}
	}
	return nil
}

// zero forgets the keys of state that isn't used.
func (d *durable) zero() {
	for _, e := range d.Entries {
		for _, t := range e.TEKs {
			t.Key.Zero()
			t.AuthKey.Zero()
		}
	}
	for _, k := range d.KEKs {
		k.Key.Zero()
	}
}
