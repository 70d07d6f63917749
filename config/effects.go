package config

// What the change of a group's configuration asks of its engine.

import (
	"fmt"
	"slices"
	"strings"
)

// Effects of a changed configuration of one group. The zero value: nothing that a
// member could notice. A key server's group is given them with its new setup.
type Effects struct {
	Rekey     bool  // send a rekey now
	NewKEK    bool  // with a new KEK; the old one signs and encrypts it
	NewTEKs   []int // "sa ipsec" numbers that get new TEKs now; the old ones live to their end
	ACL       bool  // the lists of what is protected changed: members use the new one at once
	NextRekey bool  // something waits for the next rekey
	// AfterClear: something waits for clear crypto gdoi at the key server and members.
	AfterClear bool
	// Reregister: no rekey can say it. All TEKs and the KEK are deleted and members
	// register again (Sender IDs begin anew). Of a member: it registers again.
	Reregister bool
	// Unreached: members can't be told, since they hold no KEK. They learn of it when
	// they register again, each in its own time.
	Unreached bool
	// Restart: it is another group from now on (identity, wire forms, role). Members
	// of the old one aren't told.
	Restart bool
}

// Any reports whether members are affected at all.
func (e Effects) Any() bool {
	return e.Rekey || e.NewKEK || len(e.NewTEKs) > 0 || e.ACL || e.NextRekey || e.AfterClear || e.Reregister || e.Unreached || e.Restart
}

// merge adds what another change asks for.
func (e *Effects) merge(o Effects) {
	e.Rekey = e.Rekey || o.Rekey
	e.NewKEK = e.NewKEK || o.NewKEK
	e.ACL = e.ACL || o.ACL
	e.NextRekey = e.NextRekey || o.NextRekey
	e.AfterClear = e.AfterClear || o.AfterClear
	e.Reregister = e.Reregister || o.Reregister
	e.Unreached = e.Unreached || o.Unreached
	e.Restart = e.Restart || o.Restart
	e.NewTEKs = append(e.NewTEKs, o.NewTEKs...)
	slices.Sort(e.NewTEKs)
	e.NewTEKs = slices.Compact(e.NewTEKs)
}

// String names what is set, for logs.
func (e Effects) String() string {
	var w []string
	for _, x := range []struct {
		on   bool
		name string
	}{{e.Rekey, "rekey"}, {e.NewKEK, "new KEK"}, {len(e.NewTEKs) > 0, "new TEKs of sa ipsec " + fmt.Sprint(e.NewTEKs)},
		{e.ACL, "new lists"}, {e.NextRekey, "at next rekey"}, {e.AfterClear, "after clear crypto gdoi"}, {e.Reregister, "members register again"}, {e.Unreached, "members learn of it when they register again"}, {e.Restart, "begins anew"}} {
		if x.on {
			w = append(w, x.name)
		}
	}
	if len(w) == 0 {
		return "no effect on members"
	}
	return strings.Join(w, ", ")
}
