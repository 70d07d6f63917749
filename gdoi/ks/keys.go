package ks

// The keys of one group as a machine: time and randomness in, keys out. Each
// "sa ipsec" entry has one TEK, and for a while its successor too; both are handed to
// whoever registers. Nothing here is on the wire or on disk.

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	"getvpn/gdoi/policy"
	"getvpn/internal/secret"
	"getvpn/ipsec"
)

// tek is one data SA's key. Never changed after it was made.
type tek struct {
	spi     uint32
	key     secret.Bytes
	authKey secret.Bytes
	created time.Time
	expires time.Time
}

// kek is the rekey SA's key. Never changed after it was made.
type kek struct {
	spi     [16]byte
	iv      secret.Bytes
	key     secret.Bytes
	created time.Time
	expires time.Time
}

// keySpec is what the configuration says of one entry's keys.
type keySpec struct {
	transform ipsec.Transform
	lifetime  time.Duration
}

// kekSpec is what the configuration says of the KEK. Nil: a group without rekeys.
type kekSpec struct {
	ivLen, keyLen int // octets
	lifetime      time.Duration
}

// keyring holds a group's keys. Before the first registration it is empty.
type keyring struct {
	specs []keySpec
	kspec *kekSpec
	rand  io.Reader

	gen   Generation // new with every clean slate
	slate uint64     // counts clean slates: 0 means no keys yet
	teks  [][]*tek   // by entry, oldest first
	kek   *kek
}

func newKeyring(specs []keySpec, kspec *kekSpec, rand io.Reader) *keyring {
	return &keyring{specs: specs, kspec: kspec, rand: rand}
}

// active reports whether there are keys.
func (k *keyring) active() bool { return k.slate > 0 }

// reset throws all keys away and makes new ones: at the first registration, and when
// Sender IDs are used up. On error nothing has changed.
func (k *keyring) reset(now time.Time) error {
	n := *k
	n.teks, n.kek = make([][]*tek, len(k.specs)), nil
	if _, err := io.ReadFull(k.rand, n.gen[:]); err != nil {
		return fmt.Errorf("ks: new key generation: %w", err)
	}
	n.slate++
	if err := n.fill(now); err != nil {
		return err
	}
	*k = n
	return nil
}

// advance drops what has ended and makes what is due; changed reports whether it
// did. On error nothing has changed.
func (k *keyring) advance(now time.Time) (changed bool, err error) {
	if !k.active() || now.Before(k.wake()) {
		return false, nil
	}
	n := *k
	n.teks = make([][]*tek, len(k.teks))
	for i, list := range k.teks {
		n.teks[i] = slices.DeleteFunc(slices.Clone(list), func(t *tek) bool { return !now.Before(t.expires) })
	}
	if err := n.fill(now); err != nil {
		return false, err
	}
	*k = n
	return true, nil
}

// fill makes the keys that are missing or due at now.
func (k *keyring) fill(now time.Time) error {
	for i, s := range k.specs {
		list := k.teks[i]
		if len(list) > 0 && now.Before(due(list, s.lifetime)) {
			continue
		}
		t, err := k.newTEK(s, now)
		if err != nil {
			return err
		}
		k.teks[i] = append(list, t)
	}
	if k.kspec != nil && (k.kek == nil || !now.Before(k.kekDue())) {
		n, err := k.newKEK(now)
		if err != nil {
			return err
		}
		k.kek = n
	}
	return nil
}

// due is when the newest TEK of an entry needs a successor.
func due(list []*tek, life time.Duration) time.Time {
	return list[len(list)-1].expires.Add(-policy.ReadyBefore(life))
}

// kekReserve is the vendor's least time between a KEK's rekey and its end.
const kekReserve = 200 * time.Second

// kekDue is when the KEK is replaced: in time for the members' windows and 200 s
// before its end, but never before half of its life.
func (k *keyring) kekDue() time.Time {
	life := k.kspec.lifetime
	return k.kek.expires.Add(-min(life/2, max(kekReserve, policy.ReadyBefore(life))))
}

// wake is when advance has something to do next; zero while there are no keys.
func (k *keyring) wake() time.Time {
	var w time.Time
	sooner := func(t time.Time) {
		if w.IsZero() || t.Before(w) {
			w = t
		}
	}
	for i, list := range k.teks {
		if len(list) > 0 {
			sooner(due(list, k.specs[i].lifetime))
			sooner(list[0].expires)
		}
	}
	if k.kek != nil {
		sooner(k.kekDue())
	}
	return w
}

func (k *keyring) newTEK(s keySpec, now time.Time) (*tek, error) {
	t := &tek{created: now, expires: now.Add(s.lifetime)}
	for t.spi == 0 || k.knows(t.spi) {
		var b [4]byte
		if _, err := io.ReadFull(k.rand, b[:]); err != nil {
			return nil, fmt.Errorf("ks: new SPI: %w", err)
		}
		// RFC 4303 §2.1 reserves 0 to 255.
		if v := binary.BigEndian.Uint32(b[:]); v > 255 {
			t.spi = v
		}
	}
	var err error
	if t.key, err = k.octets(s.transform.CipherKeyLen()); err != nil {
		return nil, err
	}
	if s.transform.Cipher == ipsec.Cipher3DES {
		oddParity(t.key)
	}
	if t.authKey, err = k.octets(s.transform.AuthKeyLen()); err != nil {
		return nil, err
	}
	return t, nil
}

func (k *keyring) newKEK(now time.Time) (*kek, error) {
	n := &kek{created: now, expires: now.Add(k.kspec.lifetime)}
	// The SPI is the cookie pair of PUSH messages: both halves must not be zero
	// (RFC 2408 §2.5.3).
	for allZero(n.spi[:8]) || allZero(n.spi[8:]) {
		if _, err := io.ReadFull(k.rand, n.spi[:]); err != nil {
			return nil, fmt.Errorf("ks: new KEK SPI: %w", err)
		}
	}
	var err error
	if n.iv, err = k.octets(k.kspec.ivLen); err != nil {
		return nil, err
	}
	if n.key, err = k.octets(k.kspec.keyLen); err != nil {
		return nil, err
	}
	if k.kspec.keyLen == 24 && k.kspec.ivLen == 8 {
		oddParity(n.key) // 3DES
	}
	return n, nil
}

func (k *keyring) knows(spi uint32) bool {
	for _, list := range k.teks {
		for _, t := range list {
			if t.spi == spi {
				return true
			}
		}
	}
	return false
}

func (k *keyring) octets(n int) (secret.Bytes, error) {
	b := make(secret.Bytes, n)
	if _, err := io.ReadFull(k.rand, b); err != nil {
		return nil, fmt.Errorf("ks: new key: %w", err)
	}
	return b, nil
}

// oddParity sets the parity bits of DES keys (RFC 6407 §5.6.1.1).
func oddParity(key []byte) {
	for i, b := range key {
		p := b >> 1
		p ^= p >> 4
		p ^= p >> 2
		p ^= p >> 1
		key[i] = b&^1 | ^p&1
	}
}

func allZero(b []byte) bool { return !slices.ContainsFunc(b, func(x byte) bool { return x != 0 }) }
