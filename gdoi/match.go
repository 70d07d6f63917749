package gdoi

// Policy and keys held against each other (RFC 6407 §3.3, §5.6.1, §5.6.4): every
// SPI has its key and every key its SPI, keys have the length of their algorithm,
// Sender IDs are there when a counter mode needs them. The member runs it on what it
// received, the key server on what it is about to send.

import "getvpn/internal/secret"

// sameSA is what SATs that share an SPI must agree in.
type sameSA struct {
	Protocol     Protocol
	Transform    ESPTransform
	Auth         AuthAlgorithm
	KeyBits      uint16
	ESN          bool
	Encap        Encapsulation
	Preservation AddressPreservation
	Direction    SADirection
	Replay       Replay
	Metadata     Metadata
}

func (s *SAT) same() sameSA {
	x := sameSA{s.Protocol, s.Transform, s.Auth, s.KeyBits, s.ESN, s.Encap, s.EffectivePreservation(), s.EffectiveDirection(), Replay{}, Metadata{}}
	if s.Replay != nil {
		x.Replay = *s.Replay
	}
	if s.Metadata != nil {
		x.Metadata = *s.Metadata
	}
	return x
}

// CheckSA holds a policy against itself: SATs with one SPI describe one SA, and
// SPIs aren't reserved ones (RFC 4303 §2.1: 1-255; 0 means all in a delete).
func CheckSA(sa *SA) error {
	bySPI := map[uint32]sameSA{}
	for i := range sa.SATs {
		t := &sa.SATs[i]
		if t.Opaque != nil {
			continue
		}
		if t.SPI < 256 {
			return refuse(InconsistentSA, "reserved SPI %d", t.SPI)
		}
		if have, ok := bySPI[t.SPI]; ok && have != t.same() {
			return refuse(InconsistentSA, "SPI %#x stands for two different SAs", t.SPI)
		}
		bySPI[t.SPI] = t.same()
	}
	return nil
}

// KeyOctets returns how long the encryption and the integrity key of the data SA
// must be; ok is false when its algorithms aren't known or don't go together.
// (RFC 6407 §5.6.1, RFC 2403, RFC 2404, RFC 4868 §2.1.1, RFC 4106 §8.1, RFC 4543
// §5.4, RFC 3686 §5.1, RFC 4309 §7.1.)
func (s *SAT) KeyOctets() (algorithm, integrity int, ok bool) {
	aes := s.KeyBits == 128 || s.KeyBits == 192 || s.KeyBits == 256
	key := int(s.KeyBits) / 8
	integrity, authOK := s.authOctets()
	if s.Protocol == ProtoAH {
		return 0, integrity, authOK && integrity > 0
	}
	if s.Protocol != ProtoESP || !authOK {
		return 0, 0, false
	}
	fixed := s.KeyBits == 0
	switch s.Transform {
	case ESPDES:
		return 8, integrity, fixed
	case ESP3DES:
		return 24, integrity, fixed
	case ESPNull:
		return 0, integrity, fixed && integrity > 0
	case ESPAESCBC:
		return key, integrity, aes
	case ESPAESCTR:
		return key + 4, integrity, aes && integrity > 0
	case ESPAESCCM8, ESPAESCCM12, ESPAESCCM16:
		return key + 3, 0, aes && integrity == 0
	case ESPAESGCM8, ESPAESGCM12, ESPAESGCM16, ESPGMAC:
		return key + 4, 0, aes && integrity == 0
	}
	return 0, 0, false
}

func (s *SAT) authOctets() (int, bool) {
	switch s.Auth {
	case 0:
		return 0, true
	case AuthHMACMD5, AuthAESXCBC:
		return 16, true
	case AuthHMACSHA1:
		return 20, true
	case AuthHMACSHA256:
		return 32, true
	case AuthHMACSHA384:
		return 48, true
	case AuthHMACSHA512:
		return 64, true
	case AuthGMAC128, AuthGMAC192, AuthGMAC256: // AH: key then salt
		return 16 + 8*int(s.Auth-AuthGMAC128) + 4, s.Protocol == ProtoAH
	}
	return 0, false
}

