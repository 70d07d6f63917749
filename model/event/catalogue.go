package event

import "net/netip"

// The events, in the order member, key server, dataplane, IKE, system. Texts of
// facility GDOI, CRYPTO and SYS are the vendor's, so that existing log parsers read
// them; GETVPN marks what the vendor has no message for.

// GMRegister: a member starts to register with a key server (cgmGdoiGmRegister).
type GMRegister struct {
	KS    netip.Addr `f:"ks_ip"`
	Group string     `f:"group"`
	GM    netip.Addr `f:"gm_ip"`
}

// Row is the catalogue's line.
func (GMRegister) Row() Row {
	return Row{"CRYPTO", 5, "GM_REGSTER", "Start registration to KS <ks_ip> for group <group> using address <gm_ip>"}
}

// GDOIOnOff: GDOI was switched on or off on this device.
type GDOIOnOff struct {
	State string `f:"state"`
}

// Row is the catalogue's line.
func (GDOIOnOff) Row() Row {
	return Row{"CRYPTO", 6, "GDOI_ON_OFF", "GDOI is <state>"}
}

// GMRegistrationComplete: a member is registered, its policy installed (cgmGdoiGmRegistrationComplete).
type GMRegistrationComplete struct {
	KS    netip.Addr `f:"ks_ip"`
	Group string     `f:"group"`
	GM    netip.Addr `f:"gm_ip"`
}

// Row is the catalogue's line.
func (GMRegistrationComplete) Row() Row {
	return Row{"GDOI", 5, "GM_REGS_COMPL", "Registration to KS <ks_ip> complete for group <group> using address <gm_ip>"}
}

// GMReRegister: a member registers again because its SA ends, ended or was cleared (cgmGdoiGmReRegister).
type GMReRegister struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMReRegister) Row() Row {
	return Row{"GDOI", 4, "GM_RE_REGISTER", "The IPSec SA created for group <group> may have expired/been cleared, or didn't go through. Re-register to KS."}
}

// GMHashFail: a PULL message of the key server has a wrong HASH.
type GMHashFail struct {
	KS netip.Addr `f:"ks_ip"`
}

// Row is the catalogue's line.
func (GMHashFail) Row() Row {
	return Row{"GDOI", 4, "GM_HASH_FAIL", "Registration: Bad(No) hash in message sent by the KS <ks_ip>"}
}

// GMRejectingSAPayload: a member refuses the downloaded policy.
type GMRejectingSAPayload struct {
	KS     netip.Addr `f:"ks_ip"`
	Group  string     `f:"group"`
	Reason string     `f:"reason"`
}

// Row is the catalogue's line.
func (GMRejectingSAPayload) Row() Row {
	return Row{"GDOI", 4, "GM_REJECTING_SA_PAYLOAD", "Registration: Policy in SA payload sent by KS <ks_ip> rejected by GM in the group <group> reason <reason>."}
}

// GMIncompleteConfig: a member's group lacks identity or server (cgmGdoiGmIncompleteCfg).
type GMIncompleteConfig struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMIncompleteConfig) Row() Row {
	return Row{"GDOI", 3, "GM_INCOMPLETE_CFG", "Registration: incomplete config for group <group>"}
}

// GMInstallSuccess: policy and keys are in the dataplane.
type GMInstallSuccess struct {
	KS    netip.Addr `f:"ks_ip"`
	Group string     `f:"group"`
	GM    netip.Addr `f:"gm_id"`
	FVRF  string     `f:"fvrf"`
	IVRF  string     `f:"ivrf"`
}

// Row is the catalogue's line.
func (GMInstallSuccess) Row() Row {
	return Row{"GDOI", 5, "GM_INSTALL_POLICIES_SUCCESS", "SUCCESS: Installation of Reg/Rekey policies from KS <ks_ip> for group <group> & gm identity <gm_id> fvrf <fvrf> ivrf <ivrf>"}
}

// GMInstallFailed: the dataplane refused policy or keys.
type GMInstallFailed struct {
	KS    netip.Addr `f:"ks_ip"`
	Group string     `f:"group"`
	GM    netip.Addr `f:"gm_id"`
}

// Row is the catalogue's line.
func (GMInstallFailed) Row() Row {
	return Row{"GDOI", 5, "GM_FAILED_TO_INSTALL_POLICIES", "FAILED: Installation of Reg/Rekey policies from KS <ks_ip> for group <group> & gm identity <gm_id>"}
}

// GMACLPermit: a local list has a permit entry; its traffic is dropped.
type GMACLPermit struct {
	Src string `f:"src"`
	Dst string `f:"dst"`
}

