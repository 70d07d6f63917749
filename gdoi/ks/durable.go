package ks

// What of a group must outlive its process so that the group goes on: keys, rekey
// SAs with their sequence, members, the generation of its Sender IDs, pseudotime. It
// is saved before anything that depends on it leaves: new keys before a rekey or a
// registration carries them, sequence numbers in blocks before one of them is used.

import (
	"net/netip"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/coop"
	"getvpn/internal/secret"
	"getvpn/ipsec"
	"getvpn/model"
)

// Saver keeps the state of groups. Its methods are called by the groups' actors, for
// different groups at the same time. save returns when the state would survive a
// crash; load reports false when there is none, and an error when what there is can't be
// trusted.
type Saver interface {
	save(group string, d durable) error
	load(group string) (d durable, ok bool, err error)
	forget(group string) error
}

// durable is a group's state at one moment, on the wall clock: process and boot may be
// others when it is read.
type durable struct {
	At         time.Time     // when it was exported, on the wall clock …
	Machine    string        // … of this machine and boot (Options.Machine) …
	Boot       time.Duration // … and on its boot clock
	Clean      bool          // exported at an orderly end, when members knew everything
	Form       [32]byte      // Setup.form
	Policy     [32]byte      // Setup.policy
	Generation Generation
	SIDBits    int
	Epoch      uint64
	Version    uint64
	Ord        uint32 // of the KEK made last
	Entries    []durableEntry
	KEKs       []durableKEK // ascending; the last one is in force when InForce says so
	InForce    bool
	Pseudotime time.Duration // at At
	Started    bool          // the pseudotime runs
	Members    []durableMember
	Again      bool // members must register again, once all key servers are reachable
	RekeysSent uint64
	Contains   []Generation   // whose keys were merged into these
	Ended      []Generation   // whose members were told to leave them for these
	Listed     []sharedLedger // ledgers that give out Sender IDs for these keys
	Coop       durableCoop
}

// durableCoop is what a cooperative key server must find again. Its role isn't: others
// may have taken it meanwhile.
type durableCoop struct {
	Keys    coop.KeysID
	Numbers []coop.KEK
}

type durableEntry struct {
	Seq  int
	TEKs []durableTEK // oldest first
}

type durableTEK struct {
	SPI              uint32
	Key, AuthKey     secret.Bytes
	Created, Expires time.Time
	Transform        ipsec.Transform
	Lifetime         time.Duration
	Replay           ipsec.Replay
	Tag              bool
}

type durableKEK struct {
	Ord              uint32
	SPI              gdoi.KEKSPI
	IV, Key          secret.Bytes
	Created, Expires time.Time
	Cipher           gdoi.KEKAlgorithm
	KeyBits          int
	Hash             gdoi.SigHash
	Ack              gdoi.AckRequest
	Lifetime         time.Duration
	Multicast        netip.AddrPort
	Public           []byte // of the signing key, whose private part is in a file of its own
	Reserved         uint32 // no number up to this one may be used again
	Side             bool   // of members of another primary
}

type durableMember struct {
	Row        model.Member
	Path       netip.AddrPort
	Local, Alt netip.Addr
	Ends       time.Time
	Holds      uint32
	Silent     int
	Acks       uint64
	Origin     netip.Addr // key server where it registered; invalid: here
	NAT        bool
	SPI        gdoi.KEKSPI // of the KEK that it was given there
	Generation Generation  // of the keys that it registered for
}

// export is the state to save. It shares keys with the group, which never change.
func (g *Group) export() durable {
	d := g.exportKeys()
	wall := g.s.time.Wall
	for _, m := range g.roster.list {
		d.Members = append(d.Members, durableMember{Row: m.row, Path: m.path, Local: m.local, Alt: m.slot.alt, Ends: wall(m.ends),
			Holds: m.holds, Silent: m.silent, Acks: m.slot.count.Load(), Origin: m.origin, NAT: m.nat, SPI: m.spi, Generation: m.gen})
	}
	return d
}

// exportKeys is all of it but the members.
func (g *Group) exportKeys() durable {
	wall := g.s.time.Wall
	r := g.ring
	d := durable{At: wall(g.now()), Machine: g.s.o.Machine, Boot: g.s.o.Clock.Boot(), Clean: g.ended && g.told(),
		Form: g.setup.form(), Policy: g.setup.policy(), Generation: r.gen, SIDBits: r.bits, Epoch: g.epoch, Version: g.version, Ord: r.ord, InForce: r.kek != nil,
		Pseudotime: g.pseudo.at(g.now()), Started: g.pseudo.started, RekeysSent: g.counters.RekeysSent, Again: g.again,
		Contains: r.contains, Ended: r.ended, Listed: r.listed}
	if c := g.coop; c != nil {
		d.Coop = durableCoop{c.keys, c.m.Numbers()}
	}
	for i, list := range r.teks {
		e := durableEntry{Seq: g.setup.Entries[i].Seq}
		for _, t := range list {
			e.TEKs = append(e.TEKs, durableTEK{SPI: t.spi, Key: t.key, AuthKey: t.authKey, Created: wall(t.created), Expires: wall(t.expires),
				Transform: t.transform, Lifetime: t.lifetime, Replay: t.replay, Tag: t.tag})
		}
		d.Entries = append(d.Entries, e)
	}
	for ord := uint32(1); ord <= r.ord; ord++ {
		k := r.kek
		if l := g.keks[ord]; l != nil {
			k = l.kek
		} else if k == nil || k.ord != ord {
			continue
		}
		d.KEKs = append(d.KEKs, durableKEK{Ord: ord, SPI: k.spi, IV: k.iv, Key: k.key, Created: wall(k.created), Expires: wall(k.expires),
			Cipher: k.cipher, KeyBits: k.keyBits, Hash: k.hash, Ack: k.ack, Lifetime: k.lifetime, Multicast: k.multicast,
			Public: k.signer.Public, Reserved: k.seq.reserved, Side: k.side})
	}
	return d
}

