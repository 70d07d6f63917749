// Package config turns IOS-syntax text into a typed configuration and back, checks
// it, and says what a change will cause. It touches nothing of the system.
package config

import (
	"net/netip"
	"time"

	"getvpn/internal/secret"
	"getvpn/ipsec"
)

// Config is a whole device configuration. Order is kept where the device keeps it.
type Config struct {
	Hostname       string
	ISAKMPPolicies []ISAKMPPolicy // sorted by priority
	Keys           []ISAKMPKey
	TransformSets  []TransformSet
	Profiles       []Profile
	Groups         []Group
	CryptoMaps     []CryptoMap
	Interfaces     []Interface
	ACLs           []ACL
	Logging        Logging
	DFBit          DFBit // crypto ipsec df-bit, global
	ISAKMPIdentity string
	Keepalive      Keepalive
	Aggressive     bool       // crypto isakmp aggressive-mode enable: answer it; off by default
	StateOff       bool       // crypto gdoi state off: a key server keeps no state over restarts
	TagMask        uint32     // crypto gdoi tag mark mask: bits of a packet's mark that are its tag; 0: the default
	Kept           []KeptLine // valid for the vendor, without meaning here: kept verbatim

	// Source is the line of the file where an object was opened, for messages: keys
	// are the object's words ("access-list 101", "crypto gdoi group g"). It is no part
	// of the configuration: Equal ignores it.
	Source map[string]int
}

// KeptLine is a line (with its block) that is kept and printed again unchanged.
type KeptLine struct {
	Line int // in the file it was read from
	Text string
	Body []string
}

// ISAKMPPolicy is "crypto isakmp policy N". Numbers are IKE's own (RFC 2409 App. A).
type ISAKMPPolicy struct {
	Priority int
	Encr     Encryption
	KeyBits  int    // AES only
	Hash     string // sha, sha256, sha384, sha512, md5
	Auth     string // pre-share, rsa-sig, ecdsa-sig
	DHGroup  int
	Lifetime time.Duration
}

// Encryption of an ISAKMP policy or a KEK.
type Encryption string

const (
	EncrAES  Encryption = "aes"
	Encr3DES Encryption = "3des"
	EncrDES  Encryption = "des"
)

// ISAKMPKey is "crypto isakmp key": for an address under a mask (any for
// 0.0.0.0), or a host name.
type ISAKMPKey struct {
	Key      secret.Bytes
	Type     int          // 0, 6 or 7 as it was written
	Written  secret.Bytes // types 6 and 7: the text as it was written
	Prefix   netip.Prefix
	Hostname string
}

// Keepalive is "crypto isakmp keepalive": DPD. Zero Interval: off.
type Keepalive struct {
	Interval, Retry time.Duration
	Periodic        bool
}

// TransformSet is "crypto ipsec transform-set".
type TransformSet struct {
	Name      string
	Transform ipsec.Transform
}

// Profile is "crypto ipsec profile".
type Profile struct {
	Name          string
	TransformSets []string
	Lifetime      time.Duration // TEK lifetime; default 3600 s
}

// Group is "crypto gdoi group". Exactly one of Number (when HasNumber) and Address
// identifies it. Local makes it a key server's group, Servers a member's.
type Group struct {
	Name      string
	IPv6      bool
	HasNumber bool
	Number    uint32
	Address   netip.Addr
	Servers   []netip.Addr // at most 8, tried in order
	Passive   bool
	ClientIf  string // client registration interface
	Interop   bool   // interop rfc6407: nothing private on the wire
	Client    Client // what a member accepts and does
	Local     *LocalServer
	Kept      []string // lines (blocks indented by one) that nothing acts upon yet
}

// Client are the "client" lines of a member's group.
type Client struct {
	RekeyCiphers  []RekeyCipher // acceptable for the KEK; none: any
	RekeyHashes   []string      // acceptable for the rekey signature (sha, sha256, …); none: any
	TransformSets []string      // acceptable for TEKs, names of sets, at most 6; none: any
	Revert        bool          // fail-close revert: back to fail-close when all SAs have ended
	Track         int           // status active-sa track: number of the object; 0: none
	Recovery      time.Duration // recovery-check interval; 0: off
	Bypass        bool          // bypass-policy: own GDOI traffic passes whatever is downloaded
}

// RekeyCipher is a cipher of a KEK. KeyBits is 0 for all but AES.
type RekeyCipher struct {
	Encr    Encryption
	KeyBits int
}

