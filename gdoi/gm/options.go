package gm

// What a member is made of: its surroundings as interfaces, so that it meets the
// dataplane, the sockets and the system only through them.

import (
	"log/slog"
	"net/netip"
	"slices"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/gdoi/policy"
	"getvpn/internal/clock"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

// Installer is the dataplane as a member sees it. Install replaces the group's policy
// on the interface as a whole; a TEK that is there already, by SPI and key, keeps its
// counters and window.
type Installer interface {
	Install(ipsec.GroupPolicy) error
	Remove(group, iface string) error
}

// Rekeys is the endpoint as a member uses it for rekeys (*ike.Endpoint).
type Rekeys interface {
	// HandlePush gives f the datagrams of a KEK's cookies; f must not block.
	HandlePush(ci, cr isakmp.Cookie, f func(ike.Datagram)) (release func())
	SendPush(datagram []byte, local netip.Addr, remote netip.AddrPort) error
}

// Joiner makes the system a receiver of multicast groups (internal/mcast).
type Joiner interface {
	// Join joins group on the interface, from any source if source is invalid. leave
	// undoes it.
	Join(iface string, group, source netip.Addr) (leave func(), err error)
}

// Tracker makes the state of a group's keys known to the rest of the system
// ("client status active-sa track"). Set must return soon.
type Tracker interface {
	Set(up bool) error
}

// Attachment is a crypto map entry with the group on an interface.
type Attachment struct {
	Interface string
	MapName   string
	MapSeq    int
	LocalName string // the map entry's own list
	Local     []ipsec.ACE
	FailClose ipsec.FailClose
}

// Memory keeps a group's downloaded list, never its keys, past the end of the process.
type Memory interface {
	// Load returns what was saved last, nil if nothing was.
	Load() ([]ipsec.ACE, error)
	Save([]ipsec.ACE) error
	Forget() error
}

// KEKCipher is a cipher of the KEK; Bits is 0 where the algorithm has one length.
type KEKCipher struct {
	Algorithm gdoi.KEKAlgorithm
	Bits      int
}

// Accept says what a member takes of a key server; an empty list takes anything.
type Accept struct {
	Ciphers    []KEKCipher       // client rekey encryption
	Hashes     []gdoi.SigHash    // client rekey hash
	Transforms []ipsec.Transform // client transform-sets
}

// AcceptOf is what the group's client lines say; sets are the transform sets of the
// configuration.
func AcceptOf(c config.Client, sets []config.TransformSet) Accept {
	var a Accept
	for _, x := range c.RekeyCiphers {
		k := KEKCipher{gdoi.KEKAESCBC, x.KeyBits}
		switch x.Encr {
		case config.Encr3DES:
			k = KEKCipher{Algorithm: gdoi.KEK3DES}
		case config.EncrDES:
			k = KEKCipher{Algorithm: gdoi.KEKDES}
		}
		a.Ciphers = append(a.Ciphers, k)
	}
	for _, h := range c.RekeyHashes {
		if x, ok := map[string]gdoi.SigHash{"sha": gdoi.SigHashSHA1, "sha256": gdoi.SigHashSHA256,
			"sha384": gdoi.SigHashSHA384, "sha512": gdoi.SigHashSHA512}[h]; ok {
			a.Hashes = append(a.Hashes, x)
		}
	}
	for _, n := range c.TransformSets {
		if i := slices.IndexFunc(sets, func(s config.TransformSet) bool { return s.Name == n }); i >= 0 {
			a.Transforms = append(a.Transforms, sets[i].Transform)
		}
	}
	return a
}

// check refuses an offer that has what the member doesn't take. item names what, for
// a KEK.
func (a Accept) check(o *policy.Offer) (item string, err error) {
	if k := o.KEK; k != nil {
		ok := func(c KEKCipher) bool { return c.Algorithm == k.Cipher && (c.Bits == 0 || c.Bits == k.KeyBits) }
		if len(a.Ciphers) > 0 && !slices.ContainsFunc(a.Ciphers, ok) {
			return "encryption", &policy.RejectError{Reason: "the cipher of rekeys isn't acceptable (client rekey encryption)"}
		}
		if len(a.Hashes) > 0 && !slices.Contains(a.Hashes, hashOf(k)) {
			return "hash", &policy.RejectError{Reason: "the hash of rekeys isn't acceptable (client rekey hash)"}
		}
	}
	for i := range o.TEKs {
		if len(a.Transforms) > 0 && !slices.ContainsFunc(a.Transforms, func(t ipsec.Transform) bool { return sameTransform(t, o.TEKs[i].Transform) }) {
			return "", &policy.RejectError{Reason: "transform " + policy.TransformText(o.TEKs[i].Transform) + " isn't acceptable (client transform-sets)"}
		}
	}
	return "", nil
}

// sameTransform takes the two ways to write the whole ICV of AES-GCM for one.
func sameTransform(a, b ipsec.Transform) bool {
	for _, t := range []*ipsec.Transform{&a, &b} {
		if t.Cipher == ipsec.CipherAESGCM && t.ICVLen == 0 {
			t.ICVLen = 16
		}
	}
	return a == b
}

// hashOf is the hash of the signatures: ECDSA implies its own (RFC 6407 §5.3.6).
func hashOf(k *policy.KEK) gdoi.SigHash {
	switch k.SigAlg {
	case gdoi.SigECDSA256:
		return gdoi.SigHashSHA256
	case gdoi.SigECDSA384:
		return gdoi.SigHashSHA384
	case gdoi.SigECDSA521:
		return gdoi.SigHashSHA512
	}
	return k.SigHash
}

// Setup is what the configuration says of a member. All but the name and the identity
// of the group may change while it runs (Member.Apply).
type Setup struct {
	Group  config.Group
	Attach []Attachment
	Accept Accept
	// Source names what registrations leave from: when it changes, the member registers
	// again. Local gives the address; nil, or the zero address: the route's.
	Source  string
	Local   func(server netip.Addr) netip.Addr
	Tracker Tracker // nil: nobody wants to know
}

// Options of a member. All but Setup's Group, Puller, Inst, Store and Events may be nil.
type Options struct {
	Setup
	Puller Puller
	Inst   Installer
	Rekeys Rekeys // nil: rekeys aren't taken
	Joiner Joiner // nil: no rekeys by multicast
	Store  *model.Store
	Events event.Emitter
	Log    *slog.Logger
	Memory Memory
	Clock  clock.Clock // nil: one that doesn't count suspended time
	// Random gives numbers in [0, 1) for jitter; nil: math/rand.
	Random func() float64
}

// DataErrorKind is what the dataplane refused packets for.
type DataErrorKind uint8

const (
	InvalidSPI   DataErrorKind = iota
	ReplayFailed               // anti-replay, by counter or time
	DecryptFailed
)

func (k DataErrorKind) String() string {
	return [...]string{"invalid-spi", "replay", "decrypt"}[k]
}
