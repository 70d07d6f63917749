package isakmp

// The payload chain (RFC 2408 §3.2): each payload names the type of the next one,
// 0 ends it. The body of an encrypted message may carry padding behind the end.

import (
	"encoding/binary"
	"fmt"
)

// PayloadType is a next-payload number.
type PayloadType uint8

// Payload types: RFC 2408 §3.1, RFC 6407 §5, RFC 3947 §9; 132 is the vendor's
// IKE fragment.
const (
	PayloadNone      PayloadType = 0
	PayloadSA        PayloadType = 1
	PayloadProposal  PayloadType = 2
	PayloadTransform PayloadType = 3
	PayloadKE        PayloadType = 4
	PayloadID        PayloadType = 5
	PayloadCert      PayloadType = 6
	PayloadCertReq   PayloadType = 7
	PayloadHash      PayloadType = 8
	PayloadSig       PayloadType = 9
	PayloadNonce     PayloadType = 10
	PayloadNotify    PayloadType = 11
	PayloadDelete    PayloadType = 12
	PayloadVendorID  PayloadType = 13
	PayloadSAK       PayloadType = 15
	PayloadSAT       PayloadType = 16
	PayloadKD        PayloadType = 17
	PayloadSEQ       PayloadType = 18
	PayloadPOP       PayloadType = 19
	PayloadNATD      PayloadType = 20
	PayloadNATOA     PayloadType = 21
	PayloadGAP       PayloadType = 22
	PayloadFragment  PayloadType = 132
)

// String names the payload as the RFCs abbreviate it.
func (t PayloadType) String() string {
	switch t {
	case PayloadNone:
		return "none"
	case PayloadSA:
		return "SA"
	case PayloadProposal:
		return "P"
	case PayloadTransform:
		return "T"
	case PayloadKE:
		return "KE"
	case PayloadID:
		return "ID"
	case PayloadCert:
		return "CERT"
	case PayloadCertReq:
		return "CR"
	case PayloadHash:
		return "HASH"
	case PayloadSig:
		return "SIG"
	case PayloadNonce:
		return "NONCE"
	case PayloadNotify:
		return "N"
	case PayloadDelete:
		return "D"
	case PayloadVendorID:
		return "VID"
	case PayloadSAK:
		return "SAK"
	case PayloadSAT:
		return "SAT"
	case PayloadKD:
		return "KD"
	case PayloadSEQ:
		return "SEQ"
	case PayloadPOP:
		return "POP"
	case PayloadNATD:
		return "NAT-D"
	case PayloadNATOA:
		return "NAT-OA"
	case PayloadGAP:
		return "GAP"
	case PayloadFragment:
		return "FRAG"
	}
	return "payload " + itoa(int(t))
}

// Private reports whether the number is in the private range (RFC 2408 §3.1).
func (t PayloadType) Private() bool { return t >= 128 }

// GenericLen is the length of the generic payload header.
const GenericLen = 4

// MaxBody is the longest body that a payload can have, in octets.
const MaxBody = 65535 - GenericLen

// MaxPayloads is how many payloads a message may have. The longest legal one is a
// GROUPKEY-PUSH with deletes; phase 1 with a certificate chain needs about 20.
const MaxPayloads = 64

// MaxNested is how many payloads may stand inside an SA payload: 8 "sa ipsec"
// entries of 100 ACEs leave room.
const MaxNested = 1024

// Payload is one link of a chain: its type and its body without the generic
// header.
type Payload struct {
	Type PayloadType
	Body []byte
}

// ParseChain reads a message's payloads, the first of type first, and returns how
// many octets of b follow the chain (padding, where the message was encrypted;
// an error of the caller's where it wasn't). It stops at MaxPayloads.
func ParseChain(first PayloadType, b []byte) (payloads []Payload, rest int, err error) {
	return ParseChainLimit(first, b, MaxPayloads)
}

