package event

// What happens to a group member after it has registered: rekeys, the end of keys,
// conversions of direction, recovery, tracking.

import "net/netip"

// GMRecvRekey: a member took a rekey, its policy installed (cgmGdoiGmRekeyReceived).
type GMRecvRekey struct {
	Group string     `f:"group"`
	KS    netip.Addr `f:"ks_ip"`
	Dst   netip.Addr `f:"dst_ip"` // the member, or the multicast group
	Seq   uint32     `f:"seq"`
}

// Row is the catalogue's line.
func (GMRecvRekey) Row() Row {
	return Row{"GDOI", 5, "GM_RECV_REKEY", "Received Rekey for group <group> from <ks_ip> to <dst_ip> with seq # <seq>"}
}

// GMRekeyFailure: a rekey couldn't be read, or its signature is wrong (cgmGdoiGmRekeyFailure).
type GMRekeyFailure struct {
	GM    netip.Addr `f:"gm_ip"`
	Group string     `f:"group"`
	KS    netip.Addr `f:"ks_ip"`
}

// Row is the catalogue's line.
func (GMRekeyFailure) Row() Row {
	return Row{"GDOI", 3, "GDOI_REKEY_FAILURE", "Processing of REKEY payloads failed on GM <gm_ip> in the group <group>, with peer at <ks_ip>"}
}

// GMRekeySeqFailure: a rekey has a sequence number that was used already.
type GMRekeySeqFailure struct {
	Seq   uint32 `f:"seq"`
	Group string `f:"group"`
	Last  uint32 `f:"last_seq"`
}

// Row is the catalogue's line.
func (GMRekeySeqFailure) Row() Row {
	return Row{"GDOI", 3, "GDOI_REKEY_SEQ_FAILURE", "Failed to process rekey seq # <seq> in seq payload for group <group>, last seq # <last_seq>"}
}

// GMPseudotimeLarge: a rekey's pseudotime is ahead of ours by more than the allowed
// skew; ours follows.
type GMPseudotimeLarge struct {
	KS    uint64 `f:"ks_pst"` // seconds
	GM    uint64 `f:"gm_pst"`
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMPseudotimeLarge) Row() Row {
	return Row{"GDOI", 3, "PSEUDO_TIME_LARGE", "Pseudotime difference between key server (<ks_pst> sec) and GM (<gm_pst> sec) is larger than expected in group <group>. Adjust to new pseudotime"}
}

// GMPseudotimeTooOld: a rekey's pseudotime is behind ours by more than the allowed
// skew; the rekey was dropped.
type GMPseudotimeTooOld struct {
	Group string `f:"group"`
	GM    uint64 `f:"my_pst"` // seconds
	Peer  uint64 `f:"peer_pst"`
	Skew  uint64 `f:"skew"`
}

// Row is the catalogue's line.
func (GMPseudotimeTooOld) Row() Row {
	return Row{"GDOI", 3, "PSEUDO_TIME_TOO_OLD", "Rekey received in group <group> is too old and fail PST check: my_pst is <my_pst> sec, peer_pst is <peer_pst> sec, allowable_skew is <skew> sec"}
}

// GMRecvDelete: the key server asked members to leave; keys are shortened.
type GMRecvDelete struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMRecvDelete) Row() Row {
	return Row{"GDOI", 4, "GM_RECV_DELETE", "GM received delete-msg from KS in group <group>. TEKs lifetime are reduced and re-registration will start before SA expiry"}
}

// GMRecvDeleteImmediate: the key server asked members to drop everything at once.
type GMRecvDeleteImmediate struct {
	Group string `f:"group"`
	Secs  uint64 `f:"secs"` // the period of which a random moment is taken
}

// Row is the catalogue's line.
func (GMRecvDeleteImmediate) Row() Row {
	return Row{"GDOI", 4, "GM_RECV_DELETE_IMMEDIATE", "GM receive REMOVAL-NOW in group <group> to cleanup downloaded policy now. Re-registration will start in a randomly chosen period of <secs> sec"}
}

// GMRecvPolicyReplaceNow: a rekey deleted keys and brought their successors.
type GMRecvPolicyReplaceNow struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMRecvPolicyReplaceNow) Row() Row {
	return Row{"GDOI", 4, "GM_RECV_POLICY_REPLACE_NOW", "GM received policy replace now rekey from KS in group <group>."}
}

