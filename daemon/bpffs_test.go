package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"getvpn/ipsec/dataplane/steer"

	"golang.org/x/sys/unix"
)

func TestBPFFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	system := filepath.Join(t.TempDir(), "bpf")
	if err := os.Mkdir(system, 0o700); err != nil {
		t.Fatal(err)
	}
	lasts := false
	b := bpfFolder{filepath.Join(system, "a", "getvpn"), system, func() bool { return lasts }, steer.EnsureBPFFS}

	// Mounts that go with the process hold nothing.
	err := b.ready()
	if err == nil || !strings.Contains(err.Error(), "mount -t bpf bpf /run/getvpn-bpf, and give --bpf-dir /run/getvpn-bpf") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
	lasts = true
	t.Cleanup(func() { unix.Unmount(system, 0) })
	for range 2 {
		if err := b.ready(); err != nil {
			t.Fatal(err)
		}
	}
	if on, err := onBPF(system); !on || err != nil {
		t.Error("nothing was mounted", err)
	}

	// Elsewhere nothing is mounted.
	other := t.TempDir()
	b.dir = filepath.Join(other, "getvpn")
	if err := b.ready(); err == nil || !strings.Contains(err.Error(), "mount -t bpf bpf "+b.dir) {
		t.Errorf("error %v", err)
	}
	if on, _ := onBPF(other); on {
		t.Error("a folder of the operator's was mounted over")
	}
}
