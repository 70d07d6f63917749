package ks

// From configuration to what a group's actor works with: names are looked up, lists
// are cut to what can be honoured, and what can't be sent to members is refused here,
// not at the first registration.

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/coop"
	"getvpn/gdoi/policy"
	"getvpn/ipsec"
	"getvpn/model/event"
)

// Setup is a group ready to be served.
type Setup struct {
	Group   config.Group
	Entries []SetupEntry
	Auth    *config.ACL // who may join; nil: who passes phase 1
	Rekey   *SetupRekey // nil: no rekeys
	SIDBits int
	Coop    *CoopSetup // nil: the only key server
}

// SetupEntry is one "sa ipsec".
type SetupEntry struct {
	Seq       int
	Profile   string
	ACL       string
	ACEs      []ipsec.ACE
	Transform ipsec.Transform
	Lifetime  time.Duration
	Replay    ipsec.Replay
	Direction ipsec.Direction
	Tag       bool // security group tags in the metadata
}

// keys is what the entry asks of its keys.
func (e *SetupEntry) keys() keySpec {
	return keySpec{transform: e.Transform, lifetime: e.Lifetime, replay: e.Replay, tag: e.Tag}
}

// SetupRekey is the KEK's configuration.
type SetupRekey struct {
	Cipher    gdoi.KEKAlgorithm
	KeyBits   int
	Hash      gdoi.SigHash
	Lifetime  time.Duration
	Multicast netip.AddrPort // invalid: unicast
	Signer    *Signer
	Ack       gdoi.AckRequest // 0: members aren't asked to acknowledge
	// Retransmits further copies follow a rekey, Interval apart. Periodic: they go on
	// for members that haven't acknowledged.
	Retransmits int
	Interval    time.Duration
	Periodic    bool
}

// Unicast reports whether each member gets a copy of its own.
func (r *SetupRekey) Unicast() bool { return !r.Multicast.IsValid() }

// Vendor defaults where the configuration is silent.
const (
	defaultTEKLife = time.Hour
	defaultKEKLife = 24 * time.Hour
	defaultSIDBits = 24
	rekeyPort      = 848
)

// Resolve prepares a group of c that has a local server. Events are what the operator
// must hear of (lists cut short, entries refused).
func Resolve(c *config.Config, g *config.Group, signer func(name string) (*Signer, error)) (*Setup, []event.Event, error) {
	l := g.Local
	if l == nil {
		return nil, nil, fmt.Errorf("ks: group %s has no local server", g.Name)
	}
	if !g.HasNumber && !g.Address.IsValid() {
		return nil, nil, fmt.Errorf("ks: group %s has no identity", g.Name)
	}
	s := &Setup{Group: *g, SIDBits: l.SIDBits}
	if s.SIDBits == 0 {
		s.SIDBits = defaultSIDBits
	}
	var events []event.Event
	for i := range l.SAs {
		e, ev, err := resolveEntry(c, g, &l.SAs[i])
		events = append(events, ev...)
		if err != nil {
			return nil, events, fmt.Errorf("ks: group %s, sa ipsec %d: %w", g.Name, l.SAs[i].Seq, err)
		}
		s.Entries = append(s.Entries, *e)
	}
	if len(s.Entries) == 0 {
		return nil, events, fmt.Errorf("ks: group %s has no sa ipsec", g.Name)
	}
	if l.AuthAddress != "" {
		if s.Auth = c.ACLByName(l.AuthAddress); s.Auth == nil {
			return nil, events, fmt.Errorf("ks: group %s: authorization list %s doesn't exist", g.Name, l.AuthAddress)
		}
	}
	if name, _ := l.RekeyKey(); name != "" {
		r, ev, err := resolveRekey(c, g, signer)
		events = append(events, ev...)
		if err != nil {
			return nil, events, fmt.Errorf("ks: group %s: %w", g.Name, err)
		}
		s.Rekey = r
	}
	s.Coop = resolveCoop(l)
	return s, events, nil
}

