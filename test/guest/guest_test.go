package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cacheDir keeps the fetched kernel between test runs.
func cacheDir(t *testing.T) string {
	t.Helper()
	d := filepath.Join(os.TempDir(), "getvpn-guest-image")
	if err := os.MkdirAll(d, 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

// boot makes a namespace with a guest in it, both gone at the end of the test.
func boot(t *testing.T, ns, tap string, programs ...string) *Guest {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs qemu-system-x86_64 (package qemu-system-x86)")
	}
	img, err := Build(cacheDir(t), programs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(img.Initrd) })
	ip(t, "netns", "add", ns)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	ip(t, "-n", ns, "link", "set", "lo", "up")
	g, err := Start(img, ns, tap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func must(t *testing.T, g *Guest, command string) string {
	t.Helper()
	out, err := g.Run(command)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGuestBootsDebiansKernelAndAnswers(t *testing.T) {
	g := boot(t, "gvguest0", "gvtap0")
	ip(t, "-n", "gvguest0", "addr", "add", "10.99.0.1/24", "dev", "gvtap0")
	must(t, g, "ip addr add 10.99.0.2/24 dev eth0")
	if v := must(t, g, "uname -r"); !strings.HasPrefix(v, "6.1.") {
		t.Errorf("kernel %s, want Debian 12's 6.1", v)
	}
	must(t, g, "ping -c1 -W5 10.99.0.1")
	if _, err := g.Run("false"); err == nil {
		t.Error("a failing command went unnoticed")
	}
	// A shell that waits for its next line outlives its background jobs.
	for range 20 {
		out := must(t, g, "usleep 10000 & usleep 12000 & { usleep 11000; echo job-ended > /dev/ttyS0; } &")
		if strings.Contains(out, "job-ended") {
			continue // before the shell has said that it waits
		}
		if _, err := g.until("job-ended", time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	_, err := g.Run("echo c > /proc/sysrq-trigger")
	if err == nil || !strings.Contains(err.Error(), "it is dead") || !strings.Contains(err.Error(), "Kernel panic") {
		t.Errorf("a guest that panicked says %v", err)
	}
}
