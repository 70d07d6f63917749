package gdoi

// GROUPKEY-PUSH (RFC 6407 §4): HDR*, SEQ, [D…,] [SA, KD,] SIG. This file makes and
// opens the message; the signature is in pushsig.go, the memory of copies in
// copies.go. docs/protocol/rekey.md tells it to other implementers.

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"encoding/binary"
	"fmt"
	"io"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/secret"
)

// RekeySA is what protects rekeys: a KEK with its SPI, and how they are signed. IV
// and Key are those of the key download (RFC 6407 §5.6.2.1); every message starts
// with the same IV, since there is no other. Values aren't changed by its methods,
// which may run at the same time.
type RekeySA struct {
	SPI       KEKSPI
	Algorithm KEKAlgorithm
	IV, Key   secret.Bytes
	SigHash   SigHash // of RSA; the ECDSA algorithms imply theirs
	SigAlg    SigAlgorithm

	// Dialect is how peers write, Bare signs the hash without DigestInfo, as the
	// reference implementation does. Both forms are always accepted.
	Dialect Dialect
	Bare    bool
	// RFCOnly refuses to send anything private (group marked "interop rfc6407").
	RFCOnly bool
}

// Push is the content of a rekey. SA and KD are both there or both absent.
type Push struct {
	Seq    uint32 // 1 for the first one under a KEK
	Delete Delete
	SA     *SA
	KD     *KD
}

// MaxPush is the longest rekey, in octets: what UDP over IPv4 carries, less the
// non-ESP marker.
const MaxPush = 65535 - 20 - 8 - 4

// cipher makes the KEK's block cipher; nil when keys don't fit the algorithm.
func (r *RekeySA) cipher() (cipher.Block, error) {
	var b cipher.Block
	var err error
	switch r.Algorithm {
	case KEKAESCBC:
		b, err = aes.NewCipher(r.Key)
	case KEK3DES:
		b, err = des.NewTripleDESCipher(r.Key)
	default:
		return nil, refuse(UnsupportedAlgorithm, "KEK algorithm %d", r.Algorithm)
	}
	switch {
	case err != nil:
		return nil, refuse(KeyLength, "KEK: %w", err)
	case len(r.IV) != b.BlockSize():
		return nil, refuse(KeyLength, "KEK: IV of %d octets", len(r.IV))
	}
	return b, nil
}

// Seal makes the datagram of a rekey, signed with key. It refuses what Open would:
// SEQ 0, an SA without its KD, keys that don't match the policy, Sender IDs
// (§5.6.4.4).
func (r *RekeySA) Seal(rand io.Reader, p *Push, key crypto.Signer) (datagram []byte, err error) {
	block, err := r.cipher()
	if err != nil {
		return nil, err
	}
	m, err := r.form(p, block.BlockSize(), key.Public())
	if err != nil {
		return nil, err
	}
	digest := r.digest(m.b[:m.signed], uint32(len(m.b)))
	sig, err := r.sign(rand, digest, key)
	if err != nil {
		return nil, err
	}
	if copy(m.b[m.signed+isakmp.GenericLen:], sig) != m.sigLen || len(sig) != m.sigLen {
		return nil, refuse(SignatureKey, "signature of %d octets, not %d", len(sig), m.sigLen)
	}
	cipher.NewCBCEncrypter(block, r.IV).CryptBlocks(m.b[isakmp.HeaderLen:], m.b[isakmp.HeaderLen:])
	return m.b, nil
}

// Size is how long the datagram of a rekey is, in octets, whatever its number.
func (r *RekeySA) Size(p *Push, pub crypto.PublicKey) (int, error) {
	block, err := r.cipher()
	if err != nil {
		return 0, err
	}
	m, err := r.form(p, block.BlockSize(), pub)
	if err != nil {
		return 0, err
	}
	secret.Bytes(m.b).Zero()
	return len(m.b), nil
}

