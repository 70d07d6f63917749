// Package coop is the machine of cooperative key servers: election, announcements,
// synchronisation of keys, members, sequence numbers and pseudotime, hand-over and merge
// (docs/protocol/coop.md). It is pure: octets, times and random octets in; octets and
// results out. It has no socket, clock, log or goroutine and isn't safe for concurrent
// use: the actor of a group owns its machine.
//
// Its rules favour availability: each side of a split network has a primary and goes
// on, and what could harm the other side is excluded by arithmetic, not by agreement:
// rekey numbers by leases (lease.go), Sender IDs by ranges (sids.go).
package coop
