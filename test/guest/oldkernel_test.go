package guest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"getvpn/internal/lab"
	"getvpn/ipsec/dataplane/steer"
	"getvpn/model"

	"golang.org/x/sys/unix"
)

// Debian 12's own kernel has no tcx. A whole member runs in the guest on clsact and
// cls_bpf; a key server and another member run here. All between them is routed by a
// namespace that counts what it sees.
//
//	member (m0, host 10.1.1.5) ── router with the key server ── guest (eth0, host 10.2.2.6)

const (
	routerNS, memberNS = "gvguest2", "gvguest2m"
	routerTap          = "gvtap2"
	residentLimit      = 48 << 10 // kB
)

const isakmp = `crypto isakmp policy 10
 encr aes 256
 hash sha256
 authentication pre-share
 group 19
crypto isakmp key guest-test-key address 0.0.0.0 0.0.0.0
`

const serverConf = "hostname ks\n" + isakmp + `crypto ipsec transform-set T esp-gcm 128
crypto ipsec profile P
 set security-association lifetime seconds 900
 set transform-set T
crypto gdoi group G
 identity number 61
 server local
  sa ipsec 1
   profile P
   match address ipv4 PROTECTED
  address ipv4 10.99.0.1
ip access-list extended PROTECTED
 permit ip host 10.1.1.5 host 10.2.2.6
 permit ip host 10.2.2.6 host 10.1.1.5
end
`

func memberConf(name, dev string) string {
	return "hostname " + name + "\n" + isakmp + `crypto gdoi group G
 identity number 61
 server address ipv4 10.99.0.1
crypto map WAN gdoi fail-close
 activate
crypto map WAN 10 gdoi
 set group G
interface ` + dev + `
 crypto map WAN
end
`
}

// start runs a daemon in ns until the test ends and returns its control socket.
func start(t *testing.T, bin, ns, conf string) string {
	t.Helper()
	dir := t.TempDir()
	file, sock := filepath.Join(dir, "conf"), filepath.Join(dir, "sock")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	// ip netns exec gives every command a mount namespace of its own; what is pinned in
	// one that was mounted before stays.
	bpf := filepath.Join(dir, "bpf")
	if err := steer.EnsureBPFFS(bpf); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(bpf, 0) })
	c := exec.Command("ip", "netns", "exec", ns, filepath.Join(bin, "getvpnd"), "--config", file,
		"--socket", sock, "--state-dir", filepath.Join(dir, "state"), "--bpf-dir", bpf, "--flush")
	var log bytes.Buffer
	c.Stderr = &log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Signal(os.Interrupt)
		if err := c.Wait(); err != nil {
			t.Errorf("daemon in %s: %v: %s", ns, err, log.String())
		}
		if t.Failed() {
			t.Logf("daemon in %s: %s", ns, log.String())
		}
	})
	return sock
}

// eventually repeats f until it is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(3 * time.Minute); !f(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within three minutes: %s", what)
		}
	}
}

