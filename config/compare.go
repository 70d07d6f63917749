package config

// What the rows of the table of changes look for. Names are resolved first: a list or
// a transform set whose entries changed is a change of every group that uses it.

import (
	"fmt"
	"slices"
	"time"

	"getvpn/ipsec"
)

// pair is a group before and after; either may be missing. Rows that aren't of a
// group are asked once, with both missing.
type pair struct {
	old, next   *Config
	was, is     *Group
	wasSA, isSA []saView // of "server local", by number
}

// hit is a place where a row applies. seq is the number of the sa ipsec, 0 for none.
type hit struct {
	seq  int
	what string
}

// saView is an "sa ipsec" with its names resolved.
type saView struct {
	*SAIPsec
	life time.Duration
	sets []ipsec.Transform
	acl  *ACL
}

func views(c *Config, g *Group) []saView {
	if g == nil || g.Local == nil {
		return nil
	}
	var out []saView
	for i := range g.Local.SAs {
		v := saView{SAIPsec: &g.Local.SAs[i]}
		v.acl = c.ACLByName(v.ACL)
		if p := c.ProfileByName(v.Profile); p != nil {
			v.life = p.Lifetime
			for _, n := range p.TransformSets {
				if t := c.TransformSetByName(n); t != nil {
					v.sets = append(v.sets, t.Transform)
				}
			}
		}
		out = append(out, v)
	}
	return out
}

// server is both sides' "server local" when the device was and is the key server.
func (p *pair) server() (was, is *LocalServer, ok bool) {
	if p.was == nil || p.is == nil || p.was.Local == nil || p.is.Local == nil {
		return nil, nil, false
	}
	return p.was.Local, p.is.Local, true
}

// member reports whether the device was and is a member of the group.
func (p *pair) member() bool {
	return p.was != nil && p.is != nil && p.was.Local == nil && p.is.Local == nil
}

// one is a hit without a place when the condition holds.
func one(cond bool, format string, args ...any) []hit {
	if !cond {
		return nil
	}
	return []hit{{what: fmt.Sprintf(format, args...)}}
}

// forSAs asks f of every sa ipsec that is on both sides.
func (p *pair) forSAs(f func(was, is *saView) (string, bool)) []hit {
	var out []hit
	for i := range p.wasSA {
		for j := range p.isSA {
			if p.wasSA[i].Seq != p.isSA[j].Seq {
				continue
			}
			if what, ok := f(&p.wasSA[i], &p.isSA[j]); ok {
				out = append(out, hit{p.isSA[j].Seq, what})
			}
		}
	}
	return out
}

func tekLifetime(p *pair) []hit {
	return p.forSAs(func(a, b *saView) (string, bool) {
		return fmt.Sprintf("%d s to %d s", secs(a.life), secs(b.life)), a.Profile == b.Profile && a.life != b.life
	})
}

func tekTransform(p *pair) []hit {
	return p.forSAs(func(a, b *saView) (string, bool) {
		return setText(a.sets) + " to " + setText(b.sets), a.Profile == b.Profile && !slices.Equal(a.sets, b.sets)
	})
}

func setText(sets []ipsec.Transform) string {
	if len(sets) == 0 {
		return "none"
	}
	return transformText(sets[0])
}

func tekProfile(p *pair) []hit {
	return p.forSAs(func(a, b *saView) (string, bool) {
		return orNone(a.Profile) + " to " + orNone(b.Profile), a.Profile != b.Profile
	})
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func tekACL(p *pair) []hit {
	return p.forSAs(func(a, b *saView) (string, bool) {
		if a.ACL != b.ACL || a.acl == nil || b.acl == nil {
			return "", false
		}
		return listChange(a.acl.Entries, b.acl.Entries, b.ACL), !sameEntries(a.acl, b.acl)
	})
}

// sameEntries compares what lists mean: numbers and remarks don't count.
func sameEntries(a, b *ACL) bool {
	return slices.EqualFunc(a.Entries, b.Entries, func(x, y ipsec.ACE) bool { x.Seq = y.Seq; return x == y })
}

func listChange(a, b []ipsec.ACE, name string) string {
	count := func(from, in []ipsec.ACE) (n int) {
		for _, e := range from {
			if !slices.ContainsFunc(in, func(x ipsec.ACE) bool { x.Seq = e.Seq; return x == e }) {
				n++
			}
		}
		return n
	}
	added, gone := count(b, a), count(a, b)
	if added+gone == 0 {
		return "list " + name + ": order"
	}
	return fmt.Sprintf("list %s: %d added, %d removed", name, added, gone)
}

func tekMatch(p *pair) []hit {
	return p.forSAs(func(a, b *saView) (string, bool) {
		return orNone(a.ACL) + " to " + orNone(b.ACL), a.ACL != b.ACL || a.IPv6 != b.IPv6
	})
}

func tekACLRemoved(p *pair) []hit {
	return p.forSAs(func(a, b *saView) (string, bool) {
		return "list " + b.ACL, a.ACL == b.ACL && a.acl != nil && b.acl == nil
	})
}

func missing(from, in []saView) []hit {
	var out []hit
	for i := range from {
		if !slices.ContainsFunc(in, func(v saView) bool { return v.Seq == from[i].Seq }) {
			out = append(out, hit{from[i].Seq, "list " + orNone(from[i].ACL)})
		}
	}
	return out
}

func saAdded(p *pair) []hit {
	if _, _, ok := p.server(); !ok {
		return nil
	}
	return missing(p.isSA, p.wasSA)
}

func saRemoved(p *pair) []hit {
	if _, _, ok := p.server(); !ok {
		return nil
	}
	return missing(p.wasSA, p.isSA)
}

// replayTo finds a change of the replay method from one of was to is.
func replayTo(is ipsec.ReplayMode, was ...ipsec.ReplayMode) func(*pair) []hit {
	return func(p *pair) []hit {
		return p.forSAs(func(a, b *saView) (string, bool) {
			return replayText(a.Replay) + " to " + replayText(b.Replay), b.Replay.Mode == is && slices.Contains(was, a.Replay.Mode)
		})
	}
}

func replayText(r ipsec.Replay) string {
	switch r.Mode {
	case ipsec.ReplayCounter:
		return fmt.Sprintf("counter window %d", r.Window)
	case ipsec.ReplayTime:
		return fmt.Sprintf("time window %d s", r.Window)
	}
	return "no replay"
}

func replayCounterOn(p *pair) []hit {
	return replayTo(ipsec.ReplayCounter, ipsec.ReplayNone, ipsec.ReplayTime)(p)
}
func replayCounterOff(p *pair) []hit { return replayTo(ipsec.ReplayNone, ipsec.ReplayCounter)(p) }
func replayTimeOff(p *pair) []hit    { return replayTo(ipsec.ReplayNone, ipsec.ReplayTime)(p) }
func replayTimeOn(p *pair) []hit {
	return replayTo(ipsec.ReplayTime, ipsec.ReplayNone, ipsec.ReplayCounter)(p)
}

func window(p *pair, mode ipsec.ReplayMode) []hit {
	return p.forSAs(func(a, b *saView) (string, bool) {
		return replayText(a.Replay) + " to " + replayText(b.Replay), a.Replay.Mode == mode && b.Replay.Mode == mode && a.Replay.Window != b.Replay.Window
	})
}

func replayCounterWindow(p *pair) []hit { return window(p, ipsec.ReplayCounter) }
func replayTimeWindow(p *pair) []hit    { return window(p, ipsec.ReplayTime) }

func tagged(p *pair) []hit {
	return p.forSAs(func(a, b *saView) (string, bool) { return "", a.Tag != b.Tag })
}
