package ike

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Foreign parties: strongSwan's charon and ike-scan in a network namespace, our
// endpoint in another. Needs root and the programs.

var record = flag.Bool("record", false, "write testdata/strongswan-main.json from a real run")

const (
	ourAddr   = "10.77.0.1"
	theirAddr = "10.77.0.2"
)

// The namespaces' names hold the process's number, so that two runs don't meet.
var nsOurs, nsTheirs = fmt.Sprintf("ikeT%d-us", os.Getpid()), fmt.Sprintf("ikeT%d-them", os.Getpid())

// charonsTime is how long another program is waited for: the machine may be busy.
const charonsTime = 60 * time.Second

// command runs a program to its end.
func command(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), charonsTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(out), err
}

func must(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := command(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// foreignNet makes both namespaces, or skips.
func foreignNet(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	for _, p := range []string{"ip", "nft", "unshare"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs the program %s", p)
		}
	}
	clean := func() {
		for _, ns := range []string{nsOurs, nsTheirs} {
			_, _ = command(t, "ip", "netns", "del", ns) // isn't there, mostly
		}
	}
	clean()
	t.Cleanup(clean)
	for _, a := range []string{
		"netns add " + nsOurs, "netns add " + nsTheirs,
		"-n " + nsOurs + " link add ikeT0 type veth peer name ikeT1 netns " + nsTheirs,
		"-n " + nsOurs + " addr add " + ourAddr + "/24 dev ikeT0", "-n " + nsTheirs + " addr add " + theirAddr + "/24 dev ikeT1",
		"-n " + nsOurs + " link set ikeT0 up", "-n " + nsTheirs + " link set ikeT1 up",
		"-n " + nsOurs + " link set lo up", "-n " + nsTheirs + " link set lo up",
	} {
		must(t, "ip", strings.Fields(a)...)
	}
}

// inNS runs f on a thread in a namespace; sockets made there stay there.
func inNS[T any](t testing.TB, ns string, f func() (T, error)) (T, error) {
	t.Helper()
	type res struct {
		v   T
		err error
	}
	c := make(chan res)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var r res
		fd, err := unix.Open("/run/netns/"+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if r.err = err; err == nil {
			r.v, r.err = f()
		}
		c <- r
	}()
	r := <-c
	return r.v, r.err
}

// tapConn records what goes through a socket.
type tapConn struct {
	PacketConn
	mu  *sync.Mutex
	log *[][]byte
}

func (c tapConn) Read(b []byte) (Datagram, error) {
	d, err := c.PacketConn.Read(b)
	if err == nil {
		c.note(d.Data)
	}
	return d, err
}

func (c tapConn) Write(b []byte, l netip.Addr, r netip.AddrPort) error {
	c.note(b)
	return c.PacketConn.Write(b, l, r)
}

func (c tapConn) note(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.log = append(*c.log, bytes.Clone(b))
}

// ours makes our endpoint in its namespace.
func ours(t testing.TB, c *Config, edit func(*Options)) (*Endpoint, func() [][]byte) {
	t.Helper()
	var mu sync.Mutex
	var log [][]byte
	o := Options{Locals: []netip.Addr{netip.MustParseAddr(ourAddr)}, Config: c}
	o.Listen = func(a netip.AddrPort) (PacketConn, error) {
		pc, err := inNS(t, nsOurs, func() (PacketConn, error) { return listenUDP(a, nil) })
		if err != nil {
			return nil, err
		}
		return tapConn{pc, &mu, &log}, nil
	}
	if edit != nil {
		edit(&o)
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e, func() [][]byte {
		mu.Lock()
		defer mu.Unlock()
		return append([][]byte(nil), log...)
	}
}

// charon is strongSwan in its namespace, with port 848 translated to its 500: between
// two ports that aren't 500 it takes ISAKMP without a marker for ESP.
type charon struct {
	t   testing.TB
	dir string
}

func startCharon(t testing.TB) *charon {
	t.Helper()
	const prog = "/usr/lib/ipsec/charon"
	if _, err := os.Stat(prog); err != nil {
		t.Skip("needs strongSwan's charon")
	}
	foreignNet(t)
	c := &charon{t, t.TempDir()}
	c.write("strongswan.conf", fmt.Sprintf(`charon {
  install_routes = no
  i_dont_care_about_security_and_use_aggressive_mode_psk = yes
  retransmit_timeout = 1
  filelog { f { path = %[1]s/charon.log
    default = 1
    ike = 4
    enc = 1
    flush_line = yes } }
  plugins { include /etc/strongswan.d/charon/*.conf
    vici { socket = unix://%[1]s/vici }
    bypass-lan { load = no } } }
`, c.dir))
	c.write("nft", `table ip ike848 {
  chain pre  { type nat hook prerouting priority -100; udp dport 848 redirect to :500
  }
  chain out  { type nat hook output priority -100; udp dport 500 dnat to :848
  }
  chain post { type nat hook postrouting priority 100; udp sport 500 udp dport 848 masquerade to :848
  }
}
`)
	must(t, "ip", "netns", "exec", nsTheirs, "nft", "-f", c.dir+"/nft")
	cmd := exec.Command("ip", "netns", "exec", nsTheirs, "unshare", "-m", "bash", "-c",
		"mount -t tmpfs none /run && exec env STRONGSWAN_CONF="+c.dir+"/strongswan.conf "+prog)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
	})
	c.until("vici", func() bool { _, err := os.Stat(c.dir + "/vici"); return err == nil })
	return c
}

