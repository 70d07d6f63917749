package config

// What applying a configuration will cause, group by group.

import (
	"fmt"
	"slices"
)

// Consequence is one change found between two configurations.
type Consequence struct {
	Group  string // "" for what isn't of a group
	Row    string // Name of the row of the table
	SA     int    // number of the sa ipsec, 0 when it isn't about one
	What   string // the change in words, with its values
	Text   string // what members see
	Rekey  bool   // a rekey is sent when configuration mode is left
	When   When
	Guide  string // where it is written, "" when nowhere
	Wins   string // which of two contradictory texts counts
	Effect Effects
}

// Verdict is the consequence in the words of show configuration consequences.
func (c *Consequence) Verdict() string {
	switch {
	case c.Effect.Restart || c.Effect.Reregister || c.Effect.Unreached || c.When == AfterClear:
		return "members must re-register"
	case c.Rekey:
		return "rekey now"
	case c.When == AtNextRekey:
		return "at next rekey"
	}
	return "no effect on members"
}

// Rows returns the table of changes.
func Rows() []Row { return slices.Clone(changes) }

// Consequences compares two configurations: what isn't of a group first, then the
// groups in the order of next, removed ones last; rows in the table's order.
func Consequences(old, next *Config) []Consequence {
	out := (&pair{old: old, next: next}).consequences("")
	for i := range next.Groups {
		g := &next.Groups[i]
		out = append(out, newPair(old, next, g.Name).consequences(g.Name)...)
	}
	for i := range old.Groups {
		if g := &old.Groups[i]; next.GroupByName(g.Name) == nil {
			out = append(out, newPair(old, next, g.Name).consequences(g.Name)...)
		}
	}
	return out
}

func newPair(old, next *Config, group string) *pair {
	p := &pair{old: old, next: next, was: old.GroupByName(group), is: next.GroupByName(group)}
	p.wasSA, p.isSA = views(old, p.was), views(next, p.is)
	return p
}

func (p *pair) consequences(group string) []Consequence {
	var out []Consequence
	for i := range changes {
		r := &changes[i]
		for _, h := range r.find(p) {
			c := Consequence{Group: group, Row: r.Name, SA: h.seq, What: r.Change, Text: r.Text, Rekey: r.Rekey, When: r.When, Guide: r.Guide, Wins: r.Wins, Effect: r.effects}
			if h.seq != 0 {
				c.What = fmt.Sprintf("sa ipsec %d: %s", h.seq, c.What)
			}
			if h.what != "" {
				c.What += " (" + h.what + ")"
			}
			if r.newTEKs {
				c.Effect.NewTEKs = []int{h.seq}
			}
			if c.Rekey && p.unreached() {
				c.Rekey, c.When, c.Effect.Unreached = false, AtRegistration, true
				c.Text = "members hold no KEK, so no rekey can tell them; when they register again: " + c.Text
			}
			out = append(out, c)
		}
	}
	return out
}

// unreached reports whether members have no KEK to read a rekey with.
func (p *pair) unreached() bool {
	was, is, ok := p.server()
	if !ok {
		return false
	}
	before, _ := was.RekeyKey()
	after, _ := is.RekeyKey()
	return before == "" || after == ""
}

// Diff is what the change asks of each group, by name. Groups that aren't affected
// aren't in it.
func Diff(old, next *Config) map[string]Effects {
	out := map[string]Effects{}
	for _, c := range Consequences(old, next) {
		if c.Group == "" {
			continue
		}
		e := out[c.Group]
		e.merge(c.Effect)
		if e.Any() {
			out[c.Group] = e
		}
	}
	return out
}
