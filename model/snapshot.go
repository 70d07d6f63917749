package model

import (
	"net/netip"
	"time"
)

// Snapshot is one instant of everything manageable. Generation rises by one with
// every publication.
type Snapshot struct {
	Generation uint64
	At         time.Time
	Boot       time.Time // start of the process
	Hostname   string
	KeyServers []KSGroup // groups with "server local", in configuration order
	Members    []GMGroup // groups with a server list, in configuration order
	IKE        IKE
	Dataplane  Dataplane
	// Registrations that a key server refused before their group was known, by reason.
	KSRejected map[string]uint64
}

// KSGroup is a group at its key server.
type KSGroup struct {
	Name             string
	Identity         GroupID
	IPv6             bool
	Local            netip.Addr
	Unicast          bool
	Direction        string // Both, Inbound Only
	RekeyLifetime    time.Duration
	RetransmitPeriod time.Duration
	RetransmitCount  int
	KEK              *KEK // nil until the first member registers
	Policies         []KSPolicy
	Members          MemberTable
	SIDBits          int
	SIDsUsed         uint64
	SIDsMax          uint64
	Counters         KSCounters
	NextRekey        time.Time         // zero: none is planned
	PseudotimeFrom   time.Time         // when the pseudotime was 0; zero: it doesn't run
	Unanswered       int               // members that the rekey under way still waits for
	Rejected         map[string]uint64 // registrations refused, by reason
	Coop             *Coop             // nil: the group has no other key server
}

// GroupID is a group's identity: a number, or an address when Addr is valid.
type GroupID struct {
	Number uint32
	Addr   netip.Addr
}

// KEK is the key encryption key in force; never its octets.
type KEK struct {
	SPI       [16]byte
	Algorithm string // AES, 3DES
	KeyBits   int
	SigHash   string
	SigBits   int
	Unicast   bool
	Lifetime  time.Duration
	Expires   time.Time
	RekeyAt   time.Time // at a key server: when its successor is sent; zero: not planned
	Seq       uint32
	Public    []byte // the key that verifies rekeys, DER SubjectPublicKeyInfo; nil: not known
}

// KSPolicy is one "sa ipsec" entry with its TEKs, newest first.
type KSPolicy struct {
	Seq      int
	Profile  string
	ACL      string
	ACEs     []ACE
	Lifetime time.Duration
	Replay   Replay
	TEKs     []TEK
}

// ACE is an access list entry as shown: "permit ip 10.1.0.0 0.0.255.255 any" with
// ports in the form of show crypto gdoi ("port = 22").
type ACE struct {
	Text string
	Hits uint64
}

// Replay is the anti-replay setting: Mode is Count Based, Time Based or Disabled.
type Replay struct {
	Mode   string
	Window int
}

// TEK is a data SA; never its key.
type TEK struct {
	SPI       uint32
	Transform string // "esp-gcm ", show form
	KeyBytes  int
	AuthBytes int
	Tunnel    bool
	Lifetime  time.Duration
	Expires   time.Time
	Replay    Replay
	Direction string
	Interface string
	SIDs      []uint32
	SIDBits   int       // width of SIDs; 0: none were given
	Tag       bool      // packets carry a security group tag
	RekeyAt   time.Time // at a key server: when its successor is sent; zero: not planned
	Sending   bool      // at a member: some permit is sent with it now
	Replaced  bool      // at a member: the key server has replaced it
	SA        SACounters
}

// SACounters count one SA. Packets and octets are of the inner packets.
type SACounters struct {
	EncapPackets, EncapOctets uint64
	DecapPackets, DecapOctets uint64
	SeqHigh                   uint64 // last number assigned
	ReplayDrops, ICVDrops     uint64
	OtherDrops                uint64
	MaxLate                   uint32        // counter windows: largest distance that was refused
	TooOld, TooNew            uint64        // time windows: of ReplayDrops
	MaxDelta                  time.Duration // time windows: largest difference of an accepted stamp
}

