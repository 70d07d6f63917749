package coop

// Who may use which rekey numbers under a KEK. Two key servers that can't hear each
// other may both hold a KEK and both become primary, so nobody asks: each has numbers of
// its own, by arithmetic.
//
// The holders of a KEK stand in an order that its leader makes (the one that made it, or
// took it over with everybody's leave) and only appends to. The leader, Holders[0], goes
// at most 9 numbers beyond what each other holder has confirmed to know. A holder that
// becomes primary while the leader is gone has ten numbers: the i-th one those from
// base+10+20·(i−1), where base is the leader's last number that it knows of. Since all
// know the leader's numbers to within nine, these ranges are apart. They serve to tell
// members of a new KEK. A leader that is stopped by a holder out of reach passes over
// all numbers that anybody can have from what it knows: 400. One that comes back without
// its state doesn't know how often it did so: it has no numbers under the KEK any more.
//
// Where the leader gives up its role and every holder leaves its lease to the same
// successor, that one leads: it goes on with the KEK, ten numbers on (guide, "sequence
// numbers of rekeys").

import (
	"math"
	"net/netip"
	"slices"
)

// Lease are the numbers that may be used under a KEK now: From to To, none when To is
// less. Ends says that the KEK can't be kept: the first rekey must bring another one.
type Lease struct {
	From, To uint32
	Ends     bool
}

// Left is how many numbers there are.
func (l Lease) Left() uint32 {
	if l.To < l.From || l.From == 0 {
		return 0
	}
	return min(l.To-l.From, math.MaxUint32-1) + 1
}

const (
	ahead      = 9  // a leader's numbers before the slowest holder
	jump       = 10 // at a change of roles
	apart      = 20 // successors' leases
	maxHolders = 16
	over       = 400 // more than jump + apart·(maxHolders-1) + ahead
)

// numbering is a KEK's numbers as one key server knows them.
type numbering struct {
	spi     SPI
	last    uint32 // used last by anybody
	base    uint32 // … by the leader
	floor   uint32 // a leader's: what others may have lies below
	holders []netip.Addr
	known   map[netip.Addr]uint32 // a leader's: base as other holders have confirmed it
	told    map[netip.Addr]uint64 // a leader's: incarnations that were told the KEK
	given   *Lease                // by another key server that has given up its own
	granted *Lease                // what we have given …
	to      heir                  // … to whom, with which keys
	void    bool                  // left to somebody else, or lost
	lost    bool                  // a former life of ours may have used what nobody knows
}

// leads reports whether a goes on with the KEK.
func (n *numbering) leads(a netip.Addr) bool {
	return !n.void && len(n.holders) > 0 && n.holders[0] == a
}

// lease is what self may use.
func (n *numbering) lease(self netip.Addr) Lease {
	if n.leads(self) {
		return n.leaders()
	}
	if n.given != nil {
		return Lease{max(n.given.From, beyond(n.last, 1)), n.given.To, true}
	}
	i := slices.Index(n.holders, self)
	if n.void || i < 1 {
		return Lease{Ends: true}
	}
	from := uint64(n.base) + jump + apart*uint64(i-1)
	to := from + jump - 1
	if from = max(from, uint64(n.last)+1); from > to || to > math.MaxUint32 {
		return Lease{Ends: true} // used up
	}
	return Lease{uint32(from), uint32(to), true}
}

// leaders is a leader's lease. The floor rises when nothing is left, and when another
// key server has used numbers: those that follow may be its too.
func (n *numbering) leaders() Lease {
	limit := func() (to uint64) {
		to = math.MaxUint32
		for _, h := range n.holders[1:] {
			to = min(to, uint64(max(n.known[h], n.floor))+ahead)
		}
		return to
	}
	if n.last > max(n.base, n.floor) {
		n.pass()
	}
	from, to := uint64(max(n.base, n.floor))+1, limit()
	if from > to && n.last < math.MaxUint32-2*over {
		n.pass()
		from, to = uint64(n.floor)+1, limit()
	}
	if from > to {
		return Lease{Ends: true}
	}
	return Lease{uint32(from), uint32(to), to > math.MaxUint32-over && len(n.holders) > 1}
}

// pass leaves out all numbers that another holder may have.
func (n *numbering) pass() { n.floor = beyond(max(n.last, n.floor), over) }

// beyond is d after n, or the end of all numbers.
func beyond(n, d uint32) uint32 { return n + min(d, math.MaxUint32-n) }

// others notes a number that others have used. A leader passes over theirs at once, before
// anybody takes it for one of its own.
func (n *numbering) others(self netip.Addr, last uint32) {
	if last <= max(n.last, n.floor) {
		n.last = max(n.last, last)
		return
	}
	if n.last = last; n.leads(self) {
		n.pass()
	}
}

// hold adds a holder, which is told with the keys what was used. has says that it has
// the KEK already. One that had it in another incarnation and lost it may have used its
// lease before.
func (n *numbering) hold(a netip.Addr, incarnation uint64, has bool) bool {
	switch known := slices.Contains(n.holders, a); {
	case known && (has || n.told[a] == incarnation):
		return true
	case known:
		n.pass()
	case len(n.holders) >= maxHolders:
		return false
	default:
		n.holders = append(n.holders, a)
	}
	if n.told == nil {
		n.told = map[netip.Addr]uint64{}
	}
	n.told[a] = incarnation
	n.known[a] = max(n.base, n.floor)
	return true
}

// lead makes self the leader: everybody else has left its lease to it.
func (n *numbering) lead(self netip.Addr) {
	if n.last = max(n.last, n.floor); n.holders[0] != self {
		n.last = beyond(n.last, jump-1) // the next one is ten on
	}
	n.holders = []netip.Addr{self}
	n.base, n.floor = n.last, n.last
	n.known = map[netip.Addr]uint32{}
	n.void, n.lost, n.given, n.granted = false, false, nil, nil
}

// use notes a number that we used.
func (n *numbering) use(self netip.Addr, seq uint32) {
	n.last = max(n.last, seq)
	if n.leads(self) {
		n.base = max(n.base, seq)
	}
}

// heir is whom a lease was left to: a life of a key server that merged certain keys. Later
// it may have left the lease to others, or have forgotten that it used it.
type heir struct {
	addr        netip.Addr
	incarnation uint64
	keys        KeysID
}

// grant leaves our lease to somebody, for good: asked again for the same, the answer is the
// same, and nobody else gets anything.
func (n *numbering) grant(self netip.Addr, to heir) Lease {
	if n.granted == nil {
		l := n.lease(self)
		if l.Left() == 0 {
			return Lease{}
		}
		l.To = min(l.To, beyond(l.From, jump-1)) // so that pass leaves it out
		n.granted, n.to = &l, to
		n.void, n.given = true, nil
	}
	if n.to != to {
		return Lease{}
	}
	return *n.granted
}

// lose gives up all numbers for good: we had the KEK in a life of which nothing is left, and
// nobody else knows how far that went, least of all when it led. While others may hold it we
// don't vouch for our lease having been left to somebody either (freeOf).
func (n *numbering) lose() { n.void, n.lost = true, true }

// wire is what others are told. Whoever got our lease may have used it unheard.
func (n *numbering) wire() number {
	return number{spi: n.spi, last: max(n.last, n.floor), base: max(n.base, n.floor), holders: n.holders, lost: n.lost || n.granted != nil}
}
