package daemon

// Where a key server's groups, and the keys that sign their rekeys, are kept over
// restarts: sealed in the state directory, under a systemd credential where there is one,
// unless "crypto gdoi state off".

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"getvpn/config"
	"getvpn/gdoi/ks"
	"getvpn/internal/machine"
	"getvpn/internal/sealed"
	"getvpn/model/event"
)

// marks is a directory that ends with the boot, as the control socket beside it does; ""
// when there is none.
func (d *Daemon) marks() string {
	if d.o.marks != "" || d.o.Socket == "" {
		return d.o.marks
	}
	return strings.TrimSuffix(d.o.Socket, filepath.Ext(d.o.Socket)) + ".state"
}

// useState makes the key server keep its groups as c says, and forgets those that aren't
// in it. Before groups are added. The caller holds the lock.
func (d *Daemon) useState(c *config.Config) error {
	if err := d.keepSigners(c); err != nil {
		return err
	}
	keep := kept(c)
	if len(keep) == 0 {
		d.state.Use(nil)
		return d.forgetState(nil)
	}
	k, from, err := sealed.LoadKey(ks.Disk{}, d.random, os.Getenv("CREDENTIALS_DIRECTORY"), d.o.StateDir)
	if err != nil {
		return err
	}
	gen, err := machine.ReadGeneration(context.Background(), "")
	if err != nil {
		return err
	}
	if len(gen.Sources) == 0 {
		d.log.Warn("nothing here tells this machine from another: a copied state directory would be taken")
	}
	d.log.Info("key server state is sealed", "key", from, "machine", gen.Sources)
	d.state.Use(&sealed.Store{Files: ks.Disk{}, Key: k, Dir: d.o.StateDir, Marks: d.marks(), Machine: gen.Digest, Rand: d.random})
	return d.forgetState(keep)
}

// changeState follows a changed configuration.
func (d *Daemon) changeState(was, is *config.Config) error {
	had, has := len(kept(was)) > 0, len(kept(is)) > 0
	if had == has {
		return d.keepSigners(is) // new ones may have been brought in
	}
	if err := d.useState(is); err != nil {
		return err
	}
	if !has {
		return nil
	}
	return d.srv.Save()
}

// signerStore is where c wants the keys that sign rekeys.
func (d *Daemon) signerStore(c *config.Config) (*ks.SignerStore, error) {
	s := &ks.SignerStore{Files: ks.Disk{}, Dir: d.o.StateDir, Sealed: len(kept(c)) > 0, Refused: func(key string, why error, aside string) {
		d.bus.Emit(event.KSSigningKeyRefused{Key: key, Reason: why.Error(), Aside: aside})
	}}
	names, err := sealed.Names(d.o.StateDir, ks.SignerPrefix)
	if err != nil {
		return nil, err
	}
	if s.Sealed || len(names) > 0 {
		k, _, err := sealed.LoadKey(ks.Disk{}, d.random, os.Getenv("CREDENTIALS_DIRECTORY"), d.o.StateDir)
		if err != nil {
			return nil, err
		}
		// Not bound to the machine: nothing in it is used up, and members know it.
		s.Vault = &sealed.Store{Files: ks.Disk{}, Key: k, Dir: d.o.StateDir, Rand: d.random}
	}
	return s, nil
}

// signer is a key of the store, from memory when it was loaded before.
func (d *Daemon) signer(store *ks.SignerStore, ref string) (*ks.Signer, error) {
	if s := d.signers[ref]; s != nil {
		return s, nil
	}
	s, err := store.Load(ref)
	if err == nil {
		d.signers[ref] = s
	}
	return s, err
}

// keepSigners brings the keys that sign rekeys into the form that c wants. One that can't
// be stays as it is; it works in either form.
func (d *Daemon) keepSigners(c *config.Config) error {
	store, err := d.signerStore(c)
	if err != nil {
		return err
	}
	note := func(err error) {
		if err != nil {
			d.log.Warn("a key that signs rekeys stays as it is", "error", err)
		}
	}
	switch {
	case store.Sealed:
		found, err := os.ReadDir(d.o.StateDir)
		if err != nil {
			return fmt.Errorf("state directory: %w", err)
		}
		for _, f := range found {
			if ks.IsSignerFile(f.Name()) {
				note(store.Seal(f.Name()))
			}
		}
	case c.StateOff && store.Vault != nil:
		names, err := sealed.Names(d.o.StateDir, ks.SignerPrefix)
		if err != nil {
			return err
		}
		for _, n := range names {
			note(store.Unseal(n))
		}
	}
	return nil
}

// kept are the groups whose state c wants kept.
func kept(c *config.Config) (names []string) {
	for _, g := range c.Groups {
		if g.Local != nil && !c.StateOff {
			names = append(names, g.Name)
		}
	}
	return names
}

// forgetState removes what is kept of groups that aren't in keep.
func (d *Daemon) forgetState(keep []string) error {
	names, err := sealed.Names(d.o.StateDir, ks.StatePrefix)
	if err != nil {
		return err
	}
	store := &sealed.Store{Files: ks.Disk{}, Dir: d.o.StateDir}
	var errs []error
	for _, n := range names {
		if !slices.Contains(keep, strings.TrimPrefix(n, ks.StatePrefix)) {
			errs = append(errs, store.Forget(n))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("state of groups that are gone: %w", err)
	}
	return nil
}
