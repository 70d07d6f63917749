package e2e

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"getvpn/internal/lab"
	"getvpn/test/rfcdecode"
)

// Issue item 2: with the phase-1 key tshark decrypts every phase-1 and registration
// message; the second decoder, with the same key, checks each field that it reads
// and those that tshark misreads.
func Test_wire_04_RegistrationDecrypted(t *testing.T) {
	t.Parallel()
	w, keys := newOpenWorld(t, 1)
	w.startKS(policy{})
	c, err := w.Capture("registration", "core", "k1", 0, "udp port 848 or udp port 4500")
	w.must(err)
	w.must(w.startGM(1, member{}).Registered(30 * time.Second))
	frames, err := c.Stop()
	w.must(err)

	var cookie string
	var key []byte
	for cookie, key = range phase1Keys(t, keys) { // of the only conversation
	}

	conv := rfcdecode.Conversation{Key: key}
	var seen []string
	for _, p := range isakmpDatagrams(frames) {
		d := p.isakmp
		if hex.EncodeToString(d[:8]) != cookie {
			continue
		}
		m, fresh := conv.Feed(d)
		if !fresh {
			continue
		}
		for _, problem := range m.Problems {
			t.Errorf("message %d (exchange %d, payloads %v): %s", len(seen)+1, m.Exchange, m.Types(), problem)
		}
		if m.Exchange != rfcdecode.Informational {
			seen = append(seen, string(m.Exchange))
		}
	}
	if got := strings.Join(seen, ""); !strings.HasPrefix(got, "\x02\x02\x02\x02\x02\x02\x20\x20\x20\x20") {
		t.Errorf("exchanges %x: not six of main mode and four of PULL", got)
	}

	forTshark := filepath.Join(t.TempDir(), "registration.pcap")
	w.must(lab.WritePcap(forTshark, underDOI1(frames)))
	cmd := exec.Command("tshark", "-n", "-r", forTshark, "-d", "udp.port==848,isakmp",
		"-o", "uat:ikev1_decryption_table:"+cookie+","+hex.EncodeToString(key), "-V", "-O", "isakmp")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, stderr.String())
	}
	judgeTshark(t, string(out))
}

// underDOI1 copies frames and writes the IPsec DOI into the SA payloads of main mode.
// tshark reads an SA payload of DOI 2 in the layout of RFC 6407 only and then knows
// neither cipher nor hash; with DOI 1 it reads the transforms, which the second
// decoder has judged as they were sent. Nothing that tshark decrypts depends on it.
func underDOI1(frames []lab.Frame) []lab.Frame {
	var out []lab.Frame
	for _, f := range frames {
		d := bytes.Clone(f.Data)
		// Ethernet 14, IPv4 20, UDP 8, ISAKMP 28, generic header 4, DOI, situation.
		if sa := 14 + 20 + 8 + 28; len(d) > sa+12 && d[sa-28+16] == rfcdecode.TypeSA && d[sa-28+18] == rfcdecode.MainMode {
			copy(d[sa+4:], []byte{0, 0, 0, 1, 0, 0, 0, 1})
			d[14+20+6], d[14+20+7] = 0, 0 // UDP: no checksum
		}
		out = append(out, lab.Frame{At: f.At, Len: f.Len, Data: d})
	}
	return out
}

// judgeTshark reads tshark's verbose output frame by frame. It misreads SATs with
// one-octet identity lengths (as the RFC has them): what it says of the frame with
// the group's SA doesn't count.
func judgeTshark(t *testing.T, out string) {
	found := map[string]int{}
	for _, frame := range strings.Split(out, "Internet Security Association and Key Management Protocol")[1:] {
		if strings.Contains(frame, "Malformed") && !strings.Contains(frame, "Domain of interpretation: GDOI (2)") {
			t.Errorf("tshark finds a message malformed:\n%s", frame)
		}
		for _, p := range []string{"Identification (5)", "Hash (8)", "Nonce (10)", "Key Download (17)", "SA TEK (16)", "Notification (11)"} {
			if strings.Contains(frame, "Payload: "+p) {
				found[p]++
			}
		}
	}
	t.Logf("tshark found %v", found)
	if found["Identification (5)"] < 3 || found["Hash (8)"] < 6 || found["Nonce (10)"] < 4 || found["Key Download (17)"] != 1 {
		t.Errorf("tshark found %v; three identities, six hashes, four nonces and one key download are there", found)
	}
}

// The ordinary programs can't write keys anywhere.
func TestOrdinaryBuildHasNoKeylog(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the programs are built for root only")
	}
	b, err := os.ReadFile(filepath.Join(binDir, "getvpnd"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("GETVPN_IKE_KEYLOG")) {
		t.Error("getvpnd holds the key log's switch")
	}
}
