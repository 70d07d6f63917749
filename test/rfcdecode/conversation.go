package rfcdecode

// Following one phase-1 SA and what it protects: decryption with the phase-1 key
// (RFC 2409 App. B) and the HASH values of GROUPKEY-PULL (RFC 6407 §3.2) and of
// informational exchanges (RFC 2409 §5.7).

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
)

// Conversation is what two peers say under one initiator cookie. Key is the cipher key
// of phase 1; SKEYIDa, when it is known, lets HASH values be checked.
type Conversation struct {
	Key     []byte
	SKEYIDa []byte
	// Plain says that bodies marked as encrypted stand in clear, under the hash Hash:
	// for machines that are driven without phase 1.
	Plain bool
	Hash  func() hash.Hash // set from phase 1 otherwise

	cipher   uint64
	ke       [][]byte
	last     []byte            // last ciphertext block of phase 1
	iv       map[uint32][]byte // of each message ID
	pulls    map[uint32]*pull
	previous [][]byte
}

// pull is one GROUPKEY-PULL exchange.
type pull struct {
	count  int
	ni, nr []byte
	sa     *GroupSA
}

// Feed takes the next datagram (without NAT-T marker) in the order of the wire. It
// returns false for a retransmission.
func (c *Conversation) Feed(b []byte) (Message, bool) {
	for _, p := range c.previous {
		if bytes.Equal(p, b) {
			return Message{}, false
		}
	}
	c.previous = append(c.previous, bytes.Clone(b))
	h, ok := Header(b)
	if !ok || h.Flags&1 == 0 {
		m := Decode(b, false)
		c.learn(&m)
		return m, true
	}
	if c.Plain {
		m := Decode(b, true)
		c.hashes(&m)
		return m, true
	}
	plain, err := c.decrypt(&h, b)
	if err != nil {
		h.Problems = append(h.Problems, err.Error())
		return h, true
	}
	m := Decode(plain, true)
	c.hashes(&m)
	return m, true
}

// learn keeps what phase 1 says in clear.
func (c *Conversation) learn(m *Message) {
	if p := m.Get(TypeSA); p != nil {
		if sa, ok := p.Value.(*SA); ok && sa != nil && len(sa.Transforms) == 1 {
			enc, _ := First(sa.Transforms[0].Attributes, P1Encryption)
			h, _ := First(sa.Transforms[0].Attributes, P1Hash)
			c.cipher = enc.Number()
			c.Hash = map[uint64]func() hash.Hash{2: sha1.New, 4: sha256.New, 5: sha512.New384, 6: sha512.New}[h.Number()]
		}
	}
	if p := m.Get(TypeKE); p != nil {
		c.ke = append(c.ke, bytes.Clone(p.Body))
	}
}

func (c *Conversation) block() (cipher.Block, error) {
	switch c.cipher {
	case 7:
		return aes.NewCipher(c.Key)
	case 5:
		return des.NewTripleDESCipher(c.Key)
	}
	return nil, fmt.Errorf("RFC 2409 App. A: cipher %d, or no accepted proposal seen", c.cipher)
}

func (c *Conversation) hash(parts ...[]byte) []byte {
	h := c.Hash()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func (c *Conversation) decrypt(h *Message, b []byte) ([]byte, error) {
	if c.Hash == nil || len(c.ke) < 2 {
		return nil, fmt.Errorf("RFC 2409 App. B: an encrypted message before the key exchange")
	}
	block, err := c.block()
	if err != nil {
		return nil, err
	}
	n := block.BlockSize()
	body := b[HeaderLen:]
	if len(body) == 0 || len(body)%n != 0 {
		return nil, fmt.Errorf("RFC 2409 App. B: %d encrypted octets", len(body))
	}
	if c.last == nil {
		c.last = c.hash(c.ke[0], c.ke[1])[:n]
	}
	phase1 := h.Exchange == MainMode || h.Exchange == Aggressive
	iv := c.last
	if !phase1 {
		if c.iv == nil {
			c.iv = map[uint32][]byte{}
		}
		if iv = c.iv[h.ID]; iv == nil {
			iv = c.hash(c.last, be.AppendUint32(nil, h.ID))[:n]
		}
	}
	out := bytes.Clone(b)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out[HeaderLen:], body)
	end := bytes.Clone(body[len(body)-n:])
	if phase1 {
		c.last = end
	} else {
		c.iv[h.ID] = end
	}
	return out, nil
}

func (c *Conversation) prf(parts ...[]byte) []byte {
	m := hmac.New(c.Hash, c.SKEYIDa)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// hashes checks HASH(1) to HASH(4) and that of informational exchanges, and message 4
// against message 2.
func (c *Conversation) hashes(m *Message) {
	var j judge
	got := m.Get(TypeHASH)
	if got == nil || m.Exchange != Pull && m.Exchange != Informational {
		return
	}
	rest := []byte{} // the raw payloads after HASH
	for _, p := range m.Payloads[1:] {
		rest = append(rest, p.Raw...)
	}
	mid := be.AppendUint32(nil, m.ID)
	parts := [][]byte{mid, rest}
	if m.Exchange == Pull {
		if c.pulls == nil {
			c.pulls = map[uint32]*pull{}
		}
		p := c.pulls[m.ID]
		if p == nil {
			p = &pull{}
			c.pulls[m.ID] = p
		}
		p.count++
		wantTypes := [][]uint8{nil, {TypeHASH, TypeNONCE, TypeID}, {TypeHASH, TypeNONCE, TypeSA}, nil, nil}
		switch p.count {
		case 1, 2:
			j.must(string(m.Types()) == string(wantTypes[p.count]), "RFC 6407 §3.2", "message %d has payloads %v", p.count, m.Types())
			if n := m.Get(TypeNONCE); n != nil && p.count == 1 {
				p.ni = n.Body
			} else if n != nil {
				p.nr = n.Body
				parts = [][]byte{mid, p.ni, rest}
			}
			if s := m.Get(TypeSA); s != nil {
				p.sa, _ = s.Value.(*GroupSA)
			}
		case 3:
			j.must(m.Get(TypeKD) == nil, "RFC 6407 §3.2", "message 3 carries keys")
			parts = [][]byte{mid, p.ni, p.nr, rest}
		case 4:
			parts = [][]byte{mid, p.ni, p.nr, rest}
			if k := m.Get(TypeKD); j.must(k != nil, "RFC 6407 §3.2", "message 4 without KD") && p.sa != nil {
				if kd, ok := k.Value.(*KeyDownload); ok && kd != nil {
					j.problems = append(j.problems, Agree(p.sa, m.Get(TypeSEQ), kd)...)
				}
			}
		default:
			j.must(false, "RFC 6407 §3.2", "message %d of a PULL", p.count)
		}
	}
	if c.SKEYIDa != nil {
		j.must(hmac.Equal(got.Body, c.prf(parts...)), "RFC 6407 §3.2", "the HASH of exchange %d, message ID %#x is wrong", m.Exchange, m.ID)
	}
	m.Problems = append(m.Problems, j.problems...)
}
