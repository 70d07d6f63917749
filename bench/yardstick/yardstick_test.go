package yardstick

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Each yardstick carries a ping between two hosts behind the gateways, and a second
// one after it was taken down and put up again.
func TestEachYardstickCarriesTraffic(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	dir := t.TempDir()
	wgo := filepath.Join(dir, "wgo")
	if out, err := exec.Command("go", "build", "-o", wgo, "./wgo").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	name := func(s string) string { return fmt.Sprintf("ys%d%s", os.Getpid()%10000, s) }
	for _, n := range []string{"h1", "g1", "g2", "h2"} {
		run("netns", "add", name(n))
		defer exec.Command("ip", "netns", "del", name(n)).Run()
		run("-n", name(n), "link", "set", "lo", "up")
	}
	link := func(a, ai, aa, b, bi, ba string) {
		run("-n", name(a), "link", "add", ai, "type", "veth", "peer", "name", bi, "netns", name(b))
		run("-n", name(a), "addr", "add", aa, "dev", ai)
		run("-n", name(b), "addr", "add", ba, "dev", bi)
		run("-n", name(a), "link", "set", ai, "up")
		run("-n", name(b), "link", "set", bi, "up")
	}
	link("h1", "e0", "10.1.1.10/24", "g1", "lan", "10.1.1.1/24")
	link("h2", "e0", "10.2.2.10/24", "g2", "lan", "10.2.2.1/24")
	link("g1", "wan", "172.16.0.1/24", "g2", "wan", "172.16.0.2/24")
	run("-n", name("h1"), "route", "add", "default", "via", "10.1.1.1")
	run("-n", name("h2"), "route", "add", "default", "via", "10.2.2.1")
	// The plain way has a worse metric, so that a yardstick's route wins over it.
	run("-n", name("g1"), "route", "add", "10.2.2.0/24", "via", "172.16.0.2", "metric", "500")
	run("-n", name("g2"), "route", "add", "10.1.1.0/24", "via", "172.16.0.1", "metric", "500")
	for _, g := range []string{"g1", "g2"} {
		run("netns", "exec", name(g), "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
	}
	p := Pair{
		NS:  [2]string{name("g1"), name("g2")},
		WAN: [2]netip.Addr{netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("172.16.0.2")},
		LAN: [2]netip.Prefix{netip.MustParsePrefix("10.1.1.0/24"), netip.MustParsePrefix("10.2.2.0/24")},
		Dir: dir, WGO: wgo,
	}
	for _, y := range All() {
		for round := range 2 {
			down, err := y.Up(p)
			if err != nil {
				t.Fatalf("%s: %v", y.Name, err)
			}
			err = retry(10*time.Second, func() error {
				return netns(name("h1"), nil, "ping", "-qc1", "-W1", "10.2.2.10").Run()
			})
			if err != nil {
				t.Errorf("%s, round %d: no ping: %v", y.Name, round, err)
			}
			if err := down(); err != nil {
				t.Errorf("%s: %v", y.Name, err)
			}
		}
	}
}
