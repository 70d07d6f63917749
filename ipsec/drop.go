package ipsec

// DropReason names why a packet wasn't delivered. The set is closed; every drop in
// the product counts under exactly one.
type DropReason uint8

const (
	DropNone            DropReason = iota
	DropFailClose                  // unregistered, fail-close map active
	DropLocalPermit                // permit in a member's local list
	DropClearInbound               // arrived in clear and matches a mirrored permit
	DropNoSA                       // permit, but no valid TEK
	DropExpired                    // TEK ended between steering and sealing
	DropNoSID                      // counter mode without a Sender ID
	DropSeqLimit                   // sequence number or IV space used up
	DropPolicyRace                 // the Go matcher judged otherwise than the program
	DropTooBig                     // DF set, answered with ICMP
	DropFragment                   // couldn't be fragmented
	DropMalformed                  // header, length or padding isn't what it says
	DropUnknownSPI                 // no such SA
	DropReplay                     // seen, or left of the window
	DropICV                        // integrity check failed
	DropInnerPolicy                // opened, but its addresses aren't protected by that SA
	DropReassembly                 // ESP fragments: overlap, timeout, memory
	DropRingFull                   // receive ring overran
	DropTapFull                    // TAP queue overran, or no reader
	DropSend                       // the send call refused the frame
	DropPadding                    // ESP padding isn't 1, 2, 3, …
	DropInnerMismatch              // outer and inner addresses differ
	DropReceiveOnly                // SA direction forbids sending
	DropSenderLimit                // an SA's table of senders is full
	DropDummy                      // ESP dummy packet (next header 59), discarded as RFC 4303 §2.6 says
	DropNoRandom                   // no random octets for an IV
	DropEtherType                  // neither IP nor on the closed list of ethertypes that pass
	DropReplayOld                  // time-based anti-replay: sent longer ago than the window
	DropReplayNew                  // time-based anti-replay: sent later than the window allows
	DropMetadataMissing            // no metadata, or no time stamp in it, where the SA needs one
	DropMetadata                   // metadata isn't what it says
	DropNoPseudotime               // time-based anti-replay before the group's clock is known
	NumDropReasons
)

func (r DropReason) String() string {
	return [...]string{"none", "fail-close", "local-permit", "clear-inbound", "no-sa", "sa-expired",
		"no-sender-id", "sequence-limit", "policy-race", "too-big", "fragment", "malformed",
		"unknown-spi", "replay", "icv", "inner-policy", "reassembly", "ring-full", "tap-full",
		"send-failed", "padding", "inner-mismatch", "receive-only",
		"sender-limit", "esp-dummy", "no-random", "ethertype",
		"replay-time-old", "replay-time-new", "metadata-missing", "metadata-malformed", "no-pseudotime"}[r]
}
