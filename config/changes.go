package config

// The guide's tables of what a changed configuration does (table 1 "rekey behaviour
// after a policy change", table 2 "commands that trigger a rekey"), with the changes
// that the guide doesn't name, as one table. A row says what is looked for, whether a
// rekey is sent, when it takes effect, and where that is written; where the guide says
// two things, which one counts and why.

// When is the moment a change takes effect for members.
type When string

const (
	AtOnce         When = "at once"
	AfterRekey     When = "after the rekey"
	OldSAsEnd      When = "as the old SAs end"
	AtNextRekey    When = "at the next rekey"
	AfterClear     When = "after clear crypto gdoi at key server and members"
	AtRegistration When = "when members register again"
)

// Row is one kind of change.
type Row struct {
	Name   string // names it in tests, logs and show configuration consequences
	Change string
	Guide  string // table and line; "" when the guide is silent
	Rekey  bool   // does leaving configuration mode send a rekey
	When   When
	Text   string // what members see
	// Wins: the guide contradicts itself here; what counts, and why.
	Wins string

	effects Effects // NewTEKs: the entries found are added when newTEKs is set
	newTEKs bool
	find    func(*pair) []hit
}

// changes are all rows, in the order in which they are reported.
var changes = []Row{
	// The data SAs.
	{Name: "tek-lifetime", Change: "TEK lifetime", Guide: "table 1 l.858, table 2 l.1237", When: AtNextRekey,
		Text: "TEKs in force keep their end; those of the next rekey have the new lifetime", effects: Effects{NextRekey: true}, find: tekLifetime},
	{Name: "tek-transform", Change: "transform set of a profile", Guide: "table 1 l.865, table 2 l.1262", Rekey: true, When: OldSAsEnd,
		Text: "new TEKs are sent; SAs of the old transform set are used to their end", effects: Effects{Rekey: true}, newTEKs: true, find: tekTransform},
	{Name: "tek-profile", Change: "profile of an sa ipsec", Guide: "table 1 l.873, table 2 l.1541, l.1026", Rekey: true, When: OldSAsEnd,
		Text: "new TEKs are sent; SAs of the old profile are used to their end", effects: Effects{Rekey: true}, newTEKs: true, find: tekProfile},
	{Name: "tek-acl", Change: "entries of the list that an sa ipsec protects", Guide: "table 1 l.881, table 2 l.1148, l.1020", Rekey: true, When: AtOnce,
		Text: "members classify by the new list as soon as they have the rekey; old SAs stay", effects: Effects{Rekey: true, ACL: true}, find: tekACL},
	{Name: "tek-match", Change: "match address of an sa ipsec", Guide: "table 1 l.881, table 2 l.1557", Rekey: true, When: AtOnce,
		Text: "members classify by the new list as soon as they have the rekey; old SAs stay", effects: Effects{Rekey: true, ACL: true}, find: tekMatch,
		Wins: "table 2 says after the rekey, table 1 that the list counts at once: the same moment, the rekey brings the list"},
	{Name: "tek-acl-removed", Change: "removal of the list that an sa ipsec protects", Guide: "table 2 l.1148 with l.1121", When: AtOnce,
		Text: "the policy is incomplete: nothing is sent, members go on with what they have", find: tekACLRemoved,
		Wins: "the row says that a rekey is triggered and its text that nothing new is downloaded: the text counts, and such a configuration isn't applied"},
	{Name: "sa-added", Change: "a new sa ipsec", Guide: "l.1018", Rekey: true, When: AfterRekey,
		Text: "the rekey brings its TEK and list", effects: Effects{Rekey: true, ACL: true}, newTEKs: true, find: saAdded},
	{Name: "sa-removed", Change: "removal of an sa ipsec", Guide: "l.1018", Rekey: true, When: AfterRekey,
		Text: "what only it protected leaves in clear after the rekey", effects: Effects{Rekey: true, ACL: true}, find: saRemoved},
	{Name: "replay-counter-on", Change: "counter replay switched on", Guide: "table 1 l.888, table 2 l.1578", Rekey: true, When: OldSAsEnd,
		Text: "new TEKs with counter windows are sent; SAs without are used to their end", effects: Effects{Rekey: true}, newTEKs: true, find: replayCounterOn,
		Wins: "table 2 calls the old SAs inactive, table 1 active to their end: active counts, since senders change over later and their packets would be lost"},
	{Name: "replay-counter-window", Change: "size of the counter window", Guide: "table 1 l.901, table 2 l.1592, l.1034", When: AtNextRekey,
		Text: "SAs of the next rekey have the new window", effects: Effects{NextRekey: true}, find: replayCounterWindow,
		Wins: "l.1018 says that any change in an sa ipsec triggers a rekey, l.1034 and both tables that this one doesn't: the special rule counts"},
	{Name: "replay-counter-off", Change: "counter replay switched off", Guide: "table 1 l.909, l.1023", Rekey: true, When: OldSAsEnd,
		Text: "new TEKs without windows are sent; SAs with counter windows are used to their end", effects: Effects{Rekey: true}, newTEKs: true, find: replayCounterOff},
	{Name: "replay-time-on", Change: "time-based replay switched on", Guide: "table 2 l.1651, l.1023", Rekey: true, When: OldSAsEnd,
		Text: "new TEKs with pseudotime are sent; SAs without are used to their end", effects: Effects{Rekey: true}, newTEKs: true, find: replayTimeOn},
	{Name: "replay-time-window", Change: "width of the time window", Guide: "table 2 l.1678", When: AfterClear,
		Text: "the old window counts until clear crypto gdoi was given at the key server and at every member", effects: Effects{AfterClear: true}, find: replayTimeWindow},
	{Name: "replay-time-off", Change: "time-based replay switched off", Guide: "l.1023", Rekey: true, When: OldSAsEnd,
		Text: "new TEKs without pseudotime are sent; SAs with it are used to their end", effects: Effects{Rekey: true}, newTEKs: true, find: replayTimeOff},
	{Name: "tag", Change: "security group tags switched on or off", Rekey: true, When: OldSAsEnd,
		Text: "new TEKs are sent; packets of the old SAs stay as they are", effects: Effects{Rekey: true}, newTEKs: true, find: tagged},
	{Name: "receive-only-on", Change: "receive-only switched on", Guide: "table 1 l.916", Rekey: true, When: AfterRekey,
		Text: "members stop to encrypt as soon as they have the rekey", effects: Effects{Rekey: true}, find: receiveOnlyOn},
	{Name: "receive-only-off", Change: "receive-only switched off", Guide: "table 1 l.922, l.948", Rekey: true, When: AfterRekey,
		Text: "members encrypt as soon as they have the rekey, and take clear packets for 5 minutes more", effects: Effects{Rekey: true}, find: receiveOnlyOff},

	// The KEK.
	{Name: "kek-lifetime", Change: "KEK lifetime", Guide: "table 1 l.925, table 2 l.1406, note l.1054", When: AtNextRekey,
		Text: "the KEK in force keeps its end; the next one has the new lifetime (crypto gdoi ks rekey makes one now)", effects: Effects{NextRekey: true}, find: kekLifetime,
		Wins: "the tables say at the next rekey, the note when the KEK has ended or ks rekey is given: the note counts, since only a new KEK has another lifetime"},
	{Name: "kek-cipher", Change: "cipher of the KEK", Guide: "table 1 l.930, table 2 l.1517; l.1043", Rekey: true, When: AtOnce,
		Text: "a rekey under the old KEK brings a new one, which is used from then on", effects: Effects{Rekey: true, NewKEK: true}, find: kekCipher,
		Wins: "l.1043 lists it as no trigger, both tables as one: the tables count, since members couldn't read the next rekey otherwise"},
	{Name: "kek-key", Change: "key that signs rekeys", Guide: "table 1 l.928, table 2 l.1499", Rekey: true, When: AfterRekey,
		Text: "a rekey signed with the old key brings the new one", effects: Effects{Rekey: true, NewKEK: true}, find: kekKey,
		Wins: "table 1 says at the next rekey, table 2 after the rekey that is triggered: this is the next one"},
	{Name: "kek-on", Change: "rekeys switched on (rekey authentication)", Guide: "table 2 l.1442", Rekey: true, When: AfterRekey,
		Text: "they get the KEK, and rekeys reach them from then on", effects: Effects{Rekey: true, NewKEK: true}, find: kekOn,
		Wins: "the guide says that a rekey is triggered and brings it, but who registered without a KEK can't read one: it has what it has until it registers again, before its keys end (clear crypto gdoi at a member: at once)"},
	{Name: "kek-off", Change: "rekeys switched off (no rekey authentication)", Guide: "table 2 l.1453", When: AtOnce,
		Text: "no rekey is sent any more; members register again before their keys end", find: kekOff},
	{Name: "kek-hash", Change: "hash of the rekey signature", Rekey: true, When: AfterRekey,
		Text: "a rekey under the old KEK brings a new one, signed the new way from then on", effects: Effects{Rekey: true, NewKEK: true}, find: kekHash},
	{Name: "transport-multicast", Change: "unicast to multicast rekeys", Guide: "table 2 l.1299, l.1028", Rekey: true, When: AfterRekey,
		Text: "a unicast rekey brings the multicast address; members join it", effects: Effects{Rekey: true, NewKEK: true}, find: toMulticast,
		Wins: "table 2 says immediately for this way and at the end of configuration mode for the other, with texts that seem exchanged: both at its end, when the lines belong together"},
	{Name: "transport-unicast", Change: "multicast to unicast rekeys", Guide: "table 2 l.1352, l.1027", Rekey: true, When: AfterRekey,
		Text: "a multicast rekey tells members to expect unicast and to acknowledge", effects: Effects{Rekey: true, NewKEK: true}, find: toUnicast},
	{Name: "rekey-address", Change: "rekey address", Guide: "table 2 l.1380; l.1038", Rekey: true, When: AfterRekey,
		Text: "a rekey to the old address brings the new one; members join it", effects: Effects{Rekey: true, NewKEK: true}, find: rekeyAddress,
		Wins: "l.1038 lists setting or removing the rekey list as no trigger, table 2 the command as one: the table counts; the entries alone are the row below"},
	{Name: "rekey-address-acl", Change: "entries of the rekey address's list", Guide: "table 2 l.1098", When: AtOnce,
		Text: "rekeys go to the new address from now on; members learn of it when they register again (crypto gdoi ks rekey tells them)", find: rekeyAddressACL},
	{Name: "rekey-retransmit", Change: "retransmission of rekeys", Guide: "table 2 l.1417, l.1036", When: AtNextRekey,
		Text: "the next rekey is repeated the new way", effects: Effects{NextRekey: true}, find: rekeyRetransmit},
	{Name: "rekey-ack", Change: "form of acknowledgements", When: AtNextRekey,
		Text: "the next rekey asks for it", effects: Effects{NextRekey: true}, find: rekeyAck},

	// The group.
	{Name: "identity", Change: "identity of the group", Guide: "table 2 l.1291", When: AtRegistration,
		Text: "set it on every member at once; others go on with the keys of the old identity to their end", effects: Effects{Restart: true}, find: groupIdentity},
	{Name: "interop", Change: "forms on the wire (interop, address family)", When: AtRegistration,
		Text: "the group begins anew; members register again before their keys end", effects: Effects{Restart: true}, find: groupForms},
	{Name: "group-size", Change: "width of Sender IDs", When: AtRegistration,
		Text: "all keys are deleted, members register again and get new Sender IDs", effects: Effects{Reregister: true}, find: groupSize},
	{Name: "group-added", Change: "a new group", When: AtRegistration, Text: "keys are made when the first member registers", find: groupAdded},
	{Name: "group-removed", Change: "removal of a group", Guide: "l.2195", When: AtRegistration,
		Text: "members go on to the end of their keys and look for another key server", effects: Effects{Restart: true}, find: groupRemoved},
	{Name: "authorization", Change: "who may register", When: AtRegistration,
		Text: "counts for registrations from now on; members that are registered stay", find: authorization},
	{Name: "ks-address", Change: "address of this key server", When: AtOnce, Text: "rekeys come from the new address", find: ksAddress},

	// Cooperative key servers.
	{Name: "coop-on", Change: "redundancy switched on", Guide: "table 2 l.1698", When: AtOnce,
		Text: "nobody registers here until a primary is elected; keys that were made alone are merged with another's by one rekey; set it on every other key server at once", find: coopOn},
	{Name: "coop-priority", Change: "local priority", Guide: "table 2 l.1710", When: AtOnce, Text: "counts in the next election; none is forced", find: coopPriority},
	{Name: "coop-peer", Change: "peers, and how key servers speak with them", Guide: "table 2 l.1723", When: AtOnce,
		Text: "counts with the next message between key servers; where the primary is taken off the list, an election begins", find: coopPeers},
	{Name: "coop-address", Change: "own address towards other key servers", When: AtOnce,
		Text: "this key server leaves the others and comes back under the new address, which each must have as a peer; one rekey merges its keys with theirs", find: coopAddressMoved},
	{Name: "coop-off", Change: "redundancy switched off", Guide: "table 2 l.1765", When: AtOnce,
		Text: "a primary goes on alone with a new KEK, which a rekey brings; a secondary has no keys until a member registers; set it on every other key server at once", find: coopOff},
	{Name: "sender-ids", Change: "Sender IDs that this key server gives out, none of the former among them", When: AtRegistration,
		Text: "counts for registrations from now on; members keep those that they have", find: sidsApart},
	{Name: "sender-ids-shared", Change: "Sender IDs that this key server gives out, former ones among them", When: AtRegistration,
		Text: "the primary deletes all keys, members register again and get Sender IDs under new ones: under the present keys none may be given out twice", effects: Effects{Reregister: true}, find: sidsShared},

	// A member's side.
	{Name: "member-servers", Change: "key servers of this member", When: AtRegistration,
		Text: "the next registration asks the new list, at once if the last one failed; keys and registration stay", find: memberServers},
	{Name: "member-map", Change: "where this member is attached, its own lists, fail-close", When: AtOnce,
		Text: "counts for packets from now on; keys and registration stay", find: memberMap},
	{Name: "member-source", Change: "interface that registration leaves from", When: AtOnce,
		Text: "this member registers again from there; keys in force stay until it has newer ones", effects: Effects{Reregister: true}, find: memberSource},
	{Name: "member-passive", Change: "passive", When: AtOnce,
		Text: "counts for packets from now on, over crypto gdoi gm ipsec direction; keys and registration stay", find: memberPassive},
	{Name: "member-client", Change: "what this member accepts and does", When: AtOnce,
		Text: "what it accepts counts from the next registration or rekey on, the rest at once; keys and registration stay", find: memberClient},

	// What isn't of a group.
	{Name: "psk-member", Change: "pre-shared keys of a member", Guide: "table 2 l.1203", When: AtRegistration,
		Text: "the new key counts for the next phase 1; keys that this member has and ISAKMP SAs that exist stay", find: pskMember},
	{Name: "psk", Change: "pre-shared keys", Guide: "table 2 l.1160", When: AtOnce,
		Text: "the new key counts for the next phase 1; ISAKMP SAs that exist stay (clear crypto isakmp ends them)", find: pskServer},
	{Name: "profile-added", Change: "a new IPsec profile", Guide: "table 2 l.1215", When: AtOnce, Text: "nothing until an sa ipsec names it", find: profileAdded},
	{Name: "isakmp-policy", Change: "ISAKMP policies", Guide: "table 2 l.1221", When: AtOnce, Text: "counts for the next phase 1; SAs that exist stay", find: isakmpPolicy},
}
