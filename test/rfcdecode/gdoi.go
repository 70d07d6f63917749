package rfcdecode

// The payloads of RFC 6407 §5.

// GroupSA is the SA payload of PULL and PUSH (§5.2) with its chain.
type GroupSA struct {
	DOI, Situation uint32
	KEK            *KEKPolicy
	Policy         *Policy
	TEKs           []TEKPolicy
}

// KEKPolicy is the SAK payload (§5.3).
type KEKPolicy struct {
	Protocol   uint8
	Src, Dst   Endpoint
	SPI        [16]byte
	Attributes []Attribute
}

// Endpoint is a source or destination of a SAK or SAT.
type Endpoint struct {
	Type uint8
	Port uint16
	Data []byte
}

// TEKPolicy is the SAT payload with the ESP and AH layout (§5.5.1).
type TEKPolicy struct {
	SecurityProtocol uint8
	Protocol         uint8
	Src, Dst         Endpoint
	Transform        uint8
	SPI              uint32
	Attributes       []Attribute
}

// Policy is the GAP payload (§5.4).
type Policy struct{ Attributes []Attribute }

// Sequence is the SEQ payload (§5.7).
type Sequence uint32

func groupSA(j *judge, b []byte) *GroupSA {
	if !j.must(len(b) >= 12, "RFC 6407 §5.2", "SA of %d octets", len(b)) {
		return nil
	}
	s := &GroupSA{DOI: be.Uint32(b), Situation: be.Uint32(b[4:])}
	j.must(s.DOI == DOI, "RFC 6407 §5.2", "DOI %d", s.DOI)
	j.must(s.Situation == 0, "RFC 6407 §5.2", "situation %d", s.Situation)
	j.must(be.Uint16(b[10:]) == 0, "RFC 6407 §5.2", "RESERVED2 %#x", b[10:12])
	next16 := be.Uint16(b[8:])
	if !j.must(next16 == TypeSAK || next16 == TypeGAP || next16 == TypeSAT, "RFC 6407 §5.2", "SA attribute next payload %d", next16) {
		return s
	}
	rest, rank := b[12:], 0
	for next := uint8(next16); next != 0; {
		p, after, then, ok := generic(j, next, rest)
		if !ok {
			return s
		}
		r := map[uint8]int{TypeSAK: 1, TypeGAP: 2, TypeSAT: 3}[p.Type]
		if !j.must(r != 0, "RFC 6407 §5.2.1", "payload %d among the SA attributes", p.Type) {
			return s
		}
		j.must(r > rank || r == 3 && rank == 3, "RFC 6407 §5.2.1", "payload %d out of order or repeated", p.Type)
		rank = r
		switch p.Type {
		case TypeSAK:
			s.KEK = kekPolicy(j, p.Body)
		case TypeGAP:
			s.Policy = policy(j, p.Body)
		case TypeSAT:
			if t := tekPolicy(j, p.Body); t != nil {
				s.TEKs = append(s.TEKs, *t)
			}
		}
		rest, next = after, then
	}
	j.must(len(rest) == 0, "RFC 6407 §5.2", "%d octets after the SA attributes", len(rest))
	j.must(s.KEK != nil || len(s.TEKs) > 0, "RFC 6407 §5.2.1", "neither SAK nor SAT")
	return s
}

// endpoint reads ID Type, ID Port, a ONE-octet ID Data Len and the data, as figures 5
// and 8 draw them.
func endpoint(j *judge, section, which string, b []byte, anySource bool) (e Endpoint, rest []byte, ok bool) {
	if !j.must(len(b) >= 4 && len(b) >= 4+int(b[3]), section, "%s: %d octets left", which, len(b)) {
		return
	}
	n := int(b[3])
	e = Endpoint{Type: b[0], Port: be.Uint16(b[1:]), Data: b[4 : 4+n]}
	// §5.5.1: three octets or none for groups with many sources.
	if !(anySource && (n == 0 || n == 3)) {
		idLength(j, section, e.Type, n)
	}
	return e, b[4+n:], true
}

// Attribute classes of SAK (§5.3; KEK_ACK_REQUESTED RFC 8263 §8).
const (
	KEKManagement   = 1
	KEKAlgorithm    = 2
	KEKKeyLength    = 3
	KEKKeyLifetime  = 4
	SigHash         = 5
	SigAlgorithm    = 6
	SigKeyLength    = 7
	KEKAckRequested = 9
)

