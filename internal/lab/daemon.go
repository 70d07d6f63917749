package lab

// The product's daemons and its shell, as a user starts them.

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Daemon is a running getvpnd.
type Daemon struct {
	*Proc
	Node   string
	Conf   string
	Socket string
	lab    *Lab
}

// Daemon starts getvpnd in a node with a configuration file and waits until its
// control socket answers. State and pinned programs survive it, so that a second
// start is a restart. Options are further ones of its command line.
func (l *Lab) Daemon(node, conf string, options ...string) (*Daemon, error) {
	base := filepath.Join(l.Dir, node)
	d := &Daemon{Node: node, Conf: conf, Socket: base + ".sock", lab: l}
	state := l.stateDir(node)
	for _, dir := range []string{state, filepath.Join(l.bpf, node)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
	}
	p, err := l.Start(node, node, filepath.Join(l.Bin, "getvpnd"), append([]string{"--config", conf, "--socket", d.Socket,
		"--state-dir", state, "--bpf-dir", filepath.Join(l.bpf, node)}, options...)...)
	if err != nil {
		return nil, err
	}
	d.Proc = p
	return d, Until(time.Minute, func() error {
		if !p.Alive() {
			return Final(fmt.Errorf("lab: getvpnd in %s ended: %v:\n%s", node, p.err, tail(p.Output())))
		}
		_, err := d.Show("show crypto gdoi")
		return err
	})
}

// stateDir is a daemon's state directory.
func (l *Lab) stateDir(node string) string { return filepath.Join(l.Dir, node+".state") }

// ConfFile writes a configuration file into the lab's folder.
func (l *Lab) ConfFile(name, text string) (string, error) {
	f := filepath.Join(l.Dir, name+".conf")
	if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	return f, nil
}

// Show runs one command in the daemon's shell and returns what it printed.
func (d *Daemon) Show(command string, options ...string) (string, error) {
	args := append([]string{"--socket", d.Socket, "-c", command}, options...)
	out, err := exec.Command(filepath.Join(d.lab.Bin, "getvpn"), args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("lab: getvpn -c %q at %s: %w: %s", command, d.Node, err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// Type types lines into the daemon's shell and returns what a person would see:
// prompts, the lines and the answers. Any line that is refused is an error.
func (d *Daemon) Type(hostname string, lines ...string) (string, error) {
	c := exec.Command(filepath.Join(d.lab.Bin, "getvpn"), "--socket", d.Socket)
	c.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	out, err := c.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("lab: getvpn at %s: %w: %s", d.Node, err, strings.TrimSpace(string(out)))
	}
	// The shell prompts, but a file isn't echoed.
	prompt := regexp.MustCompile(regexp.QuoteMeta(hostname) + `(\([\w-]+\))?#`)
	var b strings.Builder
	parts := prompt.FindAllStringIndex(string(out), -1)
	for i, at := range parts {
		end := len(out)
		if i+1 < len(parts) {
			end = parts[i+1][0]
		}
		if i >= len(lines) {
			break // the last prompt, at which the input ended
		}
		fmt.Fprintf(&b, "%s %s\n%s", out[at[0]:at[1]], lines[i], out[at[1]:end])
	}
	return b.String(), nil
}

// Shows waits until a command's output contains all the texts.
func (d *Daemon) Shows(limit time.Duration, command string, texts ...string) (string, error) {
	var out string
	err := Until(limit, func() error {
		var err error
		if out, err = d.Show(command); err != nil {
			if !d.Alive() {
				return Final(fmt.Errorf("%w; its log:\n%s", err, tail(d.Output())))
			}
			return err
		}
		for _, t := range texts {
			if !strings.Contains(out, t) {
				return fmt.Errorf("lab: %s at %s doesn't show %q but:\n%s", command, d.Node, t, out)
			}
		}
		return nil
	})
	if err != nil && d.Alive() {
		err = fmt.Errorf("%w\nits log:\n%s", err, tail(d.Output()))
	}
	return out, err
}

// Registered waits until the member is registered.
func (d *Daemon) Registered(limit time.Duration) error {
	_, err := d.Shows(limit, "show crypto gdoi", "Registration status   : Registered")
	return err
}

// Snapshot decodes the daemon's management model into v.
func (d *Daemon) Snapshot(v any) error {
	out, err := d.Show("show crypto gdoi", "--json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		return fmt.Errorf("lab: the model of %s: %w", d.Node, err)
	}
	return nil
}

// Drops returns the dataplane's drop counters by reason, over all interfaces.
func (d *Daemon) Drops() (map[string]int, error) {
	var s struct {
		Dataplane struct{ Drops map[string]int }
	}
	if err := d.Snapshot(&s); err != nil {
		return nil, err
	}
	return s.Dataplane.Drops, nil
}
