package dataplane_test

// End-to-end tests run both gateways as processes of their own (this test binary,
// started again), each in its network namespace, with static keys.

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"getvpn/bench/static"
	"getvpn/bench/topology"
	"getvpn/ipsec"
	"getvpn/ipsec/dataplane"
	"getvpn/ipsec/dataplane/steer"
	"getvpn/model"
	"getvpn/model/event"
)

const gatewayEnv = "GETVPN_TEST_GATEWAY"

func TestMain(m *testing.M) {
	if os.Getenv(gatewayEnv) == "" {
		os.Exit(m.Run())
	}
	if err := gatewayMain(); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

// shown is what a gateway process answers.
type shown struct {
	Model   model.Dataplane
	SA      model.SACounters            // of the policy installed last
	SAs     map[uint32]model.SACounters // of all that were installed
	Senders []ipsec.Sender              // of the SA of the policy installed last
	Hits    []uint64
	Notices []dataplane.Notice
	Events  []string
	Err     string
}

// gatewayMain reads one policy a line and installs it; "show" prints, "leave" ends it and
// leaves policy in the kernel, end of input ends it and leaves nothing.
func gatewayMain() error {
	in := bufio.NewReader(os.Stdin)
	var d *dataplane.Dataplane
	var mu sync.Mutex
	var notices []dataplane.Notice
	var events []string
	var p static.Policy
	installed := map[uint32]bool{}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			if d != nil {
				return d.Close(false)
			}
			return nil
		}
		if line == "leave\n" {
			return d.Close(true)
		}
		if line == "show\n" {
			s := shown{Model: d.Model(), Hits: d.RuleHits("bench", p.Interface), Senders: d.Senders(p.SPI), SAs: map[uint32]model.SACounters{}}
			for spi := range installed {
				s.SAs[spi], _ = d.SACounters(spi)
			}
			s.SA, _ = d.SACounters(p.SPI)
			if err := d.LastError(p.Interface); err != nil {
				s.Err = err.Error()
			}
			mu.Lock()
			s.Notices, s.Events = notices, events
			mu.Unlock()
			b, err := json.Marshal(s)
			if err != nil {
				return err
			}
			fmt.Println(string(b))
			continue
		}
		p = static.Policy{}
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			return err
		}
		if d == nil {
			if d, err = dataplane.Open(dataplane.Options{BPFDir: p.BPFDir, Queues: p.Queues, Backend: p.Backend,
				Notify: func(n dataplane.Notice) { mu.Lock(); notices = append(notices, n); mu.Unlock() },
				Emit: emitter(func(e event.Event) {
					mu.Lock()
					events = append(events, fmt.Sprintf("%T%+v", e, e))
					mu.Unlock()
				})}); err != nil {
				return err
			}
		}
		g, err := p.GroupPolicy()
		if err != nil {
			return err
		}
		if err := d.Configure(p.Interface, p.Settings); err != nil {
			return err
		}
		if err := d.SetInline(p.Inline); err != nil {
			return err
		}
		if err := d.Install(g); err != nil {
			return err
		}
		installed[p.SPI] = true
		fmt.Println("up")
	}
}

type emitter func(event.Event)

func (f emitter) Emit(e event.Event) { f(e) }

// gateway is such a process.
type gateway struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (g *gateway) install(p static.Policy) {
	g.t.Helper()
	if err := json.NewEncoder(g.in).Encode(p); err != nil {
		g.t.Fatal(err)
	}
	if line, err := g.out.ReadString('\n'); line != "up\n" {
		g.t.Fatalf("gateway: %q %v", line, err)
	}
}

func (g *gateway) show() (s shown) {
	g.t.Helper()
	io.WriteString(g.in, "show\n")
	line, err := g.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &s)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

func (g *gateway) drops(reason string) uint64 { return g.show().Model.Drops[reason] }

// leave ends the process in order; its policy stays.
func (g *gateway) leave() {
	g.t.Helper()
	io.WriteString(g.in, "leave\n")
	if err := g.cmd.Wait(); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) kill() {
	g.cmd.Process.Kill()
	g.cmd.Wait()
}

// site is a network with both gateways up.
type site struct {
	*topology.Net
	t      *testing.T
	gw     [2]*gateway
	policy [2]static.Policy
}

var serial atomic.Int32

