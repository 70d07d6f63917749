package ipsec

// A Ruleset is policy in the form that both judges use: the Go matcher here and
// the BPF programs compiled from the same value (ipsec/dataplane/steer). A
// differential test holds them equal.

import "slices"

// Verdict is what happens to a packet.
type Verdict uint8

const (
	Pass    Verdict = iota // in clear
	Drop                   // counted under the rule's reason
	Protect                // outbound: to the TAP, sealed with the rule's entry
	Next                   // on to the next crypto map entry (rule index Goto)
)

func (v Verdict) String() string { return [...]string{"pass", "drop", "protect", "next"}[v] }

// Rule is an ACE and its consequence. Group and Entry say where it came from
// (indices into the policies given to Compile, and into Entries; Entry is -1 for
// local and fail-close rules). Reason names the drop.
type Rule struct {
	ACE     ACE
	Verdict Verdict
	Goto    int // for Next: index of the first rule of the next map entry
	Group   int
	Entry   int
	Reason  DropReason
}

// Ruleset is an ordered list with a default. The first match decides.
type Ruleset struct {
	Rules         []Rule
	Default       Verdict
	DefaultReason DropReason
}

// Match returns the verdict and the index of the deciding rule, -1 for the
// default. Next never leaves it.
func (r *Ruleset) Match(f *Flow) (Verdict, int) {
	for i := 0; i < len(r.Rules); {
		rule := &r.Rules[i]
		if !rule.ACE.Matches(f) {
			i++
			continue
		}
		if rule.Verdict == Next {
			i = rule.Goto
			continue
		}
		return rule.Verdict, i
	}
	return r.Default, -1
}

// Compile flattens the groups of one interface, in crypto map order, into the
// outbound ruleset and the inbound one. The inbound one judges packets that
// arrive in clear: a mirrored permit drops (guide, mirror ACL) unless the group
// is passive.
//
// An unregistered group with an active fail-close map turns the whole interface
// to fail-close; deny entries of its list pass, all else drops in both directions.
func Compile(groups []GroupPolicy) (out, in Ruleset) {
	order := make([]int, len(groups))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return groups[a].MapSeq - groups[b].MapSeq })

	for _, g := range order {
		if p := &groups[g]; p.State == Unregistered && p.FailClose.Active {
			return failClose(g, p, false), failClose(g, p, true)
		}
	}
	for _, g := range order {
		p := &groups[g]
		if p.State == Unregistered {
			continue
		}
		start := len(out.Rules)
		for _, e := range p.Local {
			// Local lists hold denies; a permit is refused by the vendor
			// (GM_ACL_PERMIT) and its traffic dropped.
			v, why := Next, DropNone
			if e.Action == Permit {
				v, why = Drop, DropLocalPermit
			}
			out.Rules = append(out.Rules, Rule{ACE: e, Verdict: v, Group: g, Entry: -1, Reason: why})
			in.Rules = append(in.Rules, Rule{ACE: e.Mirror(), Verdict: v, Group: g, Entry: -1, Reason: why})
		}
		for i, e := range p.Entries {
			o, n, why := Next, Next, DropNone
			if e.ACE.Action == Permit {
				o, n, why = Protect, Drop, DropClearInbound
				if p.Passive || p.ReceiveOnly {
					n, why = Pass, DropNone
				}
				if p.ReceiveOnly {
					o = Pass
				}
			}
			out.Rules = append(out.Rules, Rule{ACE: e.ACE, Verdict: o, Group: g, Entry: i})
			in.Rules = append(in.Rules, Rule{ACE: e.ACE.Mirror(), Verdict: n, Group: g, Entry: i, Reason: why})
		}
		end := len(out.Rules)
		for i := start; i < end; i++ {
			out.Rules[i].Goto, in.Rules[i].Goto = end, end
		}
	}
	return out, in
}

func failClose(g int, p *GroupPolicy, mirror bool) Ruleset {
	r := Ruleset{Default: Drop, DefaultReason: DropFailClose}
	for _, e := range p.FailClose.ACEs {
		v, why := Pass, DropNone
		if e.Action == Permit {
			v, why = Drop, DropFailClose
		}
		if mirror {
			e = e.Mirror()
		}
		r.Rules = append(r.Rules, Rule{ACE: e, Verdict: v, Group: g, Entry: -1, Reason: why})
	}
	return r
}