func kekPolicy(j *judge, b []byte) *KEKPolicy {
	const section = "RFC 6407 §5.3"
	if !j.must(len(b) >= 1, section, "SAK is empty") {
		return nil
	}
	k := &KEKPolicy{Protocol: b[0]}
	var ok bool
	if k.Src, b, ok = endpoint(j, section, "SRC ID", b[1:], false); !ok {
		return k
	}
	if k.Dst, b, ok = endpoint(j, section, "DST ID", b, false); !ok {
		return k
	}
	if !j.must(len(b) >= 20, section, "%d octets for SPI and RESERVED2", len(b)) {
		return k
	}
	k.SPI = [16]byte(b)
	j.must(be.Uint32(b[16:]) == 0, section, "RESERVED2 %#x", b[16:20])
	k.Attributes = attributes(j, "SAK", b[20:])
	form(j, "SAK", section, k.Attributes, map[uint16]byte{KEKManagement: 'B', KEKAlgorithm: 'B', KEKKeyLength: 'B',
		KEKKeyLifetime: 'V', SigHash: 'B', SigAlgorithm: 'B', SigKeyLength: 'B', KEKAckRequested: 'B'},
		func(c uint16) bool { return c >= 128 && c <= 255 })
	for _, c := range []uint16{KEKAlgorithm, SigAlgorithm} {
		_, ok := First(k.Attributes, c)
		j.must(ok, section, "attribute %d is missing", c)
	}
	return k
}

func policy(j *judge, b []byte) *Policy {
	p := &Policy{attributes(j, "GAP", b)}
	form(j, "GAP", "RFC 6407 §5.4", p.Attributes, map[uint16]byte{1: 'B', 2: 'B', 3: 'B'},
		func(c uint16) bool { return c >= 128 && c <= 255 })
	return p
}

// Attribute classes of SAT: RFC 2407 §4.5; 11, 14 and 15 of the IANA registry.
const (
	LifeType      = 1
	LifeDuration  = 2
	Encapsulation = 4
	AuthAlgorithm = 5
	KeyLength     = 6
	Preservation  = 14
	SADirection   = 15
)

func tekPolicy(j *judge, b []byte) *TEKPolicy {
	const section = "RFC 6407 §5.5.1"
	if !j.must(len(b) >= 2, section, "SAT of %d octets", len(b)) {
		return nil
	}
	t := &TEKPolicy{SecurityProtocol: b[0], Protocol: b[1]}
	if !j.must(t.SecurityProtocol == 1 || t.SecurityProtocol == 2, "RFC 6407 §5.5", "Protocol-ID %d", t.SecurityProtocol) {
		return t
	}
	var ok bool
	if t.Src, b, ok = endpoint(j, section, "SRC ID", b[2:], true); !ok {
		return t
	}
	if t.Dst, b, ok = endpoint(j, section, "DST ID", b, false); !ok {
		return t
	}
	if !j.must(len(b) >= 5, section, "%d octets for transform and SPI", len(b)) {
		return t
	}
	t.Transform, t.SPI = b[0], be.Uint32(b[1:])
	j.must(t.SPI > 255, "RFC 4303 §2.1", "SPI %d is reserved", t.SPI)
	t.Attributes = attributes(j, "SAT", b[5:])
	form(j, "SAT", section, t.Attributes, map[uint16]byte{LifeType: 'B', LifeDuration: 'V', Encapsulation: 'B',
		AuthAlgorithm: 'B', KeyLength: 'B', 7: 'B', 8: 'B', 9: 'V', 10: 'B', 11: 'B', 12: 'B', 13: 'B', Preservation: 'B', SADirection: 'B'},
		func(c uint16) bool { return c >= 32001 && c <= 32767 })
	typed := false
	for _, a := range t.Attributes {
		switch a.Class {
		case 3:
			j.must(false, section, "Group Description MUST NOT be sent")
		case LifeType:
			typed = true
			j.must(a.Number() == 1 || a.Number() == 2, "RFC 2407 §4.5", "life type %d", a.Number())
		case LifeDuration:
			j.must(typed, "RFC 2407 §4.5", "a life duration without its type before it")
			typed = false
		case Preservation:
			j.must(a.Number() >= 1 && a.Number() <= 4, "RFC 6407 §5.5.1.1.1", "address preservation %d", a.Number())
		case SADirection:
			j.must(a.Number() >= 1 && a.Number() <= 3, "RFC 6407 §5.5.1.1.2", "SA direction %d", a.Number())
		}
	}
	j.must(!typed, "RFC 2407 §4.5", "a life type without duration")
	transformRules(j, t)
	return t
}