// restore puts saved state in force: what hasn't ended since, with the sequence behind
// everything that may have been used. Entries are found by their number and their
// keys are kept as they were made; KEKs whose signing key isn't there any more are
// forgotten. It is called before Run, with the times of state on the present wall clock.
// fresh says that keys were made, which aren't saved yet. On error nothing has changed.
func (g *Group) restore(d durable, now time.Time) (fresh bool, err error) {
	at := g.s.time.At
	ring, keks := g.ringOf(&d, now)
	if g.setup.Coop != nil && !ring.whole() {
		ring = g.emptyRing() // others may have keys; if not, the primary makes new ones
		ring.ord = d.Ord
	}
	for i := range ring.teks {
		if len(ring.teks[i]) == 0 {
			if err := ring.renew(i, now); err != nil {
				return false, err
			}
			fresh = true
		}
	}
	if ring.active() && ring.kspec != nil && ring.kek == nil {
		if err := ring.renewKEK(now); err != nil {
			return false, err
		}
		fresh = true
	}
	g.ring, g.epoch, g.version, g.again = ring, d.Epoch, d.Version, d.Again
	g.counters.RekeysSent = d.RekeysSent
	if d.Started {
		g.pseudo.resume(d.Pseudotime+max(0, now.Sub(at(d.At))), now)
	}
	for _, k := range keks {
		g.hold(k)
	}
	g.listen(now)
	for _, s := range d.Members {
		m := g.roster.join(s.Row.Addr, s.Alt, now)
		m.row, m.path, m.local, m.holds, m.silent = s.Row, s.Path, s.Local, s.Holds, s.Silent
		m.origin, m.nat, m.spi = s.Origin, s.NAT, s.SPI
		m.gen = s.Generation
		if g.keks[m.holds] == nil {
			m.holds = 0 // it can't be reached
		}
		m.slot.count.Store(s.Acks)
		m.ends = at(s.Ends)
		g.roster.ageing = earlier(g.roster.ageing, m.ends)
	}
	g.seen = len(d.Members) > 0
	g.synced = time.Time{} // members hear from us as soon as we run
	return fresh, nil
}

// ringOf makes a key ring of saved or received state: what hasn't ended, as it was made.
// Entries are found by their number. keks are all KEKs, ascending, but for those whose
// signing key isn't ours.
func (g *Group) ringOf(d *durable, now time.Time) (ring *keyring, keks []*kek) {
	at := g.s.time.At
	ring = g.emptyRing()
	ring.gen, ring.ord, ring.slate = d.Generation, d.Ord, 1
	ring.contains, ring.ended, ring.listed, ring.bits = d.Contains, d.Ended, d.Listed, d.SIDBits
	ring.teks = make([][]*tek, len(ring.specs))
	for i, e := range g.setup.Entries {
		for _, s := range d.Entries {
			if s.Seq != e.Seq {
				continue
			}
			for _, t := range s.TEKs {
				if at(t.Expires).After(now) {
					ring.teks[i] = append(ring.teks[i], &tek{keySpec: keySpec{t.Transform, t.Lifetime, t.Replay, t.Tag}, spi: t.SPI,
						key: t.Key, authKey: t.AuthKey, created: at(t.Created), expires: at(t.Expires)})
				}
			}
		}
	}
	var signer *Signer
	if r := g.setup.Rekey; r != nil {
		signer = r.Signer
	}
	for _, k := range d.KEKs {
		if signer == nil || string(signer.Public) != string(k.Public) || !at(k.Expires).After(now) {
			continue
		}
		n := &kek{kekSpec: kekSpec{cipher: k.Cipher, keyBits: k.KeyBits, hash: k.Hash, ack: k.Ack, lifetime: k.Lifetime, multicast: k.Multicast, signer: signer},
			ord: k.Ord, spi: k.SPI, iv: k.IV, key: k.Key, created: at(k.Created), expires: at(k.Expires),
			seq: &sequence{last: k.Reserved, reserved: k.Reserved}, side: k.Side}
		keks = append(keks, n)
		if d.InForce && !k.Side {
			ring.kek = n
		}
	}
	return ring, keks
}

// saveAfter is how long changes of the member list may wait to be saved.
const saveAfter = time.Second

// unsaved asks for a save soon: after a second, or later where saving is slow, so that a
// crowd that registers costs a twentieth of the actor's time.
func (g *Group) unsaved(now time.Time) {
	if g.s.o.State != nil && g.dirty.IsZero() {
		g.dirty = now.Add(max(saveAfter, 20*g.saving))
	}
}

// save writes the state; nil when there is nowhere to.
func (g *Group) save() error {
	if g.s.o.State == nil {
		return nil
	}
	start := time.Now()
	if err := g.s.o.State.save(g.Name(), g.export()); err != nil {
		return err
	}
	g.dirty, g.saving = time.Time{}, time.Since(start)
	if c := g.coop; c != nil {
		c.unsaved, c.kept = false, c.digest()
	}
	return nil
}
