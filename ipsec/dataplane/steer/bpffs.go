package steer

// The folder of pins.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// EnsureBPFFS mounts a bpffs at dir (made if missing) unless dir is in one already.
// Not everyone sees the same /sys/fs/bpf: `ip netns exec` gives each command a /sys
// of its own, so pins belong to a mount elsewhere, such as under /run.
func EnsureBPFFS(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("steer: folder for a bpffs: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("steer: %s: %w", dir, err)
	}
	if st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("steer: mounting a bpffs at %s: %w", dir, err)
	}
	return nil
}

func mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// repin pins m at p in place of whatever is there.
func repin(m *ebpf.Map, p string) error {
	if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return m.Pin(p)
}

// removePins removes a folder of pins; a program whose last pin goes is detached.
// What can't be removed stays for the next start.
func removePins(dir string) {
	found, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, f := range found {
		if !f.IsDir() {
			os.Remove(filepath.Join(dir, f.Name()))
		}
	}
	os.Remove(dir)
}
