// Package ike is IKEv1 phase 1 (RFC 2409) as GDOI needs it (RFC 6407 §2), and the
// UDP endpoint that phase-2 style exchanges (GROUPKEY-PULL, informational) run on.
//
// It has two halves. The pure one is crypto (Group, Suite, Keymat, cipher) and the
// phase-1 machine (Phase1): octets, time and randomness go in; octets, a Result and
// an error come out. The other half is Endpoint: it owns the sockets, the timers, the
// SA database and the workers that do the Diffie-Hellman arithmetic.
//
// # What an error leaves behind
//
// A message that Phase1.Handle or Exchange.Decrypt refuses never moves the state: not
// the IV chain, not the step, not the peer's address. The genuine message, when it
// arrives or is sent again, is still understood. A byte-identical copy of the last
// accepted message yields the byte-identical last answer. Only Exchange.Accept moves
// an exchange's IV chain, after its caller has verified the HASH.
//
// Whatever is refused counts under one named DropReason.
package ike
