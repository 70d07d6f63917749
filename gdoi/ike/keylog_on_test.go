//go:build keylog

package ike

import (
	"os"
	"path/filepath"
	"testing"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/secret"
)

const keylogBuilt = true

// A line is what tshark's ikev1_decryption_table takes: cookie, key, bare hex.
func TestKeylogLine(t *testing.T) {
	name := filepath.Join(t.TempDir(), "keys")
	t.Setenv("GETVPN_IKE_KEYLOG", name)
	keylog(isakmp.Cookie{1, 2, 3, 4, 5, 6, 7, 8}, secret.Bytes{0xaa, 0xbb})
	keylog(isakmp.Cookie{9}, secret.Bytes{0xcc})
	b, err := os.ReadFile(name)
	if err != nil || string(b) != "0102030405060708,aabb\n0900000000000000,cc\n" {
		t.Errorf("%q %v", b, err)
	}
}
