// Package wire judges what the product puts on the wire by parties that don't share
// its code: the second decoder, tshark, scapy.
package wire

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"getvpn/gdoi"
	"getvpn/gdoi/isakmp"
	"getvpn/test/rfcdecode"
)

var skeyidA = []byte("a key that both ends derived in phase 1")

// plainExchange is a phase 2 exchange without encryption, so that the judge sees what
// the machines say.
type plainExchange struct{ mid uint32 }

func (x plainExchange) Hash(parts ...[]byte) []byte {
	m := hmac.New(sha256.New, skeyidA)
	m.Write(binary.BigEndian.AppendUint32(nil, x.mid))
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

func (x plainExchange) Encrypt(t isakmp.ExchangeType, payloads []isakmp.Payload) ([]byte, error) {
	chain, err := isakmp.AppendChain(nil, payloads)
	if err != nil {
		return nil, err
	}
	b := append([]byte("initiatr"), "responds"...)
	b = append(b, byte(isakmp.FirstType(payloads)), 0x10, byte(t), 1)
	b = binary.BigEndian.AppendUint32(b, x.mid)
	b = binary.BigEndian.AppendUint32(b, uint32(28+len(chain)))
	return append(b, chain...), nil
}

func (x plainExchange) Decrypt(d []byte) ([]isakmp.Payload, []byte, error) {
	payloads, _, err := isakmp.ParseChain(isakmp.PayloadType(d[16]), d[28:])
	if err != nil {
		return nil, nil, err
	}
	return payloads, isakmp.RawAfterFirst(payloads, d[28:]), nil
}

func (plainExchange) Accept() {}

// pull runs a whole PULL between the two machines and returns its four messages.
func pull(t *testing.T, sa *gdoi.SA, kd *gdoi.KD, sids uint16) [][]byte {
	t.Helper()
	x := plainExchange{0x01020304}
	gm, one, err := gdoi.NewPullInitiator(x, gdoi.GroupNumber(1234), rand.Reader, gdoi.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ks := gdoi.NewPullResponder(x, rand.Reader, gdoi.PullOptions{})
	check := func(b []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	id, err := ks.HandleFirst(one)
	if err != nil || gdoi.GroupKey(id) != gdoi.GroupKey(gdoi.GroupNumber(1234)) {
		t.Fatal(id, err)
	}
	two := check(ks.Answer(sa))
	if _, err := gm.Offer(two); err != nil {
		t.Fatal(err)
	}
	three := check(gm.Accept(gdoi.Request{SIDs: sids}))
	if _, err := ks.HandleThird(three); err != nil {
		t.Fatal(err)
	}
	four := check(ks.Finish(41, kd))
	if _, err := gm.Finish(four); err != nil {
		t.Fatal(err)
	}
	return [][]byte{one, two, three, four}
}

// cipher is one data SA transform with its numbers as the RFCs give them.
type cipher struct {
	name      string
	transform gdoi.ESPTransform
	bits      uint16
	auth      gdoi.AuthAlgorithm
	key, mac  int // octets in KD
}

var ciphers = []cipher{
	{"3des-sha1", gdoi.ESP3DES, 0, gdoi.AuthHMACSHA1, 24, 20},
	{"null-sha256", gdoi.ESPNull, 0, gdoi.AuthHMACSHA256, 0, 32},
	{"cbc128-sha1", gdoi.ESPAESCBC, 128, gdoi.AuthHMACSHA1, 16, 20},
	{"cbc192-sha384", gdoi.ESPAESCBC, 192, gdoi.AuthHMACSHA384, 24, 48},
	{"cbc256-sha512", gdoi.ESPAESCBC, 256, gdoi.AuthHMACSHA512, 32, 64},
	{"gcm128-8", gdoi.ESPAESGCM8, 128, 0, 20, 0},
	{"gcm192-12", gdoi.ESPAESGCM12, 192, 0, 28, 0},
	{"gcm256-16", gdoi.ESPAESGCM16, 256, 0, 36, 0},
	{"gmac128", gdoi.ESPGMAC, 128, 0, 20, 0},
}

// The second decoder reads what the machines sent: no rule broken, every HASH right,
// and every field is what was meant.
func TestPullBySecondDecoder(t *testing.T) {
	for _, c := range ciphers {
		for _, rekey := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s rekey=%v", c.name, rekey), func(t *testing.T) { judge(t, c, rekey) })
		}
	}
}

func judge(t *testing.T, c cipher, rekey bool) {
	spi := gdoi.KEKSPI{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	addr := netip.MustParseAddr
	sat := gdoi.SAT{Protocol: gdoi.ProtoESP, Src: gdoi.MaskIdentity(addr("10.1.0.0"), addr("255.255.0.0"), 0),
		Dst: gdoi.AddrIdentity(addr("239.1.1.1"), 5001), IPProto: 17, Transform: c.transform, SPI: 0xc0ffee01, Seconds: 86400,
		Encap: gdoi.EncapTunnel, Auth: c.auth, KeyBits: c.bits, Preservation: gdoi.PreserveBoth, Direction: gdoi.Symmetric}
	second := sat
	second.Dst, second.IPProto = gdoi.MaskIdentity(addr("10.2.3.0"), addr("255.255.255.0"), 0), 0
	six := sat
	six.Src = gdoi.MaskIdentity(addr("2001:db8:1::"), addr("ffff:ffff:ffff::"), 0)
	six.Dst = gdoi.AddrIdentity(addr("2001:db8::7"), 0)
	sa := &gdoi.SA{SATs: []gdoi.SAT{sat, second, six}}
	delay := uint16(30)
	sa.GAP = &gdoi.GAP{ActivationDelay: &delay, Denies: []gdoi.WireACE{{Proto: 6, DstPort: gdoi.WirePort{Op: gdoi.PortEq, Lo: 22}}}}
	kd := &gdoi.KD{TEKs: []gdoi.TEKKey{{SPI: 0xc0ffee01, Algorithm: bytes.Repeat([]byte{0xa5}, c.key), Integrity: bytes.Repeat([]byte{0x5a}, c.mac)}}}
	if rekey {
		sa.SAK = &gdoi.SAK{Protocol: 17, Src: gdoi.AddrIdentity(addr("172.16.8.2"), 848), Dst: gdoi.AddrIdentity(addr("239.0.0.1"), 848),
			SPI: spi, Algorithm: gdoi.KEKAESCBC, KeyBits: 256, Lifetime: 86400, SigHash: gdoi.SigHashSHA256, SigAlgorithm: gdoi.SigRSA, SigKeyBits: 2048}
		kd.KEK = &gdoi.KEKKey{SPI: spi, Algorithm: bytes.Repeat([]byte{7}, 48), SigKey: []byte{0x30, 1}}
	}
	if c.transform.Counter() {
		kd.SIDs = &gdoi.SIDs{Bits: 24, Values: []uint32{0x2a, 0x2b}}
	}

	conv := rfcdecode.Conversation{SKEYIDa: skeyidA, Plain: true, Hash: sha256.New}
	var ms []rfcdecode.Message
	for i, b := range pull(t, sa, kd, 2) {
		m, fresh := conv.Feed(b)
		if !fresh || len(m.Problems) != 0 {
			t.Errorf("message %d: %v\n%x", i+1, m.Problems, b)
		}
		ms = append(ms, m)
	}
	if t.Failed() {
		return
	}

	id := ms[0].Get(rfcdecode.TypeID).Value.(*rfcdecode.Identity)
	if id.Type != 11 || !bytes.Equal(id.Data, []byte{0, 0, 4, 0xd2}) {
		t.Errorf("group identity %+v", id)
	}
	got := ms[1].Get(rfcdecode.TypeSA).Value.(*rfcdecode.GroupSA)
	if len(got.TEKs) != 3 || (got.KEK != nil) != rekey || got.Policy == nil {
		t.Fatalf("%+v", got)
	}
	for i, want := range []struct {
		proto    uint8
		src, dst string
		types    [2]uint8
		port     uint16
	}{
		{17, "0a010000ffff0000", "ef010101", [2]uint8{4, 1}, 5001},
		{0, "0a010000ffff0000", "0a020300ffffff00", [2]uint8{4, 4}, 0},
		{17, "20010db8000100000000000000000000ffffffffffff00000000000000000000", "20010db8000000000000000000000007", [2]uint8{6, 5}, 0},
	} {
		s := got.TEKs[i]
		if s.Protocol != want.proto || hex.EncodeToString(s.Src.Data) != want.src || hex.EncodeToString(s.Dst.Data) != want.dst ||
			s.Src.Type != want.types[0] || s.Dst.Type != want.types[1] || s.Dst.Port != want.port || s.Src.Port != 0 {
			t.Errorf("SAT %d: %+v", i, s)
		}
		if s.SecurityProtocol != 1 || s.Transform != uint8(c.transform) || s.SPI != 0xc0ffee01 {
			t.Errorf("SAT %d: %+v", i, s)
		}
		for class, value := range map[uint16]uint64{rfcdecode.LifeType: 1, rfcdecode.LifeDuration: 86400, rfcdecode.Encapsulation: 1,
			rfcdecode.AuthAlgorithm: uint64(c.auth), rfcdecode.KeyLength: uint64(c.bits), rfcdecode.Preservation: 4, rfcdecode.SADirection: 3} {
			a, ok := rfcdecode.First(s.Attributes, class)
			if ok != (value != 0) || a.Number() != value {
				t.Errorf("SAT %d: attribute %d is %d, not %d", i, class, a.Number(), value)
			}
		}
	}
	if d, _ := rfcdecode.First(got.Policy.Attributes, 1); d.Number() != 30 {
		t.Errorf("activation delay %d", d.Number())
	}
	if rekey {
		k := got.KEK
		if k.Protocol != 17 || k.SPI != [16]byte(spi) || hex.EncodeToString(k.Src.Data) != "ac100802" || k.Src.Port != 848 || hex.EncodeToString(k.Dst.Data) != "ef000001" || k.Dst.Port != 848 {
			t.Errorf("SAK %+v", k)
		}
		for class, value := range map[uint16]uint64{2: 3, 3: 256, 4: 86400, 5: 3, 6: 1, 7: 2048} {
			if a, _ := rfcdecode.First(k.Attributes, class); a.Number() != value {
				t.Errorf("SAK: attribute %d is %d, not %d", class, a.Number(), value)
			}
		}
		if seq := ms[3].Get(rfcdecode.TypeSEQ).Value.(rfcdecode.Sequence); seq != 41 {
			t.Errorf("SEQ %d", seq)
		}
	}
	if gap := ms[2].Get(rfcdecode.TypeGAP); gap == nil {
		t.Error("the member asked for two Sender IDs without a GAP")
	} else if n, _ := rfcdecode.First(gap.Value.(*rfcdecode.Policy).Attributes, 3); n.Number() != 2 {
		t.Errorf("%d Sender IDs asked for", n.Number())
	}
	down := ms[3].Get(rfcdecode.TypeKD).Value.(*rfcdecode.KeyDownload)
	i := slices.IndexFunc(down.Packets, func(p rfcdecode.KeyPacket) bool { return p.Type == rfcdecode.PacketTEK })
	if i < 0 {
		t.Fatal("no TEK packet")
	}
	if a, _ := rfcdecode.First(down.Packets[i].Attributes, 1); !bytes.Equal(a.Value, kd.TEKs[0].Algorithm) {
		t.Errorf("cipher key %x", a.Value)
	}
	if a, _ := rfcdecode.First(down.Packets[i].Attributes, 2); !bytes.Equal(a.Value, kd.TEKs[0].Integrity) {
		t.Errorf("integrity key %x", a.Value)
	}
}
