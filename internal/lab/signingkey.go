package lab

// The key that signs rekeys, which key servers of a group share.

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
)

// SigningKey makes an RSA key of a name and puts it into the state directories of key
// servers that haven't started yet, as one imports a key.
func (l *Lab) SigningKey(name string, nodes ...string) error {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("lab: signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return fmt.Errorf("lab: signing key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for _, node := range nodes {
		dir := l.stateDir(node)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("lab: signing key: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "rsa-"+name+".pem"), text, 0o600); err != nil {
			return fmt.Errorf("lab: signing key: %w", err)
		}
	}
	return nil
}
