package gdoi

import (
	"bytes"
	"testing"
	"time"

	"getvpn/gdoi/isakmp"
)

func TestPseudotime(t *testing.T) {
	p := Pseudotime{Value: 600006*time.Second + 780*time.Millisecond, Tick: 500 * time.Millisecond, Header: MetadataLong}
	want := unhex(t, "01 10 01f4 0000000023c3607c")
	if got := p.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("% x", got)
	}
	if got, err := ParsePseudotime(want); err != nil || got != p {
		t.Errorf("%+v %v", got, err)
	}
	// What a clock may give, at its edges: finer than a millisecond, before its start.
	if got, err := ParsePseudotime(Pseudotime{Value: -time.Second, Header: MetadataShort}.Append(nil)); err != nil || got != (Pseudotime{Tick: time.Millisecond, Header: MetadataShort}) {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := ParsePseudotime(Pseudotime{Value: 1<<63 - 1, Tick: time.Hour, Header: MetadataShort}.Append(nil)); err != nil || got.Tick != 65535*time.Millisecond || got.Value <= 0 {
		t.Errorf("%+v %v", got, err)
	}
	for name, s := range map[string]string{
		"empty": "", "version 2": "02 10 01f4 0000000000000000", "a header of 13": "01 0d 01f4 0000000000000000", "no tick": "01 10 0000 0000000000000000",
		"more than a duration holds": "01 10 01f4 7fffffffffffffff", "longer": "01 10 01f4 0000000000000000 00", "shorter": "01 10 01f4 00000000000000",
	} {
		if p, err := ParsePseudotime(unhex(t, s)); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestMetadata(t *testing.T) {
	for v := range uint32(1 << 16) {
		m, ok := parseMetadata(uint16(v))
		if want := v == 12 || v == 16 || v == 12+256 || v == 16+256; ok != want || ok && m.wire() != uint16(v) {
			t.Errorf("%#x: %+v %v", v, m, ok)
		}
	}
}

// Each private attribute of a policy makes it one that an RFC group must not get, and
// is gone once it is stripped; those that share an SPI agree on the metadata.
func TestNewPrivateAttributes(t *testing.T) {
	for name, set := range map[string]func(*SA){
		"pseudotime": func(s *SA) { s.GAP = &GAP{Pseudotime: &Pseudotime{Tick: time.Second, Header: 12}} },
		"replaced":   func(s *SA) { s.GAP = &GAP{Replaced: true} },
		"metadata":   func(s *SA) { s.SATs[0].Metadata = &Metadata{Header: 12, SGT: true} },
	} {
		sa, _ := sample()
		sa.StripPrivate()
		set(sa)
		if sa.OnlyRFC() == nil {
			t.Errorf("%s goes to a group marked interop rfc6407", name)
		}
		if name == "metadata" {
			if err := CheckSA(sa); reasonOf(err) != InconsistentSA {
				t.Errorf("one SPI with and without metadata: %v", err)
			}
		}
		sa.StripPrivate()
		if err := sa.OnlyRFC(); err != nil {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	for name, s := range map[string]string{"replaced, not 1": "8083 0002", "replaced twice": "8083 0001 8083 0001", "pseudotime as TV": "8082 0001"} {
		if _, err := ParseGAP(unhex(t, s), Dialect{}); formOf(err) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseGAP(unhex(t, "8083 0001"), Dialect{Strict: true}); formOf(err) != isakmp.AttributePrivate {
		t.Errorf("strict: %v", err)
	}
}
