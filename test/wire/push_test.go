package wire

// Rekeys, deletes and acknowledgements as the product seals them, read by the second
// decoder; OpenSSL judges signatures and HASH values, tshark the frames.

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/isakmp"
	"getvpn/internal/lab"
	"getvpn/test/rfcdecode"
)

// kek is one rekey SA with its numbers as the RFC gives them.
type kek struct {
	algorithm uint64
	bits      int // of the key; 3DES: 0 on the wire
	iv, key   int
}

var keks = []kek{{2, 0, 8, 24}, {3, 128, 16, 16}, {3, 192, 16, 24}, {3, 256, 16, 32}}

// signing is a signature algorithm and hash, as numbers of the RFC.
type signing struct {
	name      string
	alg, hash uint64
	key       func() (crypto.Signer, error)
}

func signings() []signing {
	curve := func(c elliptic.Curve) func() (crypto.Signer, error) {
		return func() (crypto.Signer, error) { return ecdsa.GenerateKey(c, rand.Reader) }
	}
	rsaKey := func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }
	return []signing{
		{"rsa-sha1", 1, 2, rsaKey}, {"rsa-sha256", 1, 3, rsaKey}, {"rsa-sha384", 1, 4, rsaKey}, {"rsa-sha512", 1, 5, rsaKey},
		{"ecdsa-256", 4, 0, curve(elliptic.P256())}, {"ecdsa-384", 5, 0, curve(elliptic.P384())}, {"ecdsa-521", 6, 0, curve(elliptic.P521())},
	}
}

// sample is a rekey SA of the product with the second decoder's view of it.
type sample struct {
	ours   *gdoi.RekeySA
	theirs *rfcdecode.RekeySA
	signer crypto.Signer
	sign   signing
	kek    kek
}

func newSample(t *testing.T, k kek, s signing) sample {
	t.Helper()
	signer, err := s.key()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	random := func(n int) []byte { b := make([]byte, n); rand.Read(b); return b }
	spi := [16]byte(random(16))
	iv, key := random(k.iv), random(k.key)
	return sample{
		ours: &gdoi.RekeySA{SPI: spi, Algorithm: gdoi.KEKAlgorithm(k.algorithm), IV: iv, Key: key,
			SigHash: gdoi.SigHash(s.hash), SigAlg: gdoi.SigAlgorithm(s.alg)},
		theirs: &rfcdecode.RekeySA{SPI: spi, Algorithm: k.algorithm, IV: iv, Key: key, SigHash: s.hash, SigAlg: s.alg, Ack: 1, Public: pub},
		signer: signer, sign: s, kek: k,
	}
}