// GMRekeyNotReceived: a key came near its end and no rekey had brought a successor.
type GMRekeyNotReceived struct {
	KS    netip.Addr `f:"ks_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (GMRekeyNotReceived) Row() Row {
	return Row{"GDOI", 4, "GM_REKEY_NOT_RECD", "GM did not receive rekey from KS <ks_ip> in group <group>."}
}

// GMRecoveryRegistration: packets were refused that a member with the right keys would
// have taken; the member registers again.
type GMRecoveryRegistration struct {
	Group string `f:"group"`
	Secs  uint64 `f:"secs"` // the period of which a random moment is taken
}

// Row is the catalogue's line.
func (GMRecoveryRegistration) Row() Row {
	return Row{"GDOI", 4, "GM_RECOVERY_REGISTRATION", "GM recovery re-registration for group <group> will start in a randomly chosen period of <secs> sec"}
}

// GMRecoveryPostponed: as GMRecoveryRegistration, but the last one was less than an
// interval ago.
type GMRecoveryPostponed struct {
	Group string `f:"group"`
	Secs  uint64 `f:"secs"`
}

// Row is the catalogue's line.
func (GMRecoveryPostponed) Row() Row {
	return Row{"GDOI", 4, "GM_RECOVERY_REGISTRATION_POSTPONED", "Detects data error in group <group> but the previous recovery/rekey has occured within the last recovery-check interval. Postpone recovery registration to start in <secs> sec"}
}

// GMPolicyCleanup: a member dropped the downloaded policy.
type GMPolicyCleanup struct {
	Group string `f:"group"`
	Secs  uint64 `f:"secs"` // until it tries to register again
}

// Row is the catalogue's line.
func (GMPolicyCleanup) Row() Row {
	return Row{"GDOI", 5, "GM_POLICY_CLEANUP", "GM cleanup downloaded policy now in group <group>. Re-registration will start in a randomly chosen period of <secs> sec"}
}

// GMReceiveOnly: the key server's SAs are for receiving alone.
type GMReceiveOnly struct {
	KS    netip.Addr `f:"ks_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (GMReceiveOnly) Row() Row {
	return Row{"GDOI", 5, "GM_SA_INGRESS", "Receive only ACL received from KS <ks_ip> in group <group>."}
}

// GMConvertedDuplex: a member's SAs went from receive-only to both directions as the
// key server said.
type GMConvertedDuplex struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMConvertedDuplex) Row() Row {
	return Row{"GDOI", 5, "GM_CONV_SA_DUPLEX", "IPSec SAs converted to Duplex in group <group> on the GM."}
}

// GMConvertedDuplexLocal: the same, by an operator's command.
type GMConvertedDuplexLocal struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMConvertedDuplexLocal) Row() Row {
	return Row{"GDOI", 5, "GM_CONV_SA_DUPLEX_LOCAL", "IPSec SAs converted to Duplex in group <group> on a GM by a local event."}
}

// GMKEKExpired: the KEK's life is over.
type GMKEKExpired struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMKEKExpired) Row() Row {
	return Row{"GDOI", 5, "GM_DELETE_EXPIRED_KEK", "KEK expired for group <group> and was deleted"}
}

// GMRekeyCipherHash: the KEK's cipher or the hash of its signatures isn't among those
// that the member takes.
type GMRekeyCipherHash struct {
	Item  string `f:"item"`
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMRekeyCipherHash) Row() Row {
	return Row{"GDOI", 5, "GM_REKEY_CIPHER_HASH_CHECK_FAIL", "<item> cipher/hash used in rekey is not acceptable to group <group>"}
}

// GMRekeyToMulticast: the group's rekeys went from unicast to multicast.
type GMRekeyToMulticast struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMRekeyToMulticast) Row() Row {
	return Row{"GDOI", 5, "GM_REKEY_TRANS_2_MULTI", "Group <group> transitioned to Multicast Rekey."}
}

// GMRekeyToUnicast: the group's rekeys went from multicast to unicast.
type GMRekeyToUnicast struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMRekeyToUnicast) Row() Row {
	return Row{"GDOI", 5, "GM_REKEY_TRANS_2_UNI", "Group <group> transitioned to Unicast Rekey."}
}

// GMTrack: a tracked object followed the state of a group's keys.
type GMTrack struct {
	Group string `f:"group"`
	ID    uint32 `f:"id"`
	State string `f:"state"` // UP, DOWN
}

// Row is the catalogue's line.
func (GMTrack) Row() Row {
	return Row{"GETVPN", 5, "GM_TRACK", "Group <group> set track object <id> to state <state>"}
}

// GMTrackError: a tracked object couldn't be set.
type GMTrackError struct {
	Group string `f:"group"`
	ID    uint32 `f:"id"`
	State string `f:"state"`
}

// Row is the catalogue's line.
func (GMTrackError) Row() Row {
	return Row{"GDOI", 5, "GM_SA_TRACK_SET_EOT_ERROR", "Group <group> encountered error in setting EOT object ID <id> to state <state>"}
}

// GMKEKUpdated: a member holds another KEK.
type GMKEKUpdated struct{}

// Row is the catalogue's line.
func (GMKEKUpdated) Row() Row { return Row{"GDOI", 5, "SA_KEK_UPDATED", "SA KEK was updated"} }

// GMTEKUpdated: a member installed new TEKs.
type GMTEKUpdated struct{}

// Row is the catalogue's line.
func (GMTEKUpdated) Row() Row { return Row{"GDOI", 5, "SA_TEK_UPDATED", "SA TEK was updated"} }

// GMSlept: a member's machine was suspended, so its clocks and keys are behind.
type GMSlept struct {
	Group string `f:"group"`
	Secs  uint64 `f:"secs"`
}

// Row is the catalogue's line.
func (GMSlept) Row() Row {
	return Row{"GETVPN", 4, "GM_SLEPT", "This machine was suspended for <secs> sec: group <group> registers again before it sends."}
}

// GMJoinFailed: the multicast group of the rekeys couldn't be joined.
type GMJoinFailed struct {
	Group     string     `f:"group"`
	Address   netip.Addr `f:"address"`
	Interface string     `f:"interface"`
	Why       string     `f:"why"`
}

// Row is the catalogue's line.
func (GMJoinFailed) Row() Row {
	return Row{"GETVPN", 3, "GM_JOIN_FAILED", "Group <group> can't join <address> on <interface>: <why>. Rekeys by multicast won't arrive."}
}
