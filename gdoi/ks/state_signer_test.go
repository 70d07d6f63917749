package ks

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"getvpn/internal/sealed"
	"getvpn/internal/secret"
)

// noRemove is for stores without a vault, which remove nothing.
type noRemove struct{ Files }

func (noRemove) Remove(string) error { return errors.ErrUnsupported }

// LoadSigner loads a key from PEM files, or makes it there.
func LoadSigner(f Files, dir, ref string) (*Signer, error) {
	s := SignerStore{Files: noRemove{f}, Dir: dir}
	return s.Load(ref)
}

const (
	signerPEM    = "d/ecdsa-K.pem"
	signerSealed = "d/key%20ecdsa-K.sealed"
)

// crashable is removable whose Remove is a step too.
type crashable struct{ removable }

func (f crashable) Remove(p string) error {
	if err := f.crash("remove"); err != nil {
		return err
	}
	err := f.removable.Remove(p)
	if err == nil {
		err = f.crash("removed")
	}
	return err
}

func signerStore(t *testing.T, f crashable, key string) *SignerStore {
	t.Helper()
	k, err := sealed.NewKey([]byte(strings.Repeat(key, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return &SignerStore{Files: f, Dir: "d", Vault: &sealed.Store{Files: f, Key: k, Dir: "d", Rand: rand.Reader}, Sealed: true}
}

func steady() crashable {
	return crashable{removable{&memFiles{m: map[string][]byte{}, crash: func(string) error { return nil }}}}
}

// A new key is sealed and found again; nothing of it is on the disk in clear.
func TestSignerIsSealed(t *testing.T) {
	f := steady()
	ref := KeyRef("K", true)
	a, err := signerStore(t, f, "a").Load(ref)
	if err != nil {
		t.Fatal(err)
	}
	b, err := signerStore(t, f, "a").Load(ref)
	if err != nil || !a.same(b) {
		t.Fatalf("another key the second time: %v", err)
	}
	if f.m[signerPEM] != nil || f.m[signerSealed] == nil {
		t.Errorf("files %v", slices.Sorted(maps.Keys(f.m)))
	}
	for p, c := range f.m {
		if bytes.Contains(c, []byte("PRIVATE")) {
			t.Errorf("%s holds PEM", p)
		}
	}
	if c, err := signerStore(t, f, "a").Load("K"); err != nil || c.same(a) {
		t.Errorf("the RSA key of the same name: %v", err)
	}
}

// A crash at any step of sealing a PEM file, and of the way back: the key is there, the
// same one, and the next try ends it.
func TestCrashAtEveryStepOfSealingASigner(t *testing.T) {
	ref := KeyRef("K", true)
	for _, seal := range []bool{true, false} {
		for step := 0; ; step++ {
			f := steady()
			s := signerStore(t, f, "a")
			s.Sealed = !seal // as it was before
			was, err := s.Load(ref)
			if err != nil {
				t.Fatal(err)
			}
			turn := func() error {
				s := signerStore(t, f, "a")
				if seal {
					return s.Seal("ecdsa-K.pem")
				}
				s.Sealed = false
				return s.Unseal(SignerPrefix + "ecdsa-K")
			}
			left, dead := step, false
			f.memFiles.crash = func(string) error {
				if left--; left < 0 {
					dead = true
					return errCrash
				}
				return nil
			}
			err = turn()
			f.memFiles.crash = func(string) error { return nil }
			if dead != (err != nil) {
				t.Fatalf("seal %v, step %d: %v", seal, step, err)
			}
			for _, sealedNow := range []bool{true, false} {
				s := signerStore(t, f, "a")
				s.Sealed = sealedNow
				s.Refused = func(_ string, why error, _ string) { t.Errorf("seal %v, step %d: %v", seal, step, why) }
				if is, err := s.Load(ref); err != nil || !is.same(was) {
					t.Fatalf("seal %v, step %d: the key is lost: %v %v", seal, step, err, slices.Sorted(maps.Keys(f.m)))
				}
			}
			first, last := signerPEM, signerSealed
			if !seal {
				first, last = last, first
			}
			if f.m[first] != nil {
				if err := turn(); err != nil {
					t.Errorf("seal %v, step %d: the second try: %v", seal, step, err)
				}
			}
			if f.m[first] != nil || f.m[last] == nil {
				t.Errorf("seal %v, step %d: %v", seal, step, slices.Sorted(maps.Keys(f.m)))
			}
			if !dead {
				t.Logf("seal %v: %d steps", seal, step)
				break
			}
		}
	}
}

// A PEM file beside a sealed key is one that was brought in: it is taken, and sealed.
func TestSignerBroughtIn(t *testing.T) {
	f := steady()
	ref := KeyRef("K", true)
	old, _ := signerStore(t, f, "a").Load(ref)
	pem, err := makeSigner(true)
	if err != nil {
		t.Fatal(err)
	}
	f.m[signerPEM] = pem
	is, err := signerStore(t, f, "a").Load(ref)
	if err != nil || is.same(old) {
		t.Errorf("not taken: %v", err)
	}
	if err := signerStore(t, f, "a").Seal("ecdsa-K.pem"); err != nil {
		t.Fatal(err)
	}
	if again, err := signerStore(t, f, "a").Load(ref); err != nil || !again.same(is) || f.m[signerPEM] != nil {
		t.Errorf("not kept: %v", err)
	}
	f.m[signerPEM] = []byte("rubbish")
	if err := signerStore(t, f, "a").Seal("ecdsa-K.pem"); err == nil || f.m[signerPEM] == nil {
		t.Errorf("rubbish was sealed: %v", err)
	}
	if _, err := signerStore(t, f, "a").Load(ref); err == nil || !strings.Contains(err.Error(), signerPEM) {
		t.Errorf("rubbish was passed over: %v", err)
	}
}

// What can't be opened is put aside, a new key is made, and with the right key the old
// one would still be there. Trouble of the disk isn't taken for that.
func TestSignerUnderAnotherKey(t *testing.T) {
	f := steady()
	ref := KeyRef("K", true)
	old, _ := signerStore(t, f, "a").Load(ref)
	was := f.m[signerSealed]
	var told string
	s := signerStore(t, f, "b")
	s.Refused = func(key string, why error, aside string) { told = fmt.Sprint(key, " ", why, " ", aside) }
	is, err := s.Load(ref)
	if err != nil || is.same(old) || !strings.HasPrefix(told, "K ") || !strings.Contains(told, "another key") || !strings.HasSuffix(told, signerSealed+".refused") {
		t.Errorf("%v %q", err, told)
	}
	if hex.EncodeToString(f.m[signerSealed+".refused"]) != hex.EncodeToString(was) {
		t.Error("the old key isn't kept")
	}
	told = ""
	s.Vault = brokenVault{s.Vault}
	if _, err := s.Load(ref); !errors.Is(err, errCrash) || told != "" || f.m[signerSealed] == nil {
		t.Errorf("%v %q", err, told)
	}
}

type brokenVault struct{ SignerVault }

func (brokenVault) Load(string) (secret.Bytes, error) {
	return nil, &fs.PathError{Op: "read", Path: "x", Err: errCrash}
}
