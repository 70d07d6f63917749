// Package lab builds networks in Linux network namespaces in which the built
// programs run as users run them: key servers, members with a host behind each, and
// a core router that only routes, unicast and multicast. It starts daemons, captures
// and counts in the core, moves files and multicast streams, and cleans up.
//
// It knows nothing of the product's packages: everything is seen from outside. It
// needs root; nothing of it touches the namespace it was started in.
package lab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Options of a lab. The zero value has one key server and three members.
type Options struct {
	Members    int    // group members, each with a host behind it; 0 means 3
	KeyServers int    // 0 means 1
	Prefix     string // of the namespaces' names; empty: one that no other process has
	Dir        string // for sockets, logs and captures; empty: a new temporary one
	Bin        string // folder of getvpnd and getvpn; empty: bin of the tree
	Keep       bool   // Close leaves Dir
	// Topology makes other nodes and links than topology.go draws (CaseStudy); KeyServers
	// and Members don't count then.
	Topology func(*Lab) error
}

// The addresses have room for so many.
const maxMembers, maxKeyServers = 7, 8

// Lab is a running topology.
type Lab struct {
	Prefix     string
	Dir        string
	Bin        string
	Members    int
	KeyServers int

	keep    bool
	mu      sync.Mutex
	procs   []*Proc
	bpf     string
	nodes   []string
	ownsDir bool
}

// New builds the topology. Call Close whatever happens afterwards.
func New(o Options) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("lab: network namespaces need root")
	}
	if o.Members == 0 {
		o.Members = 3
	}
	if o.KeyServers == 0 {
		o.KeyServers = 1
	}
	if o.Members > maxMembers || o.KeyServers > maxKeyServers {
		return nil, fmt.Errorf("lab: %d key servers and %d members, at most %d and %d", o.KeyServers, o.Members, maxKeyServers, maxMembers)
	}
	if o.Prefix == "" {
		o.Prefix = "gv" + rand.Text()[:4] // several labs may run beside each other
	}
	l := &Lab{Prefix: o.Prefix, Dir: o.Dir, Bin: o.Bin, Members: o.Members, KeyServers: o.KeyServers, keep: o.Keep}
	if l.Dir == "" {
		d, err := os.MkdirTemp("", "getvpn-lab-")
		if err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
		l.Dir, l.ownsDir = d, true
	} else if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if l.Bin == "" {
		top, err := tree()
		if err != nil {
			return nil, err
		}
		l.Bin = filepath.Join(top, "bin")
	}
	topology := o.Topology
	if topology == nil {
		topology = (*Lab).topology
	}
	if err := l.build(topology); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// build makes the namespaces, the links and a BPF file system. `ip netns exec`
// gives each process a /sys of its own, so that programs can't pin under the usual
// /sys/fs/bpf: the lab mounts one elsewhere, and each daemon gets a folder in it.
func (l *Lab) build(topology func(*Lab) error) error {
	bpf := filepath.Join(l.Dir, "bpf")
	if err := os.MkdirAll(bpf, 0o700); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := unix.Mount("bpf", bpf, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("lab: mount a BPF file system on %s: %w", bpf, err)
	}
	l.bpf = bpf
	return topology(l)
}

// tree finds the project's folder above the working one.
func tree() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("lab: not inside the project's tree")
		}
		dir = up
	}
}

// NS returns the namespace's name of a node: ks, core, gm1, h1, …
func (l *Lab) NS(node string) string { return l.Prefix + "-" + node }

// Nodes lists all, in the order of their making.
func (l *Lab) Nodes() []string { return append([]string(nil), l.nodes...) }

// Close ends every process of the lab, deletes its namespaces and, unless kept, its
// folder. It may be called twice.
func (l *Lab) Close() error {
	l.mu.Lock()
	procs := l.procs
	l.procs = nil
	l.mu.Unlock()
	var errs []error
	for i := len(procs) - 1; i >= 0; i-- {
		if err := procs[i].Stop(); err != nil {
			errs = append(errs, err)
		}
	}
	for _, n := range l.nodes {
		if out, err := exec.Command("ip", "netns", "del", l.NS(n)).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("lab: delete %s: %w: %s", l.NS(n), err, out))
		}
	}
	l.nodes = nil
	if l.bpf != "" {
		if err := unix.Unmount(l.bpf, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("lab: unmount %s: %w", l.bpf, err))
		}
		l.bpf = ""
	}
	if l.ownsDir && !l.keep {
		errs = append(errs, os.RemoveAll(l.Dir))
	}
	return errors.Join(errs...)
}

// Cmd prepares a command in a node's namespace.
func (l *Lab) Cmd(node, name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", l.NS(node), name}, args...)...)
}

// Run runs a command in a node's namespace and returns what it printed.
func (l *Lab) Run(node, name string, args ...string) (string, error) {
	out, err := l.Cmd(node, name, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("lab: %s: %s %s: %w: %s", node, name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// Input runs a command in a node's namespace with text on its standard input.
func (l *Lab) Input(node, text, name string, args ...string) (string, error) {
	c := l.Cmd(node, name, args...)
	c.Stdin = strings.NewReader(text)
	out, err := c.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("lab: %s: %s: %w: %s", node, name, err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
