package isakmp

// Notification and delete payloads (RFC 2408 §3.14, §3.15; RFC 2407 §4.6.3;
// RFC 3706 §5).

import "encoding/binary"

// NotifyType is the message of a notification.
type NotifyType uint16

// Types in use: errors below 16384, status above.
const (
	NotifyInvalidPayloadType     NotifyType = 1
	NotifyInvalidCookie          NotifyType = 4
	NotifyInvalidExchangeType    NotifyType = 7
	NotifyInvalidMessageID       NotifyType = 9
	NotifyAttributesNotSupported NotifyType = 13
	NotifyNoProposalChosen       NotifyType = 14
	NotifyPayloadMalformed       NotifyType = 16
	NotifyInvalidKeyInformation  NotifyType = 17
	NotifyInvalidID              NotifyType = 18
	NotifyInvalidHash            NotifyType = 23
	NotifyAuthenticationFailed   NotifyType = 24
	NotifyInvalidSignature       NotifyType = 25
	NotifyCertUnavailable        NotifyType = 28
	NotifyUnequalPayloadLengths  NotifyType = 30
	NotifyResponderLifetime      NotifyType = 24576
	NotifyReplayStatus           NotifyType = 24577
	NotifyInitialContact         NotifyType = 24578
	NotifyRUThere                NotifyType = 36136 // RFC 3706 §5.3
	NotifyRUThereAck             NotifyType = 36137
	// NotifyCOOP is private: a message between key servers (docs/protocol/coop.md).
	NotifyCOOP NotifyType = 39401
)

// IsError reports whether the type is in the range of errors.
func (t NotifyType) IsError() bool { return t < 16384 }

// String names the notification as the RFCs do.
func (t NotifyType) String() string {
	switch t {
	case NotifyInvalidPayloadType:
		return "INVALID-PAYLOAD-TYPE"
	case NotifyInvalidCookie:
		return "INVALID-COOKIE"
	case NotifyInvalidExchangeType:
		return "INVALID-EXCHANGE-TYPE"
	case NotifyInvalidMessageID:
		return "INVALID-MESSAGE-ID"
	case NotifyAttributesNotSupported:
		return "ATTRIBUTES-NOT-SUPPORTED"
	case NotifyNoProposalChosen:
		return "NO-PROPOSAL-CHOSEN"
	case NotifyPayloadMalformed:
		return "PAYLOAD-MALFORMED"
	case NotifyInvalidKeyInformation:
		return "INVALID-KEY-INFORMATION"
	case NotifyInvalidID:
		return "INVALID-ID-INFORMATION"
	case NotifyInvalidHash:
		return "INVALID-HASH-INFORMATION"
	case NotifyAuthenticationFailed:
		return "AUTHENTICATION-FAILED"
	case NotifyInvalidSignature:
		return "INVALID-SIGNATURE"
	case NotifyCertUnavailable:
		return "CERTIFICATE-UNAVAILABLE"
	case NotifyUnequalPayloadLengths:
		return "UNEQUAL-PAYLOAD-LENGTHS"
	case NotifyResponderLifetime:
		return "RESPONDER-LIFETIME"
	case NotifyReplayStatus:
		return "REPLAY-STATUS"
	case NotifyInitialContact:
		return "INITIAL-CONTACT"
	case NotifyRUThere:
		return "R-U-THERE"
	case NotifyRUThereAck:
		return "R-U-THERE-ACK"
	case NotifyCOOP:
		return "COOP"
	}
	return "notify " + itoa(int(t))
}

// Notify is a notification payload. For the ISAKMP SA the SPI is both cookies, or
// empty.
type Notify struct {
	DOI      uint32
	Protocol uint8
	SPI      []byte
	Type     NotifyType
	Data     []byte
}

// ParseNotify reads the body.
func ParseNotify(body []byte) (Notify, error) {
	if len(body) < 8 {
		return Notify{}, malformed(ShortBody, PayloadNotify, len(body))
	}
	n := Notify{
		DOI:      binary.BigEndian.Uint32(body),
		Protocol: body[4],
		Type:     NotifyType(binary.BigEndian.Uint16(body[6:])),
	}
	spi := int(body[5])
	if spi > 16 {
		return Notify{}, malformed(BadSPISize, PayloadNotify, 5)
	}
	if len(body) < 8+spi {
		return Notify{}, malformed(ShortBody, PayloadNotify, len(body))
	}
	n.SPI, n.Data = body[8:8+spi], body[8+spi:]
	return n, nil
}

// Payload encodes the notification.
func (n Notify) Payload() Payload {
	b := binary.BigEndian.AppendUint32(nil, n.DOI)
	b = append(b, n.Protocol, byte(len(n.SPI)))
	b = binary.BigEndian.AppendUint16(b, uint16(n.Type))
	b = append(b, n.SPI...)
	return Payload{Type: PayloadNotify, Body: append(b, n.Data...)}
}

// Delete is a delete payload: SPIs of one protocol, all of the same size.
type Delete struct {
	DOI      uint32
	Protocol uint8
	SPIs     [][]byte
}

// maxDeletes is how many SPIs one delete may name.
const maxDeletes = 1024

// ParseDelete reads the body.
func ParseDelete(body []byte) (Delete, error) {
	if len(body) < 8 {
		return Delete{}, malformed(ShortBody, PayloadDelete, len(body))
	}
	d := Delete{DOI: binary.BigEndian.Uint32(body), Protocol: body[4]}
	size, count := int(body[5]), int(binary.BigEndian.Uint16(body[6:]))
	switch {
	case size == 0 || size > 16:
		return Delete{}, malformed(BadSPISize, PayloadDelete, 5)
	case count == 0 || count > maxDeletes:
		return Delete{}, malformed(BadCount, PayloadDelete, 6)
	case len(body) < 8+size*count:
		return Delete{}, malformed(ShortBody, PayloadDelete, len(body))
	case len(body) > 8+size*count:
		return Delete{}, malformed(TrailingBody, PayloadDelete, 8+size*count)
	}
	for i := range count {
		d.SPIs = append(d.SPIs, body[8+i*size:8+(i+1)*size])
	}
	return d, nil
}

// Payload encodes the delete; every SPI must have the size of the first.
func (d Delete) Payload() Payload {
	size := 0
	if len(d.SPIs) > 0 {
		size = len(d.SPIs[0])
	}
	b := binary.BigEndian.AppendUint32(nil, d.DOI)
	b = append(b, d.Protocol, byte(size))
	b = binary.BigEndian.AppendUint16(b, uint16(len(d.SPIs)))
	for _, s := range d.SPIs {
		b = append(b, s...)
	}
	return Payload{Type: PayloadDelete, Body: b}
}
