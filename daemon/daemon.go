package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/gm"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/ks"
	"getvpn/ipsec/dataplane"
	"getvpn/model"
	"getvpn/model/event"
	"getvpn/syslog"
)

// Options of a daemon.
type Options struct {
	ConfigFile string
	Socket     string // control socket; empty: none
	StateDir   string
	BPFDir     string
	Queues     int
	Flush      bool // take the policy out of the kernel at the end
	Console    io.Writer
	Log        *slog.Logger

	// Replaced in tests; nil: the kernel's.
	listen    func(netip.AddrPort) (ike.PacketConn, error)
	openPlane func(dataplane.Options) (Plane, error)
	cleanUp   func(dataplane.Options) error // nil with another plane
	addrs     addresses
}

// Plane is the dataplane as the daemon uses it.
type Plane interface {
	gm.Installer
	Configure(iface string, s dataplane.InterfaceSettings) error
	Exempt(syscall.RawConn) error
	SetLocal([]netip.Addr) error
	Settle() error
	SACounters(spi uint32) (model.SACounters, bool)
	RuleHits(group, iface string) []uint64
	Publish()
	Close(keepPolicy bool) error
}

// Daemon is a running configuration.
type Daemon struct {
	o     Options
	store *model.Store
	bus   *event.Bus
	log   *slog.Logger
	sinks sync.WaitGroup

	lock    *os.File // of the state directory
	control net.Listener

	mu      sync.Mutex // guards what follows; held while a configuration is applied
	cfg     *config.Config
	plane   Plane
	ep      *ike.Endpoint
	srv     *ks.Server
	puller  gm.Puller
	signers map[string]*ks.Signer
	groups  map[string]*ksRun
	members map[string]*gmRun
	end     context.CancelFunc // of the helpers of this run
	helpers sync.WaitGroup
}

// ksRun and gmRun are running actors with what they were made from.
type ksRun struct {
	group  *ks.Group
	setup  *ks.Setup
	cancel context.CancelFunc
	done   chan struct{}
}

type gmRun struct {
	member *gm.Member
	setup  memberSetup
	cancel context.CancelFunc
	done   chan struct{}
}

// Check reads a configuration file and prints what is wrong with it.
func Check(file string, w io.Writer) error {
	_, err := load(file, w)
	return err
}

func load(file string, w io.Writer) (*config.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c, warnings, err := config.Parse(file, text)
	for _, x := range warnings {
		fmt.Fprintln(w, x.String())
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Start reads the configuration and brings it up.
func Start(o Options) (*Daemon, error) {
	if o.Console == nil {
		o.Console = io.Discard
	}
	o.Console = &lockedWriter{w: o.Console}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.addrs == nil {
		o.addrs = kernelAddresses{}
	}
	if o.openPlane == nil {
		o.cleanUp = dataplane.RemoveLeftovers
		o.openPlane = func(p dataplane.Options) (Plane, error) {
			d, err := dataplane.Open(p)
			if err != nil {
				return nil, err
			}
			return d, nil
		}
	}
	c, err := load(o.ConfigFile, o.Console)
	if err != nil {
		return nil, err
	}
	lock, err := own(o.StateDir)
	if err != nil {
		return nil, err
	}
	d := &Daemon{lock: lock, o: o, log: o.Log, bus: event.NewBus(), store: model.NewStore(model.Snapshot{Boot: time.Now(), At: time.Now(), Hostname: c.Hostname}),
		signers: map[string]*ks.Signer{}, groups: map[string]*ksRun{}, members: map[string]*gmRun{}}
	d.startSinks(c)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(c); err != nil {
		err = errors.Join(err, d.down(true)) // what is closed stays closed
		d.finish()
		return nil, err
	}
	d.serveControl()
	d.bus.Emit(event.Restart{})
	if len(c.Groups) > 0 {
		d.bus.Emit(event.GDOIOnOff{State: "ON"})
	}
	return d, nil
}

// begin finds whatever can be wrong before it touches the system.
func (d *Daemon) begin(c *config.Config) error {
	setups, err := memberSetups(c)
	if err != nil {
		return err
	}
	servers, err := d.resolve(c)
	if err != nil {
		return err
	}
	if d.o.Socket != "" {
		if d.control, err = listenControl(d.o.Socket); err != nil {
			return err
		}
	}
	return d.up(c, setups, servers)
}

// finish ends what Start made before the configuration was brought up.
func (d *Daemon) finish() {
	if d.control != nil {
		d.control.Close()
	}
	d.bus.Close()
	d.sinks.Wait()
	d.lock.Close()
}

// lockedWriter serves the log sink and the configuration's messages.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (d *Daemon) startSinks(c *config.Config) {
	o := syslog.Options{}
	if c.Logging.Console {
		o.Console = d.o.Console
	}
	for _, h := range c.Logging.Hosts {
		o.Hosts = append(o.Hosts, netip.AddrPortFrom(h.Addr, h.Port))
	}
	l := syslog.New(o)
	sub := d.bus.Subscribe("syslog", 4096)
	d.sinks.Go(func() { l.Run(sub) })
}

// up brings a configuration up from nothing. The caller holds the lock.
func (d *Daemon) up(c *config.Config, setups []memberSetup, servers map[string]*ks.Setup) error {
	d.cfg = c
	ctx, cancel := context.WithCancel(context.Background())
	d.end = cancel
	if len(setups) > 0 {
		if err := d.openDataplane(ctx, c); err != nil {
			return err
		}
	} else {
		d.removeLeftovers()
	}
	members := map[string]*gmRun{}
	for _, s := range setups {
		m, err := d.newMember(c, s) // closes what must be closed, before anything else
		if err != nil {
			return err
		}
		members[s.Group.Name] = m
	}
	if err := d.openEndpoint(c); err != nil {
		return err
	}
	if err := d.applyServers(servers); err != nil {
		return err
	}
	for n, m := range members {
		d.run(n, m)
	}
	return nil
}

func (d *Daemon) openDataplane(ctx context.Context, c *config.Config) error {
	p, err := d.o.openPlane(dataplane.Options{BPFDir: d.o.BPFDir, Queues: d.o.Queues, Emit: d.bus, Notify: d.noticed, Store: d.store})
	if err != nil {
		return fmt.Errorf("dataplane: %w", err)
	}
	d.plane = p
	for name, s := range interfaceSettings(c, d.o.addrs) {
		if err := p.Configure(name, s); err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
	}
	local := func() {
		if err := p.SetLocal(d.o.addrs.all()); err != nil {
			d.log.Warn("local addresses", "error", err)
		}
	}
	local()
	if err := d.o.addrs.watch(ctx.Done(), local); err != nil {
		return fmt.Errorf("watching addresses: %w", err)
	}
	d.helpers.Go(func() {
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for settled := false; ; {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				p.Publish()
				settled = settled || d.settle(p)
			}
		}
	})
	return nil
}

