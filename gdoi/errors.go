package gdoi

// Refusals that aren't a matter of form: a closed set of reasons beside that of
// package isakmp.

import (
	"errors"
	"fmt"

	"getvpn/gdoi/isakmp"
)

// Reason names why something was refused.
type Reason uint8

const (
	_ Reason = iota
	// A packet that isn't a message of this exchange: the state doesn't move.
	BadExchangeType
	BadFlags
	DecryptFailed
	BadHash
	Duplicate // a copy of the message that was handled last: send the reply again
	Replayed  // a copy of an older message
	OutOfState
	Finished // the exchange is over
	// An authentic message with content that can't be taken: the exchange is over.
	BadGroupID
	SPIWithoutKey
	KeyWithoutSPI
	KeyLength
	KeyMissing
	KeyUnexpected
	InconsistentSA
	SeqMissing
	SeqUnexpected
	SIDMissing
	SIDUnexpected
	SIDWidth
	SIDRepeated
	UnsupportedAlgorithm
	CapabilityMissing
	CapabilityMismatch
	MalformedContent // wraps an *isakmp.MalformedError
	// Rekeys and their acknowledgements.
	UnknownSPI     // cookies of another rekey SA
	BadSignature   // GROUPKEY-PUSH
	SignatureKey   // a key that can't sign or verify for this SA
	TooLong        // more than a datagram carries
	AckUnsupported // an acknowledgement type that this implementation lacks
	BadAckID       // an identity that no acknowledgement may have

	NumReasons
)

// String is the name under which the refusal is counted.
func (r Reason) String() string {
	names := [NumReasons]string{
		BadExchangeType:      "bad-exchange-type",
		BadFlags:             "bad-exchange-flags",
		DecryptFailed:        "decrypt-failed",
		BadHash:              "bad-hash",
		Duplicate:            "duplicate",
		Replayed:             "replayed",
		OutOfState:           "out-of-state",
		Finished:             "exchange-finished",
		BadGroupID:           "bad-group-id",
		SPIWithoutKey:        "spi-without-key",
		KeyWithoutSPI:        "key-without-spi",
		KeyLength:            "key-length",
		KeyMissing:           "key-missing",
		KeyUnexpected:        "key-unexpected",
		InconsistentSA:       "inconsistent-sa",
		SeqMissing:           "seq-missing",
		SeqUnexpected:        "seq-unexpected",
		SIDMissing:           "sid-missing",
		SIDUnexpected:        "sid-unexpected",
		SIDWidth:             "sid-width",
		SIDRepeated:          "sid-repeated",
		UnsupportedAlgorithm: "unsupported-algorithm",
		CapabilityMissing:    "capability-missing",
		CapabilityMismatch:   "capability-mismatch",
		MalformedContent:     "malformed-content",
		UnknownSPI:           "unknown-rekey-spi",
		BadSignature:         "bad-signature",
		SignatureKey:         "signature-key",
		TooLong:              "too-long",
		AckUnsupported:       "ack-unsupported",
		BadAckID:             "bad-ack-id",
	}
	if r == 0 || r >= NumReasons {
		return fmt.Sprintf("reason %d", uint8(r))
	}
	return names[r]
}

// Error is a refusal. Fatal: the message was authentic, so the peer said something
// that can't be taken and the exchange is over. Otherwise the machine is exactly
// as it was before, and the genuine message still works.
type Error struct {
	Reason Reason
	Fatal  bool
	Err    error // what lies underneath, may be nil
}

// Error names the reason.
func (e *Error) Error() string {
	if e.Err != nil {
		return "gdoi: " + e.Reason.String() + ": " + e.Err.Error()
	}
	return "gdoi: " + e.Reason.String()
}

// Unwrap gives what lies underneath.
func (e *Error) Unwrap() error { return e.Err }

// ReasonOf is the name under which an error of this package or of isakmp is
// counted; "internal" for any other, "" for nil. A malformed message gives the
// reason of its form, wherever it was found.
func ReasonOf(err error) string {
	if err == nil {
		return ""
	}
	var m *isakmp.MalformedError
	if errors.As(err, &m) {
		return m.Reason.String()
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Reason.String()
	}
	return "internal"
}

// IsFatal reports whether the exchange is over.
func IsFatal(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Fatal
}

func refuse(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Err: fmt.Errorf(format, args...)}
}

func malformed(r isakmp.Reason, p isakmp.PayloadType, offset int) error {
	return &isakmp.MalformedError{Reason: r, Payload: p, Offset: offset}
}
