package event

// What happens in the life of a group at its key server: rekeys, acknowledgements,
// policy changes, commands.

import "net/netip"

// KSSendUnicastRekey: a rekey goes to each member (cgmGdoiKeyServerRekeyPushed). Mode
// is empty or ends with a blank.
type KSSendUnicastRekey struct {
	Mode  string     `f:"mode"`
	Group string     `f:"group"`
	KS    netip.Addr `f:"ks_ip"`
	Seq   uint32     `f:"seq"`
}

// Row is the catalogue's line.
func (KSSendUnicastRekey) Row() Row {
	return Row{"GDOI", 5, "KS_SEND_UNICAST_REKEY", "Sending Unicast Rekey <mode>for group <group> from address <ks_ip> with seq # <seq>"}
}

// KSSendMcastRekey: a rekey goes to the multicast address of the group
// (cgmGdoiKeyServerRekeyPushed). Mode is empty or ends with a blank.
type KSSendMcastRekey struct {
	Mode  string     `f:"mode"`
	Group string     `f:"group"`
	KS    netip.Addr `f:"ks_ip"`
	Mcast netip.Addr `f:"mcast_ip"`
	Seq   uint32     `f:"seq"`
}

// Row is the catalogue's line.
func (KSSendMcastRekey) Row() Row {
	return Row{"GDOI", 5, "KS_SEND_MCAST_REKEY", "Sending Multicast Rekey <mode>for group <group> from address <ks_ip> to <mcast_ip>  with seq # <seq>"}
}

// KSRekeyTransUnicast: a group's rekeys go to each member from now on.
type KSRekeyTransUnicast struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (KSRekeyTransUnicast) Row() Row {
	return Row{"GDOI", 5, "KS_REKEY_TRANS_2_UNI", "Group <group> transitioned to Unicast Rekey."}
}

// KSRekeyTransMulticast: a group's rekeys go to a multicast address from now on.
type KSRekeyTransMulticast struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (KSRekeyTransMulticast) Row() Row {
	return Row{"GDOI", 5, "KS_REKEY_TRANS_2_MULTI", "Group <group> transitioned to Multicast Rekey."}
}

// KSRekeysOn: a group whose members registered without a KEK has rekeys from now on.
type KSRekeysOn struct {
	Group   string `f:"group"`
	Members int    `f:"members"` // registered ones, which can't be told
}

// Row is the catalogue's line.
func (KSRekeysOn) Row() Row {
	return Row{"GETVPN", 5, "KS_REKEYS_ON", "Rekeys of group <group> are switched on. <members> members hold no KEK: rekeys reach them when they have registered again"}
}

// KSUnsolicitedAck: a valid acknowledgement that nobody asked for; rate limited by the
// emitter.
type KSUnsolicitedAck struct {
	GM    netip.Addr `f:"gm_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (KSUnsolicitedAck) Row() Row {
	return Row{"GDOI", 3, "KS_UNSOL_ACK", "KS received unsolicited ACK from GM <gm_ip> in group <group>."}
}

// KSMemberEjected: a member left three rekeys in a row without acknowledgement.
type KSMemberEjected struct {
	GM    netip.Addr `f:"gm_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (KSMemberEjected) Row() Row {
	return Row{"GDOI", 5, "KS_NACK_GM_EJECT", "KS ejected GM <gm_ip> in group <group>."}
}

// KSLastGM: the last member of a group is gone.
type KSLastGM struct {
	GM    netip.Addr `f:"gm_ip"`
	Group string     `f:"group"`
}

// Row is the catalogue's line.
func (KSLastGM) Row() Row {
	return Row{"GDOI", 6, "KS_LAST_GM", "Re-key: Last GM <gm_ip> left KS in the group <group>."}
}

// KSNoRSAKeys: the key that must sign rekeys can't be had (cgmGdoiKeyServerNoRsaKeys).
type KSNoRSAKeys struct {
	Key   string `f:"keyname"`
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (KSNoRSAKeys) Row() Row {
	return Row{"GDOI", 1, "KS_NO_RSA_KEYS", "RSA Key - <keyname> : Not found, Required for group <group>"}
}

// KSRekeyAuthKeyLength: the signing key is too short for the hash.
type KSRekeyAuthKeyLength struct {
	Item   string `f:"item"`
	Alg    string `f:"alg"`
	Bits   uint   `f:"bits"`
	Blocks uint   `f:"blocks"`
	Group  string `f:"group"`
}

// Row is the catalogue's line.
func (KSRekeyAuthKeyLength) Row() Row {
	return Row{"GDOI", 3, "KS_REKEY_AUTH_KEY_LENGTH_INSUFFICIENT", "Rejected <item> change: using sig-hash algorithm <alg> requires an authentication key length of at least <bits> bits (<blocks> blocks in bytes) - rekey authentication policy for group <group> not changed"}
}

// KSClearRegister: an operator cleared the group at its key server.
type KSClearRegister struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (KSClearRegister) Row() Row {
	return Row{"GDOI", 5, "KS_CLEAR_REGISTER", "Config: KS cleared gdoi configuration for the group <group>."}
}

// KSConvSAsDuplex: the group isn't receive-only any more.
type KSConvSAsDuplex struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (KSConvSAsDuplex) Row() Row {
	return Row{"GDOI", 5, "KS_CONV_SAS_DUPLEX", "IPSec SAs converted to Duplex in group <group>."}
}

// KSConvSAsIngress: the group is receive-only now.
type KSConvSAsIngress struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (KSConvSAsIngress) Row() Row {
	return Row{"GDOI", 5, "KS_CONV_SAS_INGRESS", "IPSec SAs converted to Ingress in group <group>."}
}

// KSPolicyChange: a changed policy waits for the next rekey.
type KSPolicyChange struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (KSPolicyChange) Row() Row {
	return Row{"GDOI", 5, "POLICY_CHANGE", "GDOI group <group> policy has changed. Use 'crypto gdoi ks rekey' to send a rekey, or the changes will be send in the next scheduled rekey"}
}

// KSSIDsLow: three quarters of a group's Sender IDs are used up.
type KSSIDsLow struct {
	Group string `f:"group"`
	Used  uint64 `f:"used"`
	Max   uint64 `f:"max"`
}

// Row is the catalogue's line.
func (KSSIDsLow) Row() Row {
	return Row{"GETVPN", 4, "KS_SID_LOW", "Group <group> has given out <used> of <max> Sender IDs: when they are used up all its members register again."}
}

// KSAckForm: "rekey acknowledgement cisco" asks for the public form, since the
// vendor's isn't published.
type KSAckForm struct {
	Group string `f:"group"`
}

// Row is the catalogue's line.
func (KSAckForm) Row() Row {
	return Row{"GETVPN", 6, "KS_ACK_FORM", "Group <group> asks its members for acknowledgements in the form of RFC 8263, the vendor's own not being public."}
}

// KSRekeyFailed: a rekey couldn't be made or sent; it is tried again.
type KSRekeyFailed struct {
	Group  string `f:"group"`
	Reason string `f:"reason"`
}

// Row is the catalogue's line.
func (KSRekeyFailed) Row() Row {
	return Row{"GETVPN", 3, "KS_REKEY_FAILED", "A rekey of group <group> couldn't be sent: <reason>."}
}