// ParseChainLimit is ParseChain with another limit.
func ParseChainLimit(first PayloadType, b []byte, limit int) (payloads []Payload, rest int, err error) {
	t := first
	off := 0
	for t != PayloadNone {
		if len(payloads) == limit {
			return nil, 0, malformed(TooManyPayloads, t, off)
		}
		if len(b)-off < GenericLen {
			return nil, 0, malformed(ShortPayload, t, off)
		}
		next, n := PayloadType(b[off]), int(binary.BigEndian.Uint16(b[off+2:]))
		switch {
		case b[off+1] != 0:
			return nil, 0, malformed(BadReserved, t, off+1)
		case n < GenericLen:
			return nil, 0, malformed(PayloadLengthBelowHeader, t, off+2)
		case n > len(b)-off:
			return nil, 0, malformed(PayloadOverrun, t, off+2)
		}
		payloads = append(payloads, Payload{Type: t, Body: b[off+GenericLen : off+n : off+n]})
		off += n
		t = next
	}
	return payloads, len(b) - off, nil
}

// ParseClear reads an unencrypted datagram as a whole: header and chain, with
// nothing behind it. An encrypted one is refused.
func ParseClear(datagram []byte) (Header, []Payload, error) {
	h, err := ParseHeader(datagram)
	if err != nil {
		return h, nil, err
	}
	if h.Encrypted() {
		return h, nil, malformed(UnexpectedEncryption, 0, 19)
	}
	ps, rest, err := ParseChain(h.NextPayload, datagram[HeaderLen:])
	if err != nil {
		return h, nil, err
	}
	if rest != 0 {
		return h, nil, malformed(TrailingOctets, 0, len(datagram)-rest)
	}
	return h, ps, nil
}

// AppendChain appends the payloads with their links; the last one ends the chain.
// The header's next payload is FirstType(payloads). It fails only when a body is
// longer than MaxBody.
func AppendChain(dst []byte, payloads []Payload) ([]byte, error) {
	for i, p := range payloads {
		if len(p.Body) > MaxBody {
			return nil, fmt.Errorf("isakmp: %v payload of %d octets doesn't fit", p.Type, len(p.Body))
		}
		next := PayloadNone
		if i+1 < len(payloads) {
			next = payloads[i+1].Type
		}
		dst = append(dst, byte(next), 0)
		dst = binary.BigEndian.AppendUint16(dst, uint16(GenericLen+len(p.Body)))
		dst = append(dst, p.Body...)
	}
	return dst, nil
}

// AppendClear appends a whole unencrypted message; NextPayload, Version and Length
// of h are filled in.
func AppendClear(dst []byte, h Header, payloads []Payload) ([]byte, error) {
	chain, err := AppendChain(nil, payloads)
	if err != nil {
		return nil, err
	}
	h.NextPayload, h.Version = FirstType(payloads), Version10
	h.Length = uint32(HeaderLen + len(chain))
	if h.Length > maxMessage {
		return nil, fmt.Errorf("isakmp: message of %d octets doesn't fit a datagram", h.Length)
	}
	return append(h.AppendTo(dst), chain...), nil
}

// FirstType is the type of the first payload, 0 when there is none.
func FirstType(payloads []Payload) PayloadType {
	if len(payloads) == 0 {
		return PayloadNone
	}
	return payloads[0].Type
}

// RawAfterFirst returns the octets of chain that follow its first payload, generic
// headers included and padding excluded: what HASH(n) covers (RFC 2409 §5.7,
// RFC 6407 §3.2). payloads must be what ParseChain made of chain.
func RawAfterFirst(payloads []Payload, chain []byte) []byte {
	if len(payloads) == 0 {
		return nil
	}
	end := 0
	for _, p := range payloads {
		end += GenericLen + len(p.Body)
	}
	if end > len(chain) {
		return nil
	}
	return chain[GenericLen+len(payloads[0].Body) : end]
}

// Find returns the first payload of the type.
func Find(payloads []Payload, t PayloadType) (Payload, bool) {
	for _, p := range payloads {
		if p.Type == t {
			return p, true
		}
	}
	return Payload{}, false
}