// plain is a message before it is signed and encrypted: header as on the wire,
// payloads, zeros in place of the signature, padding. What is signed ends at signed.
type plain struct {
	b              []byte
	signed, sigLen int
}

func (r *RekeySA) form(p *Push, block int, pub crypto.PublicKey) (plain, error) {
	sigLen, err := r.signatureLen(pub)
	if err != nil {
		return plain{}, err
	}
	payloads, err := r.payloads(p)
	if err != nil {
		return plain{}, err
	}
	payloads = append(payloads, isakmp.Payload{Type: isakmp.PayloadSig, Body: make([]byte, sigLen)})
	if err := isakmp.Check(isakmp.Push, true, payloads); err != nil {
		return plain{}, err
	}
	ci, cr := r.SPI.Cookies()
	h := isakmp.Header{ICookie: ci, RCookie: cr, NextPayload: isakmp.PayloadSEQ, Version: isakmp.Version10,
		Exchange: isakmp.GroupKeyPush, Flags: isakmp.FlagEncrypted}
	b, err := isakmp.AppendChain(h.AppendTo(nil), payloads)
	if err != nil {
		return plain{}, err
	}
	signed := len(b) - isakmp.GenericLen - sigLen
	if pad := (len(b) - isakmp.HeaderLen) % block; pad != 0 {
		b = append(b, make([]byte, block-pad)...)
	}
	if len(b) > MaxPush {
		return plain{}, refuse(TooLong, "rekey of %d octets", len(b))
	}
	binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	return plain{b, signed, sigLen}, nil
}

// payloads are all but the signature.
func (r *RekeySA) payloads(p *Push) ([]isakmp.Payload, error) {
	if p.Seq == 0 {
		return nil, refuse(SeqMissing, "rekey without sequence number")
	}
	if (p.SA == nil) != (p.KD == nil) {
		return nil, refuse(InconsistentSA, "policy and keys go together")
	}
	list := append([]isakmp.Payload{SEQPayload(p.Seq)}, p.Delete.Payloads()...)
	if p.SA == nil {
		return list, nil
	}
	if err := Match(p.SA, p.KD, false); err != nil {
		return nil, err
	}
	if r.RFCOnly {
		if err := p.SA.OnlyRFC(); err != nil {
			return nil, err
		}
	}
	sa, err := p.SA.Payload(r.Dialect)
	if err != nil {
		return nil, err
	}
	return append(list, sa, p.KD.Payload()), nil
}

// Open reads a datagram. last is the number accepted last for this SA, 0 for none;
// pub verifies. The order of checks is RFC 6407 §4.4: header, decryption, form, SEQ,
// signature; only then is the content looked at. An error that is Fatal comes from an
// authentic message that can't be taken. Nothing moves here: the caller stores the
// number once all is well.
func (r *RekeySA) Open(datagram []byte, last uint32, pub crypto.PublicKey) (*Push, error) {
	h, err := isakmp.ParseHeader(datagram)
	ci, cr := r.SPI.Cookies()
	switch {
	case err != nil:
		return nil, err
	case h.Exchange != isakmp.GroupKeyPush:
		return nil, &Error{Reason: BadExchangeType}
	case h.ICookie != ci || h.RCookie != cr:
		return nil, &Error{Reason: UnknownSPI}
	case h.Flags != isakmp.FlagEncrypted:
		return nil, &Error{Reason: BadFlags}
	case h.NextPayload != isakmp.PayloadSEQ:
		return nil, malformed(isakmp.PayloadOrder, h.NextPayload, 16)
	}
	body, err := r.decrypt(datagram[isakmp.HeaderLen:])
	if err != nil {
		return nil, err
	}
	defer secret.Bytes(body).Zero() // whatever is kept of it was copied
	payloads, rest, err := isakmp.ParseChain(h.NextPayload, body)
	if err != nil {
		return nil, err
	}
	if err := isakmp.Check(isakmp.Push, true, payloads); err != nil {
		return nil, err
	}
	sig := payloads[len(payloads)-1]
	switch {
	case sig.Type != isakmp.PayloadSig: // nothing covers what stands behind it
		return nil, malformed(isakmp.PayloadOrder, sig.Type, len(body)-rest)
	case rest > len(r.IV): // some write a pad length, so that padding is a whole block
		return nil, malformed(isakmp.TrailingOctets, 0, len(datagram)-rest)
	}
	seq, err := ParseSEQ(payloads[0].Body)
	if err != nil {
		return nil, err
	}
	if seq <= last {
		return nil, refuse(Replayed, "SEQ %d, the last was %d", seq, last)
	}
	end := len(body) - rest
	covered := append(append(make([]byte, 0, isakmp.HeaderLen+end), datagram[:isakmp.HeaderLen]...), body[:end-isakmp.GenericLen-len(sig.Body)]...)
	defer secret.Bytes(covered).Zero()
	lengths := []uint32{uint32(len(datagram))}
	if rest > 0 && rest < len(r.IV) { // a whole block more could be anybody's
		lengths = append(lengths, uint32(isakmp.HeaderLen+end))
	}
	if err := r.verify(covered, lengths, sig.Body, pub); err != nil {
		return nil, err
	}
	p, err := r.content(seq, payloads)
	if err != nil {
		return nil, fatal(err)
	}
	return p, nil
}

