package guest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"getvpn/internal/lab"
	"getvpn/model"
)

// A member that is put back to a snapshot of itself, twice: everything it ever sent is
// captured on its TAP, in three lives.
//
//	key server (gvtap4, 10.99.4.1) ── guest (eth0, host 10.2.2.6)

const (
	snapNS, snapTap = "gvguest4", "gvtap4"
	genA, genB      = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
)

var snapConf = strings.NewReplacer("10.99.0.1", "10.99.4.1")

// fwcfgModule finds the kernel's module, which no other test needs.
func fwcfgModule(t *testing.T) string {
	t.Helper()
	find := func() string {
		m, err := filepath.Glob(filepath.Join(cacheDir(t), "kernel/lib/modules/*/kernel/drivers/firmware/qemu_fw_cfg.ko"))
		if err != nil || len(m) != 1 {
			return ""
		}
		return m[0]
	}
	if find() == "" {
		img, err := Build(cacheDir(t)) // fetches the kernel
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(img.Initrd)
	}
	m := find()
	if m == "" {
		t.Fatal("Debian's kernel has no qemu_fw_cfg")
	}
	return m
}

// life is a guest with a monitor; its disk is memory, so a migration file is all of it.
type life struct {
	*Guest
	monitor net.Conn
}

// startLife boots img in netns on a TAP that is there, or restores it from snapshot.
func startLife(t *testing.T, img *Image, netns, tap, genid, snapshot string) *life {
	t.Helper()
	dir, err := os.MkdirTemp("", "guest")
	if err != nil {
		t.Fatal(err)
	}
	serial, monitor := filepath.Join(dir, "serial"), filepath.Join(dir, "monitor")
	args := []string{"netns", "exec", netns, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "384", "-smp", "1",
		"-display", "none", "-nodefaults", "-no-user-config", "-no-reboot",
		"-kernel", img.Kernel, "-initrd", img.Initrd, "-append", "console=ttyS0 quiet loglevel=3 no_timer_check panic=-1 random.trust_cpu=on",
		"-serial", "unix:" + serial + ",server=on,wait=off",
		"-monitor", "unix:" + monitor + ",server=on,wait=off",
		"-netdev", "tap,id=n0,ifname=" + tap + ",script=no,downscript=no",
		"-device", "virtio-net-pci,netdev=n0,mac=" + MAC, "-device", "vmgenid,guid=" + genid}
	if snapshot != "" {
		args = append(args, "-incoming", "exec:cat "+snapshot)
	}
	l := &life{Guest: &Guest{dir: dir, dead: make(chan struct{})}}
	l.qemu = exec.Command("ip", args...)
	l.qemu.Stderr = os.Stderr
	if err := l.qemu.Start(); err != nil {
		t.Fatal(errors.Join(err, os.RemoveAll(dir)))
	}
	go func() { l.qemu.Wait(); close(l.dead) }()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	if snapshot == "" {
		if err := l.boot(serial); err != nil {
			t.Fatal(err)
		}
	} else {
		l.line = dial(t, serial)
	}
	l.monitor = dial(t, monitor)
	t.Cleanup(func() { l.monitor.Close() })
	l.prompt(t)
	if snapshot != "" {
		eventually(t, "the restored machine runs", func() bool { return strings.Contains(l.order(t, "info status"), "running") })
	}
	return l
}

func dial(t *testing.T, sock string) (c net.Conn) {
	t.Helper()
	eventually(t, "a connection to "+sock, func() bool {
		var err error
		c, err = net.Dial("unix", sock)
		return err == nil
	})
	return c
}

// prompt reads the monitor up to its prompt.
func (l *life) prompt(t *testing.T) string {
	t.Helper()
	l.monitor.SetReadDeadline(time.Now().Add(2 * time.Minute))
	var got strings.Builder
	for b := make([]byte, 4096); !strings.HasSuffix(got.String(), "(qemu) "); {
		n, err := l.monitor.Read(b)
		if err != nil {
			t.Fatalf("qemu's monitor: %v: %s", err, got.String())
		}
		got.Write(b[:n])
	}
	return got.String()
}

// order runs a command of the monitor.
func (l *life) order(t *testing.T, command string) string {
	t.Helper()
	if _, err := fmt.Fprintln(l.monitor, command); err != nil {
		t.Fatal(err)
	}
	return l.prompt(t)
}

