package event

// What becomes of a key server's saved state when it starts.

// KSStateRestored: a group goes on with the keys and members that it had.
type KSStateRestored struct {
	Group   string `f:"group"`
	Members int    `f:"members"`
	Away    string `f:"away"` // since the state was saved, as a duration
}

// Row is the catalogue's line.
func (KSStateRestored) Row() Row {
	return Row{"GETVPN", 5, "KS_STATE_RESTORED", "Group <group> goes on with its saved state, <away> old: <members> members."}
}

// KSStateRefused: saved state isn't used; the group begins anew with its first member.
type KSStateRefused struct {
	Group  string `f:"group"`
	Reason string `f:"reason"`
}

// Row is the catalogue's line.
func (KSStateRefused) Row() Row {
	return Row{"GETVPN", 4, "KS_STATE_REFUSED", "The saved state of group <group> isn't used: <reason>. It begins with new keys; members register again before theirs end."}
}

// KSStateUnclean: it isn't sure which Sender IDs were given out; members are told to
// register again for new keys, and use those that they have until then.
type KSStateUnclean struct {
	Group  string `f:"group"`
	Reason string `f:"reason"`
}

// Row is the catalogue's line.
func (KSStateUnclean) Row() Row {
	return Row{"GETVPN", 4, "KS_STATE_UNCLEAN", "Sender IDs of group <group> may have been given out unnoticed (<reason>): it begins again with new keys."}
}

// KSSigningKeyRefused: a sealed key that signs rekeys can't be opened. What there was is
// kept aside.
type KSSigningKeyRefused struct {
	Key    string `f:"key"`
	Reason string `f:"reason"`
	Aside  string `f:"aside"` // path
}

// Row is the catalogue's line.
func (KSSigningKeyRefused) Row() Row {
	return Row{"GETVPN", 4, "KS_SIGNING_KEY_REFUSED", "The sealed key <key> that signs rekeys can't be opened (<reason>) and was moved to <aside>: a new one is made, and members register again."}
}