// Row is the catalogue's line.
func (GMACLPermit) Row() Row {
	return Row{"GDOI", 3, "GM_ACL_PERMIT", "GM doesn't support permit configured under local access-list. Traffic from <src> to <dst> will be dropped."}
}

// GMACLMerge: local and downloaded lists are in force together.
type GMACLMerge struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMACLMerge) Row() Row {
	return Row{"GDOI", 5, "GM_ACL_MERGE", "ACL betweeen KS and GM in group <group> merged."}
}

// GMCryptoMapAttach: a crypto map with the group was put on an interface.
type GMCryptoMapAttach struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMCryptoMapAttach) Row() Row {
	return Row{"GDOI", 5, "GM_CM_ATTACH", "Crypto map attached for GM in group <group>."}
}

// GMCryptoMapDetach: a crypto map with the group was taken off an interface.
type GMCryptoMapDetach struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMCryptoMapDetach) Row() Row {
	return Row{"GDOI", 5, "GM_CM_DETACH", "Crypto map detached for GM in group <group>."}
}

// GMUnregister: a member left the group.
type GMUnregister struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMUnregister) Row() Row {
	return Row{"GDOI", 5, "GM_UNREGISTER", "GM left the group <group>."}
}

// GMClearRegister: an operator cleared the group at a member.
type GMClearRegister struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (GMClearRegister) Row() Row {
	return Row{"GDOI", 5, "GM_CLEAR_REGISTER", "Config: GM cleared gdoi configuration for the group <group>."}
}

// GMNoCryptoEngine: the downloaded policy needs what this dataplane lacks.
type GMNoCryptoEngine struct{}

// Row is the catalogue's line.
func (GMNoCryptoEngine) Row() Row {
	return Row{"GDOI", 3, "GM_NO_CRYPTO_ENGINE", "No crypto engine is found due to lack of resource or unsupported feature requested"}
}

// ACLTooLong: a list has more than the 100 entries that are honoured.
type ACLTooLong struct {
	Max uint `f:"max"`
}

// Row is the catalogue's line.
func (ACLTooLong) Row() Row {
	return Row{"GDOI", 1, "GDOI_ACL_NUM", "The ACL has too many entries. GDOI will honor only the first <max> ACL entries specified."}
}

// ACLRange: a group list names a port range, which a SAT can't carry.
type ACLRange struct{}

// Row is the catalogue's line.
func (ACLRange) Row() Row {
	return Row{"GDOI", 1, "GDOI_ACL_RANGE", "A Group Member ACL policy containing port range was attempted. This is not supported."}
}

// KSGroupAdd: a key server took up a group.
type KSGroupAdd struct {
	KS    netip.Addr `f:"ks_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (KSGroupAdd) Row() Row {
	return Row{"GDOI", 5, "KS_GROUP_ADD", "Config: KS <ks_ip> added to the Group <group>."}
}

// KSGroupDelete: a key server gave up a group.
type KSGroupDelete struct {
	KS    netip.Addr `f:"ks_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (KSGroupDelete) Row() Row {
	return Row{"GDOI", 5, "KS_GROUP_DELETE", "Config: KS <ks_ip> removed from the Group <group>."}
}

// KSFirstGM: the first member of a group registered.
type KSFirstGM struct {
	GM    netip.Addr `f:"gm_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (KSFirstGM) Row() Row {
	return Row{"GDOI", 6, "KS_FIRST_GM", "Re-key: First GM <gm_ip> seen by KS in the group <group>."}
}

// KSRegistrationComplete: a member has its keys (cgmGdoiKeyServerRegistrationComplete).
type KSRegistrationComplete struct {
	Group string     `f:"group"`
	GM    netip.Addr `f:"gm_ip"`
}

// Row is the catalogue's line.
func (KSRegistrationComplete) Row() Row {
	return Row{"GDOI", 5, "KS_REGS_COMPL", "KS completed successful registration in group <group> with GM <gm_ip>."}
}

// KSHashFail: a PULL message of a member has a wrong HASH.
type KSHashFail struct {
	GM netip.Addr `f:"gm_ip"`
}

// Row is the catalogue's line.
func (KSHashFail) Row() Row {
	return Row{"GDOI", 4, "KS_HASH_FAIL", "Registration: Bad(No) hash in Message sent by the GM <gm_ip>"}
}

// KSBadID: a member asked for a group that isn't here, or with a wrong identity.
type KSBadID struct {
	Item string     `f:"item"`
	GM   netip.Addr `f:"gm_ip"`
}

// Row is the catalogue's line.
func (KSBadID) Row() Row {
	return Row{"GDOI", 4, "KS_BAD_ID", "Registration: <item> config mis-match between KS and the GM <gm_ip>."}
}

// KSUnauthorized: an unauthorised member tried to join.
type KSUnauthorized struct {
	GM    netip.Addr `f:"gm_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (KSUnauthorized) Row() Row {
	return Row{"GDOI", 3, "KS_UNAUTHORIZED", "Registration: Unauthorized <gm_ip> tried to join the group <group>"}
}