func (c *charon) write(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// until waits for a state of the other program.
func (c *charon) until(what string, ok func() bool) {
	c.t.Helper()
	for end := time.Now().Add(charonsTime); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("%s didn't come; log:\n%s", what, c.tail())
		}
	}
}

func (c *charon) logText() string {
	b, _ := os.ReadFile(c.dir + "/charon.log")
	return string(b)
}

func (c *charon) tail() string {
	l := strings.Split(c.logText(), "\n")
	return strings.Join(l[max(0, len(l)-40):], "\n")
}

func (c *charon) swanctl(args ...string) (string, error) {
	return command(c.t, "ip", append([]string{"netns", "exec", nsTheirs, "swanctl"}, append(args, "--uri=unix://"+c.dir+"/vici")...)...)
}

func (c *charon) load(proposal string, aggressive bool, psk string) {
	c.t.Helper()
	yes := map[bool]string{true: "yes", false: "no"}[aggressive]
	c.write("swanctl.conf", fmt.Sprintf(`connections { gdoi { version = 1
  aggressive = %s
  local_addrs = %s
  remote_addrs = %s
  remote_port = 500
  proposals = %s
  local { auth = psk
    id = %s }
  remote { auth = psk
    id = %s } } }
secrets { ike-1 { secret = "%s" } }
`, yes, theirAddr, ourAddr, proposal, theirAddr, ourAddr, psk))
	if out, err := c.swanctl("--load-all", "--clear", "--file", c.dir+"/swanctl.conf"); err != nil {
		c.t.Fatalf("load: %v\n%s", err, out)
	}
}

func (c *charon) established() bool {
	out, err := c.swanctl("--list-sas")
	return err == nil && strings.Contains(out, "ESTABLISHED")
}

var foreignSuites = []struct {
	name string
	p    Policy
}{
	{"aes128-sha256-modp2048", Policy{Encr: EncrAES, KeyBits: 128, Hash: HashSHA256, Group: 14}},
	{"aes256-sha1-modp1024", Policy{Encr: EncrAES, KeyBits: 256, Hash: HashSHA1, Group: 2}},
	{"aes192-sha384-modp3072", Policy{Encr: EncrAES, KeyBits: 192, Hash: HashSHA384, Group: 15}},
	{"aes256-sha512-modp4096", Policy{Encr: EncrAES, KeyBits: 256, Hash: HashSHA512, Group: 16}},
	{"3des-sha1-modp1536", Policy{Encr: Encr3DES, Hash: HashSHA1, Group: 5}},
	{"3des-sha256-modp2048s256", Policy{Encr: Encr3DES, Hash: HashSHA256, Group: 24}},
	{"aes128-sha256-ecp256", Policy{Encr: EncrAES, KeyBits: 128, Hash: HashSHA256, Group: 19}},
	{"aes256-sha384-ecp384", Policy{Encr: EncrAES, KeyBits: 256, Hash: HashSHA384, Group: 20}},
	{"aes256-sha512-ecp521", Policy{Encr: EncrAES, KeyBits: 256, Hash: HashSHA512, Group: 21}},
}