// save writes all of the machine to file and lets it go on. It stands still for a moment
// at the end, which must stay below what its hardware clock would give away.
func (l *life) save(t *testing.T, file string) {
	t.Helper()
	l.order(t, `migrate -d "exec:cat > `+file+`"`)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !strings.Contains(l.order(t, "info status"), "postmigrate"); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("the snapshot isn't there after a minute: %s", l.order(t, "info migrate"))
		}
	}
	l.order(t, "cont")
	if s := l.order(t, "info migrate"); !strings.Contains(s, "completed") {
		t.Fatalf("the snapshot: %s", s)
	}
}

// tape is what the TAP saw.
type tape struct {
	file string
	read int // frames of it that were looked at
}

func record(t *testing.T, netns, dev string) *tape {
	t.Helper()
	c := &tape{file: filepath.Join(t.TempDir(), "esp.pcap")}
	p := exec.Command("ip", "netns", "exec", netns, "tcpdump", "-n", "-i", dev, "--immediate-mode", "-U", "-Z", "root", "-B", "16384", "-w", c.file, "esp")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Signal(os.Interrupt); p.Wait() })
	eventually(t, "the capture runs", func() bool {
		st, err := os.Stat(c.file)
		return err == nil && st.Size() >= 24
	})
	return c
}

// sealed is an ESP packet's SPI, IV and all that follows.
type sealed struct {
	spi        uint32
	iv         uint64
	ciphertext string
}

// sid is the Sender ID of 24 bits.
func (s sealed) sid() uint64 { return s.iv >> 40 }

