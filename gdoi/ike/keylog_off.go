//go:build !keylog

package ike

import (
	"getvpn/gdoi/isakmp"
	"getvpn/internal/secret"
)

// keylog does nothing: this build can't write keys anywhere.
func keylog(isakmp.Cookie, secret.Bytes) {}