// newSite makes a network and starts the gateways with a policy that edit may change.
func newSite(t *testing.T, o topology.Options, edit func(*static.Policy)) *site {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	if testing.Short() {
		t.Skip("end to end")
	}
	t.Parallel() // each has its own namespaces, and most of the time is waiting
	n, err := topology.Up(fmt.Sprintf("dp%d.%d", os.Getpid()%100000, serial.Add(1)), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Down)
	s := &site{Net: n, t: t}
	for i := range s.gw {
		p := static.Policy{Interface: "wan", SPI: 0x1000, SID: uint32(i + 1),
			Permit: [][2]netip.Prefix{{topology.LAN1, topology.LAN2},
				{netip.MustParsePrefix("fd00:1::/64"), netip.MustParsePrefix("fd00:2::/64")}}}
		if edit != nil {
			edit(&p)
		}
		if p.BPFDir != "" {
			p.BPFDir += "/" + strconv.Itoa(i)
			if err := os.MkdirAll(p.BPFDir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		s.policy[i] = p
		s.start(i)
	}
	// What the core sees: ESP, and what has no business there.
	s.sh("core", `nft -f - <<'X'
table inet w { counter n_esp {}
 counter n_clear {}
 counter n_large {}
 chain f { type filter hook forward priority 0;
  meta l4proto esp counter name n_esp
  ip saddr 10.0.0.0/8 ip daddr { 10.0.0.0/8, 224.0.0.0/4 } ip protocol != esp counter name n_clear
  ip6 saddr fd00::/16 ip6 daddr { fd00::/16, ff0e::/16, ff1e::/16 } ip6 saddr != fd01::/16 meta l4proto != esp counter name n_clear
  meta length > 1500 counter name n_large
 }
}
X`)
	return s
}

func (s *site) start(i int) {
	s.t.Helper()
	s.gw[i] = s.gateway([]string{"gm1", "gm2"}[i])
	s.gw[i].install(s.policy[i])
}

// gateway starts a gateway without a policy.
func (s *site) gateway(part string) *gateway {
	s.t.Helper()
	g := &gateway{t: s.t, cmd: s.Cmd(part, os.Args[0])}
	g.cmd.Env = append(os.Environ(), gatewayEnv+"=1")
	g.cmd.Stderr = os.Stderr
	var err error
	if g.in, err = g.cmd.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	g.out = bufio.NewReader(out)
	if err := g.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(g.kill)
	return g
}

func (s *site) sh(part, line string) string {
	s.t.Helper()
	out, err := s.Sh(part, line)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// counted reads a counter of the core.
func (s *site) counted(name string) int {
	s.t.Helper()
	return s.counter("core", "w", name)
}

// counter reads the counter n_NAME of a part's table, in packets.
func (s *site) counter(part, table, name string) int {
	s.t.Helper()
	f := strings.Fields(s.sh(part, "nft list counter inet "+table+" n_"+name))
	for i, w := range f {
		if w == "packets" {
			n, err := strconv.Atoi(f[i+1])
			if err != nil {
				s.t.Fatal(err)
			}
			return n
		}
	}
	s.t.Fatalf("%s has no counter %s", part, name)
	return 0
}

// in runs f on a thread that is in a part's namespace; sockets made there stay there.
func (s *site) in(part string, f func() error) {
	s.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		fd, err := unix.Open("/var/run/netns/"+s.NS(part), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		s.t.Fatal(err)
	}
}

// mac returns an interface's hardware address.
func (s *site) mac(part, dev string) (m net.HardwareAddr) {
	s.t.Helper()
	s.in(part, func() error {
		i, err := net.InterfaceByName(dev)
		if err == nil {
			m = i.HardwareAddr
		}
		return err
	})
	return m
}

func (s *site) listenUDP(part, addr string) *net.UDPConn {
	s.t.Helper()
	var c *net.UDPConn
	s.in(part, func() (err error) {
		a := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr))
		if a.IP.IsMulticast() {
			c, err = net.ListenMulticastUDP("udp", nil, a)
		} else {
			c, err = net.ListenUDP("udp", a)
		}
		return err
	})
	s.t.Cleanup(func() { c.Close() })
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
		})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// multicastSender is a socket whose datagrams live for 16 hops.
func (s *site) multicastSender(part, addr string) *net.UDPConn {
	s.t.Helper()
	c := s.listenUDP(part, netip.AddrPortFrom(netip.MustParseAddr(addr), 0).String())
	raw, err := c.SyscallConn()
	if err != nil {
		s.t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) {
		if strings.Contains(addr, ":") {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 16)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 16)
		}
	}); e != nil || err != nil {
		s.t.Fatal(e, err)
	}
	return c
}

// readPcap returns the frames of a little-endian pcap file.
func readPcap(t *testing.T, file string) (frames [][]byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for b = b[24:]; len(b) >= 16; {
		n := int(binary.LittleEndian.Uint32(b[8:]))
		frames = append(frames, b[16:16+n])
		b = b[16+n:]
	}
	return frames
}

// inject sends frames out of an interface.
func (s *site) inject(part, dev string, frames [][]byte) {
	s.t.Helper()
	s.in(part, func() error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, f := range frames {
			if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: i.Index}); err != nil {
				return err
			}
		}
		return nil
	})
}

// patience is how long a state is waited for at least: the machine may be busy.
const patience = 30 * time.Second

// until waits for a state.
func until(t *testing.T, what string, limit time.Duration, f func() bool) {
	t.Helper()
	limit = max(limit, patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !f(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// needBackend skips the test on a kernel without a steering back end.
func needBackend(t *testing.T, name string) {
	t.Helper()
	b, err := steer.Open(steer.Options{Backend: name})
	if err != nil {
		t.Skip(err)
	}
	b.Close(false)
}

// bpffs mounts a bpf file system for a test's pins.
func bpffs(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a bpf file system")
	}
	dir := t.TempDir()
	if err := steer.EnsureBPFFS(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}
