package policy

// The rollover clockwork. All rules are functions of a TEK's lifetime, so that ends
// which never talk to each other agree:
//
//	created                                                            ends
//	  |------------------------------------------------------------------|
//	               ^ ReadyBefore(L): the key server holds the successor
//	                    ^^^^^ Window: each member registers again (random)
//	                              ^ SwitchBefore: senders change over
//
// A receiver must hold the successor before anybody sends with it. A member that
// registers after ReadyBefore gets it at once; one that registered before gets it in
// its window. A member knows only the lifetime that remained when it registered, so
// its own window may be as small as Window(ReadyBefore(L)); the numbers are chosen so
// that even that one ends before SwitchBefore(L), with seconds to spare (the test
// holds that for every L). Lives of 900 s and more give the vendor's numbers: window
// [end-60-J, end-60] with J = min(life/10, 300 s), change-over 30 s before the end.

import "time"

// Offset is the vendor's rekey offset: 90 s below 900 s of life, else a tenth.
func Offset(life time.Duration) time.Duration {
	if life < 900*time.Second {
		return 90 * time.Second
	}
	return life / 10
}

// Window returns how long before the end of a TEK a member registers again: at a
// random moment between last+jitter and last before it. life is what remained when
// the member got the TEK.
func Window(life time.Duration) (last, jitter time.Duration) {
	return min(60*time.Second, life/3), min(life/10, 300*time.Second)
}

// ReadyBefore is how long before the end of a TEK of the configured lifetime the key
// server must hold its successor: by the rekey offset and before the first member's
// window with half a minute to spare, but never before half the lifetime.
func ReadyBefore(life time.Duration) time.Duration {
	last, jitter := Window(life)
	return min(life/2, max(Offset(life), last+jitter+30*time.Second))
}

// SwitchBefore is how long before the end of a TEK a member stops sending with it, if
// it holds a successor: 30 s, less for short lives. life as for Window.
func SwitchBefore(life time.Duration) time.Duration {
	return min(30*time.Second, max(3*time.Second, life/12))
}

// The key server's rekey of a TEK must be with every member before the first one's
// window, all retransmissions included.

// fanOut is what unicast rekeys take for each fanOutMembers members: the vendor's
// figure, until the key server has measured its own.
const (
	fanOut        = 5 * time.Second
	fanOutMembers = 50
)

// RekeyAt is how long after its creation a TEK of that life is rekeyed: the offset and
// the time of all retransmissions before its end; unicast, 5 s for each 50 members
// earlier (0 members: multicast). Never before half the life.
func RekeyAt(life time.Duration, retransmits int, interval time.Duration, unicastMembers int) time.Duration {
	groups := (max(unicastMembers, 0) + fanOutMembers - 1) / fanOutMembers
	return RekeyAtMeasured(life, retransmits, interval, time.Duration(groups)*fanOut)
}

// RekeyAtMeasured is RekeyAt with the time that sending to all members takes.
func RekeyAtMeasured(life time.Duration, retransmits int, interval, sending time.Duration) time.Duration {
	before := Offset(life) + time.Duration(max(retransmits, 0))*max(interval, 0) + max(sending, 0)
	return max(life/2, life-before)
}

// minKEKOffset is how long before its end a KEK is rekeyed at least.
const minKEKOffset = 200 * time.Second

// KEKRekeyAt is RekeyAt for a KEK: at least 200 s before its end.
func KEKRekeyAt(life time.Duration, retransmits int, interval time.Duration, unicastMembers int) time.Duration {
	return max(life/2, min(RekeyAt(life, retransmits, interval, unicastMembers), life-minKEKOffset))
}

// RetransmitQuiet is how near the next rekey may be before retransmissions of the last
// one are left out.
const RetransmitQuiet = 120 * time.Second

// Shortened is what remains of a TEK that a rekey's policy doesn't name any more: 5 %
// of its life, at least 90 s and at most an hour, never more than before.
func Shortened(remaining, life time.Duration) time.Duration {
	return min(remaining, max(90*time.Second, min(life/20, 3600*time.Second)))
}

// Skew is how far behind a pseudotime may be: the window, at most 30 s.
func Skew(window time.Duration) time.Duration { return min(window, 30*time.Second) }
