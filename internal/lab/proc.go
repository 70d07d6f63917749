package lab

// Long-lived processes: started in a namespace, their output in a file, ended by
// their own process id.

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Proc is a process that the lab started.
type Proc struct {
	Name string
	Log  string // file with its standard output and error

	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts a program in a node. Its output goes to name.log in the lab's folder,
// after what an earlier one of that name wrote.
func (l *Lab) Start(name, node, prog string, args ...string) (*Proc, error) {
	p := &Proc{Name: name, Log: filepath.Join(l.Dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	defer out.Close()
	// ip netns exec replaces itself by the program: the process id stays.
	p.cmd = l.Cmd(node, prog, args...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is ours to handle
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("lab: start %s: %w", name, err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	l.mu.Lock()
	l.procs = append(l.procs, p)
	l.mu.Unlock()
	return p, nil
}

// PID is the process id.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Alive reports whether it runs.
func (p *Proc) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends one signal.
func (p *Proc) Signal(s syscall.Signal) error {
	if !p.Alive() {
		return fmt.Errorf("lab: %s has ended: %v", p.Name, p.err)
	}
	return p.cmd.Process.Signal(s)
}

// Wait waits for its end.
func (p *Proc) Wait(limit time.Duration) error {
	select {
	case <-p.done:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("lab: %s still runs after %v", p.Name, limit)
	}
}

// Kill ends it at once, as a crash would.
func (p *Proc) Kill() error {
	if !p.Alive() {
		return nil
	}
	p.cmd.Process.Signal(syscall.SIGKILL)
	return p.Wait(10 * time.Second)
}

// Stop asks it to end and, after half a minute, makes it. Needing to be made is an error.
func (p *Proc) Stop() error {
	if !p.Alive() {
		return nil
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.Wait(30 * time.Second); err != nil {
		return errors.Join(fmt.Errorf("lab: %s ignored SIGTERM", p.Name), p.Kill())
	}
	return nil
}

// Output is what it has written so far.
func (p *Proc) Output() string {
	b, _ := os.ReadFile(p.Log)
	return string(b)
}

// Says waits until its output contains all the texts.
func (p *Proc) Says(limit time.Duration, texts ...string) error {
	return Until(limit, func() error {
		out := p.Output()
		for _, t := range texts {
			if !strings.Contains(out, t) {
				if !p.Alive() {
					return Final(fmt.Errorf("lab: %s ended (%v) without saying %q; it said:\n%s", p.Name, p.err, t, tail(out)))
				}
				return fmt.Errorf("lab: %s has not said %q; it said:\n%s", p.Name, t, tail(out))
			}
		}
		return nil
	})
}

// tail is the end of a text, enough to see why.
func tail(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if n := len(lines) - 15; n > 0 {
		lines = lines[n:]
	}
	return strings.Join(lines, "\n")
}

// finalError ends Until at once.
type finalError struct{ error }

func (f finalError) Unwrap() error { return f.error }

// Final marks an error that more waiting can't mend.
func Final(err error) error { return finalError{err} }

// Until calls f, at first at once, until it returns nil, a Final error, or the limit
// is over; it returns f's last error.
func Until(limit time.Duration, f func() error) error {
	end := time.Now().Add(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		var last finalError
		if errors.As(err, &last) {
			return last.error
		}
		if time.Now().After(end) {
			return fmt.Errorf("after %v: %w", limit, err)
		}
		<-tick.C
	}
}
