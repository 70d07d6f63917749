package ks

// The keys of one group as a machine: time and randomness in, keys out. Each
// "sa ipsec" entry has one TEK, and for a while its successor too; both are handed to
// whoever registers. A TEK keeps the transform and the replay policy that it was made
// with, whatever the configuration says later. Nothing here is on the wire or on disk.

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/policy"
	"getvpn/internal/secret"
	"getvpn/ipsec"
)

// tek is one data SA's key. Never changed after it was made; a shortened one is a copy.
type tek struct {
	keySpec
	spi     uint32
	key     secret.Bytes
	authKey secret.Bytes
	created time.Time
	expires time.Time
}

// kek is the rekey SA's key. All but its sequence is never changed after it was made.
type kek struct {
	kekSpec
	ord     uint32 // counts the KEKs of the group: a later one has a higher one
	spi     gdoi.KEKSPI
	iv      secret.Bytes
	key     secret.Bytes
	created time.Time
	expires time.Time
	seq     *sequence
	side    bool // of members of another primary, whose keys were merged with ours
	restate bool // members must hear of it again though they have it: what it asks of them changed
}

// sequence numbers the PUSH messages under one KEK, from 1 (RFC 6407 §3.2, §5.7).
// Numbers are reserved, which is to say saved, before they are used.
type sequence struct {
	last     uint32 // used last; 0: none yet
	reserved uint32 // last ≤ reserved
}

// seqBlock is how many numbers one save reserves: what a crash skips, at most.
const seqBlock = 64

// take uses the next number; fresh says that it must be saved before it leaves.
func (q *sequence) take() (n uint32, fresh bool) {
	q.last++
	if q.last > q.reserved {
		q.reserved = q.last + seqBlock - 1
		return q.last, true
	}
	return q.last, false
}

// skip passes over n numbers.
func (q *sequence) skip(n uint32) {
	q.last += n
	q.reserved = max(q.reserved, q.last)
}

// keySpec is what the configuration says of one entry's keys.
type keySpec struct {
	transform ipsec.Transform
	lifetime  time.Duration
	replay    ipsec.Replay
	tag       bool // security group tags in the metadata
}

// kekSpec is what the configuration says of the KEK.
type kekSpec struct {
	cipher    gdoi.KEKAlgorithm
	keyBits   int
	hash      gdoi.SigHash
	ack       gdoi.AckRequest // 0: none asked for
	lifetime  time.Duration
	multicast netip.AddrPort // invalid: unicast
	signer    *Signer
}

// same reports whether two KEKs differ in nothing that a member sees.
func (s *kekSpec) same(o *kekSpec) bool {
	return s.cipher == o.cipher && s.keyBits == o.keyBits && s.hash == o.hash && s.ack == o.ack && s.lifetime == o.lifetime &&
		s.multicast == o.multicast && s.signer.same(o.signer)
}

func (s *kekSpec) ivLen() int {
	if s.cipher == gdoi.KEK3DES {
		return 8
	}
	return 16
}

func (s *kekSpec) keyLen() int { return s.keyBits / 8 }

// sa is the KEK as the machine that seals with it.
func (k *kek) sa() *gdoi.RekeySA {
	r := &gdoi.RekeySA{SPI: k.spi, Algorithm: k.cipher, IV: k.iv, Key: k.key, SigHash: k.hash}
	if k.signer != nil {
		r.SigAlg = k.signer.Alg
	}
	return r
}

