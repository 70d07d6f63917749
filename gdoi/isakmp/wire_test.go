package isakmp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"
)

func reasonOf(err error) Reason {
	var m *MalformedError
	if errors.As(err, &m) {
		return m.Reason
	}
	return 0
}

func header(np PayloadType, length uint32) []byte {
	return Header{ICookie: Cookie{1, 2, 3, 4, 5, 6, 7, 8}, NextPayload: np, Version: Version10, Exchange: MainMode, Length: length}.AppendTo(nil)
}

// An attribute that claims 65535 octets where 12 remain is an error that names
// payload and offset, and costs no memory beyond the datagram.
func Test_wire_01_AttributeBeyondDatagram(t *testing.T) {
	list := append([]byte{0, 4, 0xff, 0xff}, make([]byte, 12)...)
	for _, p := range []PayloadType{PayloadTransform, PayloadSAT, PayloadSAK, PayloadGAP, PayloadKD} {
		d := NewAttrDecoder(p, list, 20)
		if _, ok := d.Next(); ok {
			t.Fatalf("%v: attribute accepted", p)
		}
		var m *MalformedError
		if !errors.As(d.Err(), &m) || m.Reason != AttributeOverrun || m.Payload != p || m.Offset != 20 || m.Attr != 4 {
			t.Errorf("%v: %v", p, d.Err())
		}
		if _, ok := d.Next(); ok {
			t.Errorf("%v: the error didn't stick", p)
		}
	}
	allocated := testing.AllocsPerRun(100, func() {
		d := AttrDecoder{b: list, payload: PayloadSAT}
		d.Next()
	})
	if allocated > 1 {
		t.Errorf("%v allocations for a refused attribute", allocated)
	}
}

// A chain of 2000 empty payloads stops at the limit, in little time and memory.
func Test_wire_02_TooManyPayloads(t *testing.T) {
	d := header(PayloadVendorID, HeaderLen+4*2000)
	for range 2000 {
		d = append(d, byte(PayloadVendorID), 0, 0, 4)
	}
	d[len(d)-4] = 0
	if _, _, err := ParseClear(d); reasonOf(err) != TooManyPayloads {
		t.Fatalf("%v", err)
	}
	least := time.Hour // of many: others use the processor, too
	for range 100 {
		start := time.Now()
		ParseClear(d)
		least = min(least, time.Since(start))
	}
	if least > time.Millisecond {
		t.Errorf("%v for one datagram", least)
	}
	if n := testing.AllocsPerRun(10, func() { ParseClear(d) }); n > 20 {
		t.Errorf("%v allocations", n)
	}
	// A legal SA with more than 200 nested payloads stays legal.
	if ps, _, err := ParseChainLimit(PayloadVendorID, d[HeaderLen:HeaderLen+4*300], MaxNested); reasonOf(err) != ShortPayload {
		t.Errorf("%d, %v", len(ps), err)
	}
	if _, _, err := ParseChainLimit(PayloadVendorID, d[len(d)-4*300:], MaxNested); err != nil {
		t.Error(err)
	}
}

// Every malformed header of the case has a reason of its own.
func Test_wire_03_HeaderReasons(t *testing.T) {
	patch := func(d []byte, at int, v ...byte) []byte { copy(d[at:], v); return d }
	cases := []struct {
		name string
		d    []byte
		want Reason
	}{
		{"0 octets", nil, EmptyDatagram},
		{"1 octet", []byte{0xff}, SingleOctet},
		{"27 octets", header(PayloadSA, 28)[:27], ShortDatagram},
		{"28 octets", header(PayloadNone, 28), NoPayloads},
		{"length 27", header(PayloadSA, 27), LengthBelowHeader},
		{"length 29", header(PayloadSA, 29), LengthBeyondDatagram},
		{"length 2^31", header(PayloadSA, 1<<31), LengthTooLarge},
		{"length below datagram", append(header(PayloadSA, 30), 0, 0, 0), LengthBelowDatagram},
		{"major version 2", patch(header(PayloadSA, 28), 17, 0x20), BadVersion},
		{"next payload 0 and octets", append(header(PayloadNone, 32), 0, 0, 0, 4), TrailingOctets},
		{"unknown flag", patch(append(header(PayloadSA, 32), 0, 0, 0, 4), 19, 0x80), BadFlags},
		{"zero cookie", patch(append(header(PayloadSA, 32), 0, 0, 0, 4), 0, 0, 0, 0, 0, 0, 0, 0, 0), ZeroCookie},
	}
	seen := map[Reason]string{}
	for _, c := range cases {
		_, err := ParseHeader(c.d)
		if reasonOf(err) != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if other, ok := seen[c.want]; ok {
			t.Errorf("%s and %s share %v", c.name, other, c.want)
		}
		seen[c.want] = c.name
	}
}