// decrypt opens the body into a new slice. The first block holds the whole SEQ
// payload: what doesn't begin like one is refused for the price of that block.
func (r *RekeySA) decrypt(ct []byte) ([]byte, error) {
	block, err := r.cipher()
	if err != nil {
		return nil, err
	}
	n := block.BlockSize()
	if len(ct) == 0 || len(ct)%n != 0 {
		return nil, refuse(DecryptFailed, "%d octets aren't whole blocks", len(ct))
	}
	body := make([]byte, len(ct))
	mode := cipher.NewCBCDecrypter(block, r.IV)
	mode.CryptBlocks(body[:n], ct[:n])
	if body[1] != 0 {
		return nil, malformed(isakmp.BadReserved, isakmp.PayloadSEQ, 1)
	}
	if binary.BigEndian.Uint16(body[2:]) != 8 { // RFC 6407 §5.7
		return nil, malformed(isakmp.TrailingBody, isakmp.PayloadSEQ, 2)
	}
	mode.CryptBlocks(body[n:], ct[n:])
	return body, nil
}

// content reads the payloads of an authentic message.
func (r *RekeySA) content(seq uint32, payloads []isakmp.Payload) (*Push, error) {
	p := &Push{Seq: seq}
	var err error
	for _, x := range payloads {
		switch x.Type {
		case isakmp.PayloadDelete:
			var d Delete
			if d, err = ParseDelete(x.Body); err == nil {
				p.Delete.add(d)
			}
		case isakmp.PayloadSA:
			p.SA, err = ParseSA(x.Body, r.Dialect)
		case isakmp.PayloadKD:
			p.KD, err = ParseKD(x.Body, r.Dialect)
		}
		if err != nil {
			return nil, err
		}
	}
	if p.SA == nil {
		return p, nil
	}
	return p, Match(p.SA, p.KD, false)
}

// add takes up another payload's deletes.
func (d *Delete) add(o Delete) {
	d.TEKs, d.KEKs = append(d.TEKs, o.TEKs...), append(d.KEKs, o.KEKs...)
	d.AllTEKs, d.AllKEKs = d.AllTEKs || o.AllTEKs, d.AllKEKs || o.AllKEKs
	if d.AllTEKs {
		d.TEKs = nil
	}
	if d.AllKEKs {
		d.KEKs = nil
	}
}

// fatal marks the refusal of an authentic message.
func fatal(err error) error {
	if e, ok := err.(*Error); ok {
		e.Fatal = true
		return e
	}
	return &Error{Reason: MalformedContent, Fatal: true, Err: fmt.Errorf("GROUPKEY-PUSH: %w", err)}
}
