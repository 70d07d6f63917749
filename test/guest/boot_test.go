package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"getvpn/internal/lab"
)

const (
	bootNS  = "gvguest3"
	bootTap = "gvtap3"
	bootMap = "interface eth0\n crypto map WAN\n"
)

const bootConf = "hostname gm\n" + isakmp + `crypto gdoi group G
 identity number 61
 server address ipv4 10.99.3.9
crypto map WAN gdoi fail-close
 match address UNREG
 activate
crypto map WAN 10 gdoi
 set group G
` + bootMap + `ip access-list extended UNREG
 deny icmp any any
end
`

// A machine that boots has no pins and no nft tables: getvpnd --lock-only closes its
// interface before it has an address. It stays closed through the device's removal and
// return, a daemon that finds no key server, that daemon's crash, and the device's
// return once more. What the list denies passes all the time.
func TestClosedFromBootOnDebiansKernel(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	bin := t.TempDir()
	if err := lab.Build(bin); err != nil {
		t.Fatal(err)
	}
	g := boot(t, bootNS, bootTap, filepath.Join(bin, "getvpnd"), filepath.Join(bin, "getvpn"))
	must(t, g, "cat > /conf <<'EOF'\n"+bootConf+"EOF\nchmod 600 /conf")
	if out := must(t, g, "getvpnd --lock-only --config /conf --state-dir /state"); !strings.Contains(out, "eth0 is closed") {
		t.Fatalf("--lock-only says %q", out)
	}
	for _, line := range []string{
		"-n gvguest3 addr add 10.99.3.1/24 dev gvtap3",
		"netns exec gvguest3 nft add table ip count",
		"netns exec gvguest3 nft add counter ip count n_tcp", "netns exec gvguest3 nft add counter ip count n_icmp",
		"netns exec gvguest3 nft add chain ip count p { type filter hook prerouting priority -300 ; }",
		"netns exec gvguest3 nft add rule ip count p ip protocol tcp counter name n_tcp",
		"netns exec gvguest3 nft add rule ip count p icmp type echo-request counter name n_icmp",
	} {
		ip(t, strings.Fields(line)...)
	}
	counted := func(name string) bool {
		out, err := exec.Command("ip", "netns", "exec", bootNS, "nft", "reset", "counter", "ip", "count", name).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return !strings.Contains(string(out), "packets 0 ")
	}
	const traffic = "nc -w 1 10.99.3.1 5001 < /dev/null 2> /dev/null; ping -q -c 2 -W 2 10.99.3.1 || true"
	closed := func(when string) {
		t.Helper()
		out := must(t, g, traffic)
		if counted("n_tcp") {
			t.Errorf("%s: TCP leaves", when)
		}
		if !counted("n_icmp") || strings.Contains(out, " 0 packets received") {
			t.Errorf("%s: what the list denies doesn't pass: %s", when, out)
		}
	}
	const address = "ip addr add 10.99.3.2/24 dev eth0 && ip link set eth0 up && echo done"
	const again = "cd /sys/bus/virtio/drivers/virtio_net; d=$(echo virtio*); echo $d > unbind; echo $d > bind; cd /; " +
		"n=0; while [ ! -e /sys/class/net/eth0 ] && [ $n -lt 200 ]; do n=$((n+1)); usleep 25000; done; " + address
	const start = "getvpnd --config /conf --socket /sock --state-dir /state > /log 2>&1 & echo started"
	up := func() {
		t.Helper()
		must(t, g, start)
		eventually(t, "the daemon answers", func() bool {
			_, err := g.Run("getvpn --socket /sock -c 'show crypto gdoi'")
			return err == nil
		})
	}

	must(t, g, address)
	closed("locked at boot")
	must(t, g, again)
	closed("the device came back")
	up()
	closed("the daemon is there, without its key server")
	must(t, g, "kill -9 $(pidof getvpnd); echo killed")
	closed("the daemon is dead")
	must(t, g, again)
	closed("the device came back without the daemon")

	// Without its crypto map the interface is anybody's again: the counter can count.
	must(t, g, "cat > /conf <<'EOF'\n"+strings.Replace(bootConf, bootMap, "", 1)+"EOF\necho written")
	up()
	eventually(t, "TCP leaves when nothing is protected", func() bool {
		must(t, g, traffic)
		return counted("n_tcp")
	})
}
