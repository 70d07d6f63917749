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
	}
	type try struct {
		tr    Transform
		clear []byte
		o     *Opener
	}
	var tries []try
	var in bytes.Buffer
	for i, tr := range allTransforms() {
		if tr.icvLen() < 16 && tr.Cipher == CipherAESGCM || tr.Cipher == CipherAESGMAC && tr.Mode == Transport {
			continue // scapy has the 16-octet ICV only; our GMAC script tunnels only
		}
		tek := testTEK(tr, byte(i+1))
		sa := mustSA(t, tek)
		s := mustSealer(t, sa)
		for n, clear := range [][]byte{ip4(60), ip4(1401), ip6(99), ip6(1400)} {
			tries = append(tries, try{tr, clear, mustOpener(t, sa)})
			auth := [...]string{"", "sha1", "sha256", "sha384", "sha512"}[tr.Auth]
			if err := json.NewEncoder(&in).Encode(job{tek.SPI, uint32(77 + n), cipherNames[tr.Cipher], auth, hex.EncodeToString(tek.Key), hex.EncodeToString(tek.AuthKey),
				tr.Mode == Tunnel, hex.EncodeToString(clear), hex.EncodeToString(sealOne(t, s, clear))}); err != nil {
				t.Fatal(err)
			}
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
		if r.Opened != hex.EncodeToString(try.clear) {
			t.Errorf("%s: scapy opened %s", name, r.Opened)
		}
		sealed, _ := hex.DecodeString(r.Sealed)
		got, why := try.o.Open(sealed)
		if why != DropNone {
			t.Errorf("%s: scapy's packet: %v", name, why)
			continue
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
	var want []string
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
		for _, p := range []string{"IPv4", "IPv6"} {
			args = append(args, "-o", fmt.Sprintf(`uat:esp_sa:"%s","*","*","0x%08x","%s","%s","%s","%s"`, p, tek.SPI, name, hexKey(tek.Key), auth[tr.Auth], hexKey(tek.AuthKey)))
		}
		for _, clear := range [][]byte{ip4(100), ip6(100)} {
			p := sealOne(t, s, clear)
			if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(p), Length: len(p)}, p); err != nil {
				t.Fatal(err)
			}
			want = append(want, trName(tr))
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	args = append(args, "-T", "fields", "-E", "separator=|", "-e", "esp.icv_good", "-e", "esp.icv_bad", "-e", "udp.srcport", "-e", "udp.dstport")
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
		if l != "1|0|50000|50001" && l != "1||50000|50001" {
			t.Errorf("%s (packet %d): %q", want[i], i+1, l)
		}
	}
	t.Logf("%d packets", len(want))
}