// settle removes what an earlier process left on interfaces that nothing protects any
// more. Not before every member has its policy installed: until then the old policy is
// what keeps permits from leaving in clear.
func (d *Daemon) settle(p Plane) bool {
	for _, g := range d.store.Load().Members {
		if g.Succeeded == 0 {
			return false
		}
	}
	if err := p.Settle(); err != nil {
		d.log.Warn("removing what an earlier process left", "error", err)
	}
	return true
}

func (d *Daemon) openEndpoint(c *config.Config) error {
	cfg, notes := ikeConfig(c)
	for _, n := range notes {
		fmt.Fprintln(d.o.Console, "%", n)
	}
	o := ike.Options{Config: cfg, Store: d.store, Events: d.bus, Log: d.log, Listen: d.o.listen,
		VendorIDs: [][]byte{gdoi.OurCapability().VendorID()}}
	if d.plane != nil {
		o.Control = d.plane.Exempt
	}
	ep, err := ike.New(o)
	if err != nil {
		return fmt.Errorf("IKE endpoint: %w", err)
	}
	d.ep = ep
	d.srv = ks.NewServer(ks.Options{Store: d.store, Events: d.bus, Log: d.log, Rand: rand.Reader, Files: ks.Disk{},
		Dir: d.o.StateDir, Machine: ks.MachineGeneration()})
	ep.HandlePull(d.srv.HandlePull)
	d.puller = gm.NewEndpointPuller(ep, rand.Reader)
	return nil
}

func (d *Daemon) newMember(c *config.Config, s memberSetup) (*gmRun, error) {
	m := gm.New(gm.Options{Group: s.Group, Attach: s.Attach, Local: localSource(c, s, d.o.addrs), Puller: lazyPuller{d},
		Inst: d.plane, Store: d.store, Events: d.bus, Log: d.log})
	if err := m.Prepare(); err != nil {
		return nil, fmt.Errorf("group %s: %w", s.Group.Name, err)
	}
	return &gmRun{member: m, setup: s}, nil
}

// lazyPuller reaches the endpoint that is there when a member registers: members are
// made before it.
type lazyPuller struct{ d *Daemon }

func (p lazyPuller) Pull(ctx context.Context, r gm.PullRequest) (*gm.PullResult, error) {
	return p.d.puller.Pull(ctx, r)
}

func (d *Daemon) run(name string, m *gmRun) {
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel, m.done = cancel, make(chan struct{})
	d.members[name] = m
	go func() {
		defer close(m.done)
		m.member.Run(ctx)
	}()
}

func (m *gmRun) stop() {
	m.cancel()
	<-m.done
}

func (k *ksRun) stop() {
	k.cancel()
	<-k.done
}

// noticed is the dataplane's word to the engines.
func (d *Daemon) noticed(n dataplane.Notice) {
	if n.Kind != dataplane.SeqNearEnd {
		return
	}
	go func() { // the lock may be held by an Install that waits for the dataplane
		d.mu.Lock()
		m := d.members[n.Group]
		d.mu.Unlock()
		if m != nil {
			m.member.SeqNearEnd(n.SPI)
		}
	}()
}

// down ends everything in reverse order. The caller holds the lock.
func (d *Daemon) down(keepPolicy bool) error {
	var errs []error
	for n, m := range d.members {
		m.stop()
		delete(d.members, n)
	}
	for n, g := range d.groups {
		g.stop()
		delete(d.groups, n)
	}
	if d.ep != nil {
		errs = append(errs, d.ep.Close())
		d.ep = nil
	}
	if d.end != nil {
		d.end()
		d.helpers.Wait()
		d.end = nil
	}
	if d.plane != nil {
		errs = append(errs, d.plane.Close(keepPolicy))
		d.plane = nil
	}
	return errors.Join(errs...)
}

// Stop ends the daemon. Policy stays in the kernel, where permits drop, unless Flush.
func (d *Daemon) Stop() error {
	if d.control != nil {
		d.control.Close()
	}
	d.mu.Lock()
	err := d.down(!d.o.Flush)
	d.mu.Unlock()
	d.bus.Emit(event.GDOIOnOff{State: "OFF"})
	d.finish()
	return err
}
