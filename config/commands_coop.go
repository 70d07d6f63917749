package config

// redundancy and identifier: cooperative key servers and their Sender IDs.

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"getvpn/cli/grammar"
)

func (b *builder) redundancy() *Redundancy { return b.local().Redundancy }

func coopCommands() []command {
	coop := func(pattern, help string, do func(*Redundancy, *grammar.Match) error) command {
		return command{Mode: modeCoop, Pattern: pattern, Help: help, No: true, Do: func(b *builder, m *grammar.Match) error { return do(b.redundancy(), m) }}
	}
	period := func(pattern, help string, of func(*Redundancy) *time.Duration) command {
		return coop(pattern, help, func(r *Redundancy, m *grammar.Match) error {
			if *of(r) = *of(newRedundancy()); !m.No {
				*of(r) = seconds(num(m, "s"))
			}
			return nil
		})
	}
	return []command{
		{Mode: modeLocal, Pattern: "redundancy", Help: "Cooperative key servers", Enter: modeCoop, No: true, Do: enterRedundancy},
		coop("local priority p:<1-255>", "Who is preferred as primary", func(r *Redundancy, m *grammar.Match) error {
			r.Priority = max(1, num(m, "p"))
			if m.No {
				r.Priority = 1
			}
			return nil
		}),
		// Two forms, so that "no local address" is whole.
		coop("local address a:A.B.C.D", "Own address towards the other key servers", coopAddress),
		coop("local address ipv4 a:A.B.C.D", "Own address towards the other key servers", coopAddress),
		coop("peer address ipv4 a:A.B.C.D", "Another key server of the group", coopPeer),
		coop("protocol version v:{base|optimize}", "Form of announcements", func(r *Redundancy, m *grammar.Match) error {
			r.Optimize = given(m, "v", "base") == "optimize"
			return nil
		}),
		period("protocol timeout refresh s:<5-600>", "Between a primary's announcements, in seconds", func(r *Redundancy) *time.Duration { return &r.Refresh }),
		period("protocol timeout periodic s:<10-1800>", "How long a secondary waits for one, in seconds", func(r *Redundancy) *time.Duration { return &r.Periodic }),
		period("protocol retransmit s:<2-300>", "Between a secondary's requests, in seconds", func(r *Redundancy) *time.Duration { return &r.Retransmit }),
		{Mode: modeLocal, Pattern: "identifier", Help: "Sender IDs of this key server", Enter: modeIdent, No: true, Do: func(b *builder, m *grammar.Match) error {
			if m.No {
				b.local().KSSIDs = nil
				return nil
			}
			b.mark("crypto gdoi group " + b.thisGroup().Name + " identifier")
			return nil
		}},
		{Mode: modeIdent, Pattern: "range a:<0-511> - b:<0-511>", Help: "KSSIDs of this key server", No: true, Do: func(b *builder, m *grammar.Match) error {
			switch {
			case m.No:
				b.dropIdentifiers(m, m.Has("b") && num(m, "a") == num(m, "b"))
			case num(m, "b") < num(m, "a"):
				return bad(m, "b", "A range ends where it begins, or behind.")
			default:
				b.identifier(num(m, "a"), num(m, "b"))
			}
			return nil
		}},
		{Mode: modeIdent, Pattern: "value a:<0-511>", Help: "One KSSID of this key server", No: true, Do: func(b *builder, m *grammar.Match) error {
			if m.No {
				b.dropIdentifiers(m, true)
				return nil
			}
			b.identifier(num(m, "a"), num(m, "a"))
			return nil
		}},
	}
}

func enterRedundancy(b *builder, m *grammar.Match) error {
	l := b.local()
	switch {
	case m.No:
		l.Redundancy = nil
		return nil
	case l.Redundancy == nil:
		l.Redundancy = newRedundancy()
	}
	b.mark("crypto gdoi group " + b.thisGroup().Name + " redundancy")
	return nil
}

func coopAddress(r *Redundancy, m *grammar.Match) error {
	if r.Address = (netip.Addr{}); !m.No {
		r.Address = addr(m, "a")
	}
	return nil
}

// coopPeer takes one address more than there may be peers: the own one may be among them.
func coopPeer(r *Redundancy, m *grammar.Match) error {
	a := addr(m, "a")
	switch {
	case m.No:
		r.Peers = slices.DeleteFunc(r.Peers, func(x netip.Addr) bool { return x == a || !m.Has("a") })
		if len(r.Peers) == 0 {
			r.Peers = nil
		}
	case a.IsUnspecified() || a.IsMulticast():
		return bad(m, "a", "%s isn't the address of a key server.", a)
	case slices.Contains(r.Peers, a):
	case len(r.Peers) > MaxPeers:
		return bad(m, "a", "A group has at most %d key servers beside this one.", MaxPeers)
	default:
		r.Peers = append(r.Peers, a)
	}
	return nil
}

// dropIdentifiers takes away the ranges (or single values) that "no" names: all of them
// when it names none.
func (b *builder) dropIdentifiers(m *grammar.Match, single bool) {
	l := b.local()
	l.KSSIDs = slices.DeleteFunc(l.KSSIDs, func(x SIDRange) bool {
		return (x.Low == x.High) == single && (!m.Has("a") || int(x.Low) == num(m, "a")) && (!m.Has("b") || int(x.High) == num(m, "b"))
	})
	if len(l.KSSIDs) == 0 {
		l.KSSIDs = nil
	}
}

// identifier adds a range of KSSIDs. They stand in order; the same isn't added twice.
func (b *builder) identifier(low, high int) {
	l, r := b.local(), SIDRange{uint32(low), uint32(high)}
	i, found := slices.BinarySearchFunc(l.KSSIDs, r, func(x, r SIDRange) int {
		return cmp.Or(cmp.Compare(x.Low, r.Low), cmp.Compare(x.High, r.High))
	})
	if !found {
		l.KSSIDs = slices.Insert(l.KSSIDs, i, r)
	}
}
