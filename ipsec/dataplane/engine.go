package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"time"

	"getvpn/internal/clock"
	"getvpn/ipsec"
	"getvpn/ipsec/dataplane/steer"
	"getvpn/model"
	"getvpn/model/event"
)

// Dataplane owns the protected interfaces of this host. Its methods may be called
// from any goroutine.
type Dataplane struct {
	o        Options
	steering *steering
	icmp     *icmpSender
	sas      ipsec.SADB
	clock    clock.Clock
	line     *clock.Timeline // what every moment of a TEK's life is on

	mu      sync.Mutex
	ports   map[string]*port
	order   []string // interfaces in the order of their first Install
	sharing map[*ipsec.SA]*sharedSA
	// LAN ports with tags in frames, by name, and where their programs hang, by index.
	inline   map[string]Inline
	inlineOn map[int]Inline
	// inlineErr is the last failure to follow them; nil when all is well.
	inlineErr error
	expiry    *time.Timer
	ending    time.Time // what expiry waits for; zero: nothing
	alarms    alarms
	stats     map[string]*groupStats // by group
	closed    bool

	told  chan func() // events and notices, for the goroutine that delivers them
	links *linkWatch
	locks *steer.LockWatch
	done  chan struct{}
	wg    sync.WaitGroup
}

// toldQueue bounds what waits for delivery: more is lost, since a worker never waits.
const toldQueue = 256

// Open prepares steering. Nothing is attached until Install names an interface;
// what an earlier process left pinned in BPFDir stays in force until then.
func Open(o Options) (*Dataplane, error) {
	if o.Queues == 0 {
		o.Queues = 1
	}
	if o.Queues < 0 || o.Queues > 64 {
		return nil, fmt.Errorf("dataplane: %d queues", o.Queues)
	}
	st, err := openSteering(o.BPFDir, o.Backend)
	if err != nil {
		return nil, err
	}
	ic, err := openICMP()
	if err != nil {
		return nil, errors.Join(err, st.close(true))
	}
	d := &Dataplane{o: o, steering: st, icmp: ic, ports: map[string]*port{}, sharing: map[*ipsec.SA]*sharedSA{}, inlineOn: map[int]Inline{}, alarms: alarms{}, stats: map[string]*groupStats{},
		clock: o.Clock,
		told:  make(chan func(), toldQueue), done: make(chan struct{})}
	if d.clock == nil {
		d.clock = clock.System{}
	}
	d.line = clock.NewTimeline(d.clock)
	d.links, err = watchLinks(d.linksChanged)
	if err != nil {
		ic.close()
		return nil, errors.Join(err, st.close(true))
	}
	d.locks, err = steer.WatchLocks(d.locksChanged)
	if err != nil {
		d.links.close()
		ic.close()
		return nil, errors.Join(err, st.close(true))
	}
	d.wg.Go(d.deliver)
	d.wg.Go(d.watchRefused)
	grantProcs(2 * o.Queues)
	return d, nil
}

// grantProcs changes how many threads may run Go code. A worker's thread waits in the
// kernel most of the time; when it wakes it must find a right to run at once, or a
// packet waits for the scheduler (docs/dataplane.md has figures). So each worker of
// an interface brings one.
func grantProcs(n int) { runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n) }

// deliver hands events and notices on, in order, from a goroutine that may wait.
func (d *Dataplane) deliver() {
	for {
		select {
		case f := <-d.told:
			f()
		case <-d.done:
			return
		}
	}
}

func (d *Dataplane) tell(f func()) {
	select {
	case d.told <- f:
	default:
	}
}

func (d *Dataplane) notify(n Notice) {
	if d.o.Notify != nil {
		d.tell(func() { d.o.Notify(n) })
	}
	if n.Kind == SeqNearEnd {
		d.emit(event.SequenceNearEnd{Group: n.Group})
	}
}

func (d *Dataplane) emit(e event.Event) {
	if d.o.Emit != nil {
		d.tell(func() { d.o.Emit.Emit(e) })
	}
}

// shared returns the lock-bearing object of an SA.
func (d *Dataplane) shared(sa *ipsec.SA) *sharedSA {
	s := d.sharing[sa]
	if s == nil {
		s = &sharedSA{SA: sa}
		d.sharing[sa] = s
	}
	return s
}

func (d *Dataplane) port(iface string) *port {
	p := d.ports[iface]
	if p == nil {
		p = newPort(d, iface)
		d.ports[iface] = p
		d.order = append(d.order, iface)
	}
	return p
}

