package coop

import "net/netip"

// Result is something that the key server must do or may tell.
type Result interface{ result() }

type (
	// RoleChanged: the machine has taken a role. A new primary puts what it holds in
	// force and respects Lease; one that holds nothing makes keys and calls SetKeys.
	RoleChanged struct {
		Role     Role
		Previous netip.Addr // primary before; invalid: none
	}
	// ElectionBegun: no primary is known.
	ElectionBegun struct{ Previous netip.Addr }
	// PeerReachable and PeerUnreachable tell of a peer that is heard again, or not
	// any more.
	PeerReachable   struct{ Peer netip.Addr }
	PeerUnreachable struct{ Peer netip.Addr }
	// PeerAdded and PeerRemoved follow from the configuration.
	PeerAdded   struct{ Peer netip.Addr }
	PeerRemoved struct{ Peer netip.Addr }
	// TakeKeys: the primary's keys, to be held in place of ours. A signing key of our
	// own must exist for them.
	TakeKeys struct {
		From netip.Addr
		Keys Keys
	}
	// MergeKeys: another primary has given up its role to us. Its keys are to be
	// received by all members beside ours, in a rekey to the members of both, and
	// then SetKeys. Lease tells the numbers left under its KEKs.
	MergeKeys struct {
		From netip.Addr
		Keys Keys
	}
	// MembersChanged: rows of members that registered with Origin, which may be a
	// key server that is gone.
	MembersChanged struct {
		Origin netip.Addr
		Rows   []Member
	}
	// MemberMoved: a member of ours has registered with another key server.
	MemberMoved struct{ Addr netip.Addr }
	// NumbersKnown: the primary has used numbers up to Last under a KEK.
	NumbersKnown struct {
		SPI  SPI
		Last uint32
	}
	// PseudotimeChanged: ours is to be set. Large: by more than is allowed, Old was ours.
	// Merge: while two primaries met, members need a rekey if Large.
	PseudotimeChanged struct {
		Peer         netip.Addr
		Value, Old   uint64 // milliseconds
		Large, Merge bool
	}
	// TooOld: an announcement failed the pseudotime check; milliseconds.
	TooOld struct {
		Peer            netip.Addr
		Mine, Its, Skew uint64
	}
	// Ahead: the pseudotime of a secondary that follows us is ahead by more than is
	// allowed; ours stays. Milliseconds.
	Ahead struct {
		Peer      netip.Addr
		Mine, Its uint64
	}
	// AnnTimerExpired: requests brought no valid announcement: registrations are
	// refused from now on.
	AnnTimerExpired struct{}
	// Mismatch: parts of the configuration that a peer has otherwise; empty: not any more.
	Mismatch struct {
		Peer  netip.Addr
		Items []string
	}
	// SigningKeyDiffers: members would refuse rekeys after a change of roles.
	SigningKeyDiffers struct {
		Peer      netip.Addr
		Mine, Its [32]byte
	}
	// VersionDiffers: a peer runs other software, or speaks a protocol that we don't.
	VersionDiffers struct {
		Peer      netip.Addr
		Mine, Its [3]uint8
	}
	// SIDsOverlap: no Sender ID may be given out until ranges are apart. Cleared: they are.
	SIDsOverlap struct {
		Peer      netip.Addr
		Mine, Its SIDRange
		Cleared   bool
	}
	// RelayThis: a rekey for members that the primary can't reach itself.
	RelayThis struct {
		From     netip.Addr
		Datagram []byte
		Members  []netip.Addr
	}
	// AcksArrived: members have acknowledged a rekey at another key server.
	AcksArrived struct {
		SPI     SPI
		Seq     uint32
		Members []netip.Addr
	}
	// SeqFailure: an announcement was a replay.
	SeqFailure struct {
		Peer              netip.Addr
		Announced, Expect uint64
	}
	// RoleReset: a peer's operator has reset its role as primary.
	RoleReset struct{ Peer netip.Addr }
)

func (RoleChanged) result()       {}
func (ElectionBegun) result()     {}
func (PeerReachable) result()     {}
func (PeerUnreachable) result()   {}
func (PeerAdded) result()         {}
func (PeerRemoved) result()       {}
func (TakeKeys) result()          {}
func (MergeKeys) result()         {}
func (MembersChanged) result()    {}
func (MemberMoved) result()       {}
func (NumbersKnown) result()      {}
func (PseudotimeChanged) result() {}
func (TooOld) result()            {}
func (Ahead) result()             {}
func (AnnTimerExpired) result()   {}
func (Mismatch) result()          {}
func (SigningKeyDiffers) result() {}
func (VersionDiffers) result()    {}
func (SIDsOverlap) result()       {}
func (RelayThis) result()         {}
func (AcksArrived) result()       {}
func (SeqFailure) result()        {}
func (RoleReset) result()         {}
