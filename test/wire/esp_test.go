package wire

// ESP between ours and two foreign implementations: scapy opens what we seal and we
// open what it seals; tshark decrypts what we seal and finds its ICV right. The
// plaintext must be the same octets. GMAC is known to neither: the kernel's ESP judges
// it (test/guest).

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"getvpn/ipsec"
)

type espCase struct {
	name string
	tr   ipsec.Transform
	// What the foreign parties call it; empty: unknown to them.
	scapyCrypt, scapyAuth   string
	tsharkCrypt, tsharkAuth string
}

func espCases() []espCase {
	var out []espCase
	auths := []struct {
		a             ipsec.Auth
		scapy, tshark string
	}{
		{ipsec.AuthSHA1, "HMAC-SHA1-96", "HMAC-SHA-1-96 [RFC2404]"},
		{ipsec.AuthSHA256, "SHA2-256-128", "HMAC-SHA-256-128 [RFC4868]"},
		{ipsec.AuthSHA384, "SHA2-384-192", "HMAC-SHA-384-192 [RFC4868]"},
		{ipsec.AuthSHA512, "SHA2-512-256", "HMAC-SHA-512-256 [RFC4868]"},
	}
	for _, mode := range []ipsec.Mode{ipsec.Tunnel, ipsec.Transport} {
		m := [...]string{"tunnel", "transport"}[mode]
		for _, a := range auths {
			add := func(tr ipsec.Transform, scapy, tshark string) {
				tr.Auth, tr.Mode = a.a, mode
				out = append(out, espCase{fmt.Sprintf("%v %s", tr, m), tr, scapy, a.scapy, tshark, a.tshark})
			}
			add(ipsec.Transform{Cipher: ipsec.CipherNull}, "NULL", "NULL")
			add(ipsec.Transform{Cipher: ipsec.Cipher3DES}, "3DES", "TripleDES-CBC [RFC2451]")
			for _, bits := range []int{128, 192, 256} {
				add(ipsec.Transform{Cipher: ipsec.CipherAESCBC, KeyBits: bits}, "AES-CBC", "AES-CBC [RFC3602]")
			}
		}
		for _, bits := range []int{128, 192, 256} {
			for _, icv := range []int{8, 12, 16} {
				tr := ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: bits, ICVLen: icv, Mode: mode}
				scapy := ""
				if icv == 16 { // scapy checks no shorter one
					scapy = "AES-GCM"
				}
				out = append(out, espCase{fmt.Sprintf("%v icv %d %s", tr, icv, m), tr, scapy, "",
					fmt.Sprintf("AES-GCM with %d octet ICV [RFC4106]", icv), "NULL"})
			}
		}
	}
	return out
}

func (c espCase) tek(spi uint32) ipsec.TEK {
	octets := func(n int) []byte { b := make([]byte, n); rand.Read(b); return b }
	t := ipsec.TEK{SPI: spi, Transform: c.tr, Key: octets(c.tr.CipherKeyLen()), AuthKey: octets(c.tr.AuthKeyLen()),
		Lifetime: time.Hour, Expires: time.Now().Add(time.Hour)}
	if c.tr.Counter() {
		t.SIDBits, t.SIDs = 24, []uint32{7}
	}
	return t
}

