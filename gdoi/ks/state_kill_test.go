package ks

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"getvpn/internal/sealed"
)

// Real processes that are really killed while they save.

// killVar tells a test binary that it is the process to be killed: directory and step.
const killVar = "GETVPN_TEST_KILL"

func killStore(t *testing.T, dir string, crash func(string) error) *sealed.Store {
	t.Helper()
	d := Disk{crash: crash}
	k, _, err := sealed.LoadKey(d, rand.Reader, "", dir)
	if err != nil {
		t.Fatal(err)
	}
	return &sealed.Store{Files: d, Key: k, Dir: dir, Marks: filepath.Join(dir, "run"), Machine: "m", Rand: rand.Reader}
}

func killBody(i int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%08d", i)), 4000) }

// TestSaveUntilKilled is the child: it saves body after body, says so after each, and
// kills itself before step number STEP of the writes.
func TestSaveUntilKilled(t *testing.T) {
	dir, step, ok := strings.Cut(os.Getenv(killVar), " ")
	if !ok {
		t.Skip("not the child")
	}
	left, err := strconv.Atoi(step)
	if err != nil {
		t.Fatal(err)
	}
	s := killStore(t, dir, func(string) error {
		if left == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		left--
		return nil
	})
	from := 0
	if b, err := s.Load("g"); err == nil {
		fmt.Sscanf(string(b[:8]), "%d", &from)
	}
	for i := from + 1; ; i++ {
		if err := s.Save("g", killBody(i)); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString(fmt.Sprintf("saved %d\n", i))
	}
}

// spawn runs the child until it is dead and returns what it saved last.
func spawn(t *testing.T, dir string, step int, after time.Duration) (last int) {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestSaveUntilKilled$")
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", killVar, dir, step))
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if after > 0 {
		kill := time.AfterFunc(after, func() { c.Process.Kill() })
		defer kill.Stop()
	}
	for sc := bufio.NewScanner(out); sc.Scan(); {
		fmt.Sscanf(sc.Text(), "saved %d", &last)
	}
	c.Wait()
	if st := c.ProcessState.Sys().(syscall.WaitStatus); !st.Signaled() || st.Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended by itself: %v", c.ProcessState)
	}
	return last
}

// checkKilled wants what was saved last, or what was being saved, whole.
func checkKilled(t *testing.T, what, dir string, last int) {
	t.Helper()
	b, err := killStore(t, dir, nil).Load("g")
	if last == 0 && err != nil {
		return // nothing was ever confirmed
	}
	if err != nil || !bytes.Equal(b, killBody(last)) && !bytes.Equal(b, killBody(last+1)) {
		t.Errorf("%s: after number %d: %v, %.8q", what, last, err, []byte(b))
	}
}

// Killed before each step of making the key and of the first saves.
func TestKilledAtEachStep(t *testing.T) {
	for step := range 5 + 3*15 + 2 {
		dir := t.TempDir()
		last := spawn(t, dir, step, 0)
		if want := (step - 5) / 15; step >= 5 && last != want {
			t.Errorf("step %d: %d saves, want %d", step, last, want)
		}
		checkKilled(t, fmt.Sprint("step ", step), dir, last)
	}
}

// Killed from outside at any moment, again and again on the same files.
func TestKilledAtAnyMoment(t *testing.T) {
	dir, last := t.TempDir(), 0
	for i := range 12 {
		n := spawn(t, dir, -1, 30*time.Millisecond+time.Duration(i*1237)*time.Microsecond)
		if n != 0 {
			if n < last {
				t.Fatalf("number %d after %d", n, last)
			}
			last = n
		}
		if last > 0 {
			b, err := killStore(t, dir, nil).Load("g")
			var got int
			if err == nil {
				fmt.Sscanf(string(b[:8]), "%d", &got)
			}
			if err != nil || got < last || !bytes.Equal(b, killBody(got)) {
				t.Fatalf("kill %d, after number %d: number %d, %v", i, last, got, err)
			}
		}
	}
	t.Logf("%d saves between 12 kills", last)
}
