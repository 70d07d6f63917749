package rfcdecode

// GROUPKEY-PUSH acknowledgements (RFC 8263 §3).

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
)

// PushAck is its exchange type.
const PushAck = 35

// Ack is an acknowledgement that was read.
type Ack struct {
	Message
	Seq    uint32
	ID     *Identity
	HASH   []byte
	Hashed []byte // what the HASH covers: SEQ | ID
}

// AckInput is what the key of acknowledgements is derived from by the prf under the
// KEK (without IV): the label with its NUL, the SPI, and L, the prf's block in bits.
func (k *RekeySA) AckInput() []byte {
	b := append([]byte("GROUPKEY-PUSH ACK\x00"), k.SPI[:]...)
	return be.AppendUint16(b, uint16(8*k.ackHash()().BlockSize()))
}

func (k *RekeySA) ackHash() func() hash.Hash {
	if k.Ack == 3 {
		return sha512.New
	}
	return sha256.New
}

// AckDigest is OpenSSL's name of the prf's hash.
func (k *RekeySA) AckDigest() string {
	return map[uint64]string{1: "SHA256", 3: "SHA512"}[k.Ack]
}

// AckKey derives the key of acknowledgements (§3.2).
func (k *RekeySA) AckKey() []byte {
	m := hmac.New(k.ackHash(), k.Key)
	m.Write(k.AckInput())
	return m.Sum(nil)
}

// OpenAck reads and judges an acknowledgement of a message under k.
func (k *RekeySA) OpenAck(b []byte) *Ack {
	const section = "RFC 8263 §3.1"
	var j judge
	a := &Ack{Message: Decode(b, false)}
	j.problems = a.Message.Problems
	j.must(string(a.ICookie[:])+string(a.RCookie[:]) == string(k.SPI[:]), section, "cookies %x %x, the rekey's are %x", a.ICookie, a.RCookie, k.SPI)
	j.must(a.Exchange == PushAck, section, "exchange %d", a.Exchange)
	j.must(a.Flags == 0 && a.Message.ID == 0, section, "flags %#x, message ID %#x", a.Flags, a.Message.ID)
	j.must(a.Next == TypeHASH, section, "next payload %d", a.Next)
	j.must(k.Ack == 1 || k.Ack == 3, "RFC 8263 §4", "an acknowledgement although KEK_ACK_REQUESTED is %d", k.Ack)
	if j.must(string(a.Types()) == string([]uint8{TypeHASH, TypeSEQ, TypeID}), "RFC 8263 §3", "payloads %v", a.Types()) {
		s, _ := a.Payloads[1].Value.(Sequence)
		a.HASH, a.Seq = a.Payloads[0].Body, uint32(s)
		a.ID, _ = a.Payloads[2].Value.(*Identity)
		a.Hashed = append(append(a.Hashed, a.Payloads[1].Raw...), a.Payloads[2].Raw...)
		m := hmac.New(k.ackHash(), k.AckKey())
		m.Write(a.Hashed)
		j.must(hmac.Equal(a.HASH, m.Sum(nil)), "RFC 8263 §3.2", "the HASH is wrong")
		if j.must(a.ID != nil, "RFC 8263 §3.4", "no identity") {
			j.must(a.ID.Type == 1 || a.ID.Type == 5 || a.ID.Type == 13, "RFC 8263 §3.4", "identity type %d", a.ID.Type)
			j.must(a.ID.Protocol == 0 && a.ID.Port == 0, "RFC 8263 §3.4", "identity with %d/%d", a.ID.Protocol, a.ID.Port)
		}
	}
	a.Message.Problems = j.problems
	return a
}
