package isakmp

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// foreign reads datagrams that other implementations sent: captured from ike-scan
// 1.9 and strongSwan 5.9.
func foreign(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/foreign/*.hex")
	if err != nil || len(names) == 0 {
		t.Fatal("no captures", err)
	}
	out := map[string][]byte{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		d, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(name, err)
		}
		out[strings.TrimSuffix(filepath.Base(name), ".hex")] = d
	}
	return out
}

// What others send parses, is legal, makes sense, and encodes to the same octets.
func TestForeignMessages(t *testing.T) {
	rows := map[string]Message{"ikescan-main1": Main1, "ikescan-main1-doi2": Main1, "ikescan-aggr1": Aggr1, "strongswan-main1": Main1, "strongswan-main2": Main2, "strongswan-main3": Main3, "strongswan-main4": Main4}
	for name, d := range foreign(t) {
		h, ps, err := ParseClear(d)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m, ok := rows[name]
		if !ok {
			t.Errorf("%s has no row", name)
		}
		if err := Check(m, false, ps); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if again, err := AppendClear(nil, h, ps); err != nil || !bytes.Equal(again, d) {
			t.Errorf("%s: % x, %v", name, again, err)
		}
		if p, ok := Find(ps, PayloadSA); ok {
			sa, err := ParseSA1(p.Body)
			if err != nil || len(sa.Proposals) != 1 || !bytes.Equal(sa.Payload().Body, p.Body) {
				t.Errorf("%s: %+v, %v", name, sa, err)
				continue
			}
			for _, tr := range sa.Proposals[0].Transforms {
				if x, err := tr.IKEAttrs(); err != nil || x.Encryption == 0 || x.Hash == 0 || x.Group == 0 || x.Auth == 0 {
					t.Errorf("%s: %+v, %v", name, x, err)
				}
			}
		}
		if p, ok := Find(ps, PayloadID); ok {
			if id, err := ParseID(p.Body); err != nil || string(id.Data) != "member1" {
				t.Errorf("%s: %+v, %v", name, id, err)
			}
		}
	}
}