// transformRules checks what each ESP transform's own RFC asks of the attributes.
func transformRules(j *judge, t *TEKPolicy) {
	if t.SecurityProtocol != 1 {
		return
	}
	_, auth := First(t.Attributes, AuthAlgorithm)
	key, keyed := First(t.Attributes, KeyLength)
	switch t.Transform {
	case 3, 11: // 3DES, NULL
		j.must(!keyed, "RFC 2407 §4.5", "a key length for transform %d", t.Transform)
		j.must(auth, "RFC 2407 §4.4.4", "transform %d without integrity", t.Transform)
	case 12, 13: // AES-CBC, AES-CTR
		j.must(keyed, "RFC 3602 §5.3", "no key length")
		j.must(auth, "RFC 3602 §4", "no integrity")
	case 14, 15, 16, 18, 19, 20, 23: // CCM, GCM, GMAC
		j.must(keyed, "RFC 4106 §8.4", "no key length")
		j.must(!auth, "RFC 4106 §8", "an integrity algorithm beside a combined cipher")
	default:
		j.must(false, "RFC 2407 §4.4.4", "ESP transform %d", t.Transform)
	}
	if keyed {
		n := key.Number()
		j.must(n == 128 || n == 192 || n == 256, "RFC 3602 §5.3", "key length %d", n)
	}
}

// KeyDownload is the KD payload (§5.6).
type KeyDownload struct{ Packets []KeyPacket }

// Key packet types.
const (
	PacketTEK = 1
	PacketKEK = 2
	PacketLKH = 3
	PacketSID = 4
)

// KeyPacket is one of its packets.
type KeyPacket struct {
	Type       uint8
	SPI        []byte
	Attributes []Attribute
}

func keyDownload(j *judge, b []byte) *KeyDownload {
	const section = "RFC 6407 §5.6"
	if !j.must(len(b) >= 4, section, "KD of %d octets", len(b)) {
		return nil
	}
	d := &KeyDownload{}
	count := int(be.Uint16(b))
	j.must(be.Uint16(b[2:]) == 0, section, "RESERVED2 %#x", b[2:4])
	one := map[uint8]int{}
	for b = b[4:]; len(b) > 0; {
		if !j.must(len(b) >= 5, section, "%d octets are no key packet", len(b)) {
			return d
		}
		n, spi := int(be.Uint16(b[2:])), int(b[4])
		if !j.must(n >= 5+spi && n <= len(b), section, "key packet of length %d with an SPI of %d, %d left", n, spi, len(b)) {
			return d
		}
		j.must(b[1] == 0, section, "key packet: RESERVED is %d", b[1])
		p := KeyPacket{Type: b[0], SPI: b[5 : 5+spi], Attributes: attributes(j, "key packet", b[5+spi:n])}
		one[p.Type]++
		keyPacket(j, &p)
		d.Packets = append(d.Packets, p)
		b = b[n:]
	}
	j.must(len(d.Packets) == count, section, "%d key packets, %d announced", len(d.Packets), count)
	j.must(one[PacketKEK] <= 1, "RFC 6407 §5.6.2", "%d KEK packets", one[PacketKEK])
	return d
}

func keyPacket(j *judge, p *KeyPacket) {
	private := func(c uint16) bool { return c >= 128 && c <= 255 }
	switch p.Type {
	case PacketTEK:
		j.must(len(p.SPI) == 4, "RFC 6407 §5.6", "TEK packet with an SPI of %d octets", len(p.SPI))
		form(j, "TEK packet", "RFC 6407 §5.6.1", p.Attributes, map[uint16]byte{1: 'V', 2: 'V', 3: 'V'}, private)
	case PacketKEK:
		j.must(len(p.SPI) == 16, "RFC 6407 §5.6", "KEK packet with an SPI of %d octets", len(p.SPI))
		form(j, "KEK packet", "RFC 6407 §5.6.2", p.Attributes, map[uint16]byte{1: 'V', 2: 'V'}, private)
	case PacketSID:
		j.must(len(p.SPI) == 0, "RFC 6407 §5.6.4", "SID packet with an SPI of %d octets", len(p.SPI))
		form(j, "SID packet", "RFC 6407 §5.6.4", p.Attributes, map[uint16]byte{1: 'B', 2: 'V'},
			func(c uint16) bool { return c >= 129 && c <= 255 })
		_, ok := First(p.Attributes, 1)
		j.must(ok, "RFC 6407 §5.6.4.1", "a SID packet without NUMBER_OF_SID_BITS")
	case PacketLKH:
	default:
		j.must(p.Type >= 128, "RFC 6407 §5.6", "key packet type %d", p.Type)
	}
	seen := map[uint16]bool{}
	for _, a := range p.Attributes {
		j.must(!seen[a.Class] || p.Type == PacketSID && a.Class == 2 || p.Type >= 128, "RFC 6407 §5.6.1", "attribute %d twice", a.Class)
		seen[a.Class] = true
	}
}