func TestReasonsAreNamed(t *testing.T) {
	names := map[string]bool{}
	for r := Reason(1); r < NumReasons; r++ {
		s := r.String()
		if s == "" || names[s] {
			t.Errorf("reason %d: name %q", r, s)
		}
		names[s] = true
	}
}

func TestChainReasons(t *testing.T) {
	cases := []struct {
		name  string
		chain []byte
		want  Reason
	}{
		{"short", []byte{0, 0, 0}, ShortPayload},
		{"length 3", []byte{0, 0, 0, 3}, PayloadLengthBelowHeader},
		{"length 0", []byte{0, 0, 0, 0}, PayloadLengthBelowHeader},
		{"overrun", []byte{0, 0, 0, 5}, PayloadOverrun},
		{"reserved", []byte{0, 1, 0, 4}, BadReserved},
		{"missing next", []byte{5, 0, 0, 4}, ShortPayload},
	}
	for _, c := range cases {
		if _, _, err := ParseChain(PayloadKE, c.chain); reasonOf(err) != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestRawAfterFirst(t *testing.T) {
	in := []Payload{HashPayload(bytes.Repeat([]byte{7}, 20)), NoncePayload(bytes.Repeat([]byte{9}, 16)), {Type: 200, Body: []byte{1}}}
	chain, err := AppendChain(nil, in)
	if err != nil {
		t.Fatal(err)
	}
	padded := append(bytes.Clone(chain), 0, 0, 0, 3)
	ps, rest, err := ParseChain(PayloadHash, padded)
	if err != nil || rest != 4 {
		t.Fatalf("rest %d, %v", rest, err)
	}
	if raw := RawAfterFirst(ps, padded); !bytes.Equal(raw, chain[24:]) {
		t.Errorf("% x", raw)
	}
	if RawAfterFirst(nil, padded) != nil || len(RawAfterFirst(ps[:1], padded)) != 0 {
		t.Error("a chain of none or one has nothing behind the first")
	}
}

func TestAppendChainRefusesLongBody(t *testing.T) {
	if _, err := AppendChain(nil, []Payload{{Type: PayloadKE, Body: make([]byte, MaxBody+1)}}); err == nil {
		t.Error("65532 octets accepted")
	}
	if _, err := AppendChain(nil, []Payload{{Type: PayloadKE, Body: make([]byte, MaxBody)}}); err != nil {
		t.Error(err)
	}
}

// Integers come as TV or TLV of any sensible width; the encoder never sends a basic
// attribute as TLV.
func TestAttrForms(t *testing.T) {
	for _, b := range [][]byte{{0x80, 12, 0x0e, 0x10}, {0, 12, 0, 2, 0x0e, 0x10}, {0, 12, 0, 4, 0, 0, 0x0e, 0x10}} {
		d := NewAttrDecoder(PayloadTransform, b, 0)
		a, ok := d.Next()
		if v := d.Uint32(a); !ok || v != 3600 || a.Type != 12 || d.Err() != nil {
			t.Errorf("% x: %d, %v", b, v, d.Err())
		}
	}
	d := NewAttrDecoder(PayloadTransform, []byte{0, 12, 0, 4, 0, 1, 0, 0}, 0)
	a, _ := d.Next()
	if d.Uint16(a); reasonOf(d.Err()) != AttributeWidth {
		t.Errorf("65536 as 16 bits: %v", d.Err())
	}
	d = NewAttrDecoder(PayloadTransform, []byte{0, 12, 0, 0}, 0)
	a, _ = d.Next()
	if d.Uint32(a); reasonOf(d.Err()) != AttributeWidth {
		t.Errorf("empty integer: %v", d.Err())
	}
	if b := AppendBasic(nil, 5, 7); !bytes.Equal(b, []byte{0x80, 5, 0, 7}) {
		t.Errorf("% x", b)
	}
	if b := AppendVar32(nil, 5, 7); !bytes.Equal(b, []byte{0, 5, 0, 4, 0, 0, 0, 7}) {
		t.Errorf("% x", b)
	}
	many := bytes.Repeat([]byte{0x80, 1, 0, 1}, MaxAttributes+1)
	if _, err := ParseAttrs(PayloadGAP, many, 0); reasonOf(err) != TooManyAttributes {
		t.Error(err)
	}
}

func TestHeaderRoundTrip(t *testing.T) {
	h := Header{Cookie{1}, Cookie{2}, PayloadSA, Version10, GroupKeyPull, FlagEncrypted, 0x01020304, 32}
	b := append(h.AppendTo(nil), 0, 0, 0, 4)
	if got, err := ParseHeader(b); err != nil || got != h {
		t.Errorf("%+v, %v", got, err)
	}
	if binary.BigEndian.Uint32(b[20:]) != 0x01020304 || b[18] != 32 {
		t.Errorf("% x", b)
	}
}
