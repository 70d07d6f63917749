package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"getvpn/internal/lab"
)

// twoGroups is the key server of G (hosts among each other) and H (multicast), or of
// one of them.
func twoGroups(names ...string) string {
	conf := ksConf(policy{entries: []string{"deny tcp any any eq 22", "deny tcp any eq 22 any", "permit ip 10.1.0.0 0.0.255.255 10.1.0.0 0.0.255.255"}})
	i, j := strings.Index(conf, "crypto gdoi group G"), strings.Index(conf, "ip access-list")
	group := conf[i:j]
	h := strings.NewReplacer("group G", "group H", "number 1234", "number 5678", "ipv4 LIST", "ipv4 MULTICAST").Replace(group)
	out := conf[:i]
	for _, n := range names {
		out += map[string]string{"G": group, "H": h}[n]
	}
	return out + "ip access-list extended MULTICAST\n permit ip 10.1.0.0 0.0.255.255 239.1.0.0 0.0.255.255\n" + conf[j:]
}

// Two groups on one interface without fail-close. The daemon is killed and starts again
// with the key server away, which then comes back for one of the groups alone: the
// permits of both never pass in clear meanwhile.
func TestRestartWithoutFailClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{Members: 2})
	startKS := func(names ...string) {
		t.Helper()
		file, err := w.ConfFile("ks", twoGroups(names...))
		w.must(err)
		w.ks, err = w.Daemon("ks", file)
		w.must(err)
	}
	startGM := func(n int) {
		t.Helper()
		conf := strings.Replace(gmConf(n, member{open: true}), "crypto map M 10", fmt.Sprintf(
			"crypto gdoi group H\n identity number 5678\n server address ipv4 %s\ncrypto map M 20 gdoi\n set group H\ncrypto map M 10", lab.KeyServer), 1)
		file, err := w.ConfFile(fmt.Sprintf("gm%d", n), conf)
		w.must(err)
		w.gms[n], err = w.Daemon(fmt.Sprintf("gm%d", n), file)
		w.must(err)
	}
	registered := func(n, groups int) {
		t.Helper()
		w.until(90*time.Second, func() error {
			have := 0
			for _, g := range w.snapshot(w.gms[n]).Members {
				if g.Succeeded > 0 {
					have++
				}
			}
			if have != groups {
				return fmt.Errorf("registered in %d groups", have)
			}
			return nil
		})
	}
	startKS("G", "H")
	startGM(1)
	startGM(2)
	registered(1, 2)
	registered(2, 2)
	load, err := w.Stream("h1", "h2", lab.Host(2), 1000, 300)
	w.must(err)
	some := func() {
		t.Helper()
		w.more(load, 300)
	}
	w.until(30*time.Second, func() error { _, err := w.Ping("h1", lab.Host(2), 1, "-W", "1"); return err })
	some()
	w.noneInClear()

	w.must(w.ks.Kill())
	w.must(w.gms[1].Kill())
	some()
	startGM(1)
	some()
	w.noneInClear()
	if d := w.snapshot(w.gms[1]).Dataplane.Drops["no-sa"]; d == 0 {
		t.Error("nothing was dropped for want of keys")
	}
	sshPasses(w, "without a key server")

	startKS("H")
	registered(1, 1)
	some()
	w.noneInClear()

	w.must(w.ks.Kill())
	startKS("G", "H")
	registered(1, 2)
	some()
	w.noneInClear()
	load.Stop()
}
