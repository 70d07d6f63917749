// Package gm is the group member: one actor per group that registers with a key
// server of its list, installs what it gets, registers again in time, and changes
// over from one TEK to its successor so that no packet meets a peer without the key.
//
// Losing the key servers loses nothing at once: keys that are held stay in use until
// they end. What a permit protects is dropped, never sent in clear, when no key is
// left.
//
// Sources: RFC 6407 §3.3, RFC 5374 §4.2.1 (rollover), the vendor guide for timers.
package gm
