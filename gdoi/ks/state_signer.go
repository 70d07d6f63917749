package ks

// Where the keys that sign rekeys are kept: sealed like the rest of the state, or in PEM
// ("crypto gdoi state off"). A PEM file in the state directory is always taken first: so a
// key is brought in, and one of an earlier version is taken over. It is sealed, read back,
// and only then removed; the other way round likewise, so that a crash anywhere leaves the
// key in one form or in both.

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
)

// SignerPrefix begins the names under which a vault keeps signing keys.
const SignerPrefix = "key "

// SignerVault is a Vault that can put aside what can't be opened, so that its name is
// free and nothing is lost. It returns where it put it.
type SignerVault interface {
	Vault
	Aside(name string) (path string, err error)
}

// SignerStore keeps signing keys.
type SignerStore struct {
	Files interface {
		Files
		Remove(path string) error
	}
	Dir    string      // of PEM files
	Vault  SignerVault // nil: there is none
	Sealed bool        // new keys go to the vault
	// Refused is told when a sealed key can't be opened and a new one takes its place. It
	// may be nil.
	Refused func(key string, why error, aside string)
}

const pemSuffix = ".pem"

// signerBase is a key's name among files: its kind, so that RSA and ECDSA keys may have the
// same name, and its escaped name.
func signerBase(ref string) (base, name string, ec bool) {
	name, ec = strings.CutPrefix(ref, ecdsaKey)
	return signerKind(ec) + "-" + url.PathEscape(name), name, ec
}

func (s *SignerStore) pem(base string) string { return filepath.Join(s.Dir, base+pemSuffix) }

// Load returns the key of a reference (KeyRef), and makes it when there is none.
func (s *SignerStore) Load(ref string) (*Signer, error) {
	base, name, ec := signerBase(ref)
	from, b, err := s.read(base, name)
	if errors.Is(err, fs.ErrNotExist) {
		from, b, err = s.make(base, ec)
	}
	defer clear(b)
	if err == nil {
		var k *Signer
		if k, err = parseSigner(b, ec); err == nil {
			return k, nil
		}
		err = fmt.Errorf("%s: %w", from, err)
	}
	return nil, fmt.Errorf("ks: rekey key %q: %w", name, err)
}

// read finds a key in either form.
func (s *SignerStore) read(base, name string) (from string, b []byte, err error) {
	from = s.pem(base)
	if b, err = s.Files.ReadFile(from); err == nil || !errors.Is(err, fs.ErrNotExist) || s.Vault == nil {
		return from, b, err
	}
	from = "its sealed file"
	b, err = s.Vault.Load(SignerPrefix + base)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return from, b, err
	}
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return from, nil, err // the disk's trouble may pass
	}
	aside, aerr := s.Vault.Aside(SignerPrefix + base)
	if aerr != nil {
		return from, nil, errors.Join(err, aerr)
	}
	if s.Refused != nil {
		s.Refused(name, err, aside)
	}
	return from, nil, fs.ErrNotExist
}

func (s *SignerStore) make(base string, ec bool) (from string, b []byte, err error) {
	if b, err = makeSigner(ec); err != nil {
		return "", nil, err
	}
	if s.Sealed {
		return "its sealed file", b, s.Vault.Save(SignerPrefix+base, b)
	}
	from = s.pem(base)
	return from, b, s.Files.WriteFile(from, b)
}

// IsSignerFile reports whether a file of the state directory is a signing key in PEM.
func IsSignerFile(name string) bool {
	base, ok := strings.CutSuffix(name, pemSuffix)
	return ok && (strings.HasPrefix(base, "rsa-") || strings.HasPrefix(base, "ecdsa-"))
}

// Seal takes over a PEM file of the state directory, if it holds a key.
func (s *SignerStore) Seal(file string) error {
	if err := s.seal(strings.TrimSuffix(file, pemSuffix)); err != nil {
		return fmt.Errorf("ks: sealing %s: %w", file, err)
	}
	return nil
}

func (s *SignerStore) seal(base string) error {
	b, err := s.Files.ReadFile(s.pem(base))
	if err != nil {
		return err
	}
	defer clear(b)
	if _, err := parseSigner(b, strings.HasPrefix(base, "ecdsa-")); err != nil {
		return err
	}
	if err := s.Vault.Save(SignerPrefix+base, b); err != nil {
		return err
	}
	got, err := s.Vault.Load(SignerPrefix + base)
	if err != nil {
		return err
	}
	defer got.Zero()
	if !got.Equal(b) {
		return errors.New("it reads back as something else")
	}
	return s.Files.Remove(s.pem(base))
}

// Unseal is the way back, for the key that the vault calls name. A PEM file that is there
// already stays as it is.
func (s *SignerStore) Unseal(name string) error {
	if err := s.unseal(name); err != nil {
		return fmt.Errorf("ks: unsealing %q: %w", name, err)
	}
	return nil
}

func (s *SignerStore) unseal(name string) error {
	file := s.pem(strings.TrimPrefix(name, SignerPrefix))
	b, err := s.Files.ReadFile(file)
	clear(b)
	if errors.Is(err, fs.ErrNotExist) {
		k, lerr := s.Vault.Load(name)
		if lerr != nil {
			return lerr
		}
		defer k.Zero()
		err = s.Files.WriteFile(file, k)
	}
	if err != nil {
		return err
	}
	return s.Vault.Forget(name)
}