// clearPackets are UDP datagrams of several lengths, IPv4 and IPv6, with right
// checksums (scapy would mend wrong ones).
func clearPackets() [][]byte {
	var out [][]byte
	for i, n := range []int{0, 1, 15, 16, 17, 255, 1400} {
		payload := bytes.Repeat([]byte{byte(0xa0 + i)}, n)
		u := make([]byte, 8, 8+n)
		binary.BigEndian.PutUint16(u, 40001)
		binary.BigEndian.PutUint16(u[2:], 40002)
		binary.BigEndian.PutUint16(u[4:], uint16(8+n))
		u = append(u, payload...)
		for _, v6 := range []bool{false, true} {
			var ip, pseudo []byte
			if v6 {
				ip = make([]byte, 40)
				ip[0], ip[6], ip[7] = 0x60, 17, 61
				binary.BigEndian.PutUint16(ip[4:], uint16(len(u)))
				copy(ip[8:], []byte{0x20, 1, 0xd, 0xb8, 0, 1, 0, 1, 15: 0x10})
				copy(ip[24:], []byte{0x20, 1, 0xd, 0xb8, 0, 1, 0, 2, 15: 0x10})
				pseudo = append(append(pseudo, ip[8:40]...), 0, 0, byte(len(u)>>8), byte(len(u)), 0, 0, 0, 17)
			} else {
				ip = []byte{0x45, 0xb8, 0, 0, byte(i), 77, 0, 0, 61, 17, 0, 0, 10, 1, 1, 10, 10, 1, 2, 10}
				binary.BigEndian.PutUint16(ip[2:], uint16(20+len(u)))
				binary.BigEndian.PutUint16(ip[10:], ^onesSum(ip))
				pseudo = append(append(pseudo, ip[12:20]...), 0, 17, byte(len(u)>>8), byte(len(u)))
			}
			d := bytes.Clone(u)
			binary.BigEndian.PutUint16(d[6:], ^onesSum(append(pseudo, d...)))
			out = append(out, append(ip, d...))
		}
	}
	return out
}

func onesSum(b []byte) uint16 {
	var s uint32
	for i, x := range b {
		if i%2 == 0 {
			s += uint32(x) << 8
		} else {
			s += uint32(x)
		}
	}
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func seal(t *testing.T, tek ipsec.TEK, packets [][]byte) [][]byte {
	t.Helper()
	sa, err := ipsec.NewSA(tek, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := sa.NewSealer(nil)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for _, p := range packets {
		buf := make([]byte, ipsec.Headroom+len(p)+ipsec.Tailroom)
		copy(buf[ipsec.Headroom:], p)
		start, n, why := s.Seal(buf, ipsec.Headroom, len(p))
		if why != ipsec.DropNone {
			t.Fatal(why)
		}
		out = append(out, buf[start:start+n])
	}
	return out
}

// need skips where a foreign party isn't installed, except under continuous check,
// where it must be.
func need(t *testing.T, file string) {
	t.Helper()
	if _, err := os.Stat(file); err != nil {
		if os.Getenv("GETVPN_CI") != "" {
			t.Fatal(err)
		}
		t.Skip("not installed: ", file)
	}
}

func hexAll(ps [][]byte) []string {
	var out []string
	for _, p := range ps {
		out = append(out, hex.EncodeToString(p))
	}
	return out
}

func TestESPBothWaysWithScapy(t *testing.T) {
	need(t, "/usr/lib/python3/dist-packages/scapy")
	type sa struct {
		SPI       uint32   `json:"spi"`
		Crypt     string   `json:"crypt"`
		Key       string   `json:"key"`
		ICV       int      `json:"icv"`
		Auth      string   `json:"auth"`
		AuthKey   string   `json:"authkey"`
		Transport bool     `json:"transport"`
		Sealed    []string `json:"sealed"`
		Plain     []string `json:"plain"`
	}
	packets := clearPackets()
	var sas []sa
	var teks []ipsec.TEK
	cases := slices.DeleteFunc(espCases(), func(c espCase) bool { return c.scapyCrypt == "" })
	for i, c := range cases {
		tek := c.tek(uint32(0x10000 + i))
		teks = append(teks, tek)
		icv := 0
		if c.tr.Cipher == ipsec.CipherAESGCM {
			icv = c.tr.ICVLen
		}
		sas = append(sas, sa{tek.SPI, c.scapyCrypt, hex.EncodeToString(tek.Key), icv, c.scapyAuth, hex.EncodeToString(tek.AuthKey),
			c.tr.Mode == ipsec.Transport, hexAll(seal(t, tek, packets)), hexAll(packets)})
	}
	in, err := json.Marshal(sas)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/python3", "testdata/scapy_esp.py")
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	raw, err := cmd.Output()
	if err != nil {
		t.Fatalf("scapy: %v\n%s", err, stderr.String())
	}
	var answers []struct{ Opened, Sealed []string }
	if err := json.Unmarshal(raw, &answers); err != nil || len(answers) != len(cases) {
		t.Fatal(len(answers), err)
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := answers[i]
			if len(a.Opened) != len(packets) || len(a.Sealed) != len(packets) {
				t.Fatalf("scapy opened %d and sealed %d of %d", len(a.Opened), len(a.Sealed), len(packets))
			}
			ours, err := ipsec.NewSA(teks[i], time.Now())
			if err != nil {
				t.Fatal(err)
			}
			opener, err := ours.NewOpener()
			if err != nil {
				t.Fatal(err)
			}
			for j, p := range packets {
				if want := hex.EncodeToString(p); a.Opened[j] != want {
					t.Errorf("packet %d: scapy opened\n%s, not\n%s", j, a.Opened[j], want)
				}
				b, err := hex.DecodeString(a.Sealed[j])
				if err != nil {
					t.Fatal(err)
				}
				inner, why := opener.Open(b)
				if why != ipsec.DropNone || !bytes.Equal(inner, p) {
					t.Errorf("packet %d sealed by scapy: %v\n%x, not\n%x", j, why, inner, p)
				}
			}
		})
	}
}

