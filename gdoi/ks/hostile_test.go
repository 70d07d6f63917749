package ks

import (
	"crypto/rand"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"getvpn/gdoi"
	"getvpn/gdoi/policy"
	"getvpn/model"
)

// What floods, insiders and other users of the machine can try.

func (b *bench) one(t *testing.T, a netip.Addr) (*wire, []byte) {
	t.Helper()
	b.mid++
	w := newWire(b.mid, a, ourVID)
	_, d, err := gdoi.NewPullInitiator(w, policy.GroupID(model.GroupID{Number: 1}), rand.Reader, gdoi.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return w, d
}

// One address can't take the places of all.
func TestRegistrationsOfOneAddressAreBounded(t *testing.T) {
	b := newBench(t, 24)
	for range maxOfAddress + 10 {
		w, d := b.one(t, gm1)
		b.s.handle(w, d)
		b.settle()
	}
	if n := b.s.Rejected()["too-many-registrations"]; n != 10 {
		t.Errorf("%d refused", n)
	}
	b.register(t, netip.MustParseAddr("198.51.100.2"), ours())
	b.settle() // message 4 leaves before the conversation is forgotten
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if len(b.s.convs) != maxOfAddress || len(b.s.perAddr) != 1 || b.s.perAddr[gm1] != maxOfAddress {
		t.Errorf("%d conversations, %v", len(b.s.convs), b.s.perAddr)
	}
}

// State is read from the very file that was judged, and from nothing that a link or
// a pipe leads to.
func TestStateFilesAreFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if err := (Disk{}).WriteFile(path, []byte("x")); err != nil {
		t.Fatal(err)
	}
	link, other := filepath.Join(dir, "link"), filepath.Join(dir, "other")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(other, 0o640); err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := (Disk{}).ReadFile(path); err != nil || string(b) != "x" {
		t.Errorf("%q %v", b, err)
	}
	for _, p := range []string{link, other, big, dir} {
		if _, err := (Disk{}).ReadFile(p); err == nil {
			t.Errorf("%s was read", filepath.Base(p))
		}
	}
	// A write replaces a link, it never follows it.
	if err := (Disk{}).WriteFile(link, []byte("y")); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "x" {
		t.Error("the link was followed")
	}
}