func foreignConfig(psk string, p Policy) *Config {
	return &Config{Policies: []Policy{p}, Aggressive: true,
		Keys: []Key{{Prefix: netip.MustParsePrefix(theirAddr + "/32"), PSK: []byte(psk)}}}
}

// eachSuite runs f for the suites in main mode, without and with NAT traversal (the port
// translation is a NAT), and for some in aggressive mode. Each direction has a charon of
// its own: connection tracking can't translate both in one namespace.
func eachSuite(t *testing.T, f func(t *testing.T, c *charon, e *Endpoint, aggressive, natt bool)) {
	c := startCharon(t)
	for i, s := range foreignSuites {
		for _, aggressive := range []bool{false, true} {
			for _, natt := range []bool{false, true} {
				if aggressive && i%3 != 0 {
					continue
				}
				t.Run(fmt.Sprintf("%s aggressive=%v natt=%v", s.name, aggressive, natt), func(t *testing.T) {
					c.load(s.name, aggressive, "s3cret")
					port := map[bool]int{true: 0, false: -1}[natt]
					e, _ := ours(t, foreignConfig("s3cret", s.p), func(o *Options) { o.NATTPort = port })
					f(t, c, e, aggressive, natt)
				})
			}
		}
	}
}

func TestStrongSwanResponds(t *testing.T) {
	eachSuite(t, func(t *testing.T, c *charon, e *Endpoint, aggressive, natt bool) {
		sa, err := e.Connect(t.Context(), netip.MustParseAddrPort(theirAddr+":848"), ConnectOptions{Aggressive: aggressive})
		if err != nil {
			t.Fatalf("%v\n%v\n%s", err, e.Drops(), c.tail())
		}
		if p := sa.Peer(); p.NATT != natt || p.Identity.String() != theirAddr {
			t.Errorf("peer %+v", p)
		}
		c.until("SA at charon", c.established)
		if !sa.Probe(t.Context(), 20, time.Second) {
			t.Errorf("charon doesn't answer R-U-THERE: %v", e.Drops())
		}
		sa.Close()
		c.until("our delete", func() bool { return !c.established() })
	})
}

func TestStrongSwanInitiates(t *testing.T) {
	eachSuite(t, func(t *testing.T, c *charon, e *Endpoint, aggressive, natt bool) {
		if out, err := c.swanctl("--initiate", "--ike", "gdoi", "--timeout", "40"); err != nil {
			t.Fatalf("%v\n%s\n%v\n%s", err, out, e.Drops(), c.tail())
		}
		list := e.SAs(netip.MustParseAddr(theirAddr))
		for end := time.Now().Add(charonsTime); len(list) == 0 && time.Now().Before(end); list = e.SAs(netip.MustParseAddr(theirAddr)) {
			time.Sleep(10 * time.Millisecond) // aggressive: message 3 is on its way
		}
		if len(list) != 1 || list[0].Peer().Initiator || list[0].Peer().NATT != natt {
			t.Fatalf("SAs %v; %v", list, e.Drops())
		}
		if out, err := c.swanctl("--terminate", "--ike", "gdoi"); err != nil {
			t.Errorf("terminate: %v\n%s", err, out)
		}
		select {
		case <-list[0].Done():
		case <-time.After(charonsTime):
			t.Errorf("charon's delete had no effect: %v", e.Drops())
		}
	})
}

func TestStrongSwanWrongPSK(t *testing.T) {
	s := foreignSuites[6]
	t.Run("responds", func(t *testing.T) {
		c := startCharon(t)
		c.load(s.name, false, "s3creT")
		e, _ := ours(t, foreignConfig("s3cret", s.p), func(o *Options) { o.Retry = Retry{First: 500 * time.Millisecond, Count: 3} })
		_, err := e.Connect(t.Context(), netip.MustParseAddrPort(theirAddr+":848"), ConnectOptions{})
		if !errors.Is(err, AuthFailed) || c.established() {
			t.Errorf("%v", err)
		}
	})
	t.Run("initiates", func(t *testing.T) {
		c := startCharon(t)
		c.load(s.name, false, "s3creT")
		e, _ := ours(t, foreignConfig("s3cret", s.p), nil)
		if out, err := c.swanctl("--initiate", "--ike", "gdoi", "--timeout", "3"); err == nil {
			t.Errorf("charon got through: %s", out)
		}
		c.until("its message under the wrong key", func() bool { return e.Drops()[DropDecrypt] != 0 })
		if len(e.SAs(netip.Addr{})) != 0 {
			t.Errorf("drops %v", e.Drops())
		}
	})
}

