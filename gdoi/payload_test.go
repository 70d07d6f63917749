package gdoi

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"getvpn/gdoi/isakmp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "", "\t", "").Replace(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Octets written by hand from figures 4, 5, 6 and 8 of RFC 6407.
func TestSAOctets(t *testing.T) {
	sa, _ := sample()
	sa.StripPrivate()
	sa.SATs = sa.SATs[:1]
	want := `00000002 00000000 000f 0000
	16 00 0049 11 01 0350 04 c0000201 01 0350 04 ef010101
	  0102030405060708 090a0b0c0d0e0f10 00000000
	  8002 0003 8003 0080 0004 0004 00015180 8005 0003 8006 0001 8007 0800 8009 0001
	10 00 000c 8001 001e 8002 003c
	00 00 0043 01 00 04 0000 08 0a010000 ffff0000 04 0000 08 0a020000 ffff0000
	  0c 01020304 8001 0001 0002 0004 00000e10 8004 0001 8005 0005 8006 0100 800e 0004 800f 0003`
	got := mustSA(t, sa, Dialect{})
	w := unhex(t, want)
	if !bytes.Equal(got, w) {
		t.Errorf("\n% x\n% x", got, w)
	}
}

func TestKDOctets(t *testing.T) {
	kd := &KD{
		TEKs: []TEKKey{{SPI: 0x01020304, Algorithm: key(16, 0xaa), Integrity: key(20, 0xbb)}},
		SIDs: &SIDs{Bits: 16, Values: []uint32{0x0102}},
	}
	want := `0002 0000
	01 00 0035 04 01020304 0001 0010 ` + strings.Repeat("aa", 16) + ` 0002 0014 ` + strings.Repeat("bb", 20) + `
	04 00 000f 00 8001 0010 0002 0002 0102`
	if got := kd.Payload().Body; !bytes.Equal(got, unhex(t, want)) {
		t.Errorf("\n% x\n% x", got, unhex(t, want))
	}
}

func TestSARoundTrip(t *testing.T) {
	sa, _ := sample()
	for _, d := range []Dialect{{}, {WideIDs: true}, {LongReserved: true}, {WideIDs: true, LongReserved: true}} {
		got, err := ParseSA(mustSA(t, sa, d), d)
		if err != nil || !reflect.DeepEqual(got, sa) {
			t.Errorf("%+v: %v\n%+v\n%+v", d, err, got, sa)
		}
	}
	for seed := range uint64(3000) {
		want := newGen(seed).sa()
		for _, d := range []Dialect{{}, {LongReserved: true}} {
			got, err := ParseSA(mustSA(t, want, d), Dialect{})
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d: %v\n%+v\n%+v", seed, err, got, want)
			}
		}
	}
}

