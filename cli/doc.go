// Package cli is the command line of a running daemon: the exec commands, the show
// views, output filters, and the control socket that carries one command a
// connection. Views read a model.Snapshot; what changes something goes through
// Control, which the daemon meets.
package cli

import (
	"getvpn/config"
	"getvpn/model"
)

// Control is what the command line needs of the daemon. Its methods may be called
// from several goroutines.
type Control interface {
	Snapshot() *model.Snapshot
	RunningConfig() *config.Config
	// ClearGDOI is "clear crypto gdoi": members of the group register again, a key
	// server begins it anew. An empty name means every group.
	ClearGDOI(group string) error
}