// Agree judges message 4 of a PULL by message 2: every SAT and the SAK has its key
// packet, no packet lacks its policy, key sizes are those of the transforms, and a
// Sender ID is there exactly when a counter mode is (§5.6, §5.6.1, §5.6.4.4).
func Agree(sa *GroupSA, seq *Payload, kd *KeyDownload) []string {
	j := judge{agree(sa, kd, true)}
	j.must((sa.KEK != nil) == (seq != nil), "RFC 6407 §3.2", "SEQ payload %v, SAK %v", seq != nil, sa.KEK != nil)
	return j.problems
}

// agree is the part that a rekey shares: pull says that Sender IDs go with it.
func agree(sa *GroupSA, kd *KeyDownload, pull bool) []string {
	var j judge
	want := map[string]bool{}
	counter := false
	for _, t := range sa.TEKs {
		spi := string(be.AppendUint32(nil, t.SPI))
		want[spi] = true
		var got *KeyPacket
		for i := range kd.Packets {
			if p := &kd.Packets[i]; p.Type == PacketTEK && string(p.SPI) == spi {
				got = p
			}
		}
		if !j.must(got != nil, "RFC 6407 §5.6", "no key for SPI %#x", t.SPI) {
			continue
		}
		keySizes(&j, &t, got)
		counter = counter || t.Transform >= 13 && t.Transform <= 23
	}
	sids := 0
	for _, p := range kd.Packets {
		switch p.Type {
		case PacketTEK:
			j.must(want[string(p.SPI)], "RFC 6407 §5.6", "a key for SPI %x, which has no policy", p.SPI)
		case PacketKEK:
			j.must(sa.KEK != nil && string(p.SPI) == string(sa.KEK.SPI[:]), "RFC 6407 §5.6", "a KEK for SPI %x, which has no policy", p.SPI)
		case PacketSID:
			bits, _ := First(p.Attributes, 1)
			for _, a := range p.Attributes {
				if a.Class == 2 {
					sids++
					j.must(bits.Number() >= 64 || a.Number()>>bits.Number() == 0, "RFC 6407 §5.6.4", "SID %d in %d bits", a.Number(), bits.Number())
				}
			}
		}
	}
	j.must(!counter || !pull || sids > 0, "RFC 6407 §5.6.4.4", "counter-mode keys without a SID")
	return j.problems
}

// keySizes: RFC 4106 §8.1 and 4543 §5.4 (key then salt), 3602 §5.1, 2451; integrity
// keys RFC 2404 §3, 4868 §2.1.1.
func keySizes(j *judge, t *TEKPolicy, p *KeyPacket) {
	bits, _ := First(t.Attributes, KeyLength)
	want := int(bits.Number()) / 8
	switch t.Transform {
	case 3:
		want = 24
	case 11:
		want = 0
	case 13, 18, 19, 20, 23:
		want += 4
	}
	key, has := First(p.Attributes, 1)
	j.must(has == (want > 0) && len(key.Value) == want, "RFC 6407 §5.6.1.1", "SPI %#x: cipher key of %d octets, not %d", t.SPI, len(key.Value), want)
	auth, _ := First(t.Attributes, AuthAlgorithm)
	wantAuth := map[uint64]int{1: 16, 2: 20, 5: 32, 6: 48, 7: 64}[auth.Number()]
	mac, _ := First(p.Attributes, 2)
	j.must(len(mac.Value) == wantAuth, "RFC 6407 §5.6.1.2", "SPI %#x: integrity key of %d octets, not %d", t.SPI, len(mac.Value), wantAuth)
}
