package isakmp

// What can be wrong with octets: a closed set of reasons, under which callers
// count and log. An error never holds octets of the message.

import (
	"fmt"
	"strconv"
)

// Reason names why a message was refused. The set is closed: NumReasons is its
// size, so that counters can be an array.
type Reason uint8

const (
	_ Reason = iota
	// Header.
	EmptyDatagram
	SingleOctet // a lone octet: a NAT keepalive that came to the wrong place
	ShortDatagram
	BadVersion
	LengthBelowHeader
	LengthTooLarge
	LengthBeyondDatagram
	LengthBelowDatagram
	BadFlags
	ZeroCookie
	TrailingOctets
	NoPayloads
	// Chain.
	ShortPayload
	PayloadLengthBelowHeader
	PayloadOverrun
	BadReserved
	BadNextPayload
	TooManyPayloads
	// Attributes.
	ShortAttribute
	AttributeOverrun
	AttributeWidth
	AttributeValue
	AttributeRepeated
	AttributeMissing
	AttributeUnknown
	AttributePrivate
	TooManyAttributes
	// Payload bodies.
	ShortBody
	TrailingBody
	BadCount
	BadSPISize
	BadDOI
	BadSituation
	BadProtocol
	BadID
	BadNonceLength
	BadTransform
	// Legality of an exchange's message.
	PayloadMissing
	PayloadRepeated
	PayloadUnexpected
	PayloadOrder
	NotEncrypted
	UnexpectedEncryption

	NumReasons
)

// String is the name under which the refusal is counted.
func (r Reason) String() string {
	names := [NumReasons]string{
		EmptyDatagram:            "empty-datagram",
		SingleOctet:              "single-octet",
		ShortDatagram:            "short-datagram",
		BadVersion:               "bad-version",
		LengthBelowHeader:        "length-below-header",
		LengthTooLarge:           "length-too-large",
		LengthBeyondDatagram:     "length-beyond-datagram",
		LengthBelowDatagram:      "length-below-datagram",
		BadFlags:                 "bad-flags",
		ZeroCookie:               "zero-cookie",
		TrailingOctets:           "trailing-octets",
		NoPayloads:               "no-payloads",
		ShortPayload:             "short-payload",
		PayloadLengthBelowHeader: "payload-length-below-header",
		PayloadOverrun:           "payload-overrun",
		BadReserved:              "bad-reserved",
		BadNextPayload:           "bad-next-payload",
		TooManyPayloads:          "too-many-payloads",
		ShortAttribute:           "short-attribute",
		AttributeOverrun:         "attribute-overrun",
		AttributeWidth:           "attribute-width",
		AttributeValue:           "attribute-value",
		AttributeRepeated:        "attribute-repeated",
		AttributeMissing:         "attribute-missing",
		AttributeUnknown:         "attribute-unknown",
		AttributePrivate:         "attribute-private",
		TooManyAttributes:        "too-many-attributes",
		ShortBody:                "short-body",
		TrailingBody:             "trailing-body",
		BadCount:                 "bad-count",
		BadSPISize:               "bad-spi-size",
		BadDOI:                   "bad-doi",
		BadSituation:             "bad-situation",
		BadProtocol:              "bad-protocol",
		BadID:                    "bad-id",
		BadNonceLength:           "bad-nonce-length",
		BadTransform:             "bad-transform",
		PayloadMissing:           "payload-missing",
		PayloadRepeated:          "payload-repeated",
		PayloadUnexpected:        "payload-unexpected",
		PayloadOrder:             "payload-order",
		NotEncrypted:             "not-encrypted",
		UnexpectedEncryption:     "unexpected-encryption",
	}
	if r == 0 || r >= NumReasons {
		return "reason " + itoa(int(r))
	}
	return names[r]
}

// MalformedError says what is wrong and where. Payload is the innermost payload,
// 0 for the header and the chain itself. Offset counts octets: from the start of
// the datagram for header errors, of the chain for chain errors, otherwise of the
// payload's body (behind its generic header). Attr is the attribute's type where
// one is to blame.
type MalformedError struct {
	Reason  Reason
	Payload PayloadType
	Offset  int
	Attr    uint16
}

// Error names reason, payload and offset; no octets of the message.
func (e *MalformedError) Error() string {
	s := "isakmp: " + e.Reason.String()
	if e.Payload != PayloadNone {
		s += " in " + e.Payload.String()
	}
	if e.Attr != 0 {
		s += fmt.Sprintf(", attribute %d", e.Attr)
	}
	return s + fmt.Sprintf(" at offset %d", e.Offset)
}

func malformed(r Reason, p PayloadType, offset int) *MalformedError {
	return &MalformedError{Reason: r, Payload: p, Offset: offset}
}

func itoa(n int) string { return strconv.Itoa(n) }
