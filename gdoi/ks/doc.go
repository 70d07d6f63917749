// Package ks is the key server: one actor per group that owns its keys, its member
// database and its Sender IDs, and a server that hands each registration
// (GROUPKEY-PULL, RFC 6407 §3) to the actor of the group that it names.
//
// A group's keys come into being when its first member registers and live in memory
// only: a key server that restarts makes new ones and begins with a clean slate of
// Sender IDs. Members keep the keys that they hold until those end, so a restart
// breaks no traffic between members that registered before it; until they register
// again they can't talk with those that registered after it.
//
// Sources: RFC 6407 §3.2-3.5 and §5, RFC 6054, the vendor guide for timers.
package ks
