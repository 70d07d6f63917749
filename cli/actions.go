package cli

// Commands that act: rekeys, directions, clears, saving. What destroys keys asks first
// when a person sits at the other end.

import (
	"slices"
	"strconv"

	"getvpn/cli/grammar"
	"getvpn/model"
)

// Confirm is a question that must be answered with yes before the command runs.
type Confirm struct{ Question string }

func (c *Confirm) Error() string { return c.Question }

const proceed = "Are you sure you want to proceed ? [yes/no]: "

// act makes a handler of an action. question is asked on a terminal; "" asks nothing.
func act(verb Verb, question string) func(*call, *grammar.Match) error {
	return func(c *call, m *grammar.Match) error {
		if c.group = m.Get("g"); c.group != "" && !c.known() {
			return refuse("Group %s is not configured.", c.group)
		}
		if question != "" && c.asks {
			return &Confirm{question + proceed}
		}
		a := Action{Verb: verb, Group: c.group, Now: m.Has("now"), Direction: m.Get("dir")}
		if w := m.Get("in"); w != "" {
			a.Direction = "inbound " + w
		}
		if m.Has("conn") {
			n, err := strconv.ParseUint(m.Get("conn"), 10, 32)
			if err != nil {
				return refuse("Bad connection number.")
			}
			a.Conn = uint32(n)
		}
		return c.control.Act(a, c.by)
	}
}

// coop makes a handler of an action of cooperative key servers: refused where none of
// the groups asked for has any.
func coop(verb Verb) func(*call, *grammar.Match) error {
	do := act(verb, "")
	return func(c *call, m *grammar.Match) error {
		c.group = m.Get("g")
		if c.group != "" && !c.known() {
			return refuse("Group %s is not configured.", c.group)
		}
		if !slices.ContainsFunc(c.servers(), func(g *model.KSGroup) bool { return g.Coop != nil }) {
			if c.group == "" {
				return refuse("No group has redundancy configured.")
			}
			return refuse("Group %s has no redundancy configured.", c.group)
		}
		return do(c, m)
	}
}

func actionCommands() []command {
	clearGDOI := "clear crypto {gdoi|gkm} [group g:WORD]"
	do := func(pattern, help string, f func(*call, *grammar.Match) error) command {
		return command{Mode: execMode, Pattern: pattern, Help: help, Do: f}
	}
	save := func(c *call, m *grammar.Match) error {
		if err := c.control.Save(c.by); err != nil {
			return err
		}
		c.line("Building configuration...\n[OK]")
		return nil
	}
	return []command{
		do("crypto {gdoi|gkm} ks rekey [group g:WORD] [now:replace-now]", "Send a rekey now", act(ActRekey, "")),
		do("crypto {gdoi|gkm} gm [group g:WORD] ipsec direction {dir:both|inbound in:{optional|only}}", "Direction of this member's SAs until the next rekey", act(ActDirection, "")),
		do(clearGDOI, "Delete keys and register again; at a key server delete policy and members", act(ActClearGroup,
			"% Keys and policies of the group are deleted here.\n% Members of a key server have to register again.\n")),
		do(clearGDOI+" ks members [now:now]", "Remove all members from the group", act(ActClearMembers,
			"% All members lose their keys and register again.\n")),
		do(clearGDOI+" ks policy", "Make all keys anew", act(ActClearPolicy, "% All keys of the group are replaced.\n")),
		do(clearGDOI+" ks coop role", "Give up the role of primary; all key servers elect anew", coop(ActClearCoopRole)),
		do(clearGDOI+" ks coop counters", "Counters of announcements to zero", coop(ActClearCoopCounters)),
		do(clearGDOI+" replay [counter]", "Anti-replay counters to zero", act(ActClearReplay, "")),
		do(clearGDOI+" dataplane counters", "Packet counters to zero", act(ActClearCounters, "")),
		do("clear crypto sa", "Remove data SAs; members register again", act(ActClearSA, "")),
		do("clear crypto {isakmp [conn:<1-4294967295>]|session}", "Remove ISAKMP SAs", act(ActClearISAKMP, "")),
		do("write [memory]", "Save the running configuration", save),
		do("copy running-config startup-config", "Save the running configuration", save),
		do("configure [terminal]", "Enter configuration mode", func(c *call, m *grammar.Match) error {
			if c.session == nil {
				return refuse("Configuration mode needs a session.")
			}
			return c.session.configure(c)
		}),
	}
}
