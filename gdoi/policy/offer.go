package policy

// The values that both ends work with.

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/isakmp"
	"getvpn/internal/secret"
	"getvpn/ipsec"
	"getvpn/model"
)

// Offer is a group's policy as a key server sends it in PULL message 2 and 4, in
// IPsec values. Lifetimes are what remains when the message is made.
type Offer struct {
	KEK     *KEK    // nil: the group has no rekeys, or in a rekey: the KEK stays
	Clock   *Clock  // nil: no time-based anti-replay
	Entries []Entry // in the order in which they are matched
	TEKs    []TEK   // each SPI once
	// Activation is how long after it was made members begin to send with a TEK that
	// replaces another at once, Deactivation how long one that the rekey deletes is still
	// received with (RFC 6407 §5.4.1): whole seconds; 0: not said.
	Activation, Deactivation time.Duration
}

// Clock is what time-based anti-replay needs of the whole group: the time since the
// first member registered when the message is made, how long one stamp lasts, and the
// octets of the header that carries it (12 or 16). Whole milliseconds.
type Clock struct {
	Pseudotime time.Duration
	Tick       time.Duration
	Header     int
}

// Entry is one access list entry and, for a permit, the SPIs that protect it: the
// oldest first. A deny has none.
type Entry struct {
	ACE  ipsec.ACE
	SPIs []uint32
}

// TEK is one data SA. Keys are empty in an offer without a key download.
type TEK struct {
	SPI       uint32
	Transform ipsec.Transform
	Lifetime  time.Duration // that remains, in whole seconds
	// Age is the time since the key server made the TEK; HasAge when it said so. A
	// member derives its first sequence number from it.
	Age       time.Duration
	HasAge    bool
	Direction ipsec.Direction
	Replay    ipsec.Replay
	// Tag: packets carry a security group tag ("tag cts sgt"). Header is the length of
	// the metadata header that tags and time stamps need, in octets; 0 when there is
	// neither, and when made: the clock's, or 12.
	Tag     bool
	Header  int
	Key     secret.Bytes
	AuthKey secret.Bytes
}

// KEK is the rekey SA.
type KEK struct {
	SPI      [16]byte
	Src, Dst netip.AddrPort // where PUSH comes from and goes to
	Cipher   gdoi.KEKAlgorithm
	KeyBits  int
	Lifetime time.Duration
	SigHash  gdoi.SigHash
	SigAlg   gdoi.SigAlgorithm
	SigBits  int
	IV, Key  secret.Bytes
	Public   []byte          // the signing key, DER SubjectPublicKeyInfo; nil in a rekey: it stays
	Seq      uint32          // used last; 0: no rekey was sent yet
	Ack      gdoi.AckRequest // 0: members don't acknowledge rekeys (RFC 8263 §2)
}

// Keys is the personal part of message 4.
type Keys struct {
	SIDBits int
	SIDs    []uint32 // nil when no TEK is in a counter mode
}

// RejectError says why a member can't take the policy. Unsupported: this
// implementation lacks what the policy needs (no crypto engine, in the vendor's
// words); else the policy contradicts itself or the RFC.
type RejectError struct {
	Unsupported bool
	Reason      string
}

func (e *RejectError) Error() string { return "policy: " + e.Reason }

func reject(format string, a ...any) error { return &RejectError{Reason: fmt.Sprintf(format, a...)} }

func unsupported(format string, a ...any) error {
	return &RejectError{Unsupported: true, Reason: fmt.Sprintf(format, a...)}
}

// Counter reports whether any TEK is in a counter mode, so that a sender needs a
// Sender ID.
func (o *Offer) Counter() bool {
	for i := range o.TEKs {
		if o.TEKs[i].Transform.Counter() {
			return true
		}
	}
	return false
}

// FirstSeq is the sequence number to start sending with under a TEK of that age and
// remaining life: the elapsed share of the 32-bit number space, so that a member that
// joins again within the life of a TEK doesn't repeat numbers that its peers have
// seen. A TEK made just now starts at 1, as RFC 4303 §3.3.3 has it.
func FirstSeq(age, remaining time.Duration) uint32 {
	if age < 0 || age+remaining <= 0 {
		return 1
	}
	return max(1, uint32(float64(age)/float64(age+remaining)*(1<<32-1<<20)))
}

// GroupID is a group's identity on the wire: a number as 4 octets of key ID, or an
// address (RFC 6407 §5.1).
func GroupID(id model.GroupID) isakmp.ID {
	if id.Addr.IsValid() {
		return isakmp.AddrID(id.Addr)
	}
	return isakmp.ID{Type: isakmp.IDKeyID, Data: binary.BigEndian.AppendUint32(nil, id.Number)}
}
