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
	tr := newTrackers(filepath.Join(dir, "track"), hook, slog.New(slog.DiscardHandler)).object(99)
	told := func(want string) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; {
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

// A program that fails is run again until it succeeds, each number is one object, and
// the end waits for who is being told.
func TestTrackHookThatFails(t *testing.T) {
	dir := t.TempDir()
	hook, log, ok := filepath.Join(dir, "hook"), filepath.Join(dir, "log"), filepath.Join(dir, "ok")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho \"$2\" >> "+log+"\ntest -e "+ok+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ts := newTrackers(filepath.Join(dir, "track"), hook, slog.New(slog.DiscardHandler))
	ts.again = 10 * time.Millisecond
	tr := ts.object(7)
	if ts.object(8) == tr {
		t.Error("two numbers are one object")
	}
	if err := tr.Set(true); err != nil {
		t.Fatal(err)
	}
	told := func() string {
		b, _ := os.ReadFile(log)
		return string(b)
	}
	for end := time.Now().Add(30 * time.Second); strings.Count(told(), "up\n") < 3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("told %q", told())
		}
	}
	if err := os.WriteFile(ok, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if ts.object(7) != tr {
		t.Error("a number isn't one object")
	}
	if err := tr.Set(false); err != nil {
		t.Fatal(err)
	}
	ts.Close()
	if s := told(); !strings.HasSuffix(s, "up\ndown\n") || strings.Count(s, "down") != 1 {
		t.Errorf("told %q", s)
	}
}

// One that goes on failing is told of the last state once more at the end, and doesn't
// hold it up.
func TestTrackHookThatFailsAtTheEnd(t *testing.T) {
	dir := t.TempDir()
	hook, log := filepath.Join(dir, "hook"), filepath.Join(dir, "log")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho \"$2\" >> "+log+"\nfalse\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ts := newTrackers(filepath.Join(dir, "track"), hook, slog.New(slog.DiscardHandler))
	for _, up := range []bool{true, false} {
		if err := ts.object(7).Set(up); err != nil {
			t.Fatal(err)
		}
	}
	ts.Close()
	if b, _ := os.ReadFile(log); !strings.HasSuffix(string(b), "down\n") {
		t.Errorf("told %q", b)
	}
}

func TestTrackedObjectThatCantBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newTrackers(dir, "", slog.New(slog.DiscardHandler)).object(1).Set(true); err == nil {
		t.Error("no error")
	}
}
