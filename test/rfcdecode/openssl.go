package rfcdecode

// What OpenSSL's command line says of signatures and HASH values: a judge that shares
// no code with the product.

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// OpenSSL runs it in a folder of its own.
type OpenSSL struct{ Dir string }

func (o OpenSSL) run(input []byte, args ...string) (string, error) {
	c := exec.Command("openssl", args...)
	c.Stdin = bytes.NewReader(input)
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("openssl %s: %w: %s", args[0], err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// Verify checks a rekey's signature with the rekey SA's public key.
func (o OpenSSL) Verify(k *RekeySA, r *Rekey) error {
	if r.SIG == nil {
		return fmt.Errorf("RFC 6407 §4: no signature")
	}
	hash := map[uint64]string{4: "sha256", 5: "sha384", 6: "sha512"}[k.SigAlg] // RFC 4754 §7
	sig := r.SIG
	if k.SigAlg == 1 {
		hash = map[uint64]string{1: "md5", 2: "sha1", 3: "sha256", 4: "sha384", 5: "sha512"}[k.SigHash]
	} else {
		// RFC 4754 §7 has r and s side by side; OpenSSL wants them in DER.
		n := len(sig) / 2
		var err error
		if sig, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:])}); err != nil {
			return err
		}
	}
	if hash == "" {
		return fmt.Errorf("RFC 6407 §5.3.6: signature algorithm %d, hash %d", k.SigAlg, k.SigHash)
	}
	pub, file := filepath.Join(o.Dir, "pub.pem"), filepath.Join(o.Dir, "sig")
	if err := os.WriteFile(pub, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.Public}), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(file, sig, 0o600); err != nil {
		return err
	}
	out, err := o.run(r.Signed, "dgst", "-"+hash, "-verify", pub, "-signature", file)
	if err == nil && strings.TrimSpace(out) != "Verified OK" {
		err = fmt.Errorf("openssl dgst: %s", out)
	}
	return err
}

// HMAC computes one.
func (o OpenSSL) HMAC(digest string, key, message []byte) ([]byte, error) {
	out, err := o.run(message, "mac", "-digest", digest, "-macopt", "hexkey:"+hex.EncodeToString(key), "-in", "-", "HMAC")
	if err != nil {
		return nil, err
	}
	return hex.DecodeString(strings.TrimSpace(out))
}

// VerifyAck derives the key of acknowledgements from the KEK and checks the HASH.
func (o OpenSSL) VerifyAck(k *RekeySA, a *Ack) error {
	key, err := o.HMAC(k.AckDigest(), k.Key, k.AckInput())
	if err != nil {
		return err
	}
	want, err := o.HMAC(k.AckDigest(), key, a.Hashed)
	if err == nil && !bytes.Equal(want, a.HASH) {
		err = fmt.Errorf("RFC 8263 §3.2: HASH %x, openssl says %x", a.HASH, want)
	}
	return err
}