// keyring holds a group's keys. Before the first registration it is empty.
type keyring struct {
	specs []keySpec
	kspec *kekSpec // nil: a group without rekeys
	rand  io.Reader

	gen   Generation // new with every clean slate
	slate uint64     // counts clean slates: 0 means no keys yet
	teks  [][]*tek   // by entry, oldest first
	kek   *kek
	ord   uint32 // of the KEK made last

	// Among cooperative key servers: generations whose keys were merged into these, and
	// those whose members were told to leave them.
	contains, ended []Generation
	listed          []sharedLedger // ledgers that give out Sender IDs for these keys
	bits            int            // width of Sender IDs that are given out for these keys
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

// inherit takes over from was all that doesn't follow from the configuration, but for TEKs.
func (k *keyring) inherit(was *keyring) {
	k.gen, k.slate, k.kek, k.ord = was.gen, was.slate, was.kek, was.ord
	k.contains, k.ended, k.listed, k.bits = was.contains, was.ended, was.listed, was.bits
}

// clone returns a ring that can be changed without touching k; keys are shared.
func (k *keyring) clone() *keyring {
	n := *k
	n.teks = slices.Clone(k.teks)
	for i := range n.teks {
		n.teks[i] = slices.Clone(n.teks[i])
	}
	n.specs = slices.Clone(k.specs)
	return &n
}

// renew makes a successor of an entry's newest TEK, which lives to its end.
func (k *keyring) renew(i int, now time.Time) error {
	t, err := k.newTEK(k.specs[i], now)
	if err != nil {
		return err
	}
	k.teks[i] = append(k.teks[i], t)
	return nil
}

// renewKEK makes the next KEK, or none when the group has no rekeys any more.
func (k *keyring) renewKEK(now time.Time) error {
	if k.kspec == nil {
		k.kek = nil
		return nil
	}
	n, err := k.newKEK(now)
	if err != nil {
		return err
	}
	k.kek = n
	return nil
}

// shorten ends all TEKs but the newest of the entry after what Shortened leaves them.
func (k *keyring) shorten(i int, now time.Time) {
	list := k.teks[i]
	for j, t := range list[:max(0, len(list)-1)] {
		c := *t
		if end := now.Add(policy.Shortened(t.expires.Sub(now), t.lifetime)); end.Before(t.expires) {
			c.expires = end
		}
		list[j] = &c
	}
}

// linger deletes all TEKs but the newest of the entry: members stop sending with them
// once they may send with the newest one, and receive with them for that long.
// Meanwhile they stay in what is sent and handed out, for who missed a message. It
// returns their SPIs.
func (k *keyring) linger(i int, now time.Time, d time.Duration) (gone []uint32) {
	list := k.teks[i]
	for j, t := range list[:max(0, len(list)-1)] {
		gone = append(gone, t.spi)
		if end := now.Add(d); end.Before(t.expires) {
			c := *t
			c.expires = end
			list[j] = &c
		}
	}
	return gone
}

// replace throws all TEKs but the newest of the entry away and returns their SPIs.
func (k *keyring) replace(i int) []uint32 {
	var gone []uint32
	list := k.teks[i]
	for _, t := range list[:max(0, len(list)-1)] {
		gone = append(gone, t.spi)
	}
	k.teks[i] = list[max(0, len(list)-1):]
	return gone
}

// advance drops what has ended and, in a group without rekeys, makes what is due;
// where there are rekeys the group does that and sends it. changed reports whether
// anything did. On error nothing has changed.
func (k *keyring) advance(now time.Time) (changed bool, err error) {
	if !k.active() || now.Before(k.wake()) {
		return false, nil
	}
	n := k.clone()
	for i, list := range n.teks {
		n.teks[i] = slices.DeleteFunc(list, func(t *tek) bool { return !now.Before(t.expires) })
	}
	if err := n.fill(now); err != nil {
		return false, err
	}
	*k = *n
	return true, nil
}

// expire drops TEKs that have ended, but never an entry's newest one.
func (k *keyring) expire(now time.Time) (changed bool) {
	for i, list := range k.teks {
		gone := func(t *tek) bool { return t != list[len(list)-1] && !now.Before(t.expires) }
		if slices.ContainsFunc(list, gone) {
			k.teks[i], changed = slices.DeleteFunc(slices.Clone(list), gone), true
		}
	}
	return changed
}

// ends is when expire has something to do; zero: never.
func (k *keyring) ends() time.Time {
	var w time.Time
	for _, list := range k.teks {
		for _, t := range list[:max(0, len(list)-1)] {
			w = earlier(w, t.expires)
		}
	}
	return w
}

// fill makes the keys that are missing, and those that members who fetch them
// themselves must find.
func (k *keyring) fill(now time.Time) error {
	for i := range k.specs {
		list := k.teks[i]
		if len(list) > 0 && now.Before(due(list)) {
			continue
		}
		if err := k.renew(i, now); err != nil {
			return err
		}
	}
	if k.kspec != nil && (k.kek == nil || !now.Before(k.kekDue())) {
		return k.renewKEK(now)
	}
	return nil
}

// due is when the newest TEK of an entry needs a successor at the latest: members that
// weren't told of one come to fetch it.
func due(list []*tek) time.Time {
	t := list[len(list)-1]
	return t.expires.Add(-policy.ReadyBefore(t.lifetime))
}

// kekReserve is the vendor's least time between a KEK's rekey and its end.
const kekReserve = 200 * time.Second

// kekDue is when the KEK is replaced at the latest: in time for the members' windows
// and 200 s before its end, but never before half of its life.
func (k *keyring) kekDue() time.Time {
	life := k.kek.lifetime
	return k.kek.expires.Add(-min(life/2, max(kekReserve, policy.ReadyBefore(life))))
}

// wake is when advance has something to do next; zero while there are no keys.
func (k *keyring) wake() time.Time {
	var w time.Time
	for _, list := range k.teks {
		if len(list) > 0 {
			w = earlier(w, due(list))
			for _, t := range list { // a shortened one may end before an older one
				w = earlier(w, t.expires)
			}
		}
	}
	if k.kek != nil {
		w = earlier(w, k.kekDue())
	}
	return w
}

// earlier of two moments; zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (k *keyring) newTEK(s keySpec, now time.Time) (*tek, error) {
	t := &tek{keySpec: s, created: now, expires: now.Add(s.lifetime)}
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
	k.ord++
	n := &kek{kekSpec: *k.kspec, ord: k.ord, created: now, expires: now.Add(k.kspec.lifetime), seq: &sequence{}}
	// The SPI is the cookie pair of PUSH messages: both halves must not be zero
	// (RFC 2408 §2.5.3).
	for allZero(n.spi[:8]) || allZero(n.spi[8:]) {
		if _, err := io.ReadFull(k.rand, n.spi[:]); err != nil {
			return nil, fmt.Errorf("ks: new KEK SPI: %w", err)
		}
	}
	var err error
	if n.iv, err = k.octets(k.kspec.ivLen()); err != nil {
		return nil, err
	}
	if n.key, err = k.octets(k.kspec.keyLen()); err != nil {
		return nil, err
	}
	if k.kspec.cipher == gdoi.KEK3DES {
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
