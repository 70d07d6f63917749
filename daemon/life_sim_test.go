package daemon

// Simulations of a group's life: whole daemons from their configuration files over a
// network in memory, each member with a dataplane in software, constant traffic between
// their hosts, and a fake clock. What a test does reads as what an operator does:
// configure, command, cut a cable, restart, wait.

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/cli"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/internal/clock"
	"getvpn/internal/memnet"
	"getvpn/internal/sim"
	"getvpn/ipsec"
	"getvpn/ipsec/dataplane"
	"getvpn/model"
	"getvpn/model/event"
)

// life is a simulation.
type life struct {
	t       *testing.T
	dir     string
	net     *memnet.Network // control
	core    *sim.Core       // data
	traffic *sim.Traffic
	nodes   []*simNode

	mu     sync.Mutex
	pushes []push
}

// push is a rekey on the wire.
type push struct {
	at       time.Time
	from, to netip.AddrPort
	cookies  [16]byte
	data     []byte
}

// simNode is a device; it outlives its daemon.
type simNode struct {
	l     *life
	name  string
	addr  netip.Addr
	lo0   netip.Addr // of another interface: 203.0.113.N
	site  *sim.Site  // nil: a key server
	clock *clock.Fake
	d     *Daemon // nil: it is down
	out   *bytes.Buffer
	most  atomic.Int64 // octets of a datagram that the system sends; 0: any

	mu     sync.Mutex
	events []event.Record
}

// lively runs f in a simulation whose control network does as link says.
func lively(t *testing.T, seed uint64, link memnet.Link, f func(*life)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := &life{t: t, dir: dir, net: memnet.New(seed), core: sim.NewCore(seed, memnet.Link{Delay: 2 * time.Millisecond, Jitter: 5 * time.Millisecond})}
		l.net.SetAll(link)
		l.net.Watch(l.watch)
		l.traffic = sim.NewTraffic(l.core)
		defer l.end()
		f(l)
	})
}

// netipAny stands for every host of the network.
var netipAny netip.Addr

// calm is a control network without faults.
var calm = memnet.Link{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond}

// rough is one with the faults of issue 5's proof.
var rough = memnet.Link{Delay: 5 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.01, Duplicate: 0.02, Reorder: 0.02}

func (l *life) end() {
	l.traffic.Stop()
	for _, n := range l.nodes {
		n.stop()
	}
	l.core.Close()
	synctest.Wait()
	if l.t.Failed() {
		for _, n := range l.nodes {
			l.t.Logf("console of %s\n%s", n.name, tail(n.out.String(), 15))
		}
	}
}

// tail is the last n lines.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// watch remembers rekeys.
func (l *life) watch(d memnet.Datagram) {
	b := d.Data
	if !isExchange(b, isakmp.GroupKeyPush) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pushes = append(l.pushes, push{time.Now(), d.Remote, d.Local, [16]byte(b[:16]), bytes.Clone(b)})
}

// isExchange reports whether a datagram is of that exchange.
func isExchange(b []byte, x isakmp.ExchangeType) bool {
	return len(b) >= isakmp.HeaderLen && isakmp.ExchangeType(b[18]) == x
}

// rekeys are the rekeys on the wire since t that left a key server.
func (l *life) rekeys(since time.Time) (out []push) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pushes {
		if !p.at.Before(since) && l.isKS(p.from.Addr()) {
			out = append(out, p)
		}
	}
	return out
}

func (l *life) isKS(a netip.Addr) bool {
	for _, n := range l.nodes {
		if n.addr == a || n.lo0 == a {
			return n.site == nil
		}
	}
	return false
}

// ks starts a key server, gm a member whose hosts are 10.0.N.0/24 for the N of its
// address.
func (l *life) ks(name, addr, conf string) *simNode { return l.node(name, addr, conf, false) }
func (l *life) gm(name, addr, conf string) *simNode { return l.node(name, addr, conf, true) }

// members starts n members with the same configuration and flows between all of them.
func (l *life) members(n int, conf string) (out []*simNode) {
	var sites []*sim.Site
	out = l.crowd(n, conf)
	for _, m := range out {
		sites = append(sites, m.site)
	}
	l.traffic.Pairs(sites...)
	return out
}

