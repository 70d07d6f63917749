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
func TestRegistrationDecrypted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	bin := t.TempDir()
	if err := build(bin, "-tags", "keylog"); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(t.TempDir(), "keys")
	t.Setenv("GETVPN_IKE_KEYLOG", keys)
	w := newWorld(t, lab.Options{Members: 1, Bin: bin})
	w.startKS(policy{})
	c, err := w.Capture("registration", "core", "k1", 0, "udp port 848 or udp port 4500")
	w.must(err)
	w.must(w.startGM(1, member{}).Registered(30 * time.Second))
	frames, err := c.Stop()
	w.must(err)

	text, err := os.ReadFile(keys)
	w.must(err)
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	cookie, keyHex, ok := strings.Cut(line, ",")
	key, err := hex.DecodeString(keyHex)
	if !ok || err != nil {
		t.Fatalf("key log %q: %v", line, err)
	}

	conv := rfcdecode.Conversation{Key: key}
	var seen []string
	for _, f := range frames {
		p, ok := f.IP()
		if !ok || len(p.Payload) < 8+28 {
			continue
		}
		d := p.Payload[8:]
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
		seen = append(seen, string(m.Exchange))
	}
	if got := strings.Join(seen, ""); !strings.HasPrefix(got, "\x02\x02\x02\x02\x02\x02\x20\x20\x20\x20") {
		t.Errorf("exchanges %x: not six of main mode and four of PULL", got)
	}

	cmd := exec.Command("tshark", "-n", "-r", c.File, "-d", "udp.port==848,isakmp",
		"-o", "uat:ikev1_decryption_table:"+cookie+","+keyHex, "-V", "-O", "isakmp")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, stderr.String())
	}
	judgeTshark(t, string(out))
}

// judgeTshark reads tshark's verbose output frame by frame. It misreads the phase-1 SA
// with DOI 2 and SATs with one-octet identity lengths (both as the RFC has them): in
// frames with those, only what stands before them counts.
func judgeTshark(t *testing.T, out string) {
	decrypted, identities, keys := 0, 0, 0
	for _, frame := range strings.Split(out, "\nFrame ") {
		exempt := strings.Contains(frame, "Domain of interpretation: GDOI (2)")
		if strings.Contains(frame, "Malformed") && !exempt {
			t.Errorf("tshark finds a message malformed:\n%s", frame)
		}
		if strings.Contains(frame, "Decrypted Data") {
			decrypted++
		}
		if strings.Contains(frame, "Payload: Identification") {
			identities++
		}
		if strings.Contains(frame, "Payload: Key Download") {
			keys++
		}
	}
	t.Logf("tshark decrypted %d messages, %d with an identity, %d with keys", decrypted, identities, keys)
	if decrypted < 6 || identities < 3 || keys != 1 {
		t.Errorf("tshark decrypted %d messages, %d with an identity, %d with keys; want 6, 3, 1 at least", decrypted, identities, keys)
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
