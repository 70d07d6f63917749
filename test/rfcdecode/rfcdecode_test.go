package rfcdecode

import (
	"encoding/hex"
	"strings"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// message puts a header in front of payloads.
func message(exchange, first, flags uint8, id uint32, body []byte) []byte {
	b := append([]byte("initiator-cookie"), first, 0x10, exchange, flags)
	b = be.AppendUint32(b, id)
	b = be.AppendUint32(b, uint32(HeaderLen+len(body)))
	return append(b, body...)
}

// A phase-1 SA drawn by hand from the figures: DOI 2, situation 0, one proposal, one
// AES-256 transform with SHA-256, PSK, group 14, 86400 s.
const phase1 = `00 00 0044  00000002 00000000
 00 00 0038 01 01 00 01
  00 00 0030 01 01 0000
   8001 0007 8002 0004 8003 0001 8004 000e 800b 0001 000c 0004 00015180 800e 0100`

// An SA of a PULL: SAK, GAP, two SATs that share an SPI's transform.
const groupSAHex = `00 00 00b0  00000002 00000000  000f 0000
 16 00 0045 11 01 0350 04 ac100802 01 0350 04 ef000001
   000102030405060708090a0b0c0d0e0f 00000000
   8002 0003 8003 0100 0004 0004 00015180 8005 0003 8006 0001 8007 0800
 10 00 0008 8001 001e
 10 00 0033 01 00 04 0000 08 0a010000 ffff0000 04 0000 08 0a010000 ffff0000
   14 11223344 8001 0001 8002 0384 8004 0001 8006 0080
 00 00 002f 01 11 04 0000 00 01 0000 04 ef010101
   14 11223355 8001 0001 0002 0004 00000384 8004 0001 8006 0080 800e 0004`

func TestPhase1SA(t *testing.T) {
	body := unhex(t, phase1)
	be.PutUint16(body[2:], uint16(len(body)))
	be.PutUint16(body[14:], uint16(len(body)-12))
	be.PutUint16(body[22:], uint16(len(body)-20))
	m := Decode(message(MainMode, TypeSA, 0, 0, body), false)
	if len(m.Problems) != 0 {
		t.Fatal(m.Problems)
	}
	sa := m.Get(TypeSA).Value.(*SA)
	life, _ := First(sa.Transforms[0].Attributes, P1Life)
	if sa.DOI != 2 || len(sa.Transforms) != 1 || life.Number() != 86400 || life.Basic {
		t.Errorf("%+v", sa)
	}
	for name, broken := range map[string]func([]byte){
		"RFC 6407 §2.1: DOI":              func(b []byte) { b[HeaderLen+7] = 1 },
		"RFC 2407 §4.4.2: transform ID":   func(b []byte) { b[HeaderLen+25] = 2 },
		"RFC 2408 §3.5: 1 transforms, 2":  func(b []byte) { b[HeaderLen+19] = 2 },
		"RFC 2408 §3.1: version":          func(b []byte) { b[17] = 0x20 },
		"RFC 2408 §3.1: length":           func(b []byte) { b[27]++ },
		"RFC 2409 §5: attribute 1":        func(b []byte) { b[HeaderLen+29] = 13 },
		"RFC 2408 §3.2: payload 1: RESER": func(b []byte) { b[HeaderLen+1] = 1 },
	} {
		b := message(MainMode, TypeSA, 0, 0, body)
		broken(b)
		if p := strings.Join(Decode(b, false).Problems, "; "); !strings.Contains(p, name) {
			t.Errorf("%s isn't noticed: %q", name, p)
		}
	}
}

// pullTwo is message 2 of a PULL in clear around the SA above, its lengths filled in.
func pullTwo(t *testing.T) []byte {
	sa := unhex(t, groupSAHex)
	be.PutUint16(sa[2:], uint16(len(sa)))
	for at := 16; at < len(sa); { // chain lengths are as drawn; check the drawing
		n := int(be.Uint16(sa[at+2:]))
		if n == 0 || at+n > len(sa) {
			t.Fatalf("payload at %d has length %d of %d", at, n, len(sa)-at)
		}
		at += n
	}
	body := append([]byte{TypeNONCE, 0, 0, 4 + 32}, make([]byte, 32)...)
	body = append(body, append([]byte{TypeSA, 0, 0, 4 + 16}, make([]byte, 16)...)...)
	return append(body, sa...)
}

func TestGroupSA(t *testing.T) {
	body := pullTwo(t)
	m := Decode(message(Pull, TypeHASH, 1, 7, body), true)
	if len(m.Problems) != 0 {
		t.Fatal(m.Problems)
	}
	sa := m.Get(TypeSA).Value.(*GroupSA)
	if len(sa.TEKs) != 2 || sa.KEK == nil || sa.Policy == nil || sa.KEK.SPI[15] != 15 || sa.KEK.Dst.Port != 848 {
		t.Fatalf("%+v", sa)
	}
	if a, b := sa.TEKs[0], sa.TEKs[1]; a.SPI != 0x11223344 || hex.EncodeToString(a.Src.Data) != "0a010000ffff0000" ||
		a.Transform != 20 || len(b.Src.Data) != 0 || b.Protocol != 17 || hex.EncodeToString(b.Dst.Data) != "ef010101" {
		t.Errorf("%+v", sa.TEKs)
	}

	at := HeaderLen + 36 + 20 // the SA payload
	for name, broken := range map[string]func([]byte){
		"RFC 6407 §5.2: situation":            func(b []byte) { b[at+11] = 1 },
		"RFC 6407 §5.3: RESERVED2":            func(b []byte) { b[at+16+21+16] = 1 },
		"RFC 6407 §5.5: Protocol-ID 7":        func(b []byte) { b[at+16+69+8+4] = 7 },
		"RFC 6407 §5.2.1: payload 22":         func(b []byte) { b[at+16+69] = 22 },
		"RFC 6407 §5.8: nonce":                func(b []byte) { b[HeaderLen+36+3], b[HeaderLen+36+4+3] = 4+4, 12; b[HeaderLen+36+8] = TypeSA },
		"RFC 4106 §8.4: no key length":        func(b []byte) { b[len(b)-7] = 0x0c },
		"RFC 6407 §5.5.1.1.1: address preser": func(b []byte) { b[len(b)-1] = 9 },
		"RFC 2408 §3.3: SAT":                  func(b []byte) { b[len(b)-4] &= 0x7f },
	} {
		b := message(Pull, TypeHASH, 1, 7, body)
		broken(b)
		if p := strings.Join(Decode(b, true).Problems, "; "); !strings.Contains(p, name) {
			t.Errorf("%s isn't noticed: %q", name, p)
		}
	}
}

// Message 4 answers message 2: keys and Sender IDs as the policy needs them.
func TestKeysAgreeWithPolicy(t *testing.T) {
	m := Decode(message(Pull, TypeHASH, 1, 7, pullTwo(t)), true)
	sa := m.Get(TypeSA).Value.(*GroupSA)
	key := func(spi string) string { return "01 00 001d 04 " + spi + " 0001 0010" + strings.Repeat("ab", 16) }
	kek := "02 00 0039 10 000102030405060708090a0b0c0d0e0f 0001 0020" + strings.Repeat("cd", 32)
	sid := "04 00 0010 00 8001 0018 0002 0003 00002a"
	gcm := func(spi string) string { return "01 00 0021 04 " + spi + " 0001 0014" + strings.Repeat("ab", 20) }
	decode := func(parts ...string) *KeyDownload {
		var j judge
		b := unhex(t, strings.Join(parts, ""))
		kd := keyDownload(&j, append([]byte{0, byte(len(parts)), 0, 0}, b...))
		if len(j.problems) != 0 {
			t.Fatal(j.problems)
		}
		return kd
	}
	seq := &Payload{Type: TypeSEQ}
	if p := Agree(sa, seq, decode(kek, gcm("11223344"), gcm("11223355"), sid)); len(p) != 0 {
		t.Error(p)
	}
	for want, kd := range map[string]*KeyDownload{
		"without a SID":             decode(kek, gcm("11223344"), gcm("11223355")),
		"no key for SPI 0x11223355": decode(kek, gcm("11223344"), sid),
		"which has no policy":       decode(kek, gcm("11223344"), gcm("11223355"), gcm("99999999"), sid),
		"cipher key of 16 octets":   decode(kek, key("11223344"), gcm("11223355"), sid),
	} {
		if p := strings.Join(Agree(sa, seq, kd), "; "); !strings.Contains(p, want) {
			t.Errorf("%q isn't noticed: %q", want, p)
		}
	}
	if p := Agree(sa, nil, decode(kek, gcm("11223344"), gcm("11223355"), sid)); len(p) != 1 {
		t.Errorf("a missing SEQ isn't noticed: %v", p)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("initiator-cookie0000"), true)
	f.Fuzz(func(t *testing.T, b []byte, encrypted bool) {
		m := Decode(b, encrypted)
		if len(m.Problems) == 0 && int(m.Length) != len(b) {
			t.Error("a wrong length has no problem")
		}
	})
}
