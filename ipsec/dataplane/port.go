package dataplane

// A port is one protected interface: its policy, its TAP, and, while the interface
// exists, the rings, sockets and workers on it. All but the workers' paths runs under
// the dataplane's lock.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"getvpn/ipsec"
	"getvpn/model/event"
)

type port struct {
	d        *Dataplane
	name     string // as configured
	settings InterfaceSettings
	groups   map[string]ipsec.GroupPolicy
	sas      map[uint32]*portSA
	leaving  map[uint32]leavingSA // none of them in sas
	hits     map[hitKey]*atomic.Uint64
	table    atomic.Pointer[table]
	gen      uint64

	link    link
	device  string    // the name of the device that the configured name leads to
	locked  *nameLock // nil: none of this process'
	tap     *tap
	run     *pumps
	out, in []*counters // by queue; they outlive the workers
	addrs   atomic.Pointer[[2]netip.Addr]
	lastErr atomic.Pointer[error]
	sent    *ipsec.SentRing
}

// sentPackets is how many sealed packets an interface remembers, so that an ICMP error
// about one can be translated: some milliseconds at full speed, much longer at less.
const sentPackets = 4096

// link is what the pumps depend on; a change of any part restarts them.
type link struct {
	index int
	mtu   int
	mac   [6]byte
}

// hitKey names a rule across tables.
type hitKey struct {
	group string
	local bool
	ace   ipsec.ACE
}

func newPort(d *Dataplane, name string) *port {
	p := &port{d: d, name: name, groups: map[string]ipsec.GroupPolicy{}, sas: map[uint32]*portSA{},
		hits: map[hitKey]*atomic.Uint64{}, sent: ipsec.NewSentRing(sentPackets)}
	for range d.o.Queues {
		p.out, p.in = append(p.out, &counters{}), append(p.in, &counters{})
	}
	return p
}

// policies are the groups in a fixed order.
func (p *port) policies() []ipsec.GroupPolicy {
	var l []ipsec.GroupPolicy
	for _, g := range p.groups {
		l = append(l, g)
	}
	slices.SortFunc(l, func(a, b ipsec.GroupPolicy) int {
		if a.MapSeq != b.MapSeq {
			return a.MapSeq - b.MapSeq
		}
		return cmpString(a.Group, b.Group)
	})
	return l
}

func cmpString(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// install brings SAs, table and kernel to what groups say. Neither table lets
// anything out in clear, so the table goes first: what the kernel hands over by the new
// policy finds it there. The kernel tightens and loosens in one atomic step for each
// direction, outbound first, after the lock. On an error the earlier table stands again.
func (p *port) install() error {
	old, oldSAs, oldLeaving := p.table.Load(), p.sas, p.leaving
	out, in, err := p.newTable()
	if err != nil {
		return err
	}
	lock, free := p.locked, 0
	if p.d.steering.attached(p.link.index) {
		free = p.link.index
	}
	err = p.lock(free, &out, &in)
	if here := p.tap != nil && p.link.index != 0; err == nil && here {
		if err = p.d.steering.spis(p.name, p.spis()); err == nil {
			err = p.d.steering.swap(p.link.index, p.tap.index, &out, &in)
		}
		if err == nil {
			err = p.d.steering.tag(p.link.index, p.table.Load().tag)
		}
		if err == nil {
			err = p.lock(p.link.index, &out, &in)
		}
	}
	if err != nil && old != nil {
		p.sas, p.leaving = oldSAs, oldLeaving
		p.table.Store(old)
		err = errors.Join(err, p.d.steering.spis(p.name, p.spis()))
	}
	if err != nil {
		err = errors.Join(err, p.restoreLock(lock))
	}
	return err
}

// newTable gives the workers what groups say, and returns it for the kernel.
func (p *port) newTable() (out, in ipsec.Ruleset, err error) {
	groups := p.policies()
	now := p.d.line.Now()
	sas, err := p.resolve(groups, now)
	if err != nil {
		return out, in, err
	}
	out, in = ipsec.Compile(groups)
	mtu := p.link.mtu
	if mtu == 0 {
		mtu = 1500
	}
	leaving := p.left(groups, sas, now)
	t, err := buildTable(p.gen+1, groups, out, sas, leaving, p.d.line.Boot, mtu, p.settings)
	if err != nil {
		return out, in, err
	}
	t.hits = p.ruleHits(groups, &out)
	p.gen++
	p.sas, p.leaving = sas, leaving
	p.table.Store(t)
	return out, in, nil
}

// resolve finds or makes the SA of every TEK that is still valid, and takes the others
// out of groups.
func (p *port) resolve(groups []ipsec.GroupPolicy, now time.Time) (map[uint32]*portSA, error) {
	sas := map[uint32]*portSA{}
	for i := range groups {
		g := &groups[i]
		var valid []ipsec.TEK
		for _, k := range g.TEKs {
			sa, err := p.d.sas.Install(k, now)
			if errors.Is(err, ipsec.ErrExpired) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("dataplane: group %s, SPI %#x: %w", g.Group, k.SPI, err)
			}
			if o := sas[k.SPI]; o != nil && (o.SA != sa || o.group != g.Group) {
				return nil, fmt.Errorf("dataplane: groups %s and %s have SPI %#x both", o.group, g.Group, k.SPI)
			}
			ps := p.sas[k.SPI]
			if ps == nil || ps.SA != sa || ps.group != g.Group {
				if ps, err = p.newSA(sa, g.Group); err != nil {
					return nil, fmt.Errorf("dataplane: group %s, SPI %#x: %w", g.Group, k.SPI, err)
				}
			}
			sas[k.SPI] = ps
			valid = append(valid, k)
		}
		g.TEKs = valid
	}
	return sas, nil
}

