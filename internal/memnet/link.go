package memnet

// This file is what lies between two hosts: how a link treats datagrams, one setting
// for all of them, others for single directions, and cuts.

import (
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"time"
)

// minHold is the least time that a reordered datagram is held back.
const minHold = 10 * time.Millisecond

// Link is how datagrams of one direction are treated. Chances are from 0 to 1.
type Link struct {
	Loss      float64 // of each copy
	Duplicate float64 // a second copy with a fate of its own
	// Reorder holds a datagram back for another Delay+Jitter, 10 ms at least, so that
	// later ones pass it.
	Reorder float64
	Delay   time.Duration // at least
	Jitter  time.Duration // up to so much more; it reorders as well
}

func (l Link) wait(rnd *rand.Rand) time.Duration {
	if l.Jitter <= 0 {
		return l.Delay
	}
	return l.Delay + time.Duration(rnd.Int64N(int64(l.Jitter)))
}

// path is a direction between two hosts.
type path struct{ from, to netip.Addr }

type direction struct {
	own *Link // nil: as all
	rnd *rand.Rand
}

// direction finds or makes the state of one; the caller holds mu.
func (n *Network) direction(from, to netip.Addr) *direction {
	p := path{from, to}
	d := n.links[p]
	if d == nil {
		h := fnv.New64a()
		h.Write(from.AsSlice())
		h.Write([]byte{0})
		h.Write(to.AsSlice())
		d = &direction{rnd: rand.New(rand.NewPCG(n.seed, h.Sum64()))}
		n.links[p] = d
	}
	return d
}

// SetAll sets how all directions without a setting of their own are treated, from now.
func (n *Network) SetAll(l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link = l
}

// SetLink sets one direction.
func (n *Network) SetLink(from, to netip.Addr, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.direction(from, to).own = &l
}

// ClearLink treats one direction as all again.
func (n *Network) ClearLink(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.direction(from, to).own = nil
}

// Cut lets nothing more pass between two hosts, in both directions; what is on its way
// arrives. The zero address stands for every host: Cut(a, netip.Addr{}) isolates a.
func (n *Network) Cut(a, b netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[path{a, b}], n.cuts[path{b, a}] = true, true
}

// Heal undoes the Cut of the same addresses.
func (n *Network) Heal(a, b netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cuts, path{a, b})
	delete(n.cuts, path{b, a})
}

// HealAll undoes all cuts.
func (n *Network) HealAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
}

func (n *Network) isCut(from, to netip.Addr) bool {
	var each netip.Addr
	return n.cuts[path{from, to}] || n.cuts[path{from, each}] || n.cuts[path{each, to}] || n.cuts[path{each, each}]
}