// crowd starts n members without traffic.
func (l *life) crowd(n int, conf string) (out []*simNode) {
	for i := 1; i <= n; i++ {
		out = append(out, l.gm(fmt.Sprintf("gm%d", i), fmt.Sprintf("198.51.100.%d", i), conf))
	}
	return out
}

func (l *life) node(name, addr, conf string, member bool) *simNode {
	l.t.Helper()
	n := &simNode{l: l, name: name, addr: netip.MustParseAddr(addr), clock: clock.NewFake(), out: &bytes.Buffer{}}
	a := n.addr.As4()
	n.lo0 = netip.AddrFrom4([4]byte{203, 0, 113, a[3]})
	if !member {
		n.lo0 = netip.AddrFrom4([4]byte{203, 0, 113, 200 + a[3]})
	}
	if member {
		s, err := l.core.Site(name, n.clock, netip.AddrFrom4([4]byte{10, 0, a[3], 1}))
		if err != nil {
			l.t.Fatal(err)
		}
		n.site = s
		l.traffic.Listen(s)
	}
	n.write(conf)
	l.nodes = append(l.nodes, n)
	n.start()
	return n
}

func (n *simNode) file() string { return filepath.Join(n.l.dir, n.name+".conf") }

func (n *simNode) write(conf string) {
	n.l.t.Helper()
	if err := os.WriteFile(n.file(), []byte(conf), 0o600); err != nil {
		n.l.t.Fatal(err)
	}
}

// start brings the daemon up, on the state that an earlier one left.
func (n *simNode) start() {
	n.l.t.Helper()
	o := n.options()
	o.bus = event.NewBus()
	sub := o.bus.Subscribe("simulation", 1<<16) // from the first event on
	d, err := Start(o)
	if err != nil {
		n.l.t.Fatalf("%s: %v\n%s", n.name, err, n.out)
	}
	n.d = d
	go func() {
		for r := range sub.C() {
			n.mu.Lock()
			n.events = append(n.events, r)
			n.mu.Unlock()
		}
	}()
}

func (n *simNode) options() Options {
	return Options{ConfigFile: n.file(), StateDir: filepath.Join(n.l.dir, n.name), Console: n.out, addrs: simAddrs{n},
		listen: n.listen, openPlane: func(o dataplane.Options) (Plane, error) { return n.site.Open(o), nil },
		clock: n.clock, joiner: simJoiner{n}, marks: n.run(), moment: n.moment}
}

// run is the node's /run.
func (n *simNode) run() string { return filepath.Join(n.l.dir, n.name+".run") }

// moment is what its clocks say.
func (n *simNode) moment() clock.Moment {
	return clock.Moment{Boot: n.clock.Boot(), Awake: n.clock.Awake(), Wall: n.clock.Now(), RTC: n.clock.Hardware().Unix()}
}

// listen opens sockets on both addresses.
func (n *simNode) listen(l netip.AddrPort) (ike.PacketConn, error) {
	c, err := memnet.As[ike.Datagram](n.l.net.Listen(l, n.addr, n.lo0))
	return everywhere{c, l, &n.most}, err
}

// everywhere is a socket of all addresses, which says so, as the system's do.
type everywhere struct {
	memnet.Socket[ike.Datagram]
	at   netip.AddrPort
	most *atomic.Int64
}

// Write refuses what the node's system doesn't send.
func (e everywhere) Write(b []byte, local netip.Addr, remote netip.AddrPort) error {
	if n := e.most.Load(); n > 0 && int64(len(b)) > n {
		return fmt.Errorf("send to %v: %w", remote, syscall.EMSGSIZE)
	}
	return e.Socket.Write(b, local, remote)
}

func (e everywhere) LocalAddr() netip.AddrPort { return e.at }

// simAddrs are a node's: lo0 has one of its own, all other interfaces share one.
type simAddrs struct{ n *simNode }