// content is a whole rekey: every field has a value of its own.
func (s sample) content(seq uint32) *gdoi.Push {
	addr := netip.MustParseAddr
	age, delay, off := uint32(77), uint16(6), uint16(11)
	sat := gdoi.SAT{Protocol: gdoi.ProtoESP, Src: gdoi.MaskIdentity(addr("10.1.0.0"), addr("255.255.0.0"), 0),
		Dst: gdoi.MaskIdentity(addr("10.2.0.0"), addr("255.255.0.0"), 443), IPProto: 6, Transform: gdoi.ESPAESGCM16, SPI: 0xc0ffee01,
		Seconds: 1234, Encap: gdoi.EncapTunnel, KeyBits: 256, Preservation: gdoi.PreserveBoth, Direction: gdoi.Symmetric,
		Replay: &gdoi.Replay{Mode: gdoi.ReplayTime, Window: 100}, Age: &age, Metadata: &gdoi.Metadata{Header: 16, SGT: true},
		Exact: &gdoi.WireACE{Permit: true, Proto: 6, Src: gdoi.WireAddr{Addr: addr("10.1.0.0"), Mask: addr("255.255.0.0")},
			Dst: gdoi.WireAddr{Addr: addr("10.2.0.0"), Mask: addr("255.255.0.0")}, DstPort: gdoi.WirePort{Op: gdoi.PortRange, Lo: 440, Hi: 450}}}
	old := sat
	old.SPI, old.Seconds, old.Transform, old.Auth, old.KeyBits = 0xc0ffee02, 61, gdoi.ESPAESCBC, gdoi.AuthHMACSHA256, 128
	old.Exact, old.Age, old.Metadata, old.Replay = nil, nil, nil, &gdoi.Replay{Mode: gdoi.ReplayNone}
	next := gdoi.KEKSPI(bytes.Repeat([]byte{0xe7}, 16))
	return &gdoi.Push{Seq: seq,
		Delete: gdoi.Delete{TEKs: []uint32{0xdead0001, 0xdead0002}, KEKs: []gdoi.KEKSPI{{15: 9}}},
		SA: &gdoi.SA{
			SAK: &gdoi.SAK{Protocol: 17, Src: gdoi.AddrIdentity(addr("172.16.8.2"), 848), Dst: gdoi.AddrIdentity(addr("239.0.0.1"), 848),
				SPI: next, Algorithm: gdoi.KEKAlgorithm(s.kek.algorithm), KeyBits: uint16(s.kek.bits), Lifetime: 86400,
				SigHash: gdoi.SigHash(s.sign.hash), SigAlgorithm: gdoi.SigAlgorithm(s.sign.alg), SigKeyBits: 2048, Ack: gdoi.AckKEKSHA512},
			GAP: &gdoi.GAP{ActivationDelay: &delay, DeactivationDelay: &off, Replaced: true,
				Pseudotime: &gdoi.Pseudotime{Value: 98765432 * time.Millisecond, Tick: 100 * time.Millisecond, Header: 16},
				Denies: []gdoi.WireACE{
					{Before: 0, Proto: 1, HasICMPType: true, ICMPType: 8},
					{Before: 1, IPv6: true, Proto: 17, Src: gdoi.WireAddr{Addr: addr("2001:db8::"), Mask: addr("ffff:ffff::")}, SrcPort: gdoi.WirePort{Op: gdoi.PortLt, Lo: 1024}},
				}},
			SATs: []gdoi.SAT{sat, old},
		},
		KD: &gdoi.KD{
			TEKs: []gdoi.TEKKey{{SPI: 0xc0ffee01, Algorithm: bytes.Repeat([]byte{0xa5}, 36)},
				{SPI: 0xc0ffee02, Algorithm: bytes.Repeat([]byte{0xa6}, 16), Integrity: bytes.Repeat([]byte{0x5a}, 32)}},
			KEK: &gdoi.KEKKey{SPI: next, Algorithm: append(bytes.Repeat([]byte{1}, s.kek.iv), bytes.Repeat([]byte{2}, s.kek.key)...)},
		}}
}

func clean(t *testing.T, problems []string) {
	t.Helper()
	for _, p := range problems {
		t.Error(p)
	}
}

// Each cipher and each signature: the second decoder finds every field as it was
// meant and no rule broken; openssl verifies the signature.
func TestPushBySecondDecoder(t *testing.T) {
	ssl := rfcdecode.OpenSSL{Dir: t.TempDir()}
	var frames []lab.Frame
	for i, sg := range signings() {
		for j, k := range keks {
			if i != 1 && j != i%len(keks) {
				continue // every cipher once with RSA and SHA-256, one with each other
			}
			t.Run(fmt.Sprintf("%s kek=%d/%d", sg.name, k.algorithm, k.bits), func(t *testing.T) {
				s := newSample(t, k, sg)
				datagram, err := s.ours.Seal(rand.Reader, s.content(41), s.signer)
				if err != nil {
					t.Fatal(err)
				}
				r := s.theirs.Open(datagram, false)
				clean(t, r.Problems)
				if t.Failed() {
					return
				}
				fields(t, s, r)
				if err := ssl.Verify(s.theirs, r); err != nil {
					t.Error(err)
				}
				frames = append(frames, udp848(lab.KeyServer, lab.WAN(1), datagram))

				r.Signed[len(r.Signed)-1] ^= 1
				if ssl.Verify(s.theirs, r) == nil {
					t.Error("openssl verifies a changed message: it judges nothing")
				}
			})
		}
	}
	judgeFrames(t, frames, 33)
}

