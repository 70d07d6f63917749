package steer

// What a caller holds: Open, the maps' operations, Close.

import (
	"net/netip"

	"getvpn/ipsec"
)

// Options of Open.
type Options struct {
	// Dir is a folder on a bpffs for pins (EnsureBPFFS makes one). Empty leaves
	// everything unpinned: then policy dies with the process.
	Dir string
	// Backend is "auto" (or empty), "tcx" or "clsact".
	Backend string
	// KeepSPIs adopts the SPI map of a dead process; otherwise it is emptied, so that
	// ESP whose keys nobody has is judged as clear.
	KeepSPIs bool
	// Log receives one line for each thing worth telling; nil drops them.
	Log func(format string, args ...any)
}

// Steering is the programs and maps of one network namespace. Its methods may be
// called from several goroutines.
type Steering struct{}

// Open finds a back end, adopts what a dead process left under Dir (links and maps;
// a fresh secret mark, no socket cookies) and cleans what is stale.
func Open(o Options) (*Steering, error) { return &Steering{}, nil }

// Adopted lists the interfaces whose programs of an earlier process are still in
// place. Attach takes each over; Detach removes it.
func (s *Steering) Adopted() []int { return nil }

// Backend says "tcx" or "clsact".
func (s *Steering) Backend() string { return "" }

// Attach puts both policies on the interface wan, whose packets go to the TAP tap,
// or replaces them, each atomically, egress first.
func (s *Steering) Attach(wan, tap int, out, in ipsec.Ruleset) error { return nil }

// SwapEgress replaces the outbound policy of an attached interface atomically.
func (s *Steering) SwapEgress(wan int, out ipsec.Ruleset) error { return nil }

// SwapIngress replaces the inbound policy of an attached interface atomically.
func (s *Steering) SwapIngress(wan int, in ipsec.Ruleset) error { return nil }

// Detach removes the programs from the interface and its TAP.
func (s *Steering) Detach(wan int) error { return nil }

// AddSPIs makes ESP with these SPIs ours on every attached interface.
func (s *Steering) AddSPIs(spis ...uint32) error { return nil }

// RemoveSPIs ends that.
func (s *Steering) RemoveSPIs(spis ...uint32) error { return nil }

// AllowSocket lets a socket's packets out unjudged: SO_COOKIE of it.
func (s *Steering) AllowSocket(cookie uint64) error { return nil }

// ForbidSocket ends that.
func (s *Steering) ForbidSocket(cookie uint64) error { return nil }

// SocketCookie reads SO_COOKIE of a socket.
func SocketCookie(fd int) (uint64, error) { return 0, nil }

// SetLocal sets the addresses whose UDP ports 848 and 4500 are our GDOI: those of
// this host, and the groups of multicast rekeys.
func (s *Steering) SetLocal(addrs []netip.Addr) error { return nil }

// RingFilter returns the descriptor of a socket filter for a packet socket on wan
// (SO_ATTACH_BPF): ESP with our SPIs, non-first ESP fragments, ICMP errors that
// quote our ESP. Steering owns it and closes it in Detach and Close; a socket that
// has it keeps it.
func (s *Steering) RingFilter(wan int) (fd int, err error) { return -1, nil }

// Counters of every attached interface, by its index.
func (s *Steering) Counters() (map[int]InterfaceCounters, error) { return nil, nil }

// Close with keep leaves pins and programs in place (clsact filters stay in any
// case that says keep): policy survives the process. Without keep all goes.
func (s *Steering) Close(keep bool) error { return nil }

// InterfaceCounters counts packets since Attach (a GSO super-packet counts once).
type InterfaceCounters struct{ Egress, Ingress DirectionCounters }

// DirectionCounters is one program's.
type DirectionCounters struct {
	Drops     [ipsec.NumDropReasons]uint64
	Passed    uint64   // judged by the policy and passed
	Protected uint64   // egress: sent to the TAP
	Own       uint64   // egress: of an allowed socket
	Taken     uint64   // ingress: our ESP and the ICMP errors about it
	Injected  uint64   // ingress: decrypted, from the TAP
	Control   uint64   // ARP, neighbour discovery, GDOI, closed list of ethertypes, tagged frames
	Rules     []uint64 // hits of the present ruleset, by rule
	Default   uint64   // hits of its default
}

// EnsureBPFFS mounts a bpffs at dir (made if missing) unless one is there.
func EnsureBPFFS(dir string) error { return nil }
