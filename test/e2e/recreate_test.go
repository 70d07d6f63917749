package e2e

// Issue item 7, where pins don't reach: WAN devices that are deleted, made again,
// renamed and moved while no daemon runs; boot; upgrades; policy that changes under
// load. In each, what the list permits never crosses the core in clear and what it
// denies passes.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"getvpn/internal/lab"
)

// load makes a stream from h1 to h2 and returns a function that waits until more of it
// has been sent.
func (w *world) load() (some func()) {
	w.Helper()
	s, err := w.Stream("h1", "h2", lab.Host(2), 1000, 300)
	w.must(err)
	w.Cleanup(func() { s.Stop() })
	return func() {
		w.Helper()
		w.more(s, 200)
	}
}

// more waits until a stream has sent n more datagrams.
func (w *world) more(s *lab.Stream, n int) {
	w.Helper()
	from, _ := s.Counts()
	w.until(30*time.Second, func() error {
		if now, _ := s.Counts(); now-from < n {
			return errors.New("no load")
		}
		return nil
	})
}

// passes waits until protected traffic passes.
func (w *world) passes(when string) {
	w.Helper()
	start := time.Now()
	w.until(90*time.Second, func() error {
		_, err := w.Ping("h1", lab.Host(2), 1, "-W", "1")
		return err
	})
	w.noneInClear()
	w.Logf("%s: traffic passes after %v", when, time.Since(start).Round(10*time.Millisecond))
}

// closed shows that permits die, inbound too, and that denies pass.
func (w *world) closed(when string, some func()) {
	w.Helper()
	some()
	if _, err := w.Ping("h1", lab.Host(2), 1, "-W", "1"); err == nil {
		w.Errorf("%s: protected traffic passes", when)
	}
	mac, err := w.MAC("gm1", "wan")
	w.must(err)
	w.must(w.Count("h1", map[string]string{"injected": "udp dport 4321"}))
	for range 20 {
		w.must(w.Inject("core", "c1", lab.UDP(mac, lab.Host(2), lab.Host(1), 4321, 4321, []byte("in clear"))))
	}
	sshPasses(w, when) // after the injected ones on the same path
	n, err := w.Counted("h1")
	w.must(err)
	if n["injected"] != 0 {
		w.Errorf("%s: %d injected clear packets reached the host", when, n["injected"])
	}
	w.noneInClear()
}

// remake deletes member 1's WAN device and makes it again.
func (w *world) remake() {
	w.Helper()
	w.run("gm1", "ip", "link", "del", "wan")
	w.must(w.WANLink(1))
}

func (w *world) run(node, name string, args ...string) string {
	w.Helper()
	out, err := w.Lab.Run(node, name, args...)
	w.must(err)
	return out
}

// kernel lists what of the product is in a member's kernel.
func (w *world) kernel(node string) string {
	w.Helper()
	var left []string
	for _, l := range strings.Fields(w.run(node, "nft", "list", "tables") + w.run(node, "ip", "-o", "-br", "link")) {
		if strings.HasPrefix(l, "getvpn-") || strings.HasPrefix(l, "gv-") {
			left = append(left, l)
		}
	}
	pins, _ := os.ReadDir(filepath.Join(w.Dir, "bpf", node))
	for _, p := range pins {
		left = append(left, "pin "+p.Name())
	}
	return strings.Join(left, ", ")
}

// args are those of member n's program with a configuration and more options.
func (w *world) args(n int, conf string, more ...string) []string {
	w.Helper()
	node := fmt.Sprintf("gm%d", n)
	file, err := w.ConfFile(node, conf)
	w.must(err)
	base, bpf := filepath.Join(w.Dir, node), filepath.Join(w.Dir, "bpf", node)
	w.must(os.MkdirAll(bpf, 0o700))
	return append([]string{"--config", file, "--socket", base + ".sock", "--state-dir", base + ".state", "--bpf-dir", bpf}, more...)
}

// again starts the program and doesn't wait for it.
func (w *world) again(n int, conf string, more ...string) *lab.Proc {
	w.Helper()
	node := fmt.Sprintf("gm%d", n)
	p, err := w.Start(node, node, filepath.Join(w.Bin, "getvpnd"), w.args(n, conf, more...)...)
	w.must(err)
	return p
}

// once runs it to its end.
func (w *world) once(n int, conf string, more ...string) error {
	w.Helper()
	_, err := w.Lab.Run(fmt.Sprintf("gm%d", n), filepath.Join(w.Bin, "getvpnd"), w.args(n, conf, more...)...)
	return err
}

