package event

// What happens between cooperative key servers. Two wordings of one message are one event
// with a field for the words that differ.

import "net/netip"

// CoopAnnSeqFailure: an announcement is a replay and was dropped.
type CoopAnnSeqFailure struct {
	Group     string `f:"group"`
	Announced uint64 `f:"ann_seq"`
	Expected  uint64 `f:"sess_seq"`
}

// Row is the catalogue's line.
func (CoopAnnSeqFailure) Row() Row {
	return Row{"GDOI", 3, "COOP_ANN_SEQ_FAILURE", "COOP Ann msg seq check failed for group <group>, ann seq# <ann_seq>, sess seq# <sess_seq>"}
}

// CoopConfigMismatch: part of the configuration isn't that of the primary. Item names it
// (TBAR, rekey, ACL, …).
type CoopConfigMismatch struct {
	Group string `f:"group"`
	Item  string `f:"item"`
}

// Row is the catalogue's line.
func (CoopConfigMismatch) Row() Row {
	return Row{"GDOI", 3, "COOP_CONFIG_MISMATCH", "WARNING: Group <group>, <item> configuration between Primary KS and Secondary KS are mismatched"}
}

// CoopUnauthorized: announcements come from an address that is no peer.
type CoopUnauthorized struct {
	Peer  netip.Addr `f:"peer_ip"`
	Group string     `f:"group"`
	Local netip.Addr `f:"local_ip"`
}

// Row is the catalogue's line.
func (CoopUnauthorized) Row() Row {
	return Row{"GDOI", 3, "COOP_KS_UNAUTH", "Contact from unauthorized KS <peer_ip> in group <group> at local address <local_ip> (Possible MISCONFIG of peer/local address)"}
}

// CoopUnreachable: a peer isn't heard any more (cgmGdoiKeyServerPeerUnreachable).
type CoopUnreachable struct {
	Peer   netip.Addr `f:"peer_ip"`
	Group  string     `f:"group"`
	Status string     `f:"status"` // of the IKE SA, as show commands name it
}

// Row is the catalogue's line.
func (CoopUnreachable) Row() Row {
	return Row{"GDOI", 3, "COOP_KS_UNREACH", "Cooperative KS <peer_ip> Unreachable in group <group>. IKE SA Status = <status>"}
}

// CoopVersionMismatch: a peer runs another version; newer releases tell
// KSMajorVersionMismatch or KSMinorVersionMismatch instead.
type CoopVersionMismatch struct {
	Group string     `f:"group"`
	Local netip.Addr `f:"local_ip"`
	Peer  netip.Addr `f:"peer_ip"`
}

// Row is the catalogue's line.
func (CoopVersionMismatch) Row() Row {
	return Row{"GDOI", 3, "COOP_KS_VER_MISMATCH", "COOP-KS version mismatch in group <group>. KS <local_ip> and KS <peer_ip> run different versions"}
}

// CoopLimitReached: a peer can't take the whole table of members.
type CoopLimitReached struct {
	Peer    netip.Addr `f:"peer_ip"`
	Version string     `f:"version"`
}

// Row is the catalogue's line.
func (CoopLimitReached) Row() Row {
	return Row{"GDOI", 3, "COOP_LIMIT_REACHED", "Peer <peer_ip> has reached COOP limit of maximum number of gms. COOP GM database sync fails. Upgrade to COOP version <version> and above"}
}

// CoopPacketDropped: a message was too large to be sent.
type CoopPacketDropped struct {
	Octets uint64 `f:"bytes"`
}

// Row is the catalogue's line.
func (CoopPacketDropped) Row() Row {
	return Row{"GDOI", 3, "COOP_PACKET_DROPPED", "Announcement message dropped due to packet size <bytes> bytes."}
}

// KSMajorVersionMismatch: a peer's software can't work with this one's.
type KSMajorVersionMismatch struct {
	Group       string     `f:"group"`
	KS          netip.Addr `f:"ip1"`
	Version     string     `f:"ver1"`
	Peer        netip.Addr `f:"ip2"`
	PeerVersion string     `f:"ver2"`
}

// Row is the catalogue's line.
func (KSMajorVersionMismatch) Row() Row {
	return Row{"GDOI", 3, "KS_MAJOR_VERSION_MISMATCH", "COOP-KS Major Version mismatch in group <group>. KS <ip1> with version <ver1> is incompatible with KS <ip2> with version <ver2>."}
}