// Match holds keys against policy. pull says that they come from PULL, where a
// counter mode needs Sender IDs; in PUSH there must be none (§5.6.4.4). The one
// thing it changes: a GMAC key that came as integrity key is moved to Algorithm,
// since peers differ in where they put it.
func Match(sa *SA, kd *KD, pull bool) error {
	if err := CheckSA(sa); err != nil {
		return err
	}
	keys := map[uint32]*TEKKey{}
	for i := range kd.TEKs {
		keys[kd.TEKs[i].SPI] = &kd.TEKs[i]
	}
	used := map[uint32]bool{}
	for i := range sa.SATs {
		t := &sa.SATs[i]
		if t.Opaque != nil {
			return refuse(UnsupportedAlgorithm, "data SA of protocol %d", t.Protocol)
		}
		k := keys[t.SPI]
		if k == nil {
			return refuse(SPIWithoutKey, "SPI %#x", t.SPI)
		}
		used[t.SPI] = true
		if err := matchTEK(t, k); err != nil {
			return err
		}
	}
	for i := range kd.TEKs {
		if spi := kd.TEKs[i].SPI; !used[spi] {
			return refuse(KeyWithoutSPI, "SPI %#x", spi)
		}
	}
	if err := matchKEK(sa.SAK, kd); err != nil {
		return err
	}
	return matchSIDs(sa, kd, pull)
}

func matchTEK(t *SAT, k *TEKKey) error {
	algorithm, integrity, ok := t.KeyOctets()
	if !ok {
		return refuse(UnsupportedAlgorithm, "transform %d, authentication %d, key of %d bits at SPI %#x", t.Transform, t.Auth, t.KeyBits, t.SPI)
	}
	if t.Protocol == ProtoESP && t.Transform == ESPGMAC && k.Algorithm == nil {
		k.Algorithm, k.Integrity = k.Integrity, nil
	}
	for _, x := range [...]struct {
		name string
		key  secret.Bytes
		want int
	}{{"encryption", k.Algorithm, algorithm}, {"integrity", k.Integrity, integrity}, {"source authentication", k.SourceAuth, 0}} {
		switch {
		case x.want > 0 && len(x.key) == 0:
			return refuse(KeyMissing, "%s key of SPI %#x", x.name, t.SPI)
		case x.want == 0 && len(x.key) > 0:
			return refuse(KeyUnexpected, "%s key of SPI %#x", x.name, t.SPI)
		case len(x.key) != x.want:
			return refuse(KeyLength, "%s key of SPI %#x has %d octets, not %d", x.name, t.SPI, len(x.key), x.want)
		}
	}
	return nil
}

func matchKEK(s *SAK, kd *KD) error {
	switch {
	case s == nil && (kd.KEK != nil || kd.LKH != nil):
		return refuse(KeyWithoutSPI, "KEK without policy")
	case s == nil:
		return nil
	case kd.KEK == nil && kd.LKH == nil:
		return refuse(SPIWithoutKey, "policy without KEK")
	}
	iv, key, ok := s.KeyOctets()
	if !ok {
		return refuse(UnsupportedAlgorithm, "KEK algorithm %d with a key of %d bits", s.Algorithm, s.KeyBits)
	}
	if kd.LKH != nil && kd.LKH.SPI != s.SPI || kd.KEK != nil && kd.KEK.SPI != s.SPI {
		return refuse(KeyWithoutSPI, "KEK of another SPI")
	}
	if kd.KEK == nil {
		return nil
	}
	switch n := len(kd.KEK.Algorithm); {
	case n == 0:
		return refuse(KeyMissing, "KEK")
	case n != iv+key:
		return refuse(KeyLength, "KEK has %d octets, not %d", n, iv+key)
	}
	return nil
}

func matchSIDs(sa *SA, kd *KD, pull bool) error {
	s := kd.SIDs
	switch {
	case s == nil && pull && sa.Counter() && sends(sa):
		return refuse(SIDMissing, "counter mode without Sender ID")
	case s == nil:
		return nil
	case !pull:
		return refuse(SIDUnexpected, "Sender ID in PUSH")
	case s.Bits == 0 || len(s.Values) == 0:
		return refuse(SIDMissing, "Sender ID packet without width or value")
	}
	seen := map[uint32]bool{}
	for _, v := range s.Values {
		if uint64(v)>>s.Bits != 0 {
			return refuse(SIDWidth, "Sender ID doesn't fit %d bits", s.Bits)
		}
		if seen[v] {
			return refuse(SIDRepeated, "Sender ID twice")
		}
		seen[v] = true
	}
	return nil
}

// sends reports whether the policy lets this member send under a counter mode: one
// that only receives gets no Sender ID.
func sends(sa *SA) bool {
	for i := range sa.SATs {
		if t := &sa.SATs[i]; t.Counter() && t.EffectiveDirection() != ReceiverOnly {
			return true
		}
	}
	return false
}