// resolveCoop is a key server's part among others; nil: there are none.
func resolveCoop(l *config.LocalServer) *CoopSetup {
	r := l.Redundancy
	if r == nil {
		return nil
	}
	c := &CoopSetup{Self: l.CoopAddress(), Priority: uint8(r.Priority), Peers: l.CoopPeers(), Refresh: r.Refresh, Periodic: r.Periodic,
		Retransmit: r.Retransmit, Optimize: r.Optimize, Software: release(buildVersion())}
	for _, x := range l.SIDRanges() {
		c.SIDs = append(c.SIDs, coop.SIDRange(x))
	}
	return c
}

// release is a version such as v1.2.3 or v1.2.4-0.2026… as key servers tell each other:
// builds of one release are compatible. One that says nothing is 1.0.0.
func release(version string) (r [3]uint8) {
	firstRelease := [3]uint8{1, 0, 0}
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "v"), "-")
	version, _, _ = strings.Cut(version, "+")
	parts := strings.Split(version, ".")
	if len(parts) != len(r) {
		return firstRelease
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 8)
		if err != nil {
			return firstRelease
		}
		r[i] = uint8(n)
	}
	if r == [3]uint8{} { // a build between releases before the first one
		return firstRelease
	}
	return r
}

// buildVersion is the version that this program was built from; "": it isn't known.
func buildVersion() string {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return b.Main.Version
}

func resolveEntry(c *config.Config, g *config.Group, sa *config.SAIPsec) (*SetupEntry, []event.Event, error) {
	p := c.ProfileByName(sa.Profile)
	if p == nil {
		return nil, nil, fmt.Errorf("profile %q doesn't exist", sa.Profile)
	}
	if len(p.TransformSets) == 0 {
		return nil, nil, fmt.Errorf("profile %s names no transform set", p.Name)
	}
	t := c.TransformSetByName(p.TransformSets[0])
	if t == nil {
		return nil, nil, fmt.Errorf("transform set %q doesn't exist", p.TransformSets[0])
	}
	acl := c.ACLByName(sa.ACL)
	if acl == nil {
		return nil, nil, fmt.Errorf("access list %q doesn't exist", sa.ACL)
	}
	e := &SetupEntry{Seq: sa.Seq, Profile: p.Name, ACL: acl.Name, ACEs: acl.Entries, Transform: t.Transform, Lifetime: p.Lifetime, Replay: sa.Replay, Tag: sa.Tag}
	if e.Lifetime == 0 {
		e.Lifetime = defaultTEKLife
	}
	if g.Local.ReceiveOnly {
		e.Direction = ipsec.InboundOnly
	}
	var events []event.Event
	if len(e.ACEs) > policy.MaxACEs {
		e.ACEs = e.ACEs[:policy.MaxACEs]
		events = append(events, event.ACLTooLong{Max: policy.MaxACEs})
	}
	permits := 0
	for _, a := range e.ACEs {
		if err := policy.CheckACE(a, g.Interop); err != nil {
			if errors.Is(err, policy.ErrPortRange) {
				events = append(events, event.ACLRange{})
			}
			return nil, events, fmt.Errorf("access list %s: %w", acl.Name, err)
		}
		if a.Action == ipsec.Permit {
			permits++
		}
	}
	if permits == 0 {
		return nil, events, fmt.Errorf("access list %s permits nothing", acl.Name)
	}
	return e, events, nil
}

