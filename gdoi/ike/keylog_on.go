//go:build keylog

package ike

import (
	"encoding/hex"
	"fmt"
	"os"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/secret"
)

// keylog appends a line of tshark's ikev1_decryption_table to the file that
// GETVPN_IKE_KEYLOG names. Exists only under the build tag keylog, which packages
// never carry.
func keylog(ci isakmp.Cookie, key secret.Bytes) {
	name := os.Getenv("GETVPN_IKE_KEYLOG")
	if name == "" {
		return
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "%s,%s\n", ci, hex.EncodeToString(key))
}