// fields compares what was read with what sample.content meant.
func fields(t *testing.T, s sample, r *rfcdecode.Rekey) {
	t.Helper()
	eq := func(what string, got, want any) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s is %v, not %v", what, got, want)
		}
	}
	eq("SEQ", r.Seq, 41)
	eq("payloads", r.Types(), []uint8{rfcdecode.TypeSEQ, rfcdecode.TypeDELETE, rfcdecode.TypeDELETE, rfcdecode.TypeSA, rfcdecode.TypeKD, rfcdecode.TypeSIG})
	eq("deleted data SAs", r.Deletes[0], &rfcdecode.Delete{DOI: 2, Protocol: 1, SPIs: [][]byte{{0xde, 0xad, 0, 1}, {0xde, 0xad, 0, 2}}})
	eq("deleted rekey SAs", r.Deletes[1], &rfcdecode.Delete{DOI: 2, Protocol: 0, SPIs: [][]byte{{15: 9}}})

	k := r.SA.KEK
	eq("SAK", []any{k.Protocol, k.Src, k.Dst, k.SPI[0], k.SPI[15]},
		[]any{17, rfcdecode.Endpoint{Type: 1, Port: 848, Data: []byte{172, 16, 8, 2}}, rfcdecode.Endpoint{Type: 1, Port: 848, Data: []byte{239, 0, 0, 1}}, 0xe7, 0xe7})
	for class, want := range map[uint16]uint64{2: s.kek.algorithm, 3: uint64(s.kek.bits), 4: 86400, 5: s.sign.hash, 6: s.sign.alg, 7: 2048, 9: 3} {
		a, ok := rfcdecode.First(k.Attributes, class)
		if a.Number() != want || ok != (want != 0) {
			t.Errorf("SAK attribute %d is %d (there: %v), not %d", class, a.Number(), ok, want)
		}
	}
	if !r.NewKEK() {
		t.Fatal("no new KEK")
	}
	eq("new KEK", []any{r.Next.Algorithm, r.Next.Ack, r.Next.IV, r.Next.Key},
		[]any{s.kek.algorithm, 3, bytes.Repeat([]byte{1}, s.kek.iv), bytes.Repeat([]byte{2}, s.kek.key)})
	eq("the signing key", r.Next.Public, s.theirs.Public)

	for i, want := range []map[uint16]uint64{
		{rfcdecode.LifeType: 1, rfcdecode.LifeDuration: 1234, rfcdecode.Encapsulation: 1, rfcdecode.AuthAlgorithm: 0, rfcdecode.KeyLength: 256, rfcdecode.Preservation: 4, rfcdecode.SADirection: 3},
		{rfcdecode.LifeType: 1, rfcdecode.LifeDuration: 61, rfcdecode.Encapsulation: 1, rfcdecode.AuthAlgorithm: 5, rfcdecode.KeyLength: 128, rfcdecode.Preservation: 4, rfcdecode.SADirection: 3},
	} {
		tek := r.SA.TEKs[i]
		eq("SAT", []any{tek.SecurityProtocol, tek.Protocol, hex.EncodeToString(tek.Src.Data), hex.EncodeToString(tek.Dst.Data), tek.Dst.Port, tek.Transform, tek.SPI},
			[]any{1, 6, "0a010000ffff0000", "0a020000ffff0000", 443, []int{20, 12}[i], 0xc0ffee01 + i})
		for class, v := range want {
			if a, ok := rfcdecode.First(tek.Attributes, class); a.Number() != v || ok != (v != 0) {
				t.Errorf("SAT %d: attribute %d is %d, not %d", i, class, a.Number(), v)
			}
		}
	}
	for class, want := range map[uint16]uint64{1: 6, 2: 11} {
		if a, _ := rfcdecode.First(r.SA.Policy.Attributes, class); a.Number() != want {
			t.Errorf("GAP attribute %d is %d, not %d", class, a.Number(), want)
		}
	}
	p := r.Private
	eq("pseudotime", *p.Pseudo, rfcdecode.PseudoTime{Header: 16, Tick: 100 * time.Millisecond, Value: 98765432 * time.Millisecond})
	eq("replaced", p.Replaced, true)
	if len(p.Entries) != 2 || *p.Entries[0].ICMPType != 8 || p.Entries[0].Protocol != 1 || p.Entries[0].Src != nil || p.Entries[0].Permit {
		t.Errorf("entries %+v", p.Entries)
	} else if e := p.Entries[1]; e.Place != 1 || !e.V6 || e.Permit || e.SrcOp != 3 || e.SrcLo != 1024 || hex.EncodeToString(e.Src[:4]) != "20010db8" || hex.EncodeToString(e.SrcMask[:5]) != "ffffffff00" {
		t.Errorf("second entry %+v", e)
	}
	a, b := p.SATs[0], p.SATs[1]
	if a.ReplayMode != 3 || a.ReplayWindow != 100 || *a.Age != 77 || a.MetadataLen != 16 || !a.SGT || len(a.Exact) != 1 {
		t.Errorf("private attributes of SAT 0: %+v", a)
	} else if e := a.Exact[0]; e.DstOp != 5 || e.DstLo != 440 || e.DstHi != 450 || !bytes.Equal(e.Dst, []byte{10, 2, 0, 0}) {
		t.Errorf("exact entry %+v", e)
	}
	if b.ReplayMode != 1 || b.ReplayWindow != 0 || b.Age != nil || b.MetadataLen != 0 || b.Exact != nil {
		t.Errorf("private attributes of SAT 1: %+v", b)
	}

	keys := map[string]rfcdecode.KeyPacket{}
	for _, kp := range r.KD.Packets {
		keys[fmt.Sprintf("%d/%x", kp.Type, kp.SPI)] = kp
	}
	cipher := func(name string, class uint16) []byte {
		a, _ := rfcdecode.First(keys[name].Attributes, class)
		return a.Value
	}
	eq("key of the new SA", cipher("1/c0ffee01", 1), bytes.Repeat([]byte{0xa5}, 36))
	eq("key of the old SA", cipher("1/c0ffee02", 1), bytes.Repeat([]byte{0xa6}, 16))
	eq("integrity key of the old SA", cipher("1/c0ffee02", 2), bytes.Repeat([]byte{0x5a}, 32))
	if len(r.KD.Packets) != 3 {
		t.Errorf("%d key packets", len(r.KD.Packets))
	}
}