// UnauthorizedIPAddr: a registration came from an address outside the authorization list.
type UnauthorizedIPAddr struct {
	Group string     `f:"group"`
	GM    netip.Addr `f:"gm_ip"`
}

// Row is the catalogue's line.
func (UnauthorizedIPAddr) Row() Row {
	return Row{"GDOI", 1, "UNAUTHORIZED_IPADDR", "Group <group> received registration from unauthorized ip address: <gm_ip>"}
}

// KSMemberRejectsSA: a member refused the offered policy.
type KSMemberRejectsSA struct {
	GM    netip.Addr `f:"gm_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (KSMemberRejectsSA) Row() Row {
	return Row{"GDOI", 4, "KS_GM_REJECTS_SA_PAYLOAD", "Registration: GM <gm_ip> rejected a policy in the SA proposal sent by KS, in the group <group>."}
}

// KSRejectVersion: a member lacks a capability that the group needs.
type KSRejectVersion struct {
	GM       netip.Addr `f:"gm_ip"`
	Version  string     `f:"ver"`
	Group    string     `f:"group"`
	Features string     `f:"features"`
}

// Row is the catalogue's line.
func (KSRejectVersion) Row() Row {
	return Row{"GDOI", 4, "REJECT_GM_VERSION_REGISTER", "Reject GM <gm_ip> (ver <ver>) registration in group <group> as it cannot support these GETVPN features enabled: <features>"}
}

// KSNoSID: counter-mode policy, and no Sender ID is left.
type KSNoSID struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (KSNoSID) Row() Row {
	return Row{"GDOI", 3, "KS_NO_SID_AVAILABLE", "GMs for group <group> need SIDs but this KS has no KS SIDs configured or no more SIDs available."}
}

// KSReinitFinish: a group has new keys and a clean slate of Sender IDs.
type KSReinitFinish struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (KSReinitFinish) Row() Row {
	return Row{"GDOI", 5, "KS_REINIT_FINISH", "Re-initialization of group <group> completed."}
}

// GMDeleted: a member was taken off a key server's list (cgmGdoiKeyServerGmDeleted).
type GMDeleted struct {
	GM    netip.Addr `f:"gm_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (GMDeleted) Row() Row {
	return Row{"GDOI", 4, "GM_DELETE", "GM <gm_ip> deleted from group <group>."}
}

// ReplayFailed: packets were refused by an anti-replay window; rate limited by the emitter.
type ReplayFailed struct {
	Group   string `f:"group"`
	Packets uint64 `f:"packets"` // since the last such event
}

// Row is the catalogue's line.
func (ReplayFailed) Row() Row {
	return Row{"GDOI", 4, "REPLAY_FAILED", "An anti replay check has failed in group <group>."}
}

// InvalidSPI: ESP arrived for an SPI that isn't there; rate limited by the emitter.
type InvalidSPI struct {
	Dst netip.Addr `f:"dst"`
	SPI string     `f:"spi"`
	Src netip.Addr `f:"src"`
	// Packets are those since the last such event; the addresses are the last one's.
	Packets uint64 `f:"packets"`
}

// Row is the catalogue's line.
func (InvalidSPI) Row() Row {
	return Row{"CRYPTO", 4, "RECVD_PKT_INV_SPI", "decaps: rec'd IPSEC packet has invalid spi for destaddr=<dst>, prot=50, spi=<spi>, srcaddr=<src>"}
}

// ClearPacketReceived: a packet that must be protected arrived in clear; rate limited by the emitter.
type ClearPacketReceived struct {
	VRF   string     `f:"vrf"`
	Dst   netip.Addr `f:"dst"`
	Src   netip.Addr `f:"src"`
	Proto uint8      `f:"prot"`
	// Packets are those since the last such event; the addresses are the last one's.
	Packets uint64 `f:"packets"`
}

// Row is the catalogue's line.
func (ClearPacketReceived) Row() Row {
	return Row{"CRYPTO", 4, "RECVD_PKT_NOT_IPSEC", "Rec'd packet not an IPSEC packet. (ip) vrf/dest_addr= <vrf>/<dst>, src_addr= <src>, prot= <prot>"}
}

