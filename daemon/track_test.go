package daemon

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The file holds the newest state, the program is told of it with the object's number,
// and nothing else lies about.
func TestTrackedObject(t *testing.T) {
	dir := t.TempDir()
	hook, log := filepath.Join(dir, "hook"), filepath.Join(dir, "log")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho \"$1 $2\" >> "+log+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	tr := newTracker(filepath.Join(dir, "track"), 99, hook, slog.New(slog.DiscardHandler))
	told := func(want string) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; {
			b, _ := os.ReadFile(log)
			if string(b) == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the program was told %q, want %q", b, want)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	for i, up := range []bool{true, false} {
		if err := tr.Set(up); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "track", "99"))
		if want := []string{"up\n", "down\n"}[i]; err != nil || string(b) != want {
			t.Errorf("file says %q, %v, want %q", b, err, want)
		}
		told(strings.Join([]string{"99 up", "99 down"}[:i+1], "\n") + "\n")
	}
	if l, _ := os.ReadDir(filepath.Join(dir, "track")); len(l) != 1 {
		t.Errorf("%d files", len(l))
	}
}

func TestTrackedObjectThatCantBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newTracker(dir, 1, "", slog.New(slog.DiscardHandler)).Set(true); err == nil {
		t.Error("no error")
	}
}
