package policy

// How show commands and the management model print policy.

import (
	"fmt"
	"strings"

	"getvpn/gdoi"
	"getvpn/ipsec"
	"getvpn/model"
)

// ReplayModel is an anti-replay setting for the management model.
func ReplayModel(r ipsec.Replay) model.Replay {
	return model.Replay{Mode: [...]string{"Disabled", "Count Based", "Time Based"}[r.Mode], Window: r.Window}
}

// CipherText names a KEK cipher as show commands do.
func CipherText(a gdoi.KEKAlgorithm) string {
	switch a {
	case gdoi.KEKAESCBC:
		return "AES"
	case gdoi.KEK3DES:
		return "3DES"
	case gdoi.KEKDES:
		return "DES"
	}
	return fmt.Sprint(uint16(a))
}

// SigHashText names a rekey signature's hash as show commands do.
func SigHashText(h gdoi.SigHash) string {
	switch h {
	case gdoi.SigHashMD5:
		return "HMAC_AUTH_MD5"
	case gdoi.SigHashSHA1:
		return "HMAC_AUTH_SHA"
	case gdoi.SigHashSHA256:
		return "HMAC_AUTH_SHA256"
	case gdoi.SigHashSHA384:
		return "HMAC_AUTH_SHA384"
	case gdoi.SigHashSHA512:
		return "HMAC_AUTH_SHA512"
	}
	return fmt.Sprint(uint16(h))
}

// KEKModel is a KEK for the management model.
func KEKModel(k *KEK, unicast bool) *model.KEK {
	if k == nil {
		return nil
	}
	return &model.KEK{SPI: k.SPI, Algorithm: CipherText(k.Cipher), KeyBits: k.KeyBits, SigHash: SigHashText(k.SigHash),
		SigBits: k.SigBits, Unicast: unicast, Lifetime: k.Lifetime, Seq: k.Seq, Public: k.Public}
}

// ACEModels prints a list.
func ACEModels(list []ipsec.ACE) []model.ACE {
	var out []model.ACE
	for _, e := range list {
		out = append(out, model.ACE{Text: e.String()})
	}
	return out
}

// KeyBytes are the octets of a transform's keys as show commands print them: the
// cipher's without salt, the integrity algorithm's.
func KeyBytes(t ipsec.Transform) (cipher, auth int) {
	cipher = t.CipherKeyLen()
	if t.Counter() {
		cipher = t.KeyBits / 8
	}
	return cipher, t.AuthKeyLen()
}

// TransformText is the transform as show commands print it, without a trailing space.
func TransformText(t ipsec.Transform) string { return strings.TrimSpace(t.String()) }
