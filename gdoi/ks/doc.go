// Package ks is the key server: one actor per group that owns its keys, its member
// database and its Sender IDs, and a server that hands each registration
// (GROUPKEY-PULL, RFC 6407 §3) to the actor of the group that it names.
//
// A group's keys come into being when its first member registers. From then on it
// tells its members of new ones by rekeys (GROUPKEY-PUSH, RFC 6407 §4): schedule.go
// says when, rekey.go what and to whom, send.go sends beside the actor, ack.go takes
// the acknowledgements (RFC 8263). A group without a signing key sends none; its
// members fetch their keys.
//
// With a Saver a group's keys, sequence and members outlive the process (durable.go):
// they are saved before anything that depends on them leaves. Without one, and with
// counter modes after an unclean end, a key server that restarts makes new keys and
// begins with a clean slate of Sender IDs; members keep the keys that they hold until
// those end or they register again.
//
// Sources: RFC 6407 §3.2-3.5, §4 and §5, RFC 6054, RFC 8263, the vendor guide for timers.
package ks
