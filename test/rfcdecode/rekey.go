package rfcdecode

// GROUPKEY-PUSH (RFC 6407 §4): what a rekey SA is, opening a message under it, and the
// rules that a rekey's payloads obey together. The signature isn't checked here but by
// OpenSSL (openssl.go).

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"fmt"
)

// RekeySA is a KEK with its policy, as a SAK and its key packet gave it.
type RekeySA struct {
	SPI       [16]byte
	Algorithm uint64 // 2 3DES, 3 AES (§5.3.2)
	IV, Key   []byte
	SigHash   uint64 // §5.3.5
	SigAlg    uint64 // §5.3.6
	Ack       uint64 // RFC 8263 §2; 0: none asked for
	Public    []byte // SIG_ALGORITHM_KEY
}

// NewRekeySA puts a rekey SA together from the SAK of sa and the KEK packet of kd.
// Without a public key in the packet the one of before stays in use.
func NewRekeySA(sa *GroupSA, kd *KeyDownload, before *RekeySA) (*RekeySA, []string) {
	var j judge
	if sa == nil || sa.KEK == nil || kd == nil {
		return nil, []string{"RFC 6407 §4: no SAK or no KD"}
	}
	number := func(class uint16) uint64 { a, _ := First(sa.KEK.Attributes, class); return a.Number() }
	k := &RekeySA{SPI: sa.KEK.SPI, Algorithm: number(KEKAlgorithm), SigHash: number(SigHash),
		SigAlg: number(SigAlgorithm), Ack: number(KEKAckRequested)}
	iv, key := 0, 0
	switch bits := number(KEKKeyLength); k.Algorithm {
	case 2:
		iv, key = 8, 24
	case 3:
		j.must(bits == 128 || bits == 192 || bits == 256, "RFC 6407 §5.3.3", "KEK_KEY_LENGTH %d", bits)
		iv, key = 16, int(bits/8)
	default:
		j.must(false, "RFC 6407 §5.3.2", "KEK algorithm %d", k.Algorithm)
	}
	if before != nil {
		k.Public = before.Public
	}
	for _, p := range kd.Packets {
		if p.Type != PacketKEK || !bytes.Equal(p.SPI, k.SPI[:]) {
			continue
		}
		a, _ := First(p.Attributes, 1)
		if j.must(len(a.Value) == iv+key, "RFC 6407 §5.6.2.1", "KEK_ALGORITHM_KEY of %d octets, not %d+%d", len(a.Value), iv, key) {
			k.IV, k.Key = a.Value[:iv], a.Value[iv:]
		}
		if pub, ok := First(p.Attributes, 2); ok {
			k.Public = pub.Value
		}
		j.must(len(k.Public) > 0, "RFC 6407 §5.6.2.2", "no public key, neither here nor before")
		return k, j.problems
	}
	j.must(false, "RFC 6407 §4", "no KEK packet for the SAK's SPI %x", k.SPI)
	return nil, j.problems
}

func (k *RekeySA) block() (cipher.Block, error) {
	switch k.Algorithm {
	case 2:
		return des.NewTripleDESCipher(k.Key)
	case 3:
		return aes.NewCipher(k.Key)
	}
	return nil, fmt.Errorf("KEK algorithm %d", k.Algorithm)
}

// Rekey is an opened GROUPKEY-PUSH message.
type Rekey struct {
	Message
	Seq     uint32
	Deletes []*Delete
	SA      *GroupSA
	KD      *KeyDownload
	SIG     []byte
	Signed  []byte   // what the signature covers: 'rekey' | HDR | payloads before SIG
	Next    *RekeySA // the SAK's rekey SA, nil when there is no SAK
	// Private is what the attributes of docs/protocol say.
	Private *Private
}

// NewKEK says that the rekey replaces the KEK that it was encrypted with.
func (r *Rekey) NewKEK() bool {
	return r.Next != nil && (r.Next.SPI != [16]byte(append(r.ICookie[:], r.RCookie[:]...)))
}

// Open decrypts and judges a GROUPKEY-PUSH message. strict also holds it against
// §4 where a SAK always means a new rekey SA, and refuses private attributes.
func (k *RekeySA) Open(b []byte, strict bool) *Rekey {
	var j judge
	r := &Rekey{}
	h, ok := Header(b)
	r.Message = h
	if !j.must(ok, "RFC 2408 §3.1", "%d octets are no header", len(b)) {
		return r.with(&j)
	}
	j.must(string(h.ICookie[:])+string(h.RCookie[:]) == string(k.SPI[:]), "RFC 6407 §4.2", "cookies %x %x, the SPI is %x", h.ICookie, h.RCookie, k.SPI)
	j.must(h.Exchange == Push, "RFC 6407 §4.2", "exchange %d", h.Exchange)
	j.must(h.Flags == 1, "RFC 6407 §4.2", "flags %#x", h.Flags)
	j.must(h.ID == 0, "RFC 6407 §4.2", "message ID %#x", h.ID)
	block, err := k.block()
	if !j.must(err == nil, "RFC 6407 §5.3.2", "%v", err) {
		return r.with(&j)
	}
	n, body := block.BlockSize(), b[HeaderLen:]
	if !j.must(len(body) > 0 && len(body)%n == 0 && len(k.IV) == n, "RFC 6407 §5.3.2.3", "%d encrypted octets, IV of %d", len(body), len(k.IV)) {
		return r.with(&j)
	}
	plain := bytes.Clone(b)
	cipher.NewCBCDecrypter(block, k.IV).CryptBlocks(plain[HeaderLen:], body)
	r.Message = Decode(plain, true)
	j.problems = append(j.problems, r.Message.Problems...)
	j.must(len(r.Padding) < n, "RFC 2409 App. B", "%d octets of padding in blocks of %d", len(r.Padding), n)
	j.must(len(bytes.Trim(r.Padding, "\x00")) == 0, "RFC 2409 App. B", "padding %x", r.Padding)
	r.read(&j, plain)
	r.content(&j, k, strict)
	return r.with(&j)
}

