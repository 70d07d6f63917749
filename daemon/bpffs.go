package daemon

// The folder of pinned policy must be on a bpf file system that outlives this process,
// or permits would pass in clear when it dies.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"getvpn/ipsec/dataplane/steer"

	"golang.org/x/sys/unix"
)

// systemBPF is where every distribution has it.
const systemBPF = "/sys/fs/bpf"

// bpfFolder is the question and what it needs of the system.
type bpfFolder struct {
	dir    string
	system string
	lasts  func() bool // what is mounted now outlives the process
	mount  func(dir string) error
}

func newBPFFolder(dir string) bpfFolder {
	return bpfFolder{dir, systemBPF, hostMounts, steer.EnsureBPFFS}
}

// ready makes sure that pins can stand in the folder. It mounts the system's bpf file
// system where that is missing, and none anywhere else: what lies in a folder that the
// operator named isn't ours to hide.
func (b bpfFolder) ready() error {
	on, err := onBPF(b.dir)
	if err != nil || on {
		return err
	}
	below := b.dir == b.system || strings.HasPrefix(b.dir, b.system+"/")
	if below && b.lasts() {
		if _, err := os.Stat(b.system); err == nil {
			if err := b.mount(b.system); err == nil {
				return nil
			}
		}
	}
	at, give := b.dir, ""
	if below {
		// A file system under the own /sys of a network namespace's command or of a
		// container goes with it.
		at, give = "/run/getvpn-bpf", ", and give --bpf-dir /run/getvpn-bpf"
	}
	return fmt.Errorf("--bpf-dir %s isn't on a bpf file system that outlives this process; do: mkdir -p %s && mount -t bpf bpf %s%s",
		b.dir, at, at, give)
}

// onBPF looks at dir or, when it isn't there yet, at where it will be made.
func onBPF(dir string) (bool, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			return st.Type == unix.BPF_FS_MAGIC, nil
		}
		up := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || up == dir {
			return false, fmt.Errorf("--bpf-dir %s: %w", dir, err)
		}
		dir = up
	}
}

// hostMounts reports whether this process sees the mounts of process 1. `ip netns exec`
// gives a command mounts of its own, which go when it ends.
func hostMounts() bool {
	theirs, err := os.Readlink("/proc/1/ns/mnt")
	if err != nil {
		return false
	}
	ours, err := os.Readlink("/proc/self/ns/mnt")
	return err == nil && ours == theirs
}
