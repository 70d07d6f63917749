package config

// Type 7 passwords: a fixed, public substitution that keeps a key from being read over
// the shoulder and from nothing else. Two decimal digits tell where in the key stream
// the text starts; then two hexadecimal digits an octet.

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"getvpn/internal/secret"
)

const stream7 = "dsfd;kfoA,.iyewrkldJKDHSUBsgvca69834ncxv9873254k;fg87"

func decode7(s string) (secret.Bytes, error) {
	if len(s) < 4 || len(s)%2 != 0 {
		return nil, fmt.Errorf("its length is odd or too small")
	}
	at, err := strconv.ParseUint(s[:2], 10, 8)
	if err != nil || int(at) >= len(stream7) {
		return nil, fmt.Errorf("its first two digits aren't an offset")
	}
	out, err := hex.DecodeString(s[2:])
	if err != nil {
		return nil, fmt.Errorf("it has digits that aren't hexadecimal")
	}
	for i := range out {
		out[i] ^= stream7[(int(at)+i)%len(stream7)]
	}
	return out, nil
}

// encode7 is used for a key of type 7 that wasn't read from text.
func encode7(key secret.Bytes) string {
	const at = 2
	out := key.Clone()
	for i := range out {
		out[i] ^= stream7[(at+i)%len(stream7)]
	}
	return fmt.Sprintf("%02d%X", at, []byte(out))
}