func TestDeviceRecreatedWithoutADaemon(t *testing.T) {
	for _, open := range []bool{false, true} {
		t.Run(map[bool]string{false: "fail-close", true: "open"}[open], func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{Members: 2})
			w.startKS(policy{})
			for n := 1; n <= 2; n++ {
				w.must(w.startGM(n, member{open: open}).Registered(30 * time.Second))
			}
			some := w.load()
			w.passes("at first")
			w.must(w.gms[1].Kill())
			for range pick(2, 10) {
				w.remake()
				w.closed("made again without the daemon", some)
			}
			// Nothing registers without its key server: what is closed stays closed.
			w.must(w.ks.Kill())
			w.startGM(1, member{open: open})
			w.closed("the next daemon is up, unregistered", some)
			w.remake()
			w.closed("made again under an unregistered daemon", some)
			w.startKS(policy{}) // with new keys, which member 2 fetches when it starts
			w.must(w.gms[2].Kill())
			w.startGM(2, member{open: open})
			w.passes("the key server is back")

			// Renamed, under a daemon and without one.
			w.run("gm1", "ip", "link", "set", "wan", "name", "other")
			w.passes("renamed")
			w.must(w.gms[1].Kill())
			some()
			w.noneInClear()
			w.startGM(1, member{open: open})
			some()
			w.passes("the next daemon finds it under its other name")
			w.must(w.gms[1].Kill())
			w.run("gm1", "ip", "link", "set", "other", "name", "wan")
			w.closed("its name is back without the daemon", some)

			// To another namespace and back, first without a daemon.
			move := func() {
				w.run("gm1", "ip", "link", "set", "wan", "netns", w.NS("h1"))
				w.run("h1", "ip", "link", "set", "wan", "netns", w.NS("gm1"))
				w.run("gm1", "ip", "addr", "replace", lab.WAN(1)+"/24", "dev", "wan")
				w.run("gm1", "ip", "link", "set", "wan", "up")
				w.must(w.WANRoutes(1))
			}
			move()
			w.closed("moved there and back without the daemon", some)
			w.startGM(1, member{open: open})
			w.passes("the daemon is back")
			move()
			some()
			w.passes("moved there and back under the daemon")
			w.remake()
			some()
			w.passes("made again under the daemon")
			// A firewall service that reloads its whole ruleset.
			w.run("gm1", "nft", "flush", "ruleset")
			w.until(30*time.Second, func() error {
				if !strings.Contains(w.kernel("gm1"), "getvpn-wan") {
					return errors.New("the lock isn't back")
				}
				return nil
			})
			some()
			w.noneInClear()
			w.must(w.gms[1].Kill())
			w.remake()
			w.closed("flushed, killed, made again", some)
			if n := strings.Count(w.kernel("gm1"), "getvpn-"); n != 1 {
				t.Errorf("%d locks: %s", n, w.kernel("gm1"))
			}
		})
	}
}

// A clean end with --flush, and a restart without the crypto map after a crash, leave
// nothing in the kernel.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{Members: 2})
	w.group(policy{}, 2)
	w.must(w.gms[1].Stop())
	if left := w.kernel("gm1"); !strings.Contains(left, "getvpn-wan") || !strings.Contains(left, "gv-wan") || !strings.Contains(left, "pin if") {
		t.Errorf("an orderly end keeps too little: %s", left)
	}
	conf := gmConf(1, member{})
	p := w.again(1, conf, "--flush")
	w.passes("with --flush")
	w.must(p.Stop())
	if left := w.kernel("gm1"); left != "" {
		t.Errorf("left after --flush: %s", left)
	}
	w.startGM(1, member{})
	w.passes("once more")
	w.must(w.gms[1].Kill())
	w.remake() // the pins' device is gone
	bare := strings.Replace(conf, "interface wan\n crypto map M\n", "", 1)
	p = w.again(1, bare)
	w.until(30*time.Second, func() error {
		if left := w.kernel("gm1"); left != "" {
			return errors.New("left: " + left)
		}
		return nil
	})
	w.must(p.Stop())
	// A map on another interface: what the first one had goes when it has registered.
	w.startGM(1, member{})
	w.passes("once more")
	w.must(w.gms[1].Kill())
	w.run("gm1", "ip", "link", "add", "wan2", "type", "veth", "peer", "name", "far2")
	w.run("gm1", "ip", "link", "set", "wan2", "up")
	p = w.again(1, strings.Replace(conf, "interface wan\n", "interface wan2\n", 1))
	w.until(30*time.Second, func() error {
		if left := w.kernel("gm1"); strings.Contains(left, "getvpn-wan,") || strings.Contains(left, "gv-wan,") || !strings.Contains(left, "getvpn-wan2") {
			return errors.New("there is: " + left)
		}
		return nil
	})
	w.must(p.Stop())
}

