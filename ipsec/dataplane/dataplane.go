package dataplane

// The package's face: what the daemon opens, installs policy into and reads
// counters from. The work is in port.go (one protected interface), outbound.go and
// inbound.go (the two pumps).

import (
	"net/netip"
	"time"

	"getvpn/internal/clock"
	"getvpn/model"
	"getvpn/model/event"
)

// Options of a dataplane. Only BPFDir is needed.
type Options struct {
	// BPFDir is this daemon's own folder on a bpf file system, where programs and
	// maps are pinned so that policy outlives the process.
	BPFDir string
	// Queues is the number of TAP queues, rings and worker pairs of an interface;
	// 0 means 1.
	Queues int
	// Backend names a steering back end ("tcx", "clsact"); empty takes the best that
	// the kernel has.
	Backend string
	// Emit receives events (line protocol, rate-limited drop messages). May be nil.
	Emit event.Emitter
	// Notify is told what needs an engine's decision. It is called from a goroutine
	// of its own and may call Install. May be nil.
	Notify func(Notice)
	// Store receives Publish. May be nil.
	Store *model.Store
	// Clock is where pseudotimes come from; nil: the machine's boot clock.
	Clock clock.Clock
}

// NoticeKind says what a Notice is about.
type NoticeKind uint8

const (
	// SeqNearEnd: an SA's sequence numbers or IVs run out soon (RFC 4303 §3.3.3);
	// the group needs a new TEK. Told once an SA.
	SeqNearEnd NoticeKind = iota
	// SAExpired: a TEK's lifetime ended here; it neither sends nor receives any more.
	SAExpired
	// LinkUp and LinkDown: the interface (re)appeared with its steering attached, or
	// went away.
	LinkUp
	LinkDown
	// BadSPI, Replayed, OutOfTime and BadICV are data errors, for error recovery: ESP
	// between protected addresses with an SPI that isn't there, refused by a counter
	// window, refused for its time stamp, with a wrong integrity check. Each is told at
	// once, then at most every 30 s for its subject (interface and group, group, SPI),
	// with the number of packets since.
	BadSPI
	Replayed
	OutOfTime
	BadICV
)

func (k NoticeKind) String() string {
	return [...]string{"sequence near its end", "SA expired", "link up", "link down",
		"bad SPI", "replayed", "out of time", "bad ICV"}[k]
}

// Notice is one happening that an engine acts upon.
type Notice struct {
	Kind      NoticeKind
	Group     string
	Interface string
	SPI       uint32
	// Of data errors. Source is the last such packet's; no one has authenticated it
	// but for Replayed and OutOfTime.
	Source  netip.Addr
	Packets uint64
	// Of OutOfTime: the receiver's pseudotime, the packet's, and how far they may differ.
	Mine, Peer, Window time.Duration
}

// InterfaceSettings are the settings of a protected interface that aren't a
// group's.
type InterfaceSettings struct {
	// MapName is the crypto map's name, for show commands.
	MapName string
	// LocalAddr is the interface's address towards the group.
	LocalAddr netip.Addr
	// AdjustMSS is "ip tcp adjust-mss": the largest MSS, in octets, that TCP SYNs of
	// protected flows keep, in both directions; 0 leaves them.
	AdjustMSS int
	// ClearDF is "crypto ipsec df-bit clear": a packet that is too big is fragmented
	// before encryption whatever its DF bit says.
	ClearDF bool
	// TagMask is the bits of a packet's mark that are its security group tag, in groups
	// that carry tags: at most 16 in a row. 0 means 0xffff.
	TagMask uint32
}
