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