func (p *port) newSA(sa *ipsec.SA, group string) (*portSA, error) {
	ps := &portSA{sharedSA: p.d.shared(sa), group: group}
	ps.stats.group = group
	for range p.d.o.Queues {
		s, err := sa.NewSealer(nil)
		if err != nil {
			return nil, err
		}
		if p.settings.ClearDF {
			s.DF = ipsec.DFClear
		}
		s.Sent = p.sent
		o, err := sa.NewOpener()
		if err != nil {
			return nil, err
		}
		ps.sealers, ps.openers = append(ps.sealers, s), append(ps.openers, o)
	}
	return ps, nil
}

// ruleHits returns the rules' counters, the same one for the same entry as long as
// the group is there.
func (p *port) ruleHits(groups []ipsec.GroupPolicy, r *ipsec.Ruleset) []*atomic.Uint64 {
	l := make([]*atomic.Uint64, len(r.Rules))
	for i := range r.Rules {
		k := hitKey{groups[r.Rules[i].Group].Group, r.Rules[i].Entry < 0, r.Rules[i].ACE}
		if p.hits[k] == nil {
			p.hits[k] = &atomic.Uint64{}
		}
		l[i] = p.hits[k]
	}
	return l
}

func (p *port) spis() []uint32 {
	var l []uint32
	for spi := range p.sas {
		l = append(l, spi)
	}
	for spi := range p.leaving {
		l = append(l, spi)
	}
	slices.Sort(l)
	return l
}

// errNoEthernet: steering and sending need the Ethernet header of each frame.
var errNoEthernet = errors.New("the interface has no Ethernet header, so nothing can be protected on it and all that a list permits is dropped")

// reconcile follows the interface: it attaches to one that appeared, restarts on one
// that changed, and lets go of one that went.
func (p *port) reconcile() error {
	known := p.link.index
	if known == 0 {
		known = p.d.steering.adoptedBy(tapName(p.name))
	}
	l, err := findLink(p.name, known)
	if err != nil {
		return err
	}
	var now link
	if l != nil && l.Attrs().EncapType != "ether" {
		// What the programs can't read stays locked by its name: permits drop.
		p.fail(fmt.Errorf("dataplane: %s: %w: its link type is %s", p.name, errNoEthernet, l.Attrs().EncapType))
		l = nil
	}
	if l != nil {
		a := l.Attrs()
		now = link{index: a.Index, mtu: a.MTU}
		if len(a.HardwareAddr) == 6 {
			now.mac = [6]byte(a.HardwareAddr)
		}
		if a.Name == p.name || slices.Contains(a.AltNames, p.name) {
			p.device = a.Name
		}
	}
	// A device that was in another namespace meanwhile may have lost its programs.
	alive := p.d.steering.alive(p.link.index)
	if now == p.link && (p.run != nil || l == nil) && alive {
		p.findAddrs()
		return nil
	}
	was := p.link
	p.stopPumps()
	p.link = now
	if was.index != 0 && (was.index != now.index || !alive) {
		p.fail(p.relock(0))
		p.d.steering.detach(was.index)
		p.d.emit(event.LineProtocol{Interface: p.name, State: "down"})
		p.d.notify(Notice{Kind: LinkDown, Interface: p.name})
	}
	if l == nil {
		return nil
	}
	if err := p.attach(); err != nil {
		p.stopPumps()
		p.link = link{}
		return err
	}
	if was.index != now.index || !alive {
		p.d.emit(event.LineProtocol{Interface: p.name, State: "up"})
		p.d.notify(Notice{Kind: LinkUp, Interface: p.name})
	}
	return nil
}