// From boot to the daemon's start: getvpnd --lock-only closes what fail-close closes.
func TestLockedAtBoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{Members: 2})
	some := w.load()
	inClear := func() int {
		n, err := w.Counted("core")
		w.must(err)
		return n["udp"] + n["tcp"] - n["ssh"] - n["ssh_back"]
	}
	// Without fail-close nothing is closed: the vendor's default.
	w.must(w.once(1, gmConf(1, member{open: true}), "--lock-only"))
	some()
	before := inClear()
	if left := w.kernel("gm1"); left != "" || before == 0 {
		t.Errorf("without fail-close: %d packets passed, in the kernel is %q", before, left)
	}
	w.must(w.once(1, gmConf(1, member{}), "--lock-only"))
	w.must(w.once(2, gmConf(2, member{}), "--lock-only"))
	settled := inClear() // what was under way
	some()
	w.remake()
	some()
	sshPasses(w, "locked at boot")
	if n := inClear() - settled; n != 0 {
		t.Errorf("%d packets in clear after the lock", n)
	}
	w.must(w.Count("core", map[string]string{"udp": protected + " ip protocol != { esp, tcp }", "tcp": protected + " ip protocol tcp",
		"ssh": protected + " tcp dport 22", "ssh_back": protected + " tcp sport 22", "esp": protected + " ip protocol esp"}))
	w.closed("locked at boot", some)
	// The interface has no policy but the lock: GDOI passes, the daemon takes over.
	w.group(policy{}, 2)
	w.passes("registered through the lock")
	if err := w.once(1, gmConf(1, member{}), "--lock-only"); err == nil {
		t.Error("a running daemon's interfaces were locked")
	}
	w.passes("still")
}

// The program is replaced under a running daemon, which then restarts; and the list of
// the member itself changes under load.
func TestUpgradedAndReconfigured(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	put := func() {
		for _, f := range []string{"getvpnd", "getvpn"} {
			b, err := os.ReadFile(filepath.Join(binDir, f))
			if err == nil {
				err = os.WriteFile(filepath.Join(bin, f+".new"), b, 0o755)
			}
			if err == nil {
				err = os.Rename(filepath.Join(bin, f+".new"), filepath.Join(bin, f))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	put()
	w := newWorld(t, lab.Options{Members: 2, Bin: bin})
	w.group(policy{}, 2)
	some := w.load()
	w.passes("at first")
	for range pick(2, 10) {
		put()
		w.must(w.gms[1].Stop())
		some()
		sshPasses(w, "between the versions")
		w.noneInClear()
		w.startGM(1, member{})
		some()
		w.passes("upgraded")
	}

	// A local deny entry comes and goes: its port passes in clear, nothing else ever.
	w.must(w.Count("core", map[string]string{"udp": protected + " ip protocol != { esp, tcp } udp dport != 9999",
		"tcp": protected + " ip protocol tcp", "ssh": protected + " tcp dport 22", "ssh_back": protected + " tcp sport 22",
		"esp": protected + " ip protocol esp", "denied": protected + " udp dport 9999"}))
	plain := gmConf(1, member{})
	denied := strings.Replace(plain, " set group G\n", " set group G\n match address LOCAL\n", 1)
	denied = strings.Replace(denied, "end\n", "ip access-list extended LOCAL\n deny udp any any eq 9999\nend\n", 1)
	for range pick(3, 20) {
		for _, conf := range []string{denied, plain} {
			_, err := w.ConfFile("gm1", conf)
			w.must(err)
			before, err := w.Counted("core")
			w.must(err)
			w.must(w.gms[1].Signal(syscall.SIGHUP))
			some()
			w.passes("reconfigured")
			if conf == denied {
				w.until(30*time.Second, func() error {
					after, err := w.Counted("core")
					if err == nil && after["denied"] == before["denied"] {
						err = errors.New("the denied port doesn't pass")
					}
					w.run("h1", "bash", "-c", "echo x > /dev/udp/"+lab.Host(2)+"/9999")
					return err
				})
			}
		}
	}
	w.noneInClear()
}

// All SAs expired and the key server gone: permits die whatever happens to the device.
func TestDeviceRecreatedWhenExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{Members: 2})
	w.group(policy{lifetime: 120}, 2)
	some := w.load()
	w.must(w.ks.Kill())
	w.until(3*time.Minute, func() error {
		if _, err := w.Ping("h1", lab.Host(2), 1, "-W", "1"); err == nil {
			return errors.New("pings still pass")
		}
		for _, tek := range w.snapshot(w.gms[1]).Members[0].TEKs {
			return fmt.Errorf("SPI %#x is still there", tek.SPI)
		}
		return nil
	})
	w.closed("all SAs expired", some)
	w.remake()
	w.closed("expired, made again", some)
	w.must(w.gms[1].Kill())
	w.remake()
	w.closed("expired, made again without the daemon", some)
	w.startGM(1, member{})
	some()
	w.startKS(policy{lifetime: 120})
	w.passes("the key server is back")
}
