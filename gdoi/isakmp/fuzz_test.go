package isakmp

import (
	"bytes"
	"reflect"
	"testing"
)

func seedMessages(f *testing.F) [][]byte {
	var out [][]byte
	for _, d := range foreign(f) {
		out = append(out, d)
	}
	for _, ps := range [][]Payload{
		{sampleSA1().Payload(), VendorIDPayload([]byte{0x4a, 0x13, 0x1c, 0x81})},
		{KEPayload(bytes.Repeat([]byte{1}, 64)), NoncePayload(bytes.Repeat([]byte{2}, 16)), NATDPayload(make([]byte, 20)), NATDPayload(make([]byte, 20))},
		{HashPayload(make([]byte, 20)), Notify{DOI: 1, Protocol: 1, Type: NotifyRUThere, Data: []byte{1, 2, 3, 4}}.Payload()},
		{HashPayload(make([]byte, 20)), Delete{DOI: 1, Protocol: 1, SPIs: [][]byte{make([]byte, 16)}}.Payload()},
	} {
		d, err := AppendClear(nil, Header{ICookie: Cookie{1}, Exchange: MainMode}, ps)
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, d)
	}
	return out
}

func FuzzHeader(f *testing.F) {
	for _, d := range seedMessages(f) {
		f.Add(d)
		f.Add(d[:28])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			if r := reasonOf(err); r == 0 || r >= NumReasons {
				t.Fatalf("error without a reason: %v", err)
			}
			return
		}
		if !bytes.Equal(h.AppendTo(nil), b[:HeaderLen]) {
			t.Fatalf("% x", b[:HeaderLen])
		}
	})
}

func FuzzChain(f *testing.F) {
	for _, d := range seedMessages(f) {
		f.Add(d[16], d[HeaderLen:])
	}
	f.Fuzz(func(t *testing.T, first byte, b []byte) {
		ps, rest, err := ParseChain(PayloadType(first), b)
		if err != nil {
			if reasonOf(err) == 0 {
				t.Fatal(err)
			}
			return
		}
		if len(ps) > MaxPayloads {
			t.Fatalf("%d payloads", len(ps))
		}
		again, err := AppendChain(nil, ps)
		if err != nil || !bytes.Equal(again, b[:len(b)-rest]) {
			t.Fatalf("% x became % x, %v", b, again, err)
		}
		if len(ps) > 0 {
			if raw := RawAfterFirst(ps, b); !bytes.Equal(raw, again[GenericLen+len(ps[0].Body):]) {
				t.Fatalf("raw % x", raw)
			}
		}
		for m := range NumMessages {
			Check(m, true, ps)
		}
	})
}

func FuzzAttributes(f *testing.F) {
	f.Add([]byte{0x80, 1, 0, 7, 0, 12, 0, 4, 0, 1, 0x51, 0x80})
	f.Add([]byte{0, 4, 0xff, 0xff, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		attrs, err := ParseAttrs(PayloadSAT, b, 3)
		if err != nil {
			if reasonOf(err) == 0 {
				t.Fatal(err)
			}
			return
		}
		var again []byte
		for _, a := range attrs {
			again = AppendAttr(again, a)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("% x became % x", b, again)
		}
		if x, err := (Transform{Attrs: attrs}).IKEAttrs(); err == nil {
			y, err := Transform{Attrs: x.Attrs()}.IKEAttrs()
			if err != nil || !reflect.DeepEqual(x, y) {
				t.Fatalf("%+v became %+v, %v", x, y, err)
			}
		}
	})
}

func FuzzSA1(f *testing.F) {
	f.Add(sampleSA1().Payload().Body)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSA1(b)
		if err != nil {
			if reasonOf(err) == 0 {
				t.Fatal(err)
			}
			return
		}
		if again := s.Payload().Body; !bytes.Equal(again, b) {
			t.Fatalf("% x became % x", b, again)
		}
	})
}

// FuzzPayloads runs the small decoders.
func FuzzPayloads(f *testing.F) {
	for i, c := range codecs() {
		f.Add(byte(i), c.body)
	}
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		cs := codecs()
		c := cs[int(which)%len(cs)]
		again, err := c.again(b)
		if err != nil {
			if reasonOf(err) == 0 {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%s: % x became % x", c.name, b, again)
		}
	})
}
