package ipsec

// Foreign judges: scapy opens what we seal and we open what scapy seals, and tshark
// finds our ICVs good and the content right. Skipped where they aren't installed.

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

var cipherNames = map[Cipher]string{CipherNull: "null", Cipher3DES: "3des", CipherAESCBC: "cbc", CipherAESGCM: "gcm", CipherAESGMAC: "gmac"}

// withMetadata gives a TEK time-based anti-replay, and in the long form a tag, and
// returns with it what is inside the encryption of clear at 123.456 s with tag 0xbeef.
func withMetadata(t *testing.T, tek TEK, clear []byte, long bool) (TEK, []byte) {
	t.Helper()
	tek.Replay, tek.Metadata = Replay{Mode: ReplayTime, Window: 5}, Metadata{Header: MetadataShort, SGT: long}
	tek.SPI += 1 << 8
	head, next, inner := "01%02x0c"+"0d000001e240"+"000000", 4, clear
	if long {
		tek.Metadata.Header = MetadataLong
		tek.SPI += 1 << 8
		head = "01%02x10" + "0d000001e240" + "12beef" + "00000000"
	}
	switch {
	case tek.Transform.Mode == Transport:
		next, inner = protoUDP, clear[espAt(clear):]
	case clear[0]>>4 == 6:
		next = protoIPv6
	}
	b, err := hex.DecodeString(fmt.Sprintf(head, next))
	if err != nil {
		t.Fatal(err)
	}
	return tek, append(b, inner...)
}

