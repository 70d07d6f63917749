package lab

// A lab that outlives the program that made it, and its removal by another one.

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// record is what a later Remove needs.
type record struct {
	Prefix string
	Nodes  []string
	BPF    string
	Procs  []process
}

// process is identified by its id and its start, so that a reused id is left alone.
type process struct {
	Name  string
	PID   int
	Start string // field 22 of /proc/PID/stat
}

func startOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The command's name stands in parentheses and may hold spaces.
	_, after, _ := strings.Cut(string(b), ") ")
	if f := strings.Fields(after); len(f) > 19 {
		return f[19]
	}
	return ""
}

const recordFile = "lab.json"

// Detach writes down how to remove the lab. The caller then simply ends.
func (l *Lab) Detach() error {
	r := record{Prefix: l.Prefix, Nodes: l.nodes, BPF: l.bpf}
	for _, p := range l.procs {
		r.Procs = append(r.Procs, process{p.Name, p.PID(), startOf(p.PID())})
	}
	b, err := json.MarshalIndent(r, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(l.Dir, recordFile), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// Remove ends and deletes a detached lab by its folder.
func Remove(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return fmt.Errorf("lab: nothing to remove: %w", err)
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("lab: %s: %w", recordFile, err)
	}
	var errs []error
	for i := len(r.Procs) - 1; i >= 0; i-- {
		p := r.Procs[i]
		alive := func() bool { return p.Start != "" && startOf(p.PID) == p.Start }
		if !alive() {
			continue
		}
		syscall.Kill(p.PID, syscall.SIGTERM)
		if err := Until(10*time.Second, func() error {
			if alive() {
				return fmt.Errorf("lab: %s ignored SIGTERM", p.Name)
			}
			return nil
		}); err != nil {
			syscall.Kill(p.PID, syscall.SIGKILL)
			errs = append(errs, err)
		}
	}
	for _, n := range r.Nodes {
		if out, err := exec.Command("ip", "netns", "del", r.Prefix+"-"+n).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("lab: delete %s-%s: %w: %s", r.Prefix, n, err, out))
		}
	}
	if r.BPF != "" {
		if err := unix.Unmount(r.BPF, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("lab: unmount %s: %w", r.BPF, err))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(dir))...)
}