var errClosed = errors.New("dataplane: closed")

// Configure sets an interface's settings; it may come before or after Install.
func (d *Dataplane) Configure(iface string, s InterfaceSettings) error {
	if s.AdjustMSS < 0 || s.AdjustMSS > 65535 {
		return fmt.Errorf("dataplane: MSS of %d octets", s.AdjustMSS)
	}
	if _, ok := tagBits(s.TagMask); !ok {
		return fmt.Errorf("dataplane: tag mask %#x isn't up to 16 bits in a row", s.TagMask)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	p := d.port(iface)
	if p.settings.ClearDF != s.ClearDF {
		p.sas = map[uint32]*portSA{} // sealers carry it
	}
	p.settings = s
	if len(p.groups) == 0 {
		return nil
	}
	return p.install()
}

// Install replaces what p.Group has on p.Interface, and attaches the interface if
// it is the first group there. A TEK that is installed already, by SPI and key,
// keeps its counters and window; one that has expired is left out. What its end is from
// now counts, and counts on while the machine is suspended. An interface that
// doesn't exist now is no error: it is attached when it appears. On an error the
// policy before stands.
func (d *Dataplane) Install(g ipsec.GroupPolicy) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	p := d.port(g.Interface)
	before, had := p.groups[g.Group]
	p.groups[g.Group] = d.timed(g)
	var err error
	if p.run == nil {
		err = p.reconcile()
	}
	if err == nil {
		err = p.install()
	}
	if err != nil {
		if had {
			p.groups[g.Group] = before
		} else {
			delete(p.groups, g.Group)
		}
		return err
	}
	d.schedule()
	return nil
}

// Remove takes a group off an interface; the interface's last one detaches it.
func (d *Dataplane) Remove(group, iface string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.ports[iface]
	if p == nil {
		return nil
	}
	if _, ok := p.groups[group]; !ok {
		return nil
	}
	delete(p.groups, group)
	d.collect(time.Now())
	if len(p.groups) > 0 {
		return p.install()
	}
	err := p.close(false)
	delete(d.ports, iface)
	for i, n := range d.order {
		if n == iface {
			d.order = append(d.order[:i:i], d.order[i+1:]...)
			break
		}
	}
	d.inlineErr = d.followInline()
	return err
}

// Exempt lets a socket of ours (GDOI, IKE) past every policy.
func (d *Dataplane) Exempt(c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = d.steering.allow(int(fd)) }); e != nil {
		return fmt.Errorf("dataplane: exempting a socket: %w", e)
	}
	return err
}

// SetLocal names the addresses whose UDP ports 848 and 4500 are our GDOI: this host's
// and the groups of multicast rekeys. What comes to them passes every policy.
func (d *Dataplane) SetLocal(addrs []netip.Addr) error { return d.steering.setLocal(addrs) }

// Settle removes what an earlier process left on interfaces that no Install has named
// since Open. Call it when the configuration is in.
func (d *Dataplane) Settle() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(d.steering.settle(), d.settleLocks())
}

// linksChanged follows interfaces that come, go and change.
func (d *Dataplane) linksChanged() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	for _, p := range d.ports {
		if len(p.groups) > 0 {
			p.fail(p.reconcile())
		}
	}
	d.inlineErr = d.followInline()
}

// Publish puts Model into the store.
func (d *Dataplane) Publish() {
	if d.o.Store != nil {
		m := d.Model()
		d.o.Store.Update(func(s *model.Snapshot) { s.Dataplane = m })
	}
}

// Close stops the workers. With keepPolicy the programs, the map of SPIs and the
// TAPs stay, so that permits die in the kernel until the next process takes over;
// without it the interfaces are as if the product had never been there.
func (d *Dataplane) Close(keepPolicy bool) error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	if d.expiry != nil {
		d.expiry.Stop()
	}
	errs := []error{d.closeInline()}
	for _, p := range d.ports {
		errs = append(errs, p.close(keepPolicy))
	}
	errs = append(errs, d.steering.close(keepPolicy))
	if !keepPolicy {
		errs = append(errs, removeLocks(nil), removeTaps(nil))
	}
	d.mu.Unlock()
	d.icmp.close()
	d.links.close()
	d.locks.Close()
	close(d.done)
	d.wg.Wait()
	grantProcs(-2 * d.o.Queues)
	return errors.Join(errs...)
}