func resolveRekey(c *config.Config, g *config.Group, signer func(string) (*Signer, error)) (*SetupRekey, []event.Event, error) {
	l := g.Local
	r := &SetupRekey{Cipher: gdoi.KEK3DES, KeyBits: 192, Lifetime: l.RekeyLifetime, Hash: gdoi.SigHashSHA1,
		Retransmits: l.RekeyNumber, Interval: l.RekeyRetransmit, Periodic: l.RekeyPeriodic}
	switch l.RekeyEncr {
	case config.EncrAES:
		r.Cipher, r.KeyBits = gdoi.KEKAESCBC, l.RekeyKeyBits
		if r.KeyBits == 0 {
			r.KeyBits = 128
		}
	case config.Encr3DES, "":
	default:
		return nil, nil, fmt.Errorf("rekey algorithm %s isn't supported", l.RekeyEncr)
	}
	var ok bool
	if r.Hash, ok = map[string]gdoi.SigHash{"": gdoi.SigHashSHA1, "sha": gdoi.SigHashSHA1, "sha256": gdoi.SigHashSHA256,
		"sha384": gdoi.SigHashSHA384, "sha512": gdoi.SigHashSHA512}[l.RekeySigHash]; !ok {
		return nil, nil, fmt.Errorf("rekey signature hash %s isn't supported", l.RekeySigHash)
	}
	if r.Lifetime == 0 {
		r.Lifetime = defaultKEKLife
	}
	if !l.RekeyUnicast && l.RekeyAddress != "" {
		var err error
		if r.Multicast, err = multicastOf(c, l); err != nil {
			return nil, nil, err
		}
	}
	if r.Unicast() && (!g.Interop || l.RekeyAck != config.AckCisco) {
		r.Ack = gdoi.AckKEKSHA256
		if r.Hash == gdoi.SigHashSHA384 || r.Hash == gdoi.SigHashSHA512 {
			r.Ack = gdoi.AckKEKSHA512
		}
	}
	name, ec := l.RekeyKey()
	s, err := signer(KeyRef(name, ec))
	if err != nil {
		return nil, []event.Event{event.KSNoRSAKeys{Key: name, Group: g.Name}}, err
	}
	if need := minRSABits(r.Hash); s.Alg == gdoi.SigRSA && s.Bits < need {
		return nil, []event.Event{event.KSRekeyAuthKeyLength{Item: "rekey sig-hash", Alg: sigHashName(l.RekeySigHash), Bits: uint(need), Blocks: uint(need / 8), Group: g.Name}},
			fmt.Errorf("rekey key %s of %d bits is too short for signatures with %s: need %d", name, s.Bits, sigHashName(l.RekeySigHash), need)
	}
	r.Signer, r.Hash = s, s.hash(r.Hash)
	return r, nil, nil
}

func sigHashName(s string) string {
	if s == "" {
		return "sha"
	}
	return s
}

// multicastOf is the group and port that the list of "rekey address" names.
func multicastOf(c *config.Config, l *config.LocalServer) (netip.AddrPort, error) {
	a := c.ACLByName(l.RekeyAddress)
	if a == nil {
		return netip.AddrPort{}, fmt.Errorf("rekey address list %s doesn't exist", l.RekeyAddress)
	}
	for _, e := range a.Entries {
		if e.Action == ipsec.Permit && !e.Dst.IsAny() && e.Dst.Addr.IsMulticast() {
			port := uint16(rekeyPort)
			if e.DstPort.Op == ipsec.PortEq {
				port = e.DstPort.Lo
			}
			return netip.AddrPortFrom(e.Dst.Addr, port), nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("rekey address list %s permits no multicast destination", a.Name)
}

// kekSpec is what the key ring needs of the rekey configuration.
func (r *SetupRekey) kekSpec() *kekSpec {
	if r == nil {
		return nil
	}
	return &kekSpec{cipher: r.Cipher, keyBits: r.KeyBits, hash: r.Hash, ack: r.Ack, lifetime: r.Lifetime, multicast: r.Multicast, signer: r.Signer}
}

// authorized reports whether the member's address is on the list: the first entry
// that covers it as source decides, none refuses.
func (s *Setup) authorized(a netip.Addr) bool {
	if s.Auth == nil {
		return true
	}
	for _, e := range s.Auth.Entries {
		if e.Src.Matches(a) && (a.Is4() == (e.Family == ipsec.IPv4)) {
			return e.Action == ipsec.Permit
		}
	}
	return false
}
