package isakmp

// The identification payload (RFC 2407 §4.6.2, RFC 2408 §3.8). In phase 1 it names
// a peer, in GROUPKEY-PULL a group (RFC 6407 §5.1).

import (
	"encoding/binary"
	"net/netip"
)

// IDType says what an identity's data are.
type IDType uint8

// Identification types: RFC 2407 §4.6.2.1, RFC 8052 §4 for 12 and 13.
const (
	IDIPv4       IDType = 1
	IDFQDN       IDType = 2
	IDUserFQDN   IDType = 3
	IDIPv4Subnet IDType = 4
	IDIPv6       IDType = 5
	IDIPv6Subnet IDType = 6
	IDIPv4Range  IDType = 7
	IDIPv6Range  IDType = 8
	IDDN         IDType = 9
	IDGN         IDType = 10
	IDKeyID      IDType = 11
	IDList       IDType = 12
	IDOID        IDType = 13
)

// DataLen is the length that the data of the type must have, 0 when it varies.
func (t IDType) DataLen() int {
	switch t {
	case IDIPv4:
		return 4
	case IDIPv4Subnet, IDIPv4Range:
		return 8
	case IDIPv6:
		return 16
	case IDIPv6Subnet, IDIPv6Range:
		return 32
	}
	return 0
}

// ID is an identification payload. Protocol and Port are as on the wire: 0/0,
// 17/500 and 17/848 occur in phase 1; a group's are zero.
type ID struct {
	Type     IDType
	Protocol uint8
	Port     uint16
	Data     []byte
}

// ParseID reads the body. Data of a type with a fixed length must have it; other
// types need at least one octet.
func ParseID(body []byte) (ID, error) {
	if len(body) < 5 {
		return ID{}, malformed(ShortBody, PayloadID, len(body))
	}
	id := ID{Type: IDType(body[0]), Protocol: body[1], Port: binary.BigEndian.Uint16(body[2:]), Data: body[4:]}
	if id.Type == 0 {
		return ID{}, malformed(BadID, PayloadID, 0)
	}
	if n := id.Type.DataLen(); n != 0 && len(id.Data) != n {
		return ID{}, malformed(BadID, PayloadID, 4)
	}
	return id, nil
}

// Payload encodes the identity.
func (id ID) Payload() Payload { return Payload{Type: PayloadID, Body: id.Body()} }

// Body is the payload's body, which phase 1's hashes cover (ID_b).
func (id ID) Body() []byte {
	b := []byte{byte(id.Type), id.Protocol}
	b = binary.BigEndian.AppendUint16(b, id.Port)
	return append(b, id.Data...)
}

// AddrID makes the identity of an address, with protocol and port 0.
func AddrID(a netip.Addr) ID {
	a = a.Unmap()
	if a.Is4() {
		return ID{Type: IDIPv4, Data: a.AsSlice()}
	}
	return ID{Type: IDIPv6, Data: a.AsSlice()}
}

// Addr is the address of an IDIPv4 or IDIPv6.
func (id ID) Addr() (netip.Addr, bool) {
	if id.Type != IDIPv4 && id.Type != IDIPv6 {
		return netip.Addr{}, false
	}
	if len(id.Data) != id.Type.DataLen() {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(id.Data)
}