func (r *Rekey) with(j *judge) *Rekey {
	r.Message.Problems = j.problems
	return r
}

// read takes the payloads in the order of figure 3: SEQ, [D…,] [SA, KD,] SIG.
func (r *Rekey) read(j *judge, plain []byte) {
	rank, at := -1, HeaderLen
	for _, p := range r.Payloads {
		now, known := map[uint8]int{TypeSEQ: 0, TypeDELETE: 1, TypeSA: 2, TypeKD: 3, TypeSIG: 4}[p.Type]
		j.must(known && (now > rank || now == 1 && rank == 1), "RFC 6407 §4", "payloads %v", r.Types())
		rank = now
		switch p.Type {
		case TypeSEQ:
			s, _ := p.Value.(Sequence)
			r.Seq = uint32(s)
		case TypeDELETE:
			if d, ok := p.Value.(*Delete); ok && d != nil {
				r.Deletes = append(r.Deletes, d)
			}
		case TypeSA:
			r.SA, _ = p.Value.(*GroupSA)
		case TypeKD:
			r.KD, _ = p.Value.(*KeyDownload)
		case TypeSIG:
			r.SIG = p.Body
			r.Signed = append([]byte("rekey"), plain[:at]...)
		}
		at += len(p.Raw)
	}
	j.must(rank == 4, "RFC 6407 §4", "the last payload isn't SIG: %v", r.Types())
	j.must(r.startsWithSEQ(), "RFC 6407 §4", "the first payload isn't SEQ: %v", r.Types())
	j.must((r.SA == nil) == (r.KD == nil), "RFC 6407 §4", "SA without KD or KD without SA: %v", r.Types())
	j.must(r.SA != nil || len(r.Deletes) > 0, "RFC 6407 §5.9", "neither SA nor D")
}

// startsWithSEQ says that the header announces SEQ as the first payload.
func (r *Rekey) startsWithSEQ() bool { return r.Message.Next == TypeSEQ && r.Get(TypeSEQ) != nil }

// content judges deletes, keys against policy, the signature's length.
func (r *Rekey) content(j *judge, k *RekeySA, strict bool) {
	j.must(r.Seq != 0, "RFC 6407 §5.7", "sequence number 0")
	for _, d := range r.Deletes {
		d.rekeyRules(j)
	}
	if want := map[uint64]int{4: 64, 5: 96, 6: 132}[k.SigAlg]; want != 0 {
		j.must(len(r.SIG) == want, "RFC 4754 §7", "signature of %d octets, not %d", len(r.SIG), want)
	}
	if r.SA == nil || r.KD == nil {
		return
	}
	if len(r.SA.TEKs) > 0 || r.SA.KEK != nil {
		j.problems = append(j.problems, agree(r.SA, r.KD, false)...)
	}
	for _, p := range r.KD.Packets {
		j.must(p.Type != PacketSID, "RFC 6407 §5.6.4.4", "Sender IDs in a rekey")
	}
	if r.SA.KEK != nil {
		next, problems := NewRekeySA(r.SA, r.KD, k)
		r.Next = next
		j.problems = append(j.problems, problems...)
		j.must(!strict || r.NewKEK(), "RFC 6407 §4", "a SAK with the cookie pair in use")
	}
	var problems []string
	r.Private, problems = PrivateOf(r.SA)
	j.problems = append(j.problems, problems...)
	j.must(!strict || r.Private.empty(), "RFC 6407 §5.3.2", "private attributes")
}

// rekeyRules are those of §5.9 for the D payload of a rekey.
func (d *Delete) rekeyRules(j *judge) {
	const section = "RFC 6407 §5.9"
	j.must(d.DOI == DOI, section, "DOI %d", d.DOI)
	size := map[uint8]int{0: 16, 1: 4, 2: 4}[d.Protocol]
	if !j.must(size != 0, section, "protocol %d", d.Protocol) {
		return
	}
	j.must(len(d.SPIs) > 0, section, "no SPI")
	for _, s := range d.SPIs {
		j.must(len(s) == size, section, "protocol %d with an SPI of %d octets", d.Protocol, len(s))
		j.must(len(d.SPIs) == 1 || len(bytes.Trim(s, "\x00")) > 0, section, "SPI 0 (all) beside others")
	}
}

// All says that the payload deletes every SA of its protocol.
func (d *Delete) All() bool {
	return len(d.SPIs) == 1 && len(bytes.Trim(d.SPIs[0], "\x00")) == 0
}
