package guest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MAC of the guest's eth0.
const MAC = "52:54:00:67:76:01"

// Guest is a running machine whose eth0 is a TAP in a network namespace and whose
// serial line is a shell.
type Guest struct {
	qemu *exec.Cmd
	dead chan struct{}
	line net.Conn
	dir  string
	buf  []byte
	n    int
}

// bootLimit is generous: software emulation on a loaded machine.
const bootLimit = 3 * time.Minute

// consoleLines is how much of the kernel's console an error quotes.
const consoleLines = 40

// Start boots img with the TAP named tap, which it makes in netns.
func Start(img *Image, netns, tap string) (*Guest, error) {
	ns := func(args ...string) *exec.Cmd {
		return exec.Command("ip", append([]string{"netns", "exec", netns}, args...)...)
	}
	for _, c := range []*exec.Cmd{
		ns("ip", "tuntap", "add", "dev", tap, "mode", "tap"),
		ns("ip", "link", "set", tap, "up"),
	} {
		if out, err := c.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("guest: %v: %w: %s", c.Args, err, out)
		}
	}
	dir, err := os.MkdirTemp("", "guest")
	if err != nil {
		return nil, err
	}
	sock := filepath.Join(dir, "serial")
	g := &Guest{dir: dir, dead: make(chan struct{})}
	// no_timer_check: on a busy host the emulated timer ticks too late for the kernel's
	// check of it, which then panics.
	g.qemu = ns("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "384", "-smp", "1",
		"-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", "-monitor", "none",
		"-kernel", img.Kernel, "-initrd", img.Initrd, "-append", "console=ttyS1 no_timer_check panic=-1 random.trust_cpu=on",
		"-serial", "unix:"+sock+",server=on,wait=off", "-serial", "file:"+filepath.Join(dir, "console"),
		"-netdev", "tap,id=n0,ifname="+tap+",script=no,downscript=no",
		"-device", "virtio-net-pci,netdev=n0,mac="+MAC)
	g.qemu.Stderr = os.Stderr
	if err := g.qemu.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go func() { g.qemu.Wait(); close(g.dead) }()
	if err := g.boot(sock); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *Guest) boot(sock string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); ; <-tick.C {
		var err error
		if g.line, err = net.Dial("unix", sock); err == nil {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("guest: serial line: %w", err)
		}
	}
	if _, err := g.until("guest-is-up", bootLimit); err != nil {
		return err
	}
	// busybox would run its own, smaller ip.
	_, err := g.Run(`ip() { /sbin/ip "$@"; }`)
	return err
}

// until reads the serial line up to mark and returns what stood before it.
func (g *Guest) until(mark string, limit time.Duration) (string, error) {
	g.line.SetReadDeadline(time.Now().Add(limit))
	chunk := make([]byte, 4096)
	for {
		if before, after, ok := strings.Cut(string(g.buf), mark); ok {
			g.buf = []byte(after)
			return before, nil
		}
		n, err := g.line.Read(chunk)
		if err != nil {
			return "", fmt.Errorf("guest: no %q: %w; it said: %q; %s", mark, err, g.buf, g.lastWords())
		}
		g.buf = append(g.buf, chunk[:n]...)
	}
}

// lastWords says whether the machine still runs, and how its kernel's console ends.
func (g *Guest) lastWords() string {
	state := "it still runs"
	select {
	case <-g.dead:
		state = "it is dead: " + g.qemu.ProcessState.String()
	case <-time.After(time.Second): // the line breaks a moment before qemu has ended
	}
	console, err := os.ReadFile(filepath.Join(g.dir, "console"))
	if err != nil {
		return fmt.Sprintf("%s; no console: %v", state, err)
	}
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(console), "\r", "")), "\n")
	from := max(0, len(lines)-consoleLines)
	// What is printed at a panic may be long: its first line says why.
	if i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "Kernel panic") }); i >= 0 {
		from = min(from, i)
	}
	return fmt.Sprintf("%s; the console's end:\n%s", state, strings.Join(lines[from:], "\n"))
}

var status = regexp.MustCompile(`status=(\d+)\s*$`)

// Run executes a shell command in the guest and returns what it printed. An exit
// status other than 0 is an error.
func (g *Guest) Run(command string) (string, error) {
	g.n++
	mark := fmt.Sprintf("=end-%d=", g.n)
	if _, err := fmt.Fprintf(g.line, "{ %s\n} 2>&1; echo status=$?%s\n", command, mark); err != nil {
		return "", fmt.Errorf("guest: %q: %w; %s", command, err, g.lastWords())
	}
	out, err := g.until(mark, 2*time.Minute)
	if err != nil {
		return "", err
	}
	m := status.FindStringSubmatchIndex(out)
	if m == nil {
		return "", fmt.Errorf("guest: %q: no status in %q", command, out)
	}
	body := strings.Trim(out[:m[0]], "\n")
	if rc, _ := strconv.Atoi(out[m[2]:m[3]]); rc != 0 {
		return body, fmt.Errorf("guest: %q: exit status %d: %s", command, rc, body)
	}
	return body, nil
}

// Close ends the machine. Its TAP goes with the namespace.
func (g *Guest) Close() error {
	g.qemu.Process.Kill()
	<-g.dead
	if g.line != nil {
		g.line.Close()
	}
	return os.RemoveAll(g.dir)
}
