package config

// What the rows of the table look for between cooperative key servers.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// coop is both sides' "redundancy", nil where there is none.
func (p *pair) coop() (was, is *Redundancy) {
	a, b, ok := p.server()
	if !ok {
		return nil, nil
	}
	return a.Redundancy, b.Redundancy
}

func coopOn(p *pair) []hit {
	a, b := p.coop()
	return one(a == nil && b != nil, "")
}

func coopOff(p *pair) []hit {
	a, b := p.coop()
	return one(a != nil && b == nil, "")
}

// cooperating is the two sides of a change in "redundancy"; switching it on is one from the
// defaults, switching it off is none.
func (p *pair) cooperating() (was, is *Redundancy, ok bool) {
	a, b := p.coop()
	if a == nil {
		a = newRedundancy()
	}
	return a, b, b != nil
}

func coopPriority(p *pair) []hit {
	a, b, ok := p.cooperating()
	if !ok {
		return nil
	}
	return one(a.Priority != b.Priority, "%d to %d", a.Priority, b.Priority)
}

func coopPeers(p *pair) []hit {
	a, b, ok := p.cooperating()
	if !ok {
		return nil
	}
	var what []string
	say := func(cond bool, format string, args ...any) { what = on(what, cond, format, args...) }
	say(!samePeers(a.Peers, b.Peers), "%s to %s", addrsOrNone(a.Peers), addrsOrNone(b.Peers))
	say(a.Address != b.Address, "own address %s to %s", addrOrNone(a.Address), addrOrNone(b.Address))
	say(a.Optimize != b.Optimize, "protocol version")
	say(a.Refresh != b.Refresh, "refresh %d s to %d s", secs(a.Refresh), secs(b.Refresh))
	say(a.Periodic != b.Periodic, "periodic %d s to %d s", secs(a.Periodic), secs(b.Periodic))
	say(a.Retransmit != b.Retransmit, "retransmit %d s to %d s", secs(a.Retransmit), secs(b.Retransmit))
	return one(len(what) > 0, "%s", strings.Join(what, "; "))
}

// samePeers compares lists whose order means nothing.
func samePeers(a, b []netip.Addr) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, netip.Addr.Compare)
	slices.SortFunc(b, netip.Addr.Compare)
	return slices.Equal(a, b)
}

func addrsOrNone(l []netip.Addr) string {
	if len(l) == 0 {
		return "none"
	}
	return strings.Trim(fmt.Sprint(l), "[]")
}