// attach makes TAP, steering, rings, sockets and workers of a link that is there.
func (p *port) attach() error {
	if p.tap == nil {
		t, err := openTap(tapName(p.name), p.d.o.Queues)
		if err != nil {
			return err
		}
		p.tap = t
	}
	p.findAddrs()
	if err := p.d.dropInline(p.link.index); err != nil {
		return err
	}
	if err := p.install(); err != nil {
		return err
	}
	return p.startPumps()
}

// pumps are the workers of one attachment.
type pumps struct {
	stop    int // eventfd: readable when the workers shall end
	rings   []*ring
	senders []*sender
	wg      sync.WaitGroup
}

func (p *port) startPumps() error {
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("dataplane: eventfd: %w", err)
	}
	p.run = &pumps{stop: stop}
	filter, err := p.d.steering.filter(p.link.index)
	if err != nil {
		return err
	}
	for q := range p.d.o.Queues {
		s, err := openSender(p.link.index, outBatch)
		if err != nil {
			return err
		}
		p.run.senders = append(p.run.senders, s)
		if err := p.d.steering.allow(s.fd); err != nil {
			return err
		}
		r, err := openRing(p.link.index, p.link.mtu, filter, p.fanout(p.link.index))
		if err != nil {
			return err
		}
		p.run.rings = append(p.run.rings, r)
		tr, err := openTransmitRing(p.tap.index, p.fanout(p.tap.index))
		if err != nil {
			return err
		}
		p.run.rings = append(p.run.rings, tr)
		ow := newOutWorker(p, q, tr, stop, p.link.mtu, s, p.out[q])
		iw := newInWorker(p, q, r, p.tap.fds[q], stop, p.link.mac, p.in[q])
		p.run.wg.Go(ow.run)
		p.run.wg.Go(iw.run)
	}
	return nil
}

// fanout is the number of the group of rings on an interface, of its own in this
// namespace; 0 for one ring.
func (p *port) fanout(ifindex int) int {
	if p.d.o.Queues == 1 {
		return 0
	}
	return int(uint16(os.Getpid()*251+2*ifindex) | 1)
}

func (p *port) stopPumps() {
	if p.run == nil {
		return
	}
	one := [8]byte{1}
	unix.Write(p.run.stop, one[:])
	p.run.wg.Wait()
	for _, r := range p.run.rings {
		r.close()
	}
	for _, s := range p.run.senders {
		p.d.steering.forget(s.fd)
		s.close()
	}
	unix.Close(p.run.stop)
	p.run = nil
}

// close ends the port; with keep the kernel's part stays.
func (p *port) close(keep bool) error {
	p.stopPumps()
	if p.tap != nil {
		p.tap.close()
	}
	if keep {
		return nil
	}
	var errs []error
	errs = append(errs, p.d.steering.spis(p.name, nil))
	if p.link.index != 0 {
		errs = append(errs, p.d.steering.detach(p.link.index))
	}
	if p.tap != nil {
		errs = append(errs, removeTap(p.tap.name))
		p.tap = nil
	}
	errs = append(errs, p.unlock())
	return errors.Join(errs...)
}

// findLink returns the link that a port is on: the one that it has been on, under
// whatever name, or the one with the name or altname; nil if there is none.
func findLink(name string, index int) (netlink.Link, error) {
	l, err := netlink.LinkByName(name)
	if err == nil {
		return l, nil
	}
	if !errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, fmt.Errorf("dataplane: interface %s: %w", name, err)
	}
	all, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("dataplane: interfaces: %w", err)
	}
	for _, l := range all {
		if slices.Contains(l.Attrs().AltNames, name) {
			return l, nil
		}
	}
	for _, l := range all {
		if l.Attrs().Index == index {
			return l, nil
		}
	}
	return nil, nil
}

// findAddrs remembers the interface's addresses, IPv4 and IPv6, that ICMP answers come
// from: the configured one, else its first global one.
func (p *port) findAddrs() {
	var a [2]netip.Addr
	if i, err := net.InterfaceByIndex(p.link.index); err == nil {
		l, _ := i.Addrs() // none: no answers
		for _, x := range l {
			n, ok := netip.AddrFromSlice(x.(*net.IPNet).IP)
			n = n.Unmap()
			if !ok || n.IsLinkLocalUnicast() {
				continue
			}
			k := 0
			if n.Is6() {
				k = 1
			}
			if !a[k].IsValid() || n == p.settings.LocalAddr {
				a[k] = n
			}
		}
	}
	p.addrs.Store(&a)
}
