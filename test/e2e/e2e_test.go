// Package e2e runs whole daemons in network namespaces and judges them from outside:
// by what hosts receive, what the core's kernel counts, what a capture shows.
//
// Each test has a short form; GETVPN_SOAK=1 (make soak) gives the long one. They need
// root. GETVPN_BIN names a folder of programs to test instead of the tree's.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"getvpn/internal/lab"
)

// binDir holds the programs under test; TestMain builds them once. tempDir is for what
// tests share.
var binDir, tempDir string

func TestMain(m *testing.M) {
	code, err := setUp(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// together is how many labs run at once: they wait far more than they compute.
const together = "6"

func setUp(m *testing.M) (int, error) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		if err := flag.Set("test.parallel", together); err != nil {
			return 1, err
		}
	}
	if os.Geteuid() != 0 {
		return m.Run(), nil // every test skips
	}
	dir, err := os.MkdirTemp("", "getvpn-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	tempDir = dir
	if binDir = os.Getenv("GETVPN_BIN"); binDir == "" {
		binDir = dir
		if err := lab.Build(dir); err != nil {
			return 1, err
		}
	}
	return m.Run(), nil
}

func soak() bool { return os.Getenv("GETVPN_SOAK") != "" }

// pick returns the short or the long form of a number.
func pick[T any](short, long T) T {
	if soak() {
		return long
	}
	return short
}

// world is a lab with the group's daemons.
type world struct {
	*testing.T
	*lab.Lab
	ks  *lab.Daemon
	gms map[int]*lab.Daemon
}

// newWorld builds a topology that is removed when the test ends. A failed test prints
// the daemons' last words.
func newWorld(t *testing.T, o lab.Options) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if o.Bin == "" {
		o.Bin = binDir
	}
	l, err := lab.New(o)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, Lab: l, gms: map[int]*lab.Daemon{}}
	t.Cleanup(func() {
		if t.Failed() {
			w.lastWords()
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	// What must never travel in clear, counted without loss before routing.
	w.must(l.Count("core", map[string]string{
		"udp":      protected + " ip protocol != { esp, tcp }",
		"tcp":      protected + " ip protocol tcp",
		"ssh":      protected + " tcp dport 22",
		"ssh_back": protected + " tcp sport 22",
		"esp":      protected + " ip protocol esp",
	}))
	return w
}

// protected are the addresses that the group's list permits.
const protected = "ip saddr 10.1.0.0/16 ip daddr { 10.1.0.0/16, 239.1.0.0/16 }"

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) lastWords() {
	for _, f := range []string{"ks", "gm1", "gm2", "gm3"} {
		b, err := os.ReadFile(filepath.Join(w.Dir, f+".log"))
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		w.Logf("%s's log ends:\n%s", f, strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
}

// policy says what is in the configuration files.
type policy struct {
	lifetime  int      // of the TEK, seconds; 0: 900
	transform string   // empty: esp-gcm 128
	replay    string   // empty: no replay
	entries   []string // of the list; nil: SSH in clear, the lab's hosts and groups protected
	psk       string   // of the key server
	rekey     []string // lines of "server local" about rekeys; nil: none are sent
}

// multicastRekey is the address line of rekeys to lab.RekeyGroup.
const multicastRekey = "rekey address ipv4 REKEY"

func (p policy) fill() policy {
	if p.lifetime == 0 {
		p.lifetime = 900
	}
	if p.transform == "" {
		p.transform = "esp-gcm 128"
	}
	if p.replay == "" {
		p.replay = "no replay"
	}
	if p.entries == nil {
		p.entries = []string{"deny tcp any any eq 22", "deny tcp any eq 22 any",
			"permit ip 10.1.0.0 0.0.255.255 10.1.0.0 0.0.255.255", "permit ip 10.1.0.0 0.0.255.255 239.1.0.0 0.0.255.255"}
	}
	if p.psk == "" {
		p.psk = "end-to-end"
	}
	return p
}

const isakmp = `crypto isakmp policy 10
 encr aes 256
 hash sha256
 authentication pre-share
 group 19
 lifetime 1200
`

func ksConf(p policy) string {
	p = p.fill()
	var rekey strings.Builder
	for _, l := range p.rekey {
		fmt.Fprintf(&rekey, "  %s\n", l)
	}
	return fmt.Sprintf(`hostname ks
%scrypto isakmp key %s address 172.16.0.0 255.255.0.0
crypto ipsec transform-set T %s
crypto ipsec profile P
 set security-association lifetime seconds %d
 set transform-set T
crypto gdoi group G
 identity number 1234
 server local
%s  sa ipsec 1
   profile P
   match address ipv4 LIST
   %s
  address ipv4 %s
ip access-list extended LIST
 %s
ip access-list extended REKEY
 permit udp host %s eq 848 host %s eq 848
end
`, isakmp, p.psk, p.transform, p.lifetime, rekey.String(), p.replay, lab.KeyServer, strings.Join(p.entries, "\n "), lab.KeyServer, lab.RekeyGroup)
}

// member says what is in a member's configuration file.
type member struct {
	psk   string
	group int
	open  bool // without fail-close
	mss   int  // of TCP through it; 0: as hosts like
}

func gmConf(n int, m member) string {
	if m.psk == "" {
		m.psk = "end-to-end"
	}
	if m.group == 0 {
		m.group = 1234
	}
	failClose := `crypto map M gdoi fail-close
 match address UNREG
 activate
`
	if m.open {
		failClose = ""
	}
	mss := ""
	if m.mss != 0 {
		mss = fmt.Sprintf(" ip tcp adjust-mss %d\n", m.mss)
	}
	return fmt.Sprintf(`hostname gm%d
%scrypto isakmp key %s address %s
crypto gdoi group G
 identity number %d
 server address ipv4 %s
%scrypto map M 10 gdoi
 set group G
interface wan
%s crypto map M
ip access-list extended UNREG
 deny tcp any any eq 22
 deny tcp any eq 22 any
end
`, n, isakmp, m.psk, lab.KeyServer, m.group, lab.KeyServer, failClose, mss)
}

// startKS starts the key server.
func (w *world) startKS(p policy) {
	w.Helper()
	conf, err := w.ConfFile("ks", ksConf(p))
	w.must(err)
	w.ks, err = w.Daemon("ks", conf)
	w.must(err)
}

// startGM starts a member, without waiting for its registration.
func (w *world) startGM(n int, m member) *lab.Daemon {
	w.Helper()
	conf, err := w.ConfFile(fmt.Sprintf("gm%d", n), gmConf(n, m))
	w.must(err)
	d, err := w.Daemon(fmt.Sprintf("gm%d", n), conf)
	w.must(err)
	w.gms[n] = d
	return d
}

// group starts the key server and members 1 to n, and waits for their registration.
func (w *world) group(p policy, n int) { w.groupOf(p, n, member{}) }

// groupOf is group with members as m says.
func (w *world) groupOf(p policy, n int, m member) {
	w.Helper()
	w.startKS(p)
	for i := 1; i <= n; i++ {
		w.startGM(i, m)
	}
	for i := 1; i <= n; i++ {
		w.must(w.gms[i].Registered(30 * time.Second))
	}
}

// noneInClear fails the test if the core saw a protected packet in clear.
func (w *world) noneInClear() {
	w.Helper()
	n, err := w.Counted("core")
	w.must(err)
	ssh := n["ssh"] + n["ssh_back"]
	clear := n["udp"] + n["tcp"] - ssh
	if clear != 0 {
		w.Errorf("%d protected packets crossed the core in clear", clear)
	}
	w.Logf("core: %d packets as ESP, %d in clear, %d of SSH in clear", n["esp"], clear, ssh)
}

// tek is a data SA.
type tek struct {
	SPI               uint32
	Sending, Replaced bool
	Expires           time.Time
	SA                struct{ EncapPackets int }
}

// model is the part of a daemon's snapshot that tests read.
type model struct {
	KeyServers []struct {
		Members []struct{ Addr string }
	}
	KSRejected map[string]int
	Members    []struct {
		Succeeded, Attempted int
		FailuresByReason     map[string]int
		TEKs                 []tek // newest first
	}
	IKE struct {
		SAs   []struct{ State string }
		Drops map[string]int
	}
	Dataplane struct {
		Drops      map[string]int
		Interfaces []struct{ EncapPackets, DecapPackets int }
	}
}

func (w *world) snapshot(d *lab.Daemon) model {
	w.Helper()
	var m model
	w.must(d.Snapshot(&m))
	return m
}

func sum(m map[string]int) int {
	n := 0
	for _, x := range m {
		n += x
	}
	return n
}

// until is lab.Until with the test's failure.
func (w *world) until(limit time.Duration, f func() error) {
	w.Helper()
	w.must(lab.Until(limit, f))
}