// A clean slate (RFC 6407 §5.9) and the deletion of single SAs: SEQ, D, D, SIG.
func TestDeleteBySecondDecoder(t *testing.T) {
	ssl := rfcdecode.OpenSSL{Dir: t.TempDir()}
	s := newSample(t, keks[1], signings()[1])
	for _, c := range []struct {
		name string
		d    gdoi.Delete
		want []string // protocol and SPIs of each D payload
	}{
		{"clean slate", gdoi.Delete{AllTEKs: true, AllKEKs: true}, []string{"1 00000000", "0 " + strings.Repeat("00", 16)}},
		{"the KEK", gdoi.Delete{KEKs: []gdoi.KEKSPI{s.ours.SPI}}, []string{"0 " + hex.EncodeToString(s.ours.SPI[:])}},
		{"two data SAs", gdoi.Delete{TEKs: []uint32{0x1111, 0x2222}}, []string{"1 00001111 00002222"}},
	} {
		datagram, err := s.ours.Seal(rand.Reader, &gdoi.Push{Seq: 7, Delete: c.d}, s.signer)
		if err != nil {
			t.Fatal(err)
		}
		r := s.theirs.Open(datagram, true)
		clean(t, r.Problems)
		if err := ssl.Verify(s.theirs, r); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		var got []string
		for _, d := range r.Deletes {
			line := fmt.Sprint(d.Protocol)
			for _, spi := range d.SPIs {
				line += fmt.Sprintf(" %x", spi)
			}
			got = append(got, line)
		}
		if !slices.Equal(got, c.want) || r.SA != nil || r.KD != nil || r.Seq != 7 {
			t.Errorf("%s: %v, SEQ %d, SA %v", c.name, got, r.Seq, r.SA)
		}
		if all := strings.HasPrefix(c.name, "clean"); r.Deletes[0].All() != all {
			t.Errorf("%s: All() is %v", c.name, !all)
		}
	}
}

