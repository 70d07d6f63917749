package gdoi

// GROUPKEY-PUSH-ACK (RFC 8263): HDR, HASH, SEQ, ID, in the clear. The types whose key
// is the KEK; those of LKH aren't done.

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"hash"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/secret"
)

// AckKey protects the acknowledgements of one rekey SA's messages. The zero value
// does nothing: Seal returns nil and Open refuses. It isn't changed by its methods,
// which may run at the same time.
type AckKey struct {
	spi KEKSPI
	prf func() hash.Hash
	key secret.Bytes
}

// ackLabel is what the key is derived with, its terminating NUL included.
const ackLabel = "GROUPKEY-PUSH ACK\x00"

// AckKey derives the key of acknowledgements (RFC 8263 §3.2) from the KEK without
// its IV. The result isn't Valid for the LKH types and unknown ones: a member then
// stays in the group and sends none (§4).
func (r *RekeySA) AckKey(t AckRequest) AckKey {
	k := AckKey{spi: r.SPI}
	switch t {
	case AckKEKSHA256:
		k.prf = sha256.New
	case AckKEKSHA512:
		k.prf = sha512.New
	default:
		return AckKey{}
	}
	bits := 8 * k.prf().BlockSize()
	if r.Dialect.AckOutputLength {
		bits = 8 * k.prf().Size()
	}
	m := hmac.New(k.prf, r.Key)
	m.Write([]byte(ackLabel))
	m.Write(r.SPI[:])
	m.Write(binary.BigEndian.AppendUint16(nil, uint16(bits)))
	k.key = m.Sum(nil)
	return k
}

// Valid reports whether the key can be used.
func (k AckKey) Valid() bool { return k.prf != nil }

// SPI is that of the rekey SA.
func (k AckKey) SPI() KEKSPI { return k.spi }

// Zero overwrites the key.
func (k AckKey) Zero() { k.key.Zero() }

// hash is HASH over the whole SEQ and ID payloads.
func (k AckKey) hash(covered []byte) []byte {
	m := hmac.New(k.prf, k.key)
	m.Write(covered)
	return m.Sum(nil)
}

// Seal makes the acknowledgement of rekey seq. id is the address from which the
// member registered last (§3.4), spi that of the rekey SA whose message is
// acknowledged. nil without a valid key.
func (k AckKey) Seal(seq uint32, id isakmp.ID, spi KEKSPI) []byte {
	if !k.Valid() {
		return nil
	}
	n := k.prf().Size()
	payloads := []isakmp.Payload{isakmp.HashPayload(make([]byte, n)), SEQPayload(seq), id.Payload()}
	ci, cr := spi.Cookies()
	b, err := isakmp.AppendClear(nil, isakmp.Header{ICookie: ci, RCookie: cr, Exchange: isakmp.GroupKeyPushAck}, payloads)
	if err != nil {
		return nil
	}
	off := isakmp.HeaderLen + isakmp.GenericLen
	copy(b[off:], k.hash(b[off+n:]))
	return b
}

// Open reads an acknowledgement: header, form, HASH, identity. What the number means
// and whether the identity is a member's, also whether this is a copy, is the
// caller's to say. id is a part of datagram.
func (k AckKey) Open(datagram []byte) (seq uint32, id isakmp.ID, err error) {
	h, err := isakmp.ParseHeader(datagram)
	ci, cr := k.spi.Cookies()
	switch {
	case err != nil:
		return 0, id, err
	case !k.Valid():
		return 0, id, &Error{Reason: AckUnsupported}
	case h.Exchange != isakmp.GroupKeyPushAck:
		return 0, id, &Error{Reason: BadExchangeType}
	case h.ICookie != ci || h.RCookie != cr:
		return 0, id, &Error{Reason: UnknownSPI}
	case h.Flags != 0 || h.MessageID != 0: // no HASH covers the header
		return 0, id, &Error{Reason: BadFlags}
	}
	payloads, rest, err := isakmp.ParseChainLimit(h.NextPayload, datagram[isakmp.HeaderLen:], 3)
	if err != nil {
		return 0, id, err
	}
	if rest != 0 {
		return 0, id, malformed(isakmp.TrailingOctets, 0, len(datagram)-rest)
	}
	if err := isakmp.Check(isakmp.PushAck, false, payloads); err != nil {
		return 0, id, err
	}
	got := payloads[0].Body
	if subtle.ConstantTimeCompare(k.hash(isakmp.RawAfterFirst(payloads, datagram[isakmp.HeaderLen:])), got) != 1 {
		return 0, id, &Error{Reason: BadHash}
	}
	if seq, err = ParseSEQ(payloads[1].Body); err != nil {
		return 0, id, err
	}
	if id, err = isakmp.ParseID(payloads[2].Body); err != nil {
		return 0, id, err
	}
	switch id.Type {
	case isakmp.IDIPv4, isakmp.IDIPv6, isakmp.IDOID:
	default:
		return 0, id, refuse(BadAckID, "identity of type %d", id.Type)
	}
	if id.Protocol != 0 || id.Port != 0 {
		return 0, id, refuse(BadAckID, "protocol %d, port %d", id.Protocol, id.Port)
	}
	return seq, id, nil
}