// CoopInconsistentTBAR: a peer's setting of time-based anti-replay is another one.
type CoopInconsistentTBAR struct {
	Peer  netip.Addr `f:"peer_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (CoopInconsistentTBAR) Row() Row {
	return Row{"GDOI", 4, "GDOI_ANN_INCONSISTENT_TBAR", "COOP_KS ANN received from KS <peer_ip> in group <group> has inconsistent TBAR setting with mine"}
}

// CoopTimestampLarge: a peer's pseudotime is ahead by more than is allowed, and was
// adopted.
type CoopTimestampLarge struct {
	Peer  netip.Addr `f:"peer_ip"`
	Group string     `f:"group"`
	Clock Clock      `f:"clock"`
	Mine  uint64     `f:"my_pst"`   // seconds
	Its   uint64     `f:"peer_pst"` // seconds
}

// Row is the catalogue's line.
func (CoopTimestampLarge) Row() Row {
	return Row{"GDOI", 4, "GDOI_ANN_TIMESTAMP_LARGE", "COOP_KS ANN received from KS <peer_ip> in group <group> has <clock> bigger than myself. Adjust to new pseudotime: my_old_pst is <my_pst> sec, peer_pst is <peer_pst> sec"}
}

// CoopTimestampLargeKept: a peer's pseudotime is ahead by more than is allowed, and wasn't
// adopted.
type CoopTimestampLargeKept struct {
	Peer  netip.Addr `f:"peer_ip"`
	Group string     `f:"group"`
	Mine  uint64     `f:"my_pst"`   // seconds
	Its   uint64     `f:"peer_pst"` // seconds
}

// Row is the catalogue's line.
func (CoopTimestampLargeKept) Row() Row {
	return Row{"GDOI", 4, "GDOI_ANN_TIMESTAMP_LARGE_NO_UPDATE", "COOP_KS ANN received from KS <peer_ip> in group <group> has PST bigger than myself: my_pst is <my_pst> sec, peer_pst is <peer_pst> sec"}
}

// CoopTimestampTooOld: a peer's pseudotime is behind by more than is allowed: the announcement was
// refused.
type CoopTimestampTooOld struct {
	Peer  netip.Addr `f:"peer_ip"`
	Group string     `f:"group"`
	Mine  uint64     `f:"my_pst"`   // seconds
	Its   uint64     `f:"peer_pst"` // seconds
	Skew  uint64     `f:"skew"`     // seconds
}

// Row is the catalogue's line.
func (CoopTimestampTooOld) Row() Row {
	return Row{"GDOI", 4, "GDOI_ANN_TIMESTAMP_TOO_OLD", "COOP_KS ANN from KS <peer_ip> in group <group> is too old and fail PST check: my_pst is <my_pst> sec, peer_pst is <peer_pst> sec, allowable_skew is <skew> sec"}
}

// KSMinorVersionMismatch: a peer's software is another release of this one's.
type KSMinorVersionMismatch struct {
	Group       string     `f:"group"`
	KS          netip.Addr `f:"ip1"`
	Version     string     `f:"ver1"`
	Peer        netip.Addr `f:"ip2"`
	PeerVersion string     `f:"ver2"`
}

// Row is the catalogue's line.
func (KSMinorVersionMismatch) Row() Row {
	return Row{"GDOI", 4, "KS_MINOR_VERSION_MISMATCH", "COOP-KS Minor Version mismatch in group <group>. KS <ip1> with version <ver1> is incompatible with KS <ip2> with version <ver2>."}
}

// CoopPeerAdded: a peer was configured.
type CoopPeerAdded struct {
	Peer  netip.Addr `f:"peer_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (CoopPeerAdded) Row() Row {
	return Row{"GDOI", 5, "COOP_KS_ADD", "<peer_ip> added as COOP Key Server in group <group>."}
}

// CoopPrimaryUsurped: an operator's command gave a key server the role of primary.
type CoopPrimaryUsurped struct {
	KS    netip.Addr `f:"ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (CoopPrimaryUsurped) Row() Row {
	return Row{"GDOI", 5, "COOP_KS_ADMN_USRP_PRI", "Primary role Usurped by KS <ip> in group <group>."}
}

// CoopBlockedStale: a registration was refused because no valid announcement has come for long.
type CoopBlockedStale struct {
	GM    netip.Addr `f:"gm_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (CoopBlockedStale) Row() Row {
	return Row{"GDOI", 5, "COOP_KS_BLOCK_NEW_GM_REGISTER", "This key server temporarily blocks group member with ip-addr <gm_ip> from registering in group <group> as it has not received an ANN with valid pseudotime for prolonged period"}
}

// CoopBlockedAnn: CoopBlockedStale in the words of newer releases.
type CoopBlockedAnn struct {
	GM    netip.Addr `f:"gm_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (CoopBlockedAnn) Row() Row {
	return Row{"GDOI", 5, "COOP_KS_BLOCK_NEW_GM_REGISTER_ANN", "This KS temporarily blocks GM with ip-addr <gm_ip> from registering in group <group> as it has not received an ANN with valid pseudotime for prolonged period"}
}

// CoopBlockedElection: a registration was refused because an election is under way.
type CoopBlockedElection struct {
	GM    netip.Addr `f:"gm_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (CoopBlockedElection) Row() Row {
	return Row{"GDOI", 5, "COOP_KS_BLOCK_NEW_GM_REGISTER_ELECTION", "This KS temporarily blocks GM with ip-addr <gm_ip> from registering in group <group> as the KS election is underway"}
}

// CoopElection: no primary is known, and one is elected.
type CoopElection struct {
	Group    string   `f:"group"`
	Previous Previous `f:"prev"`
}

// Row is the catalogue's line.
func (CoopElection) Row() Row {
	return Row{"GDOI", 5, "COOP_KS_ELECTION", "KS entering election mode in group <group> (Previous Primary = <prev>)"}
}