// A group marked for RFC 6407 sends nothing that the RFC doesn't have: the strict
// judge, for whom a SAK means a new cookie pair, finds nothing.
func TestStrictPush(t *testing.T) {
	s := newSample(t, keks[3], signings()[4])
	s.ours.RFCOnly = true
	p := s.content(1)
	p.SA.GAP, p.SA.SAK.Ack = &gdoi.GAP{}, 0
	for i := range p.SA.SATs {
		sat := &p.SA.SATs[i]
		sat.Replay, sat.Age, sat.Exact, sat.Metadata = nil, nil, nil, nil
	}
	datagram, err := s.ours.Seal(rand.Reader, p, s.signer)
	if err != nil {
		t.Fatal(err)
	}
	clean(t, s.theirs.Open(datagram, true).Problems)

	s.ours.RFCOnly = false
	if datagram, err = s.ours.Seal(rand.Reader, s.content(1), s.signer); err != nil {
		t.Fatal(err)
	}
	if n := len(s.theirs.Open(datagram, true).Problems); n == 0 {
		t.Error("the strict judge doesn't notice private attributes")
	}
}

// Acknowledgements of both kinds; their key is derived again by openssl.
func TestAckBySecondDecoder(t *testing.T) {
	ssl := rfcdecode.OpenSSL{Dir: t.TempDir()}
	var frames []lab.Frame
	for _, k := range keks {
		for _, kind := range []gdoi.AckRequest{gdoi.AckKEKSHA256, gdoi.AckKEKSHA512} {
			for _, from := range []string{"172.16.1.2", "2001:db8:16:1::2"} {
				s := newSample(t, k, signings()[4])
				s.theirs.Ack = uint64(kind)
				addr := netip.MustParseAddr(from)
				datagram := s.ours.AckKey(kind).Seal(0x01020304, isakmp.AddrID(addr), s.ours.SPI)
				a := s.theirs.OpenAck(datagram)
				clean(t, a.Problems)
				if t.Failed() {
					return
				}
				if a.Seq != 0x01020304 || !bytes.Equal(a.ID.Data, addr.AsSlice()) || a.ID.Type != map[bool]uint8{true: 1, false: 5}[addr.Is4()] {
					t.Errorf("SEQ %#x, identity %+v", a.Seq, a.ID)
				}
				if err := ssl.VerifyAck(s.theirs, a); err != nil {
					t.Errorf("kek %+v, type %d: %v", k, kind, err)
				}
				frames = append(frames, udp848(lab.WAN(1), lab.KeyServer, datagram))
				datagram[len(datagram)-1] ^= 1
				if len(s.theirs.OpenAck(datagram).Problems) == 0 {
					t.Error("a changed acknowledgement has no problem")
				}
			}
		}
	}
	judgeFrames(t, frames, 35)
}