func TestMemberOnDebiansKernelUsesClsact(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	bin := t.TempDir()
	if err := lab.Build(bin); err != nil {
		t.Fatal(err)
	}
	g := boot(t, routerNS, routerTap, filepath.Join(bin, "getvpnd"), filepath.Join(bin, "getvpn"))
	ip(t, "netns", "add", memberNS)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", memberNS).Run() })
	for _, line := range []string{
		"-n gvguest2 link add r0 type veth peer name m0 netns gvguest2m",
		"-n gvguest2 addr add 10.99.0.1/24 dev gvtap2", "-n gvguest2 addr add 10.98.0.1/24 dev r0", "-n gvguest2 link set r0 up",
		"-n gvguest2m addr add 10.98.0.2/24 dev m0", "-n gvguest2m addr add 10.1.1.5/32 dev lo",
		"-n gvguest2m link set lo up", "-n gvguest2m link set m0 up",
		"-n gvguest2m route add default via 10.98.0.1 src 10.1.1.5",
		"-n gvguest2m route add 10.99.0.1/32 via 10.98.0.1 src 10.98.0.2",
		"-n gvguest2 route add 10.1.1.5/32 via 10.98.0.2", "-n gvguest2 route add 10.2.2.6/32 via 10.99.0.2",
		"netns exec gvguest2 sysctl -qw net.ipv4.ip_forward=1",
		"netns exec gvguest2 nft add table ip count",
		"netns exec gvguest2 nft add chain ip count f { type filter hook forward priority 0 ; }",
		"netns exec gvguest2 nft add rule ip count f ip saddr { 10.1.1.5, 10.2.2.6 } ip protocol esp counter",
		"netns exec gvguest2 nft add rule ip count f ip saddr { 10.1.1.5, 10.2.2.6 } ip protocol != esp counter",
	} {
		ip(t, strings.Fields(line)...)
	}
	must(t, g, "ip addr add 10.99.0.2/24 dev eth0; ip addr add 10.2.2.6/32 dev lo; "+
		"ip route add default via 10.99.0.1 src 10.2.2.6")

	start(t, bin, routerNS, serverConf)
	memberSock := start(t, bin, memberNS, memberConf("gm1", "m0"))
	must(t, g, "cat > /conf <<'EOF'\n"+memberConf("gm2", "eth0")+"EOF\nchmod 600 /conf")
	must(t, g, "getvpnd --config /conf --socket /sock --state-dir /state > /log 2>&1 & echo started")
	t.Cleanup(func() {
		if t.Failed() {
			log, err := g.Run("cat /log /nclog; ls -l /got; netstat -tn; ps")
			t.Logf("the guest's daemon: %s %v", log, err)
		}
	})
	registered := func(show string) bool { return strings.Contains(show, "Registration status   : Registered") }
	eventually(t, "registration of the member here", func() bool {
		out, _ := exec.Command(filepath.Join(bin, "getvpn"), "--socket", memberSock, "-c", "show crypto gdoi").CombinedOutput()
		return registered(string(out))
	})
	eventually(t, "registration of the guest", func() bool {
		out, _ := g.Run("getvpn --socket /sock -c 'show crypto gdoi'")
		return registered(out)
	})

	ping := exec.Command("ip", "netns", "exec", memberNS, "ping", "-q", "-c20", "-i0.05", "-W5", "-s1400", "-I", ours, theirs)
	if out, err := ping.CombinedOutput(); err != nil {
		t.Errorf("ping: %v: %s", err, out)
	}
	transfer(t, g)
	var s model.Snapshot
	out := must(t, g, "getvpn --socket /sock -c 'show crypto gdoi' --json")
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if s.Dataplane.Backend != "clsact" {
		t.Errorf("the guest steers with %q, want clsact", s.Dataplane.Backend)
	}
	rules, err := exec.Command("ip", "netns", "exec", routerNS, "nft", "list", "table", "ip", "count").Output()
	if err != nil {
		t.Fatal(err)
	}
	var packets []int
	for _, line := range strings.Split(string(rules), "\n") {
		if _, after, ok := strings.Cut(line, "counter packets "); ok {
			var n int
			fmt.Sscan(after, &n)
			packets = append(packets, n)
		}
	}
	// What the daemon touches stays locked in memory: it must fit a small appliance.
	var kB int
	if _, err := fmt.Sscan(must(t, g, "awk '/VmRSS/ { print $2 }' /proc/$(pidof getvpnd)/status"), &kB); err != nil || kB > residentLimit {
		t.Errorf("the daemon has %d kB in memory, want at most %d: %v", kB, residentLimit, err)
	}
	if len(packets) != 2 || packets[0] < 40 || packets[1] != 0 {
		t.Errorf("the router saw [ESP, clear] = %v, want at least 40 and 0", packets)
	}
}

// transfer sends 1 MiB from the member's namespace to the guest over TCP.
func transfer(t *testing.T, g *Guest) {
	t.Helper()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20/16)
	must(t, g, "nc -l -p 5001 < /dev/null > /got 2> /nclog & until netstat -ltn | grep -q :5001; do usleep 50000; done")
	sender := exec.Command("ip", "netns", "exec", memberNS, "socat", "-u", "STDIN", "TCP:"+theirs+":5001,bind="+ours+",connect-timeout=20")
	sender.Stdin = bytes.NewReader(data)
	if out, err := sender.CombinedOutput(); err != nil {
		t.Fatalf("transfer: %v: %s", err, out)
	}
	want := fmt.Sprintf("%x", sha256.Sum256(data))
	eventually(t, "the file in the guest", func() bool {
		out, _ := g.Run("sha256sum /got")
		return strings.HasPrefix(out, want)
	})
}