// ICVFailed: the integrity check of ESP packets failed; rate limited by the emitter.
type ICVFailed struct {
	ID      uint32 `f:"id"`
	Packets uint64 `f:"packets"` // since the last such event
}

// Row is the catalogue's line.
func (ICVFailed) Row() Row {
	return Row{"CRYPTO", 4, "RECVD_PKT_MAC_ERR", "decrypt: mac verify failed for connection id=<id>"}
}

// SequenceNearEnd: an SA's sequence numbers or IVs run out; a new TEK is asked for.
type SequenceNearEnd struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (SequenceNearEnd) Row() Row {
	return Row{"GETVPN", 4, "SEQ_NEAR_END", "Sequence numbers of an SA in group <group> are running out, asking for new keys."}
}

// IKEAuthFailed: phase 1 with a peer failed to authenticate; with PSK a key mismatch is the probable cause.
type IKEAuthFailed struct {
	Peer netip.Addr `f:"peer"`
	Why  string     `f:"why"`
}

// Row is the catalogue's line.
func (IKEAuthFailed) Row() Row {
	return Row{"GETVPN", 4, "IKE_AUTH_FAILED", "Authentication with <peer> failed, probable pre-shared key mismatch: <why>."}
}

// IKENoPolicy: no ISAKMP policy of ours matches the peer's offer.
type IKENoPolicy struct {
	Peer netip.Addr `f:"peer"`
}

// Row is the catalogue's line.
func (IKENoPolicy) Row() Row {
	return Row{"GETVPN", 4, "IKE_NO_POLICY", "No ISAKMP policy in common with <peer>."}
}

// IKENoPSK: there is no pre-shared key for the peer.
type IKENoPSK struct {
	Peer netip.Addr `f:"peer"`
}

// Row is the catalogue's line.
func (IKENoPSK) Row() Row {
	return Row{"GETVPN", 4, "IKE_NO_PSK", "No pre-shared key for <peer>."}
}

// IKENoResponse: a peer didn't answer within the retransmissions.
type IKENoResponse struct {
	Peer  netip.Addr `f:"peer"`
	Tries int        `f:"tries"`
}

// Row is the catalogue's line.
func (IKENoResponse) Row() Row {
	return Row{"GETVPN", 4, "IKE_NO_RESPONSE", "No answer from <peer> after <tries> transmissions."}
}

// IKELargeUnanswered: a message that IP may have cut into fragments got no answer, though
// it was sent as often as any.
type IKELargeUnanswered struct {
	Peer   netip.Addr `f:"peer"`
	Octets int        `f:"octets"`
	Tries  int        `f:"tries"`
}

// Row is the catalogue's line.
func (IKELargeUnanswered) Row() Row {
	return Row{"GETVPN", 4, "IKE_LARGE_UNANSWERED", "A large IKE message of <octets> octets to <peer> got no answer after <tries> transmissions: IP fragments may be filtered on the way."}
}

// ConfigChanged: the running configuration was changed.
type ConfigChanged struct {
	Source string `f:"source"`
	User   string `f:"user"`
}

// Row is the catalogue's line.
func (ConfigChanged) Row() Row {
	return Row{"SYS", 5, "CONFIG_I", "Configured from <source> by <user>"}
}

// Restart: the process started.
type Restart struct{}

// Row is the catalogue's line.
func (Restart) Row() Row {
	return Row{"SYS", 5, "RESTART", "System restarted --"}
}

// LineProtocol: an interface with a crypto map changed state.
type LineProtocol struct {
	Interface string `f:"interface"`
	State     string `f:"state"`
}

// Row is the catalogue's line.
func (LineProtocol) Row() Row {
	return Row{"LINEPROTO", 5, "UPDOWN", "Line protocol on Interface <interface>, changed state to <state>"}
}

// GMMachineRestored: a member's machine was put back to a snapshot or cloned.
type GMMachineRestored struct {
	Group  string `f:"group"`
	Source string `f:"source"` // how it was noticed
}

// Row is the catalogue's line.
func (GMMachineRestored) Row() Row {
	return Row{"GETVPN", 4, "GM_MACHINE_RESTORED", "This machine was restored from a snapshot or cloned (<source>): group <group> doesn't send under counter modes until it has registered again."}
}

// KSMachineRestored: a key server's machine was put back to a snapshot or cloned.
type KSMachineRestored struct {
	Group  string `f:"group"`
	Source string `f:"source"` // how it was noticed
}

// Row is the catalogue's line.
func (KSMachineRestored) Row() Row {
	return Row{"GETVPN", 4, "KS_MACHINE_RESTORED", "This machine was restored from a snapshot or cloned (<source>): group <group> starts again with new keys."}
}
