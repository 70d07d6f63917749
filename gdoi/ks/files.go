package ks

// State on disk: small files that are replaced as a whole, so that a crash leaves
// either the old content or the new one, and that nobody else can read.

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile bounds what is read: the largest state, a group of maxMembers, has some 16 MB,
// more where identities are long.
const maxFile = 64 << 20

// Files is how state gets to disk. WriteFile is atomic and durable: when it returns
// nil the content survives a crash, and a crash during it leaves the old content.
type Files interface {
	ReadFile(path string) ([]byte, error)
	WriteFile(path string, data []byte) error
}

// Disk is Files on the file system, mode 0600, directories 0700.
type Disk struct {
	// crash is asked before each step of a write; an error stops there, as a crash
	// would. Tests set it.
	crash func(step string) error
}

// ReadFile reads a file that only its owner may read: one that others can read or
// write is refused, since a secret may have leaked or been planted.
func (d Disk) ReadFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat() // of what is read, not of what has the name now
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a regular file", path)
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s: mode %04o lets others in, need 0600", path, st.Mode().Perm())
	case st.Size() > maxFile:
		return nil, fmt.Errorf("%s: %d octets are more than any state", path, st.Size())
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// WriteFile writes a temporary file beside path, syncs it, renames it and syncs the
// directory.
func (d Disk) WriteFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := d.step("create"); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	tmp := f.Name()
	err = d.fill(f, data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = d.step("rename")
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	if err := d.step("syncdir"); err != nil {
		return err
	}
	h, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer h.Close()
	return h.Sync()
}

// Remove removes a file.
func (d Disk) Remove(path string) error { return os.Remove(path) }

func (d Disk) fill(f *os.File, data []byte) error {
	if err := d.step("write"); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := d.step("sync"); err != nil {
		return err
	}
	return f.Sync()
}

func (d Disk) step(name string) error {
	if d.crash == nil {
		return nil
	}
	return d.crash(name)
}

// MachineGeneration names this machine and this boot of it. A copied state directory
// or a cloned disk gives another one; a virtual machine that is put back to a
// snapshot while it runs doesn't, which is why keys don't outlive the process.
func MachineGeneration() string {
	h := sha256.New()
	for _, p := range []string{"/etc/machine-id", "/proc/sys/kernel/random/boot_id"} {
		b, err := os.ReadFile(p)
		if err != nil {
			b = []byte("none")
		}
		fmt.Fprintf(h, "%s\n", strings.TrimSpace(string(b)))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
