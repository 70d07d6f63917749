package config

// Cooperative key servers: what "redundancy" and "identifier" say, and which Sender IDs
// a key server may give out because of it.

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"time"
)

// MaxPeers is how many key servers a group may have beside this one (guide: eight in all).
const MaxPeers = 7

// Times between cooperative key servers unless "protocol" lines say otherwise.
const (
	defaultRefresh    = 20 * time.Second
	defaultPeriodic   = 30 * time.Second
	defaultCoopResend = 10 * time.Second
)

// Redundancy is "redundancy": the group has cooperative key servers.
type Redundancy struct {
	Priority   int           // 1 to 255; default 1
	Address    netip.Addr    // own towards peers; invalid: the server's
	Peers      []netip.Addr  // as written; may hold the own address, see CoopPeers
	Optimize   bool          // protocol version optimize
	Refresh    time.Duration // between announcements of a primary
	Periodic   time.Duration // how long a secondary waits for one
	Retransmit time.Duration // between its requests then
}

func newRedundancy() *Redundancy {
	return &Redundancy{Priority: 1, Refresh: defaultRefresh, Periodic: defaultPeriodic, Retransmit: defaultCoopResend}
}

// CoopAddress is this key server's address towards its peers; invalid when none is
// configured.
func (l *LocalServer) CoopAddress() netip.Addr {
	if l.Redundancy != nil && l.Redundancy.Address.IsValid() {
		return l.Redundancy.Address
	}
	return l.Address
}

// CoopPeers are the other key servers in the order written. The own address may stand in
// a list that all key servers share: it is passed over.
func (l *LocalServer) CoopPeers() []netip.Addr {
	if l.Redundancy == nil {
		return nil
	}
	self := l.CoopAddress()
	return slices.DeleteFunc(slices.Clone(l.Redundancy.Peers), func(a netip.Addr) bool { return a == self })
}

// SIDRange is a range of Sender IDs, or of their KSSIDs; both ends belong to it.
type SIDRange struct{ Low, High uint32 }

// String is the range as "identifier" writes it.
func (r SIDRange) String() string {
	if r.Low == r.High {
		return fmt.Sprint(r.Low)
	}
	return fmt.Sprintf("%d - %d", r.Low, r.High)
}

// KSSIDBits is how many of the leading bits of a Sender ID of the given width name the
// key server that gave it out (group size medium: 7, large: 9). 0: none do, as in small
// groups.
func KSSIDBits(width int) int {
	switch width {
	case 24:
		return 7
	case 32:
		return 9
	}
	return 0
}

// SIDRanges are the Sender IDs that this key server has among others, in ascending order.
// They are those of its identifier lines. Without, the numbers are split evenly between the
// key servers of the group in the order of their addresses, into as many shares as the
// next power of two, as the vendor recommends. A key server without peers has all. None
// are left when redundancy lacks the own address.
func (l *LocalServer) SIDRanges() []SIDRange {
	width := l.SIDBits
	if width == 0 {
		width = 24 // one that wasn't read from a file
	}
	if n := KSSIDBits(width); n > 0 && len(l.KSSIDs) > 0 {
		return joined(l.KSSIDs, width-n)
	}
	self := l.CoopAddress()
	servers := append(l.CoopPeers(), self)
	slices.SortFunc(servers, netip.Addr.Compare)
	servers = slices.Compact(servers)
	i := slices.Index(servers, self)
	if l.Redundancy != nil && !self.IsValid() {
		return nil
	}
	size := uint64(1) << width >> shareBits(len(servers))
	return []SIDRange{{uint32(uint64(i) * size), uint32(uint64(i+1)*size - 1)}}
}

// shareBits is how many leading bits name the share of one of so many key servers: their
// number rounded up to a power of two, as a power.
func shareBits(servers int) int { return bits.Len(uint(servers - 1)) }

// joined are ranges of KSSIDs as ranges of Sender IDs with shift bits more; those that
// follow each other become one.
func joined(kssids []SIDRange, shift int) []SIDRange {
	var out []SIDRange
	for _, k := range kssids {
		r := SIDRange{uint32(uint64(k.Low) << shift), uint32((uint64(k.High)+1)<<shift - 1)}
		if n := len(out); n > 0 && uint64(out[n-1].High)+1 == uint64(r.Low) {
			out[n-1].High = r.High
			continue
		}
		out = append(out, r)
	}
	return out
}