// CoopReachable: a peer is heard again (cgmGdoiKeyServerPeerReachable).
type CoopReachable struct {
	Peer  netip.Addr `f:"peer_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (CoopReachable) Row() Row {
	return Row{"GDOI", 5, "COOP_KS_REACH", "Reachability restored with Cooperative KS <peer_ip> in group <group>."}
}

// CoopPeerRemoved: a peer was taken out of the configuration.
type CoopPeerRemoved struct {
	Peer  netip.Addr `f:"peer_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (CoopPeerRemoved) Row() Row {
	return Row{"GDOI", 5, "COOP_KS_REMOVE", "<peer_ip> removed as COOP Key Server in group <group>."}
}

// CoopBecamePrimary: this key server is primary from now on (cgmGdoiKeyServerRoleChange).
type CoopBecamePrimary struct {
	KS       netip.Addr `f:"ks_ip"`
	Group    string     `f:"group"`
	Previous Previous   `f:"prev"`
}

// Row is the catalogue's line.
func (CoopBecamePrimary) Row() Row {
	return Row{"GDOI", 5, "COOP_KS_TRANS_TO_PRI", "KS <ks_ip> in group <group> transitioned to Primary (Previous Primary = <prev>)"}
}

// CoopAnnTimerExpired: requests brought no announcement with a valid pseudotime: registrations are
// refused from now on.
type CoopAnnTimerExpired struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (CoopAnnTimerExpired) Row() Row {
	return Row{"GDOI", 5, "COOP_KS_VALID_ANN_TIMER_EXPIRED", "This sec-KS has NOT received an ANN with valid pseudotime for an extended period in group <group>. It will block new group members registration temporarily until a valid ANN is received"}
}

// CoopSigningKeyDiffers: a peer signs rekeys with another key: members that have this
// one's would refuse its rekeys. Fingerprints are SHA-256 of the public keys, in hex.
type CoopSigningKeyDiffers struct {
	Peer  netip.Addr `f:"peer"`
	Group string     `f:"group"`
	Mine  string     `f:"mine"`
	Its   string     `f:"its"`
}

// Row is the catalogue's line.
func (CoopSigningKeyDiffers) Row() Row {
	return Row{"GETVPN", 3, "COOP_SIGNING_KEY_DIFFERS", "KS <peer> signs rekeys of group <group> with another key (SHA-256 <its>) than this one (<mine>): members would refuse them after a change of roles. Give both the same key."}
}

// CoopMembersPostponed: members are to lose the KEK and register again (clear crypto gdoi ks
// members), which waits for key servers that are out of reach. Peers are their addresses.
type CoopMembersPostponed struct {
	Group string `f:"group"`
	Peers string `f:"peers"`
}

// Row is the catalogue's line.
func (CoopMembersPostponed) Row() Row {
	return Row{"GETVPN", 4, "COOP_MEMBERS_POSTPONED", "Members of group <group> will be told to register again when all key servers are reachable; waiting for <peers>. To tell them at once: clear crypto gdoi ks members now."}
}

// CoopMembersCalled: what CoopMembersPostponed announced is done.
type CoopMembersCalled struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (CoopMembersCalled) Row() Row {
	return Row{"GETVPN", 5, "COOP_MEMBERS_CALLED", "All key servers of group <group> are reachable: members are told to register again, as was ordered before."}
}

// CoopRekeysUnheard: a new primary can't sign under the KEK that members hold, because its
// signing key is another one: they would drop its rekeys. Mine is the fingerprint of its
// key, Members are addresses, some of them: a long list takes several.
type CoopRekeysUnheard struct {
	Group   string `f:"group"`
	Members string `f:"members"`
	Mine    string `f:"mine"`
}

// Row is the catalogue's line.
func (CoopRekeysUnheard) Row() Row {
	return Row{"GETVPN", 2, "COOP_REKEYS_UNHEARD", "This KS leads group <group> with another signing key (SHA-256 <mine>) than the last primary: members <members> drop its rekeys until they register again, before their keys end."}
}

// CoopSIDOverlap: Sender IDs of this key server are also a peer's. Ranges are written as
// identifier lines write them.
type CoopSIDOverlap struct {
	Group string     `f:"group"`
	Mine  string     `f:"mine"`
	Peer  netip.Addr `f:"peer"`
	Its   string     `f:"its"`
}

// Row is the catalogue's line.
func (CoopSIDOverlap) Row() Row {
	return Row{"GETVPN", 3, "COOP_SID_OVERLAP", "Sender IDs of group <group> overlap: <mine> here, <its> at KS <peer>. No member is registered for counter-mode keys until they don't."}
}

// CoopSIDOverlapCleared: ranges of Sender IDs are apart again.
type CoopSIDOverlapCleared struct {
	Group string     `f:"group"`
	Peer  netip.Addr `f:"peer"`
}

// Row is the catalogue's line.
func (CoopSIDOverlapCleared) Row() Row {
	return Row{"GETVPN", 5, "COOP_SID_OVERLAP_CLEARED", "Sender IDs of group <group> don't overlap with those of KS <peer> any more: members are registered again."}
}
