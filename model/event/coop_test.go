package event

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// What cooperative key servers tell, letter for letter: the guide's samples (l.2063 to
// l.2130, l.2165) with its values, and every other message once.
func TestCoopMessages(t *testing.T) {
	for _, x := range []struct {
		event Event
		line  string
	}{
		{CoopAnnSeqFailure{Group: "GET", Announced: 41, Expected: 42},
			"%GDOI-3-COOP_ANN_SEQ_FAILURE: COOP Ann msg seq check failed for group GET, ann seq# 41, sess seq# 42"},
		{CoopConfigMismatch{Group: "GET", Item: "TBAR"},
			"%GDOI-3-COOP_CONFIG_MISMATCH: WARNING: Group GET, TBAR configuration between Primary KS and Secondary KS are mismatched"},
		{CoopUnauthorized{Peer: netip.MustParseAddr("10.0.8.1"), Group: "GET", Local: netip.MustParseAddr("10.0.9.1")},
			"%GDOI-3-COOP_KS_UNAUTH: Contact from unauthorized KS 10.0.8.1 in group GET at local address 10.0.9.1 (Possible MISCONFIG of peer/local address)"},
		{CoopUnreachable{Peer: netip.MustParseAddr("10.0.8.1"), Group: "GET", Status: "Failed to establish"},
			"%GDOI-3-COOP_KS_UNREACH: Cooperative KS 10.0.8.1 Unreachable in group GET. IKE SA Status = Failed to establish"},
		{CoopVersionMismatch{Group: "GET", Local: netip.MustParseAddr("10.0.9.1"), Peer: netip.MustParseAddr("10.0.8.1")},
			"%GDOI-3-COOP_KS_VER_MISMATCH: COOP-KS version mismatch in group GET. KS 10.0.9.1 and KS 10.0.8.1 run different versions"},
		{CoopLimitReached{Peer: netip.MustParseAddr("10.0.8.1"), Version: "1.0.3"},
			"%GDOI-3-COOP_LIMIT_REACHED: Peer 10.0.8.1 has reached COOP limit of maximum number of gms. COOP GM database sync fails. Upgrade to COOP version 1.0.3 and above"},
		{CoopPacketDropped{Octets: 20001},
			"%GDOI-3-COOP_PACKET_DROPPED: Announcement message dropped due to packet size 20001 bytes."},
		{KSMajorVersionMismatch{Group: "GET", KS: netip.MustParseAddr("10.0.9.1"), Version: "1.0.4", Peer: netip.MustParseAddr("10.0.8.1"), PeerVersion: "2.0.0"},
			"%GDOI-3-KS_MAJOR_VERSION_MISMATCH: COOP-KS Major Version mismatch in group GET. KS 10.0.9.1 with version 1.0.4 is incompatible with KS 10.0.8.1 with version 2.0.0."},
		{CoopInconsistentTBAR{Peer: netip.MustParseAddr("10.0.8.1"), Group: "GET"},
			"%GDOI-4-GDOI_ANN_INCONSISTENT_TBAR: COOP_KS ANN received from KS 10.0.8.1 in group GET has inconsistent TBAR setting with mine"},
		{CoopTimestampLarge{Peer: netip.MustParseAddr("10.0.8.1"), Group: "GET", Clock: Pseudotime, Mine: 23147, Its: 30005},
			"%GDOI-4-GDOI_ANN_TIMESTAMP_LARGE: COOP_KS ANN received from KS 10.0.8.1 in group GET has pseudotime bigger than myself. Adjust to new pseudotime: my_old_pst is 23147 sec, peer_pst is 30005 sec"},
		{CoopTimestampLargeKept{Peer: netip.MustParseAddr("10.0.8.1"), Group: "GET", Mine: 23147, Its: 30005},
			"%GDOI-4-GDOI_ANN_TIMESTAMP_LARGE_NO_UPDATE: COOP_KS ANN received from KS 10.0.8.1 in group GET has PST bigger than myself: my_pst is 23147 sec, peer_pst is 30005 sec"},
		{CoopTimestampTooOld{Peer: netip.MustParseAddr("10.0.8.1"), Group: "GET", Mine: 23147, Its: 30005, Skew: 10},
			"%GDOI-4-GDOI_ANN_TIMESTAMP_TOO_OLD: COOP_KS ANN from KS 10.0.8.1 in group GET is too old and fail PST check: my_pst is 23147 sec, peer_pst is 30005 sec, allowable_skew is 10 sec"},
		{KSMinorVersionMismatch{Group: "GET", KS: netip.MustParseAddr("10.0.9.1"), Version: "1.0.4", Peer: netip.MustParseAddr("10.0.8.1"), PeerVersion: "2.0.0"},
			"%GDOI-4-KS_MINOR_VERSION_MISMATCH: COOP-KS Minor Version mismatch in group GET. KS 10.0.9.1 with version 1.0.4 is incompatible with KS 10.0.8.1 with version 2.0.0."},
		{CoopPeerAdded{Peer: netip.MustParseAddr("10.0.8.1"), Group: "GET"},
			"%GDOI-5-COOP_KS_ADD: 10.0.8.1 added as COOP Key Server in group GET."},
		{CoopPrimaryUsurped{KS: netip.MustParseAddr("10.0.8.1"), Group: "GET"},
			"%GDOI-5-COOP_KS_ADMN_USRP_PRI: Primary role Usurped by KS 10.0.8.1 in group GET."},
		{CoopBlockedStale{GM: netip.MustParseAddr("10.0.0.2"), Group: "GET"},
			"%GDOI-5-COOP_KS_BLOCK_NEW_GM_REGISTER: This key server temporarily blocks group member with ip-addr 10.0.0.2 from registering in group GET as it has not received an ANN with valid pseudotime for prolonged period"},
		{CoopBlockedAnn{GM: netip.MustParseAddr("10.0.0.2"), Group: "GET"},
			"%GDOI-5-COOP_KS_BLOCK_NEW_GM_REGISTER_ANN: This KS temporarily blocks GM with ip-addr 10.0.0.2 from registering in group GET as it has not received an ANN with valid pseudotime for prolonged period"},
		{CoopBlockedElection{GM: netip.MustParseAddr("10.0.0.2"), Group: "GET"},
			"%GDOI-5-COOP_KS_BLOCK_NEW_GM_REGISTER_ELECTION: This KS temporarily blocks GM with ip-addr 10.0.0.2 from registering in group GET as the KS election is underway"},
		{CoopElection{Group: "GET", Previous: Previous{}},
			"%GDOI-5-COOP_KS_ELECTION: KS entering election mode in group GET (Previous Primary = NONE)"},
		{CoopReachable{Peer: netip.MustParseAddr("10.0.8.1"), Group: "GET"},
			"%GDOI-5-COOP_KS_REACH: Reachability restored with Cooperative KS 10.0.8.1 in group GET."},
		{CoopPeerRemoved{Peer: netip.MustParseAddr("10.0.8.1"), Group: "GET"},
			"%GDOI-5-COOP_KS_REMOVE: 10.0.8.1 removed as COOP Key Server in group GET."},
		{CoopBecamePrimary{KS: netip.MustParseAddr("10.0.8.1"), Group: "GET", Previous: Previous{}},
			"%GDOI-5-COOP_KS_TRANS_TO_PRI: KS 10.0.8.1 in group GET transitioned to Primary (Previous Primary = NONE)"},
		{CoopAnnTimerExpired{Group: "GET"},
			"%GDOI-5-COOP_KS_VALID_ANN_TIMER_EXPIRED: This sec-KS has NOT received an ANN with valid pseudotime for an extended period in group GET. It will block new group members registration temporarily until a valid ANN is received"},
		{CoopTimestampLarge{Peer: netip.MustParseAddr("10.0.9.1"), Group: "GET", Clock: PST, Mine: 0, Its: 22772},
			"%GDOI-4-GDOI_ANN_TIMESTAMP_LARGE: COOP_KS ANN received from KS 10.0.9.1 in group GET has PST bigger than myself. Adjust to new pseudotime: my_old_pst is 0 sec, peer_pst is 22772 sec"},
		{CoopTimestampTooOld{Peer: netip.MustParseAddr("10.0.8.1"), Group: "GET", Mine: 22743, Its: 103, Skew: 10},
			"%GDOI-4-GDOI_ANN_TIMESTAMP_TOO_OLD: COOP_KS ANN from KS 10.0.8.1 in group GET is too old and fail PST check: my_pst is 22743 sec, peer_pst is 103 sec, allowable_skew is 10 sec"},
		{CoopElection{Group: "GET", Previous: Previous{netip.MustParseAddr("10.0.8.1")}},
			"%GDOI-5-COOP_KS_ELECTION: KS entering election mode in group GET (Previous Primary = 10.0.8.1)"},
		{CoopSigningKeyDiffers{Peer: netip.MustParseAddr("10.0.8.1"), Group: "GET", Mine: "aa01", Its: "bb02"},
			"%GETVPN-3-COOP_SIGNING_KEY_DIFFERS: KS 10.0.8.1 signs rekeys of group GET with another key (SHA-256 bb02) than this one (aa01): members would refuse them after a change of roles. Give both the same key."},
		{CoopMembersPostponed{Group: "GET", Peers: "10.0.8.1"},
			"%GETVPN-4-COOP_MEMBERS_POSTPONED: Members of group GET will be told to register again when all key servers are reachable; waiting for 10.0.8.1. To tell them at once: clear crypto gdoi ks members now."},
		{CoopMembersCalled{Group: "GET"},
			"%GETVPN-5-COOP_MEMBERS_CALLED: All key servers of group GET are reachable: members are told to register again, as was ordered before."},
		{CoopRekeysUnheard{Group: "GET", Members: "10.0.0.1, 10.0.0.2", Mine: "aa01"},
			"%GETVPN-2-COOP_REKEYS_UNHEARD: This KS leads group GET with another signing key (SHA-256 aa01) than the last primary: members 10.0.0.1, 10.0.0.2 drop its rekeys until they register again, before their keys end."},
		{CoopSIDOverlap{Group: "GET", Mine: "0 - 255", Peer: netip.MustParseAddr("10.0.8.1"), Its: "255 - 511"},
			"%GETVPN-3-COOP_SID_OVERLAP: Sender IDs of group GET overlap: 0 - 255 here, 255 - 511 at KS 10.0.8.1. No member is registered for counter-mode keys until they don't."},
		{CoopSIDOverlapCleared{Group: "GET", Peer: netip.MustParseAddr("10.0.8.1")},
			"%GETVPN-5-COOP_SID_OVERLAP_CLEARED: Sender IDs of group GET don't overlap with those of KS 10.0.8.1 any more: members are registered again."},
	} {
		r := x.event.Row()
		text := r.Format
		for _, f := range Fields(x.event) {
			text = strings.ReplaceAll(text, "<"+f.Name+">", fmt.Sprint(f.Value))
		}
		if got := fmt.Sprintf("%%%s-%d-%s: %s", r.Facility, r.Severity, r.Mnemonic, text); got != x.line {
			t.Errorf("%T:\n%s\n%s", x.event, got, x.line)
		}
	}
}