func TestESPByTshark(t *testing.T) {
	need(t, "/usr/bin/tshark")
	packets := clearPackets()
	var frames [][]byte
	args := []string{"-n", "-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"}
	cases := espCases()
	for i, c := range cases {
		tek := c.tek(uint32(0x20000 + i))
		for j, p := range seal(t, tek, packets) {
			ethertype := []byte{8, 0}
			if packets[j][0]>>4 == 6 {
				ethertype = []byte{0x86, 0xdd}
			}
			frames = append(frames, append(append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}, ethertype...), p...))
		}
		word := func(b []byte) string {
			if len(b) == 0 {
				return ""
			}
			return "0x" + hex.EncodeToString(b)
		}
		for _, family := range []string{"IPv4", "IPv6"} {
			args = append(args, "-o", fmt.Sprintf(`uat:esp_sa:"%s","*","*","%#08x","%s","%s","%s","%s"`,
				family, tek.SPI, c.tsharkCrypt, word(tek.Key), c.tsharkAuth, word(tek.AuthKey)))
		}
	}
	file := filepath.Join(t.TempDir(), "esp.pcap")
	writePcap(t, file, frames)
	args = append(args, "-r", file, "-T", "fields", "-e", "esp.spi", "-e", "esp.sequence", "-e", "esp.icv_good", "-e", "udp.payload", "-e", "udp.dstport")
	cmd := exec.Command("tshark", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	raw, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, stderr.String())
	}
	lines := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	if len(lines) != len(frames) {
		t.Fatalf("tshark shows %d frames of %d\n%s", len(lines), len(frames), stderr.String())
	}
	for i, line := range lines {
		c, p, j := cases[i/len(packets)], packets[i%len(packets)], i%len(packets)
		hdr := 20
		if p[0]>>4 == 6 {
			hdr = 40
		}
		want := fmt.Sprintf("0x%08x\t%d\t1\t%s\t40002", 0x20000+i/len(packets), j+1, hex.EncodeToString(p[hdr+8:]))
		if line != want {
			t.Errorf("%s, packet %d: tshark says\n%q, not\n%q", c.name, j, line, want)
		}
	}
}

// writePcap writes Ethernet frames in the classic format.
func writePcap(t *testing.T, file string, frames [][]byte) {
	t.Helper()
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0)
	for i, f := range frames {
		b = le.AppendUint32(le.AppendUint32(b, uint32(1700000000+i)), 0)
		b = le.AppendUint32(le.AppendUint32(b, uint32(len(f))), uint32(len(f)))
		b = append(b, f...)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