func (a simAddrs) of(iface string, _ bool) netip.Addr {
	if iface == "lo0" {
		return a.n.lo0
	}
	return a.n.addr
}
func (a simAddrs) all() []netip.Addr                   { return []netip.Addr{a.n.addr, a.n.lo0} }
func (a simAddrs) watch(<-chan struct{}, func()) error { return nil }

// simJoiner makes a node hear multicast groups.
type simJoiner struct{ n *simNode }

func (j simJoiner) Join(_ string, group, _ netip.Addr) (leave func(), err error) {
	j.n.l.net.Join(j.n.addr, group)
	return func() { j.n.l.net.Leave(j.n.addr, group) }, nil
}

// command runs an exec command as an operator would.
func (n *simNode) command(line string) string {
	n.l.t.Helper()
	out, err := (&cli.Exec{Control: n.d}).NewSession(cli.Caller{User: "root", Source: "console"}).Run(line, cli.Options{})
	if err != nil {
		n.l.t.Fatalf("%s: %s: %v", n.name, line, err)
	}
	synctest.Wait()
	return out
}

// stop ends the daemon, as a package upgrade would.
func (n *simNode) stop() {
	n.l.t.Helper()
	if n.d == nil {
		return
	}
	if err := n.d.Stop(); err != nil {
		n.l.t.Errorf("%s: %v", n.name, err)
	}
	n.d = nil
}

// restart is stop, a pause, start.
func (n *simNode) restart(pause time.Duration) {
	n.stop()
	time.Sleep(pause)
	n.start()
}

// configure enters lines in configuration mode and leaves it.
func (n *simNode) configure(lines string) {
	n.l.t.Helper()
	n.enter(lines)()
}

// enter enters lines in configuration mode; leave leaves it.
func (n *simNode) enter(lines string) (leave func()) {
	n.l.t.Helper()
	end := n.typed(lines)
	return func() {
		n.l.t.Helper()
		if out, err := end(); err != nil {
			n.l.t.Fatalf("%s: end: %v %s", n.name, err, out)
		}
	}
}

// typed enters lines in configuration mode; end leaves it.
func (n *simNode) typed(lines string) (end func() (string, error)) {
	n.l.t.Helper()
	x := (&cli.Exec{Control: n.d}).NewSession(cli.Caller{User: "root", Source: "console"})
	run := func(line string) (string, error) {
		defer synctest.Wait()
		return x.Run(line, cli.Options{})
	}
	for _, line := range append([]string{"configure terminal"}, strings.Split(strings.TrimRight(lines, "\n"), "\n")...) {
		if out, err := run(line); err != nil {
			n.l.t.Fatalf("%s: %s: %v %s", n.name, line, err, out)
		}
	}
	return func() (string, error) { return run("end") }
}

// refused enters lines that can't be applied and returns what is said when
// configuration mode is left.
func (n *simNode) refused(lines string) string {
	n.l.t.Helper()
	out, err := n.typed(lines)()
	if err == nil {
		n.l.t.Errorf("%s: applied:\n%s\n%s", n.name, lines, out)
		return out
	}
	return out + err.Error()
}

// edit replaces text that must be there, pair by pair.
func edit(t *testing.T, conf string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(conf, pairs[i]) {
			t.Fatalf("no %q in\n%s", pairs[i], conf)
		}
		conf = strings.Replace(conf, pairs[i], pairs[i+1], 1)
	}
	return conf
}