// The known answers beside the codec are what the second decoder reads, too.
func TestKnownAnswersBySecondDecoder(t *testing.T) {
	ssl := rfcdecode.OpenSSL{Dir: t.TempDir()}
	var pushes []struct {
		Name                       string
		Algorithm, SigAlg, SigHash uint64
		Bare                       bool
		SPI, IV, Key, Signer       string
		Seq                        uint32
		Covered, Datagram          string
	}
	var acks []struct {
		Type         uint64
		SPI, KEK, ID string
		Output       bool
		Seq          uint32
		Datagram     string
	}
	load(t, "push.json", &pushes)
	load(t, "ack.json", &acks)
	for _, v := range pushes {
		signer, err := x509.ParsePKCS8PrivateKey(octets(t, v.Signer))
		if err != nil {
			t.Fatal(err)
		}
		pub, err := x509.MarshalPKIXPublicKey(signer.(crypto.Signer).Public())
		if err != nil {
			t.Fatal(err)
		}
		k := &rfcdecode.RekeySA{SPI: [16]byte(octets(t, v.SPI)), Algorithm: v.Algorithm, IV: octets(t, v.IV), Key: octets(t, v.Key),
			SigAlg: v.SigAlg, SigHash: v.SigHash, Public: pub}
		r := k.Open(octets(t, v.Datagram), false)
		for _, p := range r.Problems {
			t.Errorf("%s: %s", v.Name, p)
		}
		if r.Seq != v.Seq || hex.EncodeToString(r.Signed) != v.Covered {
			t.Errorf("%s: SEQ %d, signed %x", v.Name, r.Seq, r.Signed)
		}
		// The bare form isn't the RFC's (EMSA-PKCS1-v1_5 has a DigestInfo).
		if err := ssl.Verify(k, r); (err != nil) != v.Bare {
			t.Errorf("%s: openssl: %v", v.Name, err)
		}
	}
	for i, v := range acks {
		k := &rfcdecode.RekeySA{SPI: [16]byte(octets(t, v.SPI)), Algorithm: 3, Key: octets(t, v.KEK), Ack: v.Type}
		a := k.OpenAck(octets(t, v.Datagram))
		if v.Output {
			if len(a.Problems) == 0 {
				t.Errorf("acknowledgement %d: the length of the output passes for that of the block", i)
			}
			continue
		}
		clean(t, a.Problems)
		if err := ssl.VerifyAck(k, a); err != nil || a.Seq != v.Seq || hex.EncodeToString(a.Payloads[2].Body) != v.ID {
			t.Errorf("acknowledgement %d: SEQ %d, ID %x: %v", i, a.Seq, a.Payloads[2].Body, err)
		}
	}
}

func load(t *testing.T, name string, v any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "gdoi", "testdata", name))
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func octets(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func udp848(src, dst string, payload []byte) lab.Frame {
	f := lab.UDP(net.HardwareAddr{2, 0, 0, 0, 0, 2}, src, dst, 848, 848, payload)
	return lab.Frame{At: time.Unix(1, 0), Len: len(f), Data: f}
}

// judgeFrames lets tshark dissect frames of one exchange.
func judgeFrames(t *testing.T, frames []lab.Frame, exchange int) {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("no tshark")
	}
	file := filepath.Join(t.TempDir(), "frames.pcap")
	if err := lab.WritePcap(file, frames); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tshark", "-n", "-r", file, "-d", "udp.port==848,isakmp", "-T", "fields", "-E", "occurrence=f",
		"-e", "isakmp.exchangetype", "-e", "isakmp.flags", "-e", "isakmp.messageid", "-e", "isakmp.length", "-e", "udp.length", "-e", "_ws.malformed").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(frames) {
		t.Fatalf("tshark read %d of %d frames", len(lines), len(frames))
	}
	for i, l := range lines {
		t.Log(l)
		f := strings.Split(l+"\t\t\t\t\t\t", "\t")
		var length, datagram int
		fmt.Sscan(f[3], &length)
		fmt.Sscan(f[4], &datagram)
		if f[0] != fmt.Sprint(exchange) || length != datagram-8 || f[5] != "" {
			t.Errorf("tshark on frame %d: %q", i+1, l)
		}
	}
}