func TestKDRoundTrip(t *testing.T) {
	for seed := range uint64(3000) {
		want := newGen(seed).kd()
		got, err := ParseKD(want.Payload().Body, Dialect{})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func TestNoPrefixParses(t *testing.T) {
	sa, kd := sample()
	b := mustSA(t, sa, Dialect{})
	for n := range b {
		if _, err := ParseSA(b[:n], Dialect{}); formOf(err) == 0 {
			t.Errorf("SA: %d of %d octets: %v", n, len(b), err)
		}
	}
	kd.LKH = &LKHKeys{Download: newGen(1).lkhKeys(), Updates: []LKHUpdate{{1, 2, newGen(2).lkhKeys()}}}
	b = kd.Payload().Body
	for n := range b {
		if _, err := ParseKD(b[:n], Dialect{}); formOf(err) == 0 {
			t.Errorf("KD: %d of %d octets: %v", n, len(b), err)
		}
	}
	b = AppendACEs(nil, sa.GAP.Denies)
	for n := range b {
		if _, err := ParseACEs(b[:n]); err == nil {
			t.Errorf("ACEs: %d of %d octets parse", n, len(b))
		}
	}
	b = OurCapability().Append(nil)
	for n := range b {
		if _, err := ParseCapability(b[:n]); err == nil {
			t.Errorf("capability: %d octets parse", n)
		}
	}
}

// The attribute that claims 65535 octets, in each payload that has attributes, also
// through the readings that peers' deviations add.
func Test_wire_01_AttributeBeyondPayload(t *testing.T) {
	bad := append([]byte{0, 5, 0xff, 0xff}, make([]byte, 12)...)
	sa, _ := sample()
	sa.StripPrivate()
	chain := func(t isakmp.PayloadType, body []byte) []byte {
		b := []byte{0, 0, 0, 2, 0, 0, 0, 0, 0, byte(t), 0, 0}
		b, _ = isakmp.AppendChain(b, []isakmp.Payload{{Type: t, Body: body}})
		return b
	}
	cases := map[isakmp.PayloadType][]byte{
		isakmp.PayloadSAT: chain(isakmp.PayloadSAT, append(sa.SATs[0].body(Dialect{}), bad...)),
		isakmp.PayloadSAK: chain(isakmp.PayloadSAK, append(sa.SAK.body(Dialect{}), bad...)),
		isakmp.PayloadGAP: chain(isakmp.PayloadGAP, append(sa.GAP.body(), bad...)),
	}
	check := func(p isakmp.PayloadType, err error) {
		t.Helper()
		m, ok := err.(*isakmp.MalformedError)
		if !ok || m.Reason != isakmp.AttributeOverrun || m.Payload != p || m.Offset == 0 || m.Attr != 5 {
			t.Errorf("%v: %v", p, err)
		}
		if s := err.Error(); !strings.Contains(s, p.String()) || !strings.Contains(s, "offset") {
			t.Errorf("%q names no place", s)
		}
	}
	for p, b := range cases {
		_, err := ParseSA(b, Dialect{})
		check(p, err)
	}
	packet := append([]byte{1, 0, 0, byte(9 + len(bad)), 4, 1, 2, 3, 4}, bad...)
	_, err := ParseKD(append([]byte{0, 1, 0, 0}, packet...), Dialect{})
	check(isakmp.PayloadKD, err)
}

// More payloads inside an SA than the limit are refused; 300 SATs are legal.
func Test_wire_02_NestedPayloads(t *testing.T) {
	for n, ok := range map[int]bool{300: true, isakmp.MaxNested: true, isakmp.MaxNested + 1: false} {
		b := []byte{0, 0, 0, 2, 0, 0, 0, 0, 0, 16, 0, 0}
		sat := (&SAT{Protocol: 200, Opaque: []byte{1}}).body(Dialect{})
		var chain []isakmp.Payload
		for range n {
			chain = append(chain, isakmp.Payload{Type: isakmp.PayloadSAT, Body: sat})
		}
		b, _ = isakmp.AppendChain(b, chain)
		if _, err := ParseSA(b, Dialect{}); (err == nil) != ok || !ok && formOf(err) != isakmp.TooManyPayloads {
			t.Errorf("%d SATs: %v", n, err)
		}
	}
}

func TestSARefusals(t *testing.T) {
	sa, _ := sample()
	good := mustSA(t, sa, Dialect{})
	at := func(i int, v byte) []byte { b := bytes.Clone(good); b[i] = v; return b }
	chain := func(ps ...isakmp.Payload) []byte {
		b := []byte{0, 0, 0, 2, 0, 0, 0, 0, 0, byte(isakmp.FirstType(ps)), 0, 0}
		b, _ = isakmp.AppendChain(b, ps)
		return b
	}
	sak := isakmp.Payload{Type: isakmp.PayloadSAK, Body: sa.SAK.body(Dialect{})}
	gap := sa.GAP.Payload()
	gap.Body = (&GAP{ActivationDelay: ptr[uint16](1)}).body()
	sat := isakmp.Payload{Type: isakmp.PayloadSAT, Body: sa.SATs[0].body(Dialect{})}
	satWith := func(a ...isakmp.Attr) []byte {
		s := SAT{Protocol: ProtoESP, Src: subnet("10.0.0.0/8"), Dst: subnet("10.0.0.0/8"), Transform: ESPAESCBC, SPI: 999, Private: a}
		return chain(isakmp.Payload{Type: isakmp.PayloadSAT, Body: s.body(Dialect{})})
	}
	sakWith := func(a ...isakmp.Attr) []byte {
		s := SAK{Protocol: 17, Src: subnet("10.0.0.1/32"), Dst: subnet("10.0.0.2/32"), Private: a}
		return chain(isakmp.Payload{Type: isakmp.PayloadSAK, Body: s.body(Dialect{})})
	}
	alg, sig := isakmp.BasicAttr(2, 3), isakmp.BasicAttr(6, 1)
	cases := []struct {
		name string
		body []byte
		want isakmp.Reason
	}{
		{"DOI 1", at(3, 1), isakmp.BadDOI},
		{"situation 1", at(7, 1), isakmp.BadSituation},
		{"attribute next payload of two octets", at(8, 1), isakmp.BadNextPayload},
		{"reserved", at(11, 1), isakmp.BadReserved},
		{"KE inside", at(9, 4), isakmp.BadNextPayload},
		{"trailing octets", append(bytes.Clone(good), 0), isakmp.TrailingBody},
		{"GAP alone", chain(gap), isakmp.PayloadMissing},
		{"SAT before GAP", chain(sat, gap), isakmp.BadNextPayload},
		{"GAP before SAK", chain(gap, sak), isakmp.BadNextPayload},
		{"two SAKs", chain(sak, sak), isakmp.BadNextPayload},
		{"two GAPs", chain(sak, gap, gap), isakmp.BadNextPayload},
		{"unknown IANA attribute in a SAT", satWith(isakmp.BasicAttr(77, 1)), isakmp.AttributeUnknown},
		{"encapsulation twice", satWith(isakmp.BasicAttr(4, 1), isakmp.BasicAttr(4, 1)), isakmp.AttributeRepeated},
		{"encapsulation 0", satWith(isakmp.BasicAttr(4, 0)), isakmp.AttributeValue},
		{"duration without type", satWith(isakmp.BasicAttr(2, 9)), isakmp.AttributeValue},
		{"replay without window", satWith(isakmp.BasicAttr(SATReplayMode, 2)), isakmp.AttributeValue},
		{"window without replay", satWith(isakmp.BasicAttr(SATReplayWindow, 2)), isakmp.AttributeValue},
		{"unknown IANA attribute in a SAK", sakWith(alg, sig, isakmp.BasicAttr(10, 1)), isakmp.AttributeUnknown},
		{"unassigned above the private range in a SAK", sakWith(alg, sig, isakmp.BasicAttr(256, 1)), isakmp.AttributeUnknown},
		{"no KEK algorithm", sakWith(sig), isakmp.AttributeMissing},
		{"no signature algorithm", sakWith(alg), isakmp.AttributeMissing},
	}
	for _, c := range cases {
		if _, err := ParseSA(c.body, Dialect{}); formOf(err) != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	// Private attributes of others are kept, counted, and refused when strict.
	foreign := satWith(isakmp.BasicAttr(32700, 1), isakmp.BasicAttr(32700, 2))
	if s, err := ParseSA(foreign, Dialect{}); err != nil || s.PrivateCount() != 2 {
		t.Errorf("private: %v", err)
	}
	if _, err := ParseSA(foreign, Dialect{Strict: true}); formOf(err) != isakmp.AttributePrivate {
		t.Errorf("strict: %v", err)
	}
	if _, err := ParseSA(good, Dialect{Strict: true}); formOf(err) != isakmp.AttributePrivate {
		t.Errorf("strict reads ours: %v", err)
	}
	// Integers as TLV, the group description and RFC 3547's attribute 8.
	if s, err := ParseSA(satWith(isakmp.VarAttr32(4, 2), isakmp.BasicAttr(3, 2)), Dialect{}); err != nil || s.SATs[0].Encap != EncapTransport {
		t.Errorf("lenient SAT: %v", err)
	}
	if s, err := ParseSA(sakWith(alg, sig, isakmp.BasicAttr(8, 2), isakmp.BasicAttr(4, 3600)), Dialect{}); err != nil || s.SAK.Lifetime != 3600 {
		t.Errorf("lenient SAK: %v", err)
	}
}

func TestSourceAny(t *testing.T) {
	for _, data := range [][]byte{{}, {0, 0, 0}} {
		want := SAT{Protocol: ProtoESP, Src: Identity{Data: data}, Dst: AddrIdentity(netip.MustParseAddr("239.0.0.1"), 0), Transform: ESPAESCBC, SPI: 5000}
		for _, d := range []Dialect{{}, {WideIDs: true}} {
			got, err := parseSAT(want.body(d), Dialect{})
			if err != nil || !got.Src.IsAny() || got.SPI != 5000 || got.Dst.Type != isakmp.IDIPv4 {
				t.Errorf("any as % x, %+v: %+v, %v", data, d, got, err)
			}
		}
	}
}

func TestIdentityMask(t *testing.T) {
	id := MaskIdentity(netip.MustParseAddr("10.0.5.0"), netip.MustParseAddr("255.0.255.0"), 7)
	a, m, ok := id.Mask()
	if !ok || a.String() != "10.0.5.0" || m.String() != "255.0.255.0" || id.Type != isakmp.IDIPv4Subnet || id.Port != 7 {
		t.Errorf("%v %v %v", a, m, id)
	}
	if id := subnet("10.0.0.1/32"); id.Type != isakmp.IDIPv4 || len(id.Data) != 4 {
		t.Errorf("%+v", id)
	}
	if a, m, ok := subnet("::/0").Mask(); !ok || a.String() != "::" || m.String() != "::" {
		t.Error(a, m, ok)
	}
	if f, l, ok := (Identity{Type: isakmp.IDIPv4Range, Data: []byte{1, 2, 3, 4, 1, 2, 3, 9}}).Range(); !ok || f.String() != "1.2.3.4" || l.String() != "1.2.3.9" {
		t.Error(f, l, ok)
	}
	if _, _, ok := (Identity{Data: []byte{0, 0, 0}}).Mask(); ok {
		t.Error("any sender has a mask")
	}
}

func TestSIDWidths(t *testing.T) {
	for _, octets := range [][]byte{{5}, {0, 5}, {0, 0, 5}, {0, 0, 0, 5}} {
		attrs := isakmp.AppendVar(isakmp.AppendBasic(nil, 1, 16), 2, octets)
		b := append([]byte{0, 1, 0, 0, 4, 0, 0, byte(5 + len(attrs)), 0}, attrs...)
		k, err := ParseKD(b, Dialect{})
		if err != nil || k.SIDs.Values[0] != 5 || k.SIDs.Bits != 16 {
			t.Errorf("% x: %v", octets, err)
		}
	}
	for bits, n := range map[uint8]int{1: 1, 8: 1, 9: 2, 16: 2, 24: 3, 32: 4} {
		if got := sidOctets(1, bits); len(got) != n || got[n-1] != 1 {
			t.Errorf("%d bits: % x", bits, got)
		}
	}
}

func TestKDRefusals(t *testing.T) {
	tek := func(spi byte, attrs ...byte) []byte {
		return append([]byte{1, 0, 0, byte(9 + len(attrs)), 4, 0, 0, 1, spi}, attrs...)
	}
	kd := func(n byte, packets ...[]byte) []byte {
		return append([]byte{0, n, 0, 0}, bytes.Join(packets, nil)...)
	}
	k := []byte{0, 1, 0, 1, 9}
	cases := []struct {
		name string
		body []byte
		want isakmp.Reason
	}{
		{"good", kd(1, tek(1, k...)), 0},
		{"count too low", kd(1, tek(1, k...), tek(2, k...)), isakmp.TrailingBody},
		{"count too high", kd(3, tek(1, k...)), isakmp.ShortBody},
		{"same SPI twice", kd(2, tek(1, k...), tek(1, k...)), isakmp.PayloadRepeated},
		{"key twice", kd(1, tek(1, append(k, k...)...)), isakmp.AttributeRepeated},
		{"empty key", kd(1, tek(1, 0, 1, 0, 0)), isakmp.AttributeWidth},
		{"unknown attribute", kd(1, tek(1, 0, 9, 0, 1, 9)), isakmp.AttributeUnknown},
		{"SPI of 3 octets", kd(1, []byte{1, 0, 0, 8, 3, 1, 2, 3}), isakmp.BadSPISize},
		{"SID with SPI", kd(1, []byte{4, 0, 0, 9, 4, 1, 2, 3, 4}), isakmp.BadSPISize},
		{"packet of 3 octets", kd(1, []byte{1, 0, 0, 3}), isakmp.PayloadLengthBelowHeader},
		{"two SID packets", kd(2, []byte{4, 0, 0, 5, 0}, []byte{4, 0, 0, 5, 0}), isakmp.PayloadRepeated},
		{"SIDs of 33 bits", kd(1, []byte{4, 0, 0, 9, 0, 0x80, 1, 0, 33}), isakmp.AttributeValue},
		{"reserved", []byte{0, 0, 0, 1}, isakmp.BadReserved},
	}
	for _, c := range cases {
		if _, err := ParseKD(c.body, Dialect{}); formOf(err) != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestMatch(t *testing.T) {
	cases := map[string]struct {
		change func(*SA, *KD)
		push   bool
		want   Reason
	}{
		"good":                     {change: func(*SA, *KD) {}},
		"TEK missing":              {change: func(_ *SA, k *KD) { k.TEKs = k.TEKs[:1] }, want: SPIWithoutKey},
		"TEK without policy":       {change: func(_ *SA, k *KD) { k.TEKs = append(k.TEKs, TEKKey{SPI: 5555, Algorithm: key(16, 1)}) }, want: KeyWithoutSPI},
		"KEK missing":              {change: func(_ *SA, k *KD) { k.KEK = nil }, want: SPIWithoutKey},
		"KEK without policy":       {change: func(s *SA, _ *KD) { s.SAK = nil }, want: KeyWithoutSPI},
		"KEK of another SPI":       {change: func(_ *SA, k *KD) { k.KEK.SPI[0]++ }, want: KeyWithoutSPI},
		"KEK too short":            {change: func(_ *SA, k *KD) { k.KEK.Algorithm = key(16, 1) }, want: KeyLength},
		"KEK algorithm unknown":    {change: func(s *SA, _ *KD) { s.SAK.Algorithm = 9 }, want: UnsupportedAlgorithm},
		"cipher key too short":     {change: func(_ *SA, k *KD) { k.TEKs[0].Algorithm = key(16, 1) }, want: KeyLength},
		"GCM key without salt":     {change: func(_ *SA, k *KD) { k.TEKs[1].Algorithm = key(16, 1) }, want: KeyLength},
		"integrity key missing":    {change: func(_ *SA, k *KD) { k.TEKs[0].Integrity = nil }, want: KeyMissing},
		"integrity key unasked":    {change: func(_ *SA, k *KD) { k.TEKs[1].Integrity = key(20, 1) }, want: KeyUnexpected},
		"source auth key":          {change: func(_ *SA, k *KD) { k.TEKs[1].SourceAuth = key(20, 1) }, want: KeyUnexpected},
		"AES key length odd":       {change: func(s *SA, _ *KD) { s.SATs[2].KeyBits = 136 }, want: UnsupportedAlgorithm},
		"one SPI, two SAs":         {change: func(s *SA, _ *KD) { s.SATs[1].Auth = AuthHMACSHA1 }, want: InconsistentSA},
		"reserved SPI":             {change: func(s *SA, _ *KD) { s.SATs[2].SPI = 255 }, want: InconsistentSA},
		"no SID":                   {change: func(_ *SA, k *KD) { k.SIDs = nil }, want: SIDMissing},
		"no SID for receiver":      {change: func(s *SA, k *KD) { k.SIDs = nil; s.SATs[2].Direction = ReceiverOnly }},
		"SID packet empty":         {change: func(_ *SA, k *KD) { k.SIDs.Values = nil }, want: SIDMissing},
		"SID too wide":             {change: func(_ *SA, k *KD) { k.SIDs.Values[0] = 1 << 24 }, want: SIDWidth},
		"SID twice":                {change: func(_ *SA, k *KD) { k.SIDs.Values[0] = k.SIDs.Values[1] }, want: SIDRepeated},
		"SID in PUSH":              {change: func(*SA, *KD) {}, push: true, want: SIDUnexpected},
		"other protocol":           {change: func(s *SA, _ *KD) { s.SATs = append(s.SATs, SAT{Protocol: 3, Opaque: []byte{1}}) }, want: UnsupportedAlgorithm},
		"preservation said or not": {change: func(s *SA, _ *KD) { s.SATs[1].Preservation = 0 }},
		"GMAC key as integrity key": {change: func(s *SA, k *KD) {
			s.SATs[2].Transform = ESPGMAC
			k.TEKs[1].Integrity, k.TEKs[1].Algorithm = key(20, 1), nil
		}},
	}
	for name, c := range cases {
		sa, kd := sample()
		c.change(sa, kd)
		if err := Match(sa, kd, !c.push); reasonOf(err) != c.want || c.want == 0 && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if name == "GMAC key as integrity key" && len(kd.TEKs[1].Algorithm) != 20 {
			t.Error("the GMAC key wasn't moved")
		}
	}
}

func TestDelete(t *testing.T) {
	for _, d := range []Delete{
		{TEKs: []uint32{1, 2}, KEKs: []KEKSPI{{9}}}, {AllTEKs: true, AllKEKs: true}, {KEKs: []KEKSPI{{1}, {2}}}, {TEKs: []uint32{7}},
	} {
		var got Delete
		for _, p := range d.Payloads() {
			x, err := ParseDelete(p.Body)
			if err != nil {
				t.Fatal(err)
			}
			got.TEKs, got.KEKs = append(got.TEKs, x.TEKs...), append(got.KEKs, x.KEKs...)
			got.AllTEKs, got.AllKEKs = got.AllTEKs || x.AllTEKs, got.AllKEKs || x.AllKEKs
		}
		if !reflect.DeepEqual(got, d) {
			t.Errorf("%+v became %+v", d, got)
		}
	}
	for name, c := range map[string]struct {
		d    isakmp.Delete
		want isakmp.Reason
	}{
		"ESP with 16 octets": {isakmp.Delete{DOI: 2, Protocol: 1, SPIs: [][]byte{make([]byte, 16)}}, isakmp.BadSPISize},
		"KEK with 4 octets":  {isakmp.Delete{DOI: 0, Protocol: 0, SPIs: [][]byte{make([]byte, 4)}}, isakmp.BadSPISize},
		"protocol 9":         {isakmp.Delete{DOI: 2, Protocol: 9, SPIs: [][]byte{make([]byte, 4)}}, isakmp.BadProtocol},
		"DOI 3":              {isakmp.Delete{DOI: 3, Protocol: 1, SPIs: [][]byte{make([]byte, 4)}}, isakmp.BadDOI},
	} {
		if _, err := ParseDelete(c.d.Payload().Body); formOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSEQ(t *testing.T) {
	if v, err := ParseSEQ(SEQPayload(0xdeadbeef).Body); err != nil || v != 0xdeadbeef {
		t.Error(v, err)
	}
	for n, want := range map[int]isakmp.Reason{0: isakmp.ShortBody, 3: isakmp.ShortBody, 5: isakmp.TrailingBody} {
		if _, err := ParseSEQ(make([]byte, n)); formOf(err) != want {
			t.Errorf("%d octets: %v", n, err)
		}
	}
}

func TestNoKeyIsPrinted(t *testing.T) {
	_, kd := sample()
	kd.Unknown = []KeyPacket{{200, key(8, 0x5a)}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s"} {
		s := fmt.Sprintf(verb, *kd) + fmt.Sprintf(verb, kd.TEKs) + fmt.Sprintf(verb, *kd.KEK) + fmt.Sprintf(verb, kd.Unknown)
		for _, leak := range []string{"0101010101", "0202020202", "5a5a5a5a", "1, 1, 1, 1", "1 1 1 1", "0x1, 0x1, 0x1"} {
			if strings.Contains(s, leak) {
				t.Errorf("%s prints %s", verb, leak)
			}
		}
	}
	kd.Zero()
	if !bytes.Equal(kd.TEKs[0].Algorithm, make([]byte, 32)) || !bytes.Equal(kd.KEK.Algorithm, make([]byte, 32)) {
		t.Error("keys survive Zero")
	}
}

// A peer that writes 2-octet ID lengths is read right: the RFC's reading, which is
// tried first, doesn't make sense of its octets.
func TestWideIDsAreToldApart(t *testing.T) {
	for seed := range uint64(20000) {
		g := newGen(seed)
		want := g.sat()
		got, err := parseSAT(want.body(Dialect{WideIDs: true}), Dialect{})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: %v\n%+v\n%+v", seed, err, got, want)
		}
		sak := g.sa().SAK
		if sak == nil {
			continue
		}
		if got, err := parseSAK(sak.body(Dialect{WideIDs: true}), Dialect{}); err != nil || !reflect.DeepEqual(got, sak) {
			t.Fatalf("seed %d: %v\n%+v\n%+v", seed, err, got, sak)
		}
	}
}