func TestIKEScan(t *testing.T) {
	if _, err := exec.LookPath("ike-scan"); err != nil {
		t.Skip("needs ike-scan")
	}
	foreignNet(t)
	e, _ := ours(t, foreignConfig("s3cret", Policy{Encr: EncrAES, Hash: HashSHA1, Group: 2}), nil)
	scan := func(args ...string) string {
		all := append([]string{"netns", "exec", nsTheirs, "ike-scan", "--sport=1848", "--dport=848", "--retry=1", "--timeout=30000"}, args...)
		return must(t, "ip", append(all, ourAddr)...)
	}
	for _, doi := range [][]string{nil, {"--doi=2", "--situation=0"}} {
		if out := scan(append(doi, "--trans=(1=7,14=128,2=2,3=1,4=2)")...); !strings.Contains(out, "1 returned handshake") ||
			!strings.Contains(out, "Enc=AES") || !strings.Contains(out, "KeyLength=128") {
			t.Errorf("%v: %s", doi, out)
		}
	}
	if out := scan("--trans=(1=1,2=1,3=1,4=1)"); !strings.Contains(out, "1 returned notify") || !strings.Contains(out, "NO-PROPOSAL-CHOSEN") {
		t.Errorf("weak offer: %s", out)
	}
	if e.Drops()[DropProposal] != 1 {
		t.Errorf("drops %v", e.Drops())
	}
}

// recorded is a main mode with charon: our random octets, all messages in order, and
// what charon's log says about keys.
type recorded struct {
	Source           string
	Local, Remote    netip.AddrPort
	PSK              string
	Policy           Policy
	Rand             string
	Messages         []string
	SKEYIDe, Key, IV string
}

const recordFile = "testdata/strongswan-main.json"

func TestRecordStrongSwan(t *testing.T) {
	if !*record {
		t.Skip("without -record")
	}
	c := startCharon(t)
	var all []recorded
	for _, s := range foreignSuites {
		c.load(s.name, false, "s3cret")
		var drawn bytes.Buffer
		e, log := ours(t, foreignConfig("s3cret", s.p), func(o *Options) {
			o.NATTPort = -1
			o.Rand = io.TeeReader(rand.Reader, &drawn)
		})
		before := len(c.logText())
		sa, err := e.Connect(t.Context(), netip.MustParseAddrPort(theirAddr+":848"), ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c.until("keys", func() bool { return dump(c.logText()[before:], "initial IV") != "" && c.established() })
		text := c.logText()[before:]
		r := recorded{Source: "strongSwan 5.9.8 " + s.name, Local: sa.Peer().Local, Remote: sa.Peer().Remote, PSK: "s3cret",
			Policy: s.p, Rand: hex.EncodeToString(drawn.Bytes()),
			SKEYIDe: dump(text, "SKEYID_e"), Key: dump(text, "encryption key Ka"), IV: dump(text, "initial IV")}
		for _, m := range log()[:6] {
			r.Messages = append(r.Messages, hex.EncodeToString(m))
		}
		all = append(all, r)
		e.Close()
	}
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(recordFile, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// dump reads a hex dump of charon's log.
func dump(text, name string) string {
	i := strings.Index(text, name+" =>")
	if i < 0 {
		return ""
	}
	var out strings.Builder
	line := regexp.MustCompile(`\[IKE\] +\d+: ((?:[0-9A-F]{2} )+)`)
	for _, l := range strings.Split(text[i:], "\n")[1:] {
		m := line.FindStringSubmatch(l)
		if m == nil {
			break
		}
		out.WriteString(strings.ToLower(strings.ReplaceAll(m[1], " ", "")))
	}
	return out.String()
}
