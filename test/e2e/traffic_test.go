package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"getvpn/internal/lab"
)

// Issue item 4: what users do passes through protected paths as they expect.
func TestUserTraffic(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.group(policy{}, 3)
	pings(w)

	size := int64(pick(32<<20, 1<<30))
	tr, err := w.Transfer("h1", "h2", lab.Host(2), size, 5*time.Minute)
	w.must(err)
	t.Logf("%d MiB in %v, hash %x", size>>20, tr.Took.Round(time.Millisecond), tr.Received[:8])

	out, err := w.Lab.Run("h1", "traceroute", "-n", "-w", "2", "-q", "1", "-m", "6", lab.Host(2))
	w.must(err)
	// The member, (the core can't read the probe's inside, so its answer is the
	// member's to translate), the far member, the host.
	if !strings.Contains(out, "10.1.1.1") || !strings.Contains(out, lab.Host(2)) {
		t.Errorf("traceroute:\n%s", out)
	}

	multicastEachOnce(w, pick(5000, 100000))
	w.noneInClear()
}

func pings(w *world) {
	sizes := []int{1, 1399, 1400, 1440, 1472, 1473, 1480, 1500, 1501, 8000, 65507}
	if soak() {
		sizes = []int{1, 65507}
		for s := 1399; s <= 1501; s++ {
			sizes = append(sizes, s)
		}
	}
	for _, s := range sizes {
		if out, err := w.Ping("h1", lab.Host(2), 2, "-s", fmt.Sprint(s), "-M", "dont"); err != nil {
			w.Errorf("ping of %d octets, DF clear: %v\n%s", s, err, out)
		}
	}
	// DF set: the first one that is too big is answered with the exact clear-text MTU.
	out, err := w.Ping("h1", lab.Host(2), 1, "-s", "1472", "-M", "do")
	m := regexp.MustCompile(`mtu ?= ?(\d+)`).FindStringSubmatch(out)
	if err == nil || m == nil {
		w.Fatalf("a ping of 1500 octets with DF: %v\n%s", err, out)
	}
	var mtu int
	fmt.Sscan(m[1], &mtu)
	if mtu < 1400 || mtu >= 1500 {
		w.Errorf("clear-text MTU %d", mtu)
	}
	w.Logf("clear-text MTU %d", mtu)
	if out, err := w.Ping("h3", lab.Host(2), 2, "-s", fmt.Sprint(mtu-28), "-M", "do"); err != nil {
		w.Errorf("a ping of the MTU with DF: %v\n%s", err, out)
	}
	if out, err := w.Ping("h3", lab.Host(2), 1, "-s", fmt.Sprint(mtu-27), "-M", "do"); err == nil {
		w.Errorf("a ping of the MTU and one octet passed with DF:\n%s", out)
	}
}

func multicastEachOnce(w *world, n int) {
	w.must(w.RouteMulticast())
	var rs []*lab.Receiver
	for _, h := range []string{"h2", "h3"} {
		r, err := w.JoinMulticast(h, n)
		w.must(err)
		defer r.Close()
		rs = append(rs, r)
	}
	w.must(w.SendMulticast("h1", n, 700, 8000))
	for i, r := range rs {
		if err := r.Await(n, 30*time.Second); err != nil {
			w.Errorf("h%d: %v", i+2, err)
		}
		if r.Duplicates+r.Damaged != 0 {
			w.Errorf("h%d: %d duplicates, %d damaged", i+2, r.Duplicates, r.Damaged)
		}
	}
}

// Every transform carries traffic between live daemons.
func TestEveryTransform(t *testing.T) {
	t.Parallel()
	all := []string{"esp-gcm 256", "esp-aes 128 esp-sha-hmac", "esp-aes 256 esp-sha512-hmac", "esp-3des esp-sha256-hmac", "esp-null esp-sha-hmac", "esp-gmac 128"}
	if soak() {
		for _, bits := range []string{"128", "192", "256"} {
			all = append(all, "esp-gcm "+bits, "esp-gmac "+bits)
			for _, h := range []string{"sha", "sha256", "sha384", "sha512"} {
				all = append(all, "esp-aes "+bits+" esp-"+h+"-hmac")
			}
		}
		for _, h := range []string{"sha", "sha256", "sha384", "sha512"} {
			all = append(all, "esp-3des esp-"+h+"-hmac", "esp-null esp-"+h+"-hmac")
		}
	}
	for _, tr := range all {
		t.Run(tr, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{Members: 2})
			w.group(policy{transform: tr}, 2)
			if out, err := w.Ping("h1", lab.Host(2), 5, "-s", "1000"); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if _, err := w.Transfer("h2", "h1", lab.Host(1), 2<<20, time.Minute); err != nil {
				t.Error(err)
			}
			w.noneInClear()
		})
	}
}