// Member is a registered group member at its key server.
type Member struct {
	Addr          netip.Addr
	KeyServer     netip.Addr // where it registered; invalid: at this one
	Identity      string
	Version       string
	Registered    time.Time
	LastPull      time.Time
	Registrations uint64
	RekeysSent    uint64
	RekeyRetries  uint64
	AcksRcvd      uint64
	AcksMissed    uint64
	SIDs          []uint32
	SentSeqs      [4]uint32 // numbers of the last rekeys to it, newest first; 0: none
	RcvdSeqs      [4]uint32 // of the last acknowledgements
}

// KSCounters of a group.
type KSCounters struct {
	PullsStarted, PullsCompleted, PullsFailed uint64
	MembersAged                               uint64        // taken off the list: didn't register again
	MembersEjected                            uint64        // taken off the list: left three rekeys unanswered
	RekeysSent                                uint64        // each once, whatever members and retransmissions
	Retransmits                               uint64        // transmissions of a rekey but its first
	LastRetransmits                           uint64        // of the last rekey
	LastRekeyTook                             time.Duration // from the first datagram to the last, no retransmissions
	RekeyDatagrams, RekeySendErrors           uint64
	AcksRcvd                                  uint64 // of the members that are listed
	OctetsCopied                              uint64 // in the member table, for all publications so far
}

// GMStatus is a member's registration state.
type GMStatus uint8

const (
	NotRegistered GMStatus = iota
	Registering
	Registered
)

func (s GMStatus) String() string {
	return [...]string{"Not registered", "Registering", "Registered"}[s]
}

// GMGroup is a group at a member.
type GMGroup struct {
	Name             string
	Identity         GroupID
	IPv6             bool
	Servers          []netip.Addr
	Interface        string
	MapName          string
	Status           GMStatus
	Local, Remote    netip.AddrPort
	RegisteredWith   netip.Addr
	Version          string // GET VPN software version that this member claims
	RegisteredAt     time.Time
	ReRegisters      time.Time // when it will register again
	Succeeded        uint64
	Attempted        uint64
	RekeysReceived   uint64
	LastRekeyFrom    netip.Addr
	LastRekeySeq     uint32
	FailClose        bool
	Direction        string
	LocalACL         string
	LocalACEs        []ACE
	DownloadedACEs   []ACE
	KEK              *KEK
	TEKs             []TEK // newest first
	LastError        string
	FailuresByReason map[string]uint64
	GMLife
}

// IKE is the endpoint: its SAs and what it refused.
type IKE struct {
	SAs   []IKESA
	Drops map[string]uint64 // datagrams and exchanges refused, by reason
}

// IKESA is a phase-1 SA, or a half-open one.
type IKESA struct {
	ID            uint32 // conn-id
	Local, Remote netip.AddrPort
	State         string // MM_NO_STATE, MM_KEY_EXCH, GDOI_IDLE, …
	Initiator     bool
	ICookie       [8]byte
	RCookie       [8]byte
	Encr          string
	Hash          string
	Auth          string
	DHGroup       int
	Expires       time.Time
	Established   time.Time
	DPD, NATT     bool
	Deleted       bool
}

// Dataplane is the ESP engine.
type Dataplane struct {
	Backend    string // tcx, clsact
	Interfaces []Interface
	Drops      map[string]uint64 // by ipsec.DropReason name
	TimeReplay []TimeReplay      // groups with time-based anti-replay
}

// Interface is one with a crypto map.
type Interface struct {
	Name                          string
	Index                         int
	MTU                           int
	Attached                      bool
	MapName                       string
	LocalAddr                     netip.Addr
	ClearOutPackets, ClearInPkts  uint64
	EncapPackets, DecapPackets    uint64
	Drops                         map[string]uint64
	FragmentsSent, Reassembled    uint64
	ICMPTooBigSent, ICMPRewritten uint64
	LastError                     string // of background work, for a person; empty if there was none
}
