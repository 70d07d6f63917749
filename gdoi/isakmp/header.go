package isakmp

// The ISAKMP header (RFC 2408 §3.1): cookies, first payload, version, exchange,
// flags, message ID and total length. ParseHeader checks what can be checked
// without state, in the order in which a datagram can go wrong.

import (
	"encoding/binary"
	"encoding/hex"
)

// HeaderLen is the length of the header in octets.
const HeaderLen = 28

// maxMessage is the largest message that UDP over IPv4 or IPv6 can carry.
const maxMessage = 65535

// Version10 is major version 1, minor version 0.
const Version10 = 0x10

// Cookie is half of the pair that names an ISAKMP SA.
type Cookie [8]byte

// String prints hexadecimal digits.
func (c Cookie) String() string { return hex.EncodeToString(c[:]) }

// IsZero reports whether all octets are zero, as the responder's are in the first
// message.
func (c Cookie) IsZero() bool { return c == Cookie{} }

// ExchangeType says which exchange a message belongs to.
type ExchangeType uint8

// Exchange types: RFC 2408 §3.1, RFC 6407 §3.2.1 and §4.2, RFC 8263 §3.1.
const (
	MainMode        ExchangeType = 2
	Aggressive      ExchangeType = 4
	Informational   ExchangeType = 5
	GroupKeyPull    ExchangeType = 32
	GroupKeyPush    ExchangeType = 33
	GroupKeyPushAck ExchangeType = 35
)

// Known reports whether this house speaks the exchange.
func (x ExchangeType) Known() bool {
	switch x {
	case MainMode, Aggressive, Informational, GroupKeyPull, GroupKeyPush, GroupKeyPushAck:
		return true
	}
	return false
}

// String names the exchange.
func (x ExchangeType) String() string {
	switch x {
	case MainMode:
		return "main mode"
	case Aggressive:
		return "aggressive mode"
	case Informational:
		return "informational"
	case GroupKeyPull:
		return "GROUPKEY-PULL"
	case GroupKeyPush:
		return "GROUPKEY-PUSH"
	case GroupKeyPushAck:
		return "GROUPKEY-PUSH-ACK"
	}
	return "exchange " + itoa(int(x))
}

// Flags of the header.
type Flags uint8

const (
	FlagEncrypted Flags = 1 << iota // payloads are encrypted
	FlagCommit
	FlagAuthOnly
	flagsKnown = FlagEncrypted | FlagCommit | FlagAuthOnly
)

// Header is the ISAKMP header. Length counts octets of the whole message,
// encryption padding included.
type Header struct {
	ICookie, RCookie Cookie
	NextPayload      PayloadType
	Version          uint8
	Exchange         ExchangeType
	Flags            Flags
	MessageID        uint32
	Length           uint32
}

// Encrypted reports whether the E flag is set.
func (h Header) Encrypted() bool { return h.Flags&FlagEncrypted != 0 }

// ParseHeader reads and checks the header of a whole datagram (without the
// non-ESP marker). The payloads are datagram[HeaderLen:]. Refused are: lengths
// that don't agree with the datagram, versions other than 1.0, unknown flags, an
// initiator cookie of zero and messages without payloads (RFC 2408 §5.1, §5.2).
func ParseHeader(datagram []byte) (Header, error) {
	switch n := len(datagram); {
	case n == 0:
		return Header{}, malformed(EmptyDatagram, 0, 0)
	case n == 1:
		return Header{}, malformed(SingleOctet, 0, 0)
	case n < HeaderLen:
		return Header{}, malformed(ShortDatagram, 0, n)
	}
	h := Header{
		ICookie:     Cookie(datagram[0:8]),
		RCookie:     Cookie(datagram[8:16]),
		NextPayload: PayloadType(datagram[16]),
		Version:     datagram[17],
		Exchange:    ExchangeType(datagram[18]),
		Flags:       Flags(datagram[19]),
		MessageID:   binary.BigEndian.Uint32(datagram[20:24]),
		Length:      binary.BigEndian.Uint32(datagram[24:28]),
	}
	switch {
	case h.Version != Version10:
		return h, malformed(BadVersion, 0, 17)
	case h.Length < HeaderLen:
		return h, malformed(LengthBelowHeader, 0, 24)
	case h.Length > maxMessage:
		return h, malformed(LengthTooLarge, 0, 24)
	case int(h.Length) > len(datagram):
		return h, malformed(LengthBeyondDatagram, 0, 24)
	case int(h.Length) < len(datagram):
		return h, malformed(LengthBelowDatagram, 0, 24)
	case h.Flags&^flagsKnown != 0:
		return h, malformed(BadFlags, 0, 19)
	case h.ICookie.IsZero():
		return h, malformed(ZeroCookie, 0, 0)
	case h.NextPayload == PayloadNone && h.Length > HeaderLen:
		return h, malformed(TrailingOctets, 0, HeaderLen)
	case h.Length == HeaderLen:
		return h, malformed(NoPayloads, 0, HeaderLen)
	}
	return h, nil
}

// AppendTo appends the 28 octets.
func (h Header) AppendTo(dst []byte) []byte {
	dst = append(dst, h.ICookie[:]...)
	dst = append(dst, h.RCookie[:]...)
	dst = append(dst, byte(h.NextPayload), h.Version, byte(h.Exchange), byte(h.Flags))
	dst = binary.BigEndian.AppendUint32(dst, h.MessageID)
	return binary.BigEndian.AppendUint32(dst, h.Length)
}
