package ike

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"getvpn/gdoi/isakmp"
)

// Main modes recorded with strongSwan as responder: given the random octets of the
// recording and charon's messages, our machine makes every octet of our messages again,
// and its keys and IV are those of charon's own log.
func TestRecordedMainModes(t *testing.T) {
	raw, err := os.ReadFile(recordFile)
	if err != nil {
		t.Fatal(err)
	}
	var all []recorded
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != len(foreignSuites) {
		t.Fatalf("%d recordings", len(all))
	}
	for _, r := range all {
		t.Run(r.Source, func(t *testing.T) {
			m, msg, err := NewInitiator(Params{Config: foreignConfig(r.PSK, r.Policy), Local: r.Local, Remote: r.Remote},
				bytes.NewReader(unhex(t, r.Rand)))
			if err != nil {
				t.Fatal(err)
			}
			for n := 0; ; n += 2 {
				if got := hex.EncodeToString(msg); got != r.Messages[n] {
					t.Fatalf("message %d:\n%s, want\n%s", n+1, got, r.Messages[n])
				}
				res, err := m.Handle(unhex(t, r.Messages[n+1]))
				if err != nil {
					t.Fatalf("message %d: %v", n+2, err)
				}
				if n == 4 {
					if res.Outcome == nil {
						t.Fatal("not complete after message 6")
					}
					break
				}
				msg = res.Reply
			}
			s := m.newest()
			for name, v := range map[string]struct {
				got  []byte
				want string
			}{
				"SKEYID_e": {s.km.E, r.SKEYIDe}, "cipher key": {s.km.Key, r.Key},
				"IV": {IV1(s.policy.Hash, s.gxi, s.gxr, s.policy.Encr.Block()), r.IV},
			} {
				if hex.EncodeToString(v.got) != v.want || v.want == "" {
					t.Errorf("%s = %x, want %s", name, v.got, v.want)
				}
			}
			// The last phase-1 block starts phase 2's IVs.
			last := unhex(t, r.Messages[5])
			if !bytes.Equal(m.outcome.prot.lastBlock, last[len(last)-s.policy.Encr.Block():]) {
				t.Error("last block")
			}
		})
	}
}

// The ordinary build has no way to write keys: neither the variable's name nor the
// function that reads the environment is in the package.
func TestOrdinaryBuildHasNoKeylog(t *testing.T) {
	if keylogBuilt {
		t.Skip("built with the tag keylog")
	}
	gobin, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the go command")
	}
	has := func(tags string) bool {
		out := filepath.Join(t.TempDir(), "ike.a")
		if msg, err := exec.Command(gobin, "build", "-tags", tags, "-o", out, ".").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, msg)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		name := []byte("GOLYEK_EKI_NPVTEG") // backwards, so that this test doesn't hold it
		slices.Reverse(name)
		return bytes.Contains(b, name)
	}
	if has("") {
		t.Error("the ordinary build knows the key log")
	}
	if !has("keylog") {
		t.Error("the search finds nothing in the build with the tag: it proves nothing")
	}
}

// tshark decrypts phase 1 and what follows with nothing but the cipher key. It takes the
// cipher from message 2, and reads an SA whose DOI is the GDOI in phase 2's layout, so
// the copy of messages 1 and 2 that it gets says DOI 1 (nothing it decrypts depends on it).
func TestTsharkDecrypts(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("needs tshark")
	}
	for _, s := range foreignSuites[3:7] { // both ciphers, long and expanded keys
		pi, pr := params(pskConfig("s3cret", s.p), false, false)
		i, _, msgs, err := run(t, pi, pr)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range msgs[:2] {
			copy(m[isakmp.HeaderLen+isakmp.GenericLen:], []byte{0, 0, 0, 1, 0, 0, 0, 1})
		}
		x := &Exchange{sa: &SA{prot: i.prot}, typ: isakmp.GroupKeyPull, mid: 0x01020304, iv: i.prot.iv(0x01020304)}
		for range 2 { // the second is chained
			m, err := pullMsg(x, "a nonce of the member")
			if err != nil {
				t.Fatal(err)
			}
			msgs = append(msgs, m)
		}
		pcap := filepath.Join(t.TempDir(), "m.pcap")
		if err := os.WriteFile(pcap, pcapOf(msgs), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("tshark", "-n", "-r", pcap, "-d", "udp.port==848,isakmp",
			"-o", "uat:ikev1_decryption_table:"+i.prot.ci.String()+","+hex.EncodeToString(i.prot.km.Key), "-V", "-O", "isakmp").Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"ID_IPV4_ADDR: 172.16.1.2", "ID_IPV4_ADDR: 172.16.8.2"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: no %q", s.name, want)
			}
		}
		if nonce := hex.EncodeToString([]byte("a nonce of the member")); strings.Count(string(out), nonce) != 2 {
			t.Errorf("%s: %d of 2 messages of the exchange are decrypted", s.name, strings.Count(string(out), nonce))
		}
		if strings.Contains(string(out), "Malformed") || strings.Contains(string(out), "Expert Info") {
			t.Errorf("%s: malformed:\n%s", s.name, out)
		}
	}
}

// pcapOf wraps datagrams in UDP over IPv4, directions in turn.
func pcapOf(msgs [][]byte) []byte {
	b := []byte{0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 228} // LINKTYPE_IPV4
	for i, m := range msgs {
		n := 28 + len(m)
		b = append(b, be32(uint32(i))...)
		b = append(b, 0, 0, 0, 0)
		b = append(append(b, be32(uint32(n))...), be32(uint32(n))...)
		from, to := gmAddr.Addr().As4(), ksAddr.Addr().As4()
		if i%2 == 1 {
			from, to = to, from
		}
		b = append(b, 0x45, 0, byte(n>>8), byte(n), 0, 0, 0, 0, 64, 17, 0, 0)
		b = append(append(b, from[:]...), to[:]...)
		b = append(b, 848>>8, 848&0xff, 848>>8, 848&0xff, byte((n-20)>>8), byte(n-20), 0, 0)
		b = append(b, m...)
	}
	return b
}