// run lets time pass.
func (l *life) run(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// wait runs until ok, at most for d of fake time; it looks every second, more often
// when d is short.
func (l *life) wait(d time.Duration, what string, ok func() bool) {
	l.t.Helper()
	for end := time.Now().Add(d); ; l.run(min(max(d/1000, 50*time.Millisecond), time.Second)) {
		synctest.Wait()
		if ok() {
			return
		}
		if !time.Now().Before(end) {
			l.t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// registered waits until each member sends protected.
func (l *life) registered() {
	l.t.Helper()
	for _, n := range l.nodes {
		if n.site != nil && n.d != nil {
			l.wait(time.Minute, n.name+" is registered", func() bool { return n.spi() != 0 })
		}
	}
}

// flow starts traffic from a clean count.
func (l *life) flow(every time.Duration) {
	l.traffic.Reset()
	l.traffic.Start(every)
}

// flawless ends traffic and wants that nothing happened to any packet of it.
func (l *life) flawless() sim.Report {
	l.t.Helper()
	l.traffic.Stop()
	r := l.traffic.Report()
	if err := r.Flawless(); err != nil {
		l.t.Error(err)
	}
	return r
}

// flawlessButClear is flawless where some packets are meant to be in clear.
func (l *life) flawlessButClear() {
	l.t.Helper()
	l.traffic.Stop()
	r := l.traffic.Report()
	r.Clear, r.ClearReceived = 0, 0
	if err := r.Flawless(); err != nil {
		l.t.Error(err)
	}
}

// spi is what the member sends with by the first permit of its list; 0: nothing.
func (n *simNode) spi() uint32 {
	p, _ := n.site.Policy("G")
	for _, e := range p.Entries {
		if e.ACE.Action == ipsec.Permit {
			return e.SPI
		}
	}
	return 0
}

// served is the key server's view of the group, member the member's.
func (n *simNode) served() model.KSGroup {
	for _, g := range n.d.store.Load().KeyServers {
		if g.Name == "G" {
			return g
		}
	}
	return model.KSGroup{}
}

// listed are the members that a key server lists.
func (n *simNode) listed() []*model.Member { return slices.Collect(n.served().Members.All()) }

func (n *simNode) member() model.GMGroup {
	for _, g := range n.d.store.Load().Members {
		if g.Name == "G" {
			return g
		}
	}
	return model.GMGroup{}
}

// joins lets the member register again at once and reports whether it did, with whom.
func (n *simNode) joins() (with netip.Addr, ok bool) {
	n.l.t.Helper()
	begin := time.Now()
	n.command("clear crypto gdoi")
	for range 60 {
		n.l.run(time.Second)
		if done := told[event.GMRegistrationComplete](n, begin); len(done) > 0 {
			return done[len(done)-1].KS, true
		}
	}
	return netip.Addr{}, false
}

// told are the events of type E since t, when their moments.
func told[E event.Event](n *simNode, since time.Time) (out []E) {
	each(n, since, func(e E, _ time.Time) { out = append(out, e) })
	return out
}

func when[E event.Event](n *simNode, since time.Time) (out []time.Time) {
	each(n, since, func(_ E, at time.Time) { out = append(out, at) })
	return out
}

// each calls f for the events of type E since t.
func each[E event.Event](n *simNode, since time.Time, f func(E, time.Time)) {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.events {
		if e, ok := r.Event.(E); ok && !r.At.Before(since) {
			f(e, r.At)
		}
	}
}

// pushed makes a group of lifeKS one with rekeys; lines are added to its server.
func pushed(t *testing.T, conf string, lines ...string) string {
	t.Helper()
	lines = append([]string{"  rekey authentication mypubkey ecdsa K", "  rekey algorithm aes 128", "  rekey sig-hash algorithm sha256"}, lines...)
	return edit(t, conf, "  sa ipsec 1\n", strings.Join(lines, "\n")+"\n  sa ipsec 1\n") +
		"access-list 102 permit udp any host 239.192.1.190 eq 848\naccess-list 103 permit udp any host 239.192.1.191 eq 848\n"
}

// Lines for pushed.
const (
	unicast   = "  rekey transport unicast"
	multicast = "  rekey address ipv4 102"
)

// Configurations that the tests start from and edit.
const (
	lifeKS = common + `hostname ks
crypto ipsec transform-set T esp-gcm 128
crypto ipsec profile P
 set security-association lifetime seconds 3600
 set transform-set T
crypto gdoi group G
 identity number 1
 server local
  sa ipsec 1
   profile P
   match address ipv4 A
   replay counter window-size 64
  address ipv4 192.0.2.1
ip access-list extended A
 deny tcp any any eq 22
 permit ip 10.0.0.0 0.255.255.255 10.0.0.0 0.255.255.255
`
	lifeGM = common + `hostname gm
crypto gdoi group G
 identity number 1
 server address ipv4 192.0.2.1
crypto map M 10 gdoi
 set group G
interface wan
 crypto map M
`
)
