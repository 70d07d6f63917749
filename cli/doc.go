// Package cli is the command line of a running daemon: the exec commands, the show
// views, output filters, configuration mode, and the control socket that carries one
// command a connection. Views read a model.Snapshot; what changes something goes
// through Control, which the daemon meets.
package cli

import (
	"fmt"
	"time"

	"getvpn/config"
	"getvpn/model"
)

// Control is what the command line needs of the daemon. Its methods may be called
// from several goroutines.
type Control interface {
	Snapshot() *model.Snapshot
	// RunningConfig is the configuration in force. It is never changed in place: another
	// pointer means another configuration.
	RunningConfig() *config.Config
	// Apply puts next in force if base still is; else the error is a *Changed. After an
	// error base is in force.
	Apply(base, next *config.Config, by Caller) error
	// Save writes the running configuration to the startup file.
	Save(by Caller) error
	// Act does what an operator asks of engines and dataplane.
	Act(Action, Caller) error
}

// Caller is who gives a command, and from where.
type Caller struct {
	User, Source string // "root", "vty0"
}

// Verb is what an Action does.
type Verb uint8

const (
	ActRekey         Verb = iota // crypto gdoi ks rekey; Now: replace-now
	ActDirection                 // crypto gdoi gm ipsec direction
	ActClearGroup                // clear crypto gdoi
	ActClearMembers              // clear crypto gdoi ks members; Now: now
	ActClearPolicy               // clear crypto gdoi ks policy
	ActClearReplay               // clear crypto gdoi replay
	ActClearCounters             // clear crypto gdoi dataplane counters
	ActClearSA                   // clear crypto sa
	ActClearISAKMP               // clear crypto isakmp; Conn 0: all
	// The next two are only asked for where a group has redundancy (model.KSGroup.Coop).
	ActClearCoopRole     // clear crypto gdoi ks coop role
	ActClearCoopCounters // clear crypto gdoi ks coop counters
)

// Action is an operator's command. An empty Group means every group.
type Action struct {
	Verb      Verb
	Group     string
	Now       bool
	Direction string // both, inbound optional, inbound only
	Conn      uint32
}

// Changed reports that somebody else changed the configuration meanwhile.
type Changed struct {
	By Caller
	At time.Time
}

func (c *Changed) Error() string {
	return fmt.Sprintf("the configuration was changed by %s on %s at %s, since this session began to configure: nothing of this one was applied",
		c.By.User, c.By.Source, c.At.UTC().Format("15:04:05"))
}