func TestScapy(t *testing.T) {
	if exec.Command("/usr/bin/python3", "-c", "import scapy.layers.ipsec").Run() != nil {
		t.Skip("no scapy")
	}
	type job struct {
		SPI     uint32 `json:"spi"`
		Seq     uint32 `json:"seq"`
		Cipher  string `json:"cipher"`
		Auth    string `json:"auth"`
		Key     string `json:"key"`
		AuthKey string `json:"authkey"`
		Tunnel  bool   `json:"tunnel"`
		Clear   string `json:"clear"`
		Sealed  string `json:"sealed"`
		Inside  string `json:"inside,omitempty"` // metadata and what follows it
	}
	type try struct {
		tr    Transform
		clear []byte
		want  []byte // what scapy must open
		o     *Opener
		sgt   uint16
	}
	var tries []try
	var in bytes.Buffer
	// give has scapy open what s seals, and seal with that number what o then opens.
	give := func(tr Transform, tek *TEK, s *Sealer, o *Opener, seq uint32, clear, inside []byte, sgt uint16) {
		t.Helper()
		want := clear
		if inside != nil {
			want = inside
		}
		tries = append(tries, try{tr, clear, want, o, sgt})
		auth := [...]string{"", "sha1", "sha256", "sha384", "sha512"}[tr.Auth]
		if err := json.NewEncoder(&in).Encode(job{tek.SPI, seq, cipherNames[tr.Cipher], auth, hex.EncodeToString(tek.Key), hex.EncodeToString(tek.AuthKey),
			tr.Mode == Tunnel, hex.EncodeToString(clear), hex.EncodeToString(sealOne(t, s, clear)), hex.EncodeToString(inside)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, tr := range allTransforms() {
		if tr.icvLen() < 16 && tr.Cipher == CipherAESGCM || tr.Cipher == CipherAESGMAC && tr.Mode == Transport {
			continue // scapy has the 16-octet ICV only; our GMAC script tunnels only
		}
		tek := testTEK(tr, byte(i+1))
		sa := mustSA(t, tek)
		s := mustSealer(t, sa)
		for n, clear := range [][]byte{ip4(60), ip4(1401), ip6(99), ip6(1400)} {
			give(tr, &tek, s, mustOpener(t, sa), uint32(77+n), clear, nil, 0)
		}
		for n, clear := range [][]byte{ip4(61), ip6(1300)} {
			tek, inside := withMetadata(t, tek, clear, n == 1)
			sa := mustSA(t, tek)
			s, o := mustSealer(t, sa), mustOpener(t, sa)
			s.Stamp, o.Now, s.SGT = 123456, 123999, 0xbeef
			give(tr, &tek, s, o, uint32(99+n), clear, inside, uint16(n)*0xbeef)
		}
	}
	cmd := exec.Command("/usr/bin/python3", "testdata/scapy_esp.py")
	cmd.Stdin = &in
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(tries) {
		t.Fatalf("%d answers to %d packets: %s", len(lines), len(tries), stderr.String())
	}
	for i, try := range tries {
		name := fmt.Sprintf("%s, %d octets", trName(try.tr), len(try.clear))
		var r struct{ Opened, Sealed, Error string }
		if err := json.Unmarshal([]byte(lines[i]), &r); err != nil || r.Error != "" {
			t.Errorf("%s: %v %s", name, err, r.Error)
			continue
		}
		if r.Opened != hex.EncodeToString(try.want) {
			t.Errorf("%s: scapy opened %s", name, r.Opened)
		}
		sealed, _ := hex.DecodeString(r.Sealed)
		got, why := try.o.Open(sealed)
		if why != DropNone {
			t.Errorf("%s: scapy's packet: %v", name, why)
			continue
		}
		if try.o.SGT() != try.sgt {
			t.Errorf("%s: tag %#x", name, try.o.SGT())
		}
		// scapy's outer hop limit is its own; compare with what that does to the inner one.
		if hl := espAt(try.clear); !bytes.Equal(got[hl:], try.clear[hl:]) || len(got) != len(try.clear) {
			t.Errorf("%s: we opened %x", name, got)
		}
	}
	t.Logf("%d packets each way", len(tries))
}

func TestTshark(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("no tshark")
	}
	file := filepath.Join(t.TempDir(), "esp.pcap")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := pcapgo.NewWriter(f)
	if err := w.WriteFileHeader(65535, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	args := []string{"-n", "-r", file, "-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"}
	enc := map[Cipher]string{CipherNull: "NULL", Cipher3DES: "TripleDES-CBC [RFC2451]", CipherAESCBC: "AES-CBC [RFC3602]"}
	auth := map[Auth]string{AuthNone: "NULL", AuthSHA1: "HMAC-SHA-1-96 [RFC2404]", AuthSHA256: "HMAC-SHA-256-128 [RFC4868]",
		AuthSHA384: "HMAC-SHA-384-192 [RFC4868]", AuthSHA512: "HMAC-SHA-512-256 [RFC4868]"}
	var want, contents []string
	hexKey := func(b []byte) string {
		if len(b) == 0 {
			return ""
		}
		return "0x" + hex.EncodeToString(b)
	}
	for i, tr := range allTransforms() {
		if tr.Mode == Transport || tr.Cipher == CipherAESGMAC {
			continue // tshark has no GMAC
		}
		tek := testTEK(tr, byte(i+1))
		s := mustSealer(t, mustSA(t, tek))
		name := enc[tr.Cipher]
		if tr.Cipher == CipherAESGCM {
			name = fmt.Sprintf("AES-GCM with %d octet ICV [RFC4106]", tr.icvLen())
		}
		sa := func(p string, tek *TEK) {
			args = append(args, "-o", fmt.Sprintf(`uat:esp_sa:"%s","*","*","0x%08x","%s","%s","%s","%s"`, p, tek.SPI, name, hexKey(tek.Key), auth[tr.Auth], hexKey(tek.AuthKey)))
		}
		sa("IPv4", &tek)
		sa("IPv6", &tek)
		for n, clear := range [][]byte{ip4(100), ip6(100), ip4(100), ip6(100)} {
			content := "|50000|50001|" + hex.EncodeToString(clear)
			if n >= 2 { // metadata: a protocol that tshark leaves as it is
				tek, inside := withMetadata(t, tek, clear, n == 3)
				for _, p := range []string{"IPv4", "IPv6"} {
					sa(p, &tek)
				}
				s = mustSealer(t, mustSA(t, tek))
				s.Stamp, s.SGT = 123456, 0xbeef
				content = "|||" + hex.EncodeToString(inside)
			}
			p := sealOne(t, s, clear)
			if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(p), Length: len(p)}, p); err != nil {
				t.Fatal(err)
			}
			want, contents = append(want, trName(tr)), append(contents, content)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	args = append(args, "-T", "fields", "-E", "separator=|", "-e", "esp.icv_good", "-e", "esp.icv_bad", "-e", "udp.srcport", "-e", "udp.dstport", "-e", "esp.contained_data")
	var stderr bytes.Buffer
	cmd := exec.Command("tshark", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines for %d packets: %s", len(lines), len(want), stderr.String())
	}
	for i, l := range lines {
		if l != "1|0"+contents[i] && l != "1|"+contents[i] {
			t.Errorf("%s (packet %d): %q, want %q", want[i], i+1, l, contents[i])
		}
	}
	t.Logf("%d packets", len(want))
}