// LocalServer is "server local".
type LocalServer struct {
	Address         netip.Addr
	RekeyEncr       Encryption
	RekeyKeyBits    int
	RekeySigHash    string
	RekeyLifetime   time.Duration
	RekeyRetransmit time.Duration
	RekeyNumber     int  // 0 with RekeyRetransmit 0: none
	RekeyPeriodic   bool // retransmit ... periodic: remind members that didn't acknowledge
	RekeyUnicast    bool
	RekeyAuthRSA    string // name of the RSA key that signs; at most one of the two is set
	RekeyAuthECDSA  string // name of the ECDSA key that signs
	RekeyAck        Ack
	RekeyAddress    string // ACL
	RekeyAddressV6  bool   // rekey address ipv6
	AuthAddress     string // ACL: authorization address ipv4
	ReceiveOnly     bool
	SIDBits         int         // group size; default 24
	KSSIDs          []SIDRange  // identifier: its ranges and values, sorted; none: see SIDRanges
	Redundancy      *Redundancy // nil: the group has no other key server
	SAs             []SAIPsec
	Kept            []string // lines (blocks indented by one) that nothing acts upon yet
}

// Ack is which acknowledgements of unicast rekeys a key server asks for and takes.
type Ack string

const (
	AckCisco         Ack = ""              // the default: the vendor's, for members that have our capability RFC 8263's
	AckInteroperable Ack = "interoperable" // RFC 8263 only
	AckAny           Ack = "any"
)

// RekeyKey is the name of the key that signs rekeys and whether it is an ECDSA key;
// "" means that the group has no rekeys.
func (l *LocalServer) RekeyKey() (name string, ecdsa bool) {
	if l.RekeyAuthECDSA != "" {
		return l.RekeyAuthECDSA, true
	}
	return l.RekeyAuthRSA, false
}

// SAIPsec is "sa ipsec N".
type SAIPsec struct {
	Seq     int
	Profile string
	ACL     string // match address
	IPv6    bool
	Replay  ipsec.Replay // default counter, 64
	Tag     bool         // tag cts sgt: security group tags travel in the metadata
	Kept    []string     // lines that nothing acts upon yet
}

// CryptoMap is all of one name's gdoi entries and its fail-close block.
type CryptoMap struct {
	Name         string
	IPv6         bool
	Entries      []MapEntry // sorted by Seq
	FailClose    *FailClose
	LocalAddress string // interface
}

// MapEntry is "crypto map NAME SEQ gdoi".
type MapEntry struct {
	Seq   int
	Group string
	ACL   string // local match address, deny entries
}

// FailClose is "crypto map NAME gdoi fail-close".
type FailClose struct {
	ACL      string
	Activate bool
}

// DFBit is what happens to the DF bit of the outer header.
type DFBit uint8

const (
	DFCopy DFBit = iota
	DFClear
	DFSet
)

// Interface is "interface NAME": what of it concerns us.
type Interface struct {
	Name      string
	CryptoMap string
	AdjustMSS int  // ip tcp adjust-mss; 0: off
	FragAfter bool // crypto ipsec fragmentation after-encryption
	Joins     []Join
	Kept      []string
	Shutdown  bool
}

// Join is "ip igmp join-group" or "ipv6 mld join-group": a multicast group that is
// joined by hand. An invalid Source means any.
type Join struct {
	Group, Source netip.Addr
}

// ACL is a named or numbered list. Remarks are kept by position.
type ACL struct {
	Name    string
	Kind    string // standard, extended, ipv6
	Entries []ipsec.ACE
	Remarks []Remark
}

// Remark is a comment in a list: it stands in front of the entry with index Before.
type Remark struct {
	Before int
	Text   string
}

// Logging is the logging block.
type Logging struct {
	Hosts        []LogHost
	Console      bool   // default true
	ConsoleLevel string // as written, "" for the default
}

// LogHost is "logging host A [transport udp port P]".
type LogHost struct {
	Addr netip.Addr
	Port uint16
}

// ACLByName returns the list, nil when there is none.
func (c *Config) ACLByName(name string) *ACL {
	for i := range c.ACLs {
		if c.ACLs[i].Name == name {
			return &c.ACLs[i]
		}
	}
	return nil
}

// ProfileByName returns the profile, nil when there is none.
func (c *Config) ProfileByName(name string) *Profile {
	for i := range c.Profiles {
		if c.Profiles[i].Name == name {
			return &c.Profiles[i]
		}
	}
	return nil
}

// TransformSetByName returns the set, nil when there is none.
func (c *Config) TransformSetByName(name string) *TransformSet {
	for i := range c.TransformSets {
		if c.TransformSets[i].Name == name {
			return &c.TransformSets[i]
		}
	}
	return nil
}

// GroupByName returns the group, nil when there is none.
func (c *Config) GroupByName(name string) *Group {
	for i := range c.Groups {
		if c.Groups[i].Name == name {
			return &c.Groups[i]
		}
	}
	return nil
}

// CryptoMapByName returns the map, nil when there is none.
func (c *Config) CryptoMapByName(name string) *CryptoMap {
	for i := range c.CryptoMaps {
		if c.CryptoMaps[i].Name == name {
			return &c.CryptoMaps[i]
		}
	}
	return nil
}