// next returns the packets since the last call.
func (c *tape) next(t *testing.T) (out []sealed) {
	t.Helper()
	frames, err := lab.ReadPcap(c.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames[c.read:] {
		p, ok := f.IP()
		if !ok || p.Proto != lab.ESP || len(p.Payload) < 16 {
			t.Fatalf("captured %x", f.Data)
		}
		out = append(out, sealed{p.SPI, binary.BigEndian.Uint64(p.Payload[8:]), string(p.Payload[16:])})
	}
	c.read = len(frames)
	return out
}

// want waits for n packets more.
func (c *tape) want(t *testing.T, what string, n int) (out []sealed) {
	t.Helper()
	eventually(t, what, func() bool {
		out = append(out, c.next(t)...)
		return len(out) >= n
	})
	return out
}

// snapshot is the guest's management model.
func snapshot(t *testing.T, g *Guest) (s model.Snapshot) {
	t.Helper()
	out := must(t, g, "getvpn --socket /sock -c 'show crypto gdoi' --json")
	if err := json.NewDecoder(strings.NewReader(out[max(0, strings.Index(out, "{")):])).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

func Test_esp_10_RestoredSnapshot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	for _, p := range []string{"qemu-system-x86_64", "tcpdump"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip("needs ", p)
		}
	}
	bin := t.TempDir()
	if err := lab.Build(bin); err != nil {
		t.Fatal(err)
	}
	img, err := Build(cacheDir(t), filepath.Join(bin, "getvpnd"), filepath.Join(bin, "getvpn"), fwcfgModule(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(img.Initrd) })
	ip(t, "netns", "add", snapNS)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", snapNS).Run() })
	for _, line := range []string{
		"-n gvguest4 link set lo up", "netns exec gvguest4 ip tuntap add dev gvtap4 mode tap",
		"-n gvguest4 link set gvtap4 up", "-n gvguest4 addr add 10.99.4.1/24 dev gvtap4",
		"netns exec gvguest4 nft add table ip gate",
		"netns exec gvguest4 nft add chain ip gate i { type filter hook input priority 0 ; }",
	} {
		ip(t, strings.Fields(line)...)
	}
	gate := func(closed bool) {
		t.Helper()
		rule := "netns exec gvguest4 nft flush chain ip gate i"
		if closed {
			rule = "netns exec gvguest4 nft add rule ip gate i udp dport 848 drop"
		}
		ip(t, strings.Fields(rule)...)
	}
	start(t, bin, snapNS, snapConf.Replace(serverConf))
	c := record(t, snapNS, snapTap)

	g := startLife(t, img, snapNS, snapTap, genA, "")
	must(t, g.Guest, "insmod /bin/qemu_fw_cfg.ko; ip addr add 10.99.4.2/24 dev eth0; ip addr add 10.2.2.6/32 dev lo; "+
		"ip route add default via 10.99.4.1 src 10.2.2.6; ip route add 10.99.4.0/24 dev eth0 src 10.99.4.2 2> /dev/null; "+
		"cat > /conf <<'EOF'\n"+snapConf.Replace(memberConf("gm2", "eth0"))+"EOF\nchmod 600 /conf")
	must(t, g.Guest, "getvpnd --config /conf --socket /sock --state-dir /state > /log 2>&1 & echo started")
	registered := func(g *life, times uint64) {
		t.Helper()
		eventually(t, fmt.Sprintf("registration %d", times), func() bool {
			out, err := g.Run("getvpn --socket /sock -c 'show crypto gdoi' --json")
			var s model.Snapshot
			return err == nil && json.NewDecoder(strings.NewReader(out[max(0, strings.Index(out, "{")):])).Decode(&s) == nil &&
				len(s.Members) == 1 && s.Members[0].Succeeded >= times && s.Members[0].Status == model.Registered
		})
	}
	registered(g, 1)
	const burst = 100
	send := func(g *life) {
		t.Helper()
		must(t, g.Guest, fmt.Sprintf("ping -q -c %d -i 0.02 -W 1 -I 10.2.2.6 10.1.1.5 || true", burst))
	}

	send(g)
	before := c.want(t, "packets before the snapshot", burst)
	if rest := c.next(t); len(rest) != 0 {
		t.Fatalf("%d packets too many", len(rest))
	}
	file := filepath.Join(t.TempDir(), "snapshot")
	g.save(t, file)
	send(g)
	after := c.want(t, "packets after the snapshot", burst)
	must(t, g.Guest, "! grep MACHINE_RESTORED /log") // a pause of 3 s would be taken for a restore
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}

	byIV := map[[2]uint64]string{}
	used := map[uint64]bool{}
	collect := func(when string, packets []sealed) {
		t.Helper()
		for _, p := range packets {
			k := [2]uint64{uint64(p.spi), p.iv}
			if old, ok := byIV[k]; ok && old != p.ciphertext {
				t.Fatalf("%s: SPI %#x, IV %016x again with another ciphertext", when, p.spi, p.iv)
			}
			byIV[k] = p.ciphertext
			used[p.sid()] = true
		}
	}
	collect("before the snapshot", before)
	collect("after the snapshot", after)
	if len(used) != 1 || before[0].spi != after[0].spi || after[0].iv != before[len(before)-1].iv+1 {
		t.Fatalf("the snapshot wasn't taken in the middle of a TEK's use: %d Sender IDs", len(used))
	}
	time.Sleep(4 * time.Second) // so that the hardware clock alone can tell, too

	for i, now := range []struct{ genid, why string }{
		{genB, "QEMU has another VM generation ID"},
		{genA, "the hardware clock ran"}, // of the snapshot itself: there is no other source
	} {
		gate(true)
		g := startLife(t, img, snapNS, snapTap, now.genid, file)
		resumed := time.Now()
		eventually(t, "the notice", func() bool {
			out, _ := g.Run("grep MACHINE_RESTORED /log")
			return strings.Contains(out, now.why)
		})
		t.Logf("life %d: the notice was in the log within %v", i+2, time.Since(resumed).Round(time.Millisecond))
		// With the key server out of reach: not one packet leaves, and each is counted.
		dropped := snapshot(t, g.Guest).Dataplane.Drops["no-sa"]
		send(g)
		eventually(t, "the drops", func() bool {
			return snapshot(t, g.Guest).Dataplane.Drops["no-sa"] >= dropped+burst
		})
		if got := c.next(t); len(got) != 0 {
			t.Fatalf("life %d sent %d packets without a Sender ID of its own", i+2, len(got))
		}
		gate(false)
		registered(g, 2)
		send(g)
		got := c.want(t, "packets of the restored machine", burst)
		for _, p := range got {
			if p.spi == before[0].spi && used[p.sid()] {
				t.Fatalf("life %d sends with Sender ID %d, which an earlier one had", i+2, p.sid())
			}
		}
		collect(fmt.Sprintf("life %d", i+2), got)
		t.Logf("life %d: %d packets, SPI %#x, Sender ID %d; before: SPI %#x, Sender ID %d", i+2, len(got), got[0].spi, got[0].sid(), before[0].spi, before[0].sid())
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
