package config

// What the rows of the table look for between cooperative key servers.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"getvpn/ipsec"
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

func coopAddressMoved(p *pair) []hit {
	a, b, ok := p.server()
	if !ok || a.Redundancy == nil || b.Redundancy == nil {
		return nil
	}
	return one(a.CoopAddress() != b.CoopAddress(), "%s to %s", addrOrNone(a.CoopAddress()), addrOrNone(b.CoopAddress()))
}

// senderIDs are both sides' ranges where they differ and members had Sender IDs and will
// have some. Another width is a row of its own.
func (p *pair) senderIDs() (was, is []SIDRange) {
	a, b, ok := p.server()
	if !ok || a.SIDBits != b.SIDBits || !counting(p.wasSA) || !counting(p.isSA) {
		return nil, nil
	}
	if was, is = a.given(), b.given(); slices.Equal(was, is) {
		return nil, nil
	}
	return was, is
}

// given are the Sender IDs that a key server gives out: alone, all of them.
func (l *LocalServer) given() []SIDRange {
	if l.Redundancy == nil {
		return []SIDRange{{0, uint32(uint64(1)<<l.SIDBits - 1)}}
	}
	return l.SIDRanges()
}

func counting(l []saView) bool {
	return slices.ContainsFunc(l, func(v saView) bool { return slices.ContainsFunc(v.sets, ipsec.Transform.Counter) })
}

// sharing reports whether two lists of ranges have a Sender ID in common.
func sharing(a, b []SIDRange) bool {
	return slices.ContainsFunc(a, func(x SIDRange) bool {
		return slices.ContainsFunc(b, func(y SIDRange) bool { return x.Low <= y.High && y.Low <= x.High })
	})
}

func sidsApart(p *pair) []hit {
	a, b := p.senderIDs()
	return one(len(b) > 0 && !sharing(a, b), "%s to %s", rangesOrNone(a), rangesOrNone(b))
}

func sidsShared(p *pair) []hit {
	a, b := p.senderIDs()
	return one(sharing(a, b), "%s to %s", rangesOrNone(a), rangesOrNone(b))
}

func rangesOrNone(l []SIDRange) string {
	if len(l) == 0 {
		return "none"
	}
	var w []string
	for _, r := range l {
		w = append(w, r.String())
	}
	return strings.Join(w, ", ")
}
