package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"getvpn/cli"
	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/gm"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/ks"
	"getvpn/internal/clock"
	"getvpn/internal/machine"
	"getvpn/internal/mcast"
	"getvpn/ipsec"
	"getvpn/ipsec/dataplane"
	"getvpn/model"
	"getvpn/model/event"
)

// Options of a daemon.
type Options struct {
	ConfigFile string
	Socket     string // control socket; empty: none
	StateDir   string
	TrackHook  string // program that is told of tracked objects, if it is there; empty: none
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
	clock     clock.Clock // nil with another plane: one that never sleeps
	joiner    gm.Joiner   // nil with another plane
	// Reads the machine's clocks; nil with another plane: none, and no end is trusted.
	moment func() clock.Moment
	marks  string     // directory that ends with the boot; "": beside the control socket
	bus    *event.Bus // nil: its own
	// Tells of restores, suspends and set clocks until ctx ends; nil with another plane.
	watch func(ctx context.Context, log *slog.Logger, to reports)
}

// Plane is the dataplane as the daemon uses it.
type Plane interface {
	gm.Installer
	InstallAll([]ipsec.GroupPolicy) error
	Configure(iface string, s dataplane.InterfaceSettings) error
	SetInline(ports map[string]dataplane.Inline) error
	Exempt(syscall.RawConn) error
	SetLocal([]netip.Addr) error
	ClearReplay(group string)
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
	lines *event.Sub // the log lines' sink

	lock    *os.File // of the state directory
	unwatch context.CancelFunc
	random  *machine.Random // of keys, nonces and cookies
	state   *ks.State       // of the key server's groups, over restarts
	control net.Listener
	tracks  *trackers

	mu      sync.Mutex // guards what follows; held while a configuration is applied
	cfg     *config.Config
	partly  bool                                   // an attempt to change it failed half-way
	ifs     map[string]dataplane.InterfaceSettings // as the dataplane was told
	plane   Plane
	ep      *ike.Endpoint
	srv     *ks.Server
	puller  gm.Puller
	signers map[string]*ks.Signer
	groups  map[string]*ksRun
	members map[string]*gmRun
	joins   gm.Memberships     // by hand
	heard   *heard             // the joiner, nil when there is none
	last    changed            // who changed the configuration last
	zero    cleared            // packet counters when they were cleared
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
	// A reference that leads nowhere could leave an interface unprotected: such a file
	// is refused like one that doesn't parse.
	if err := config.Problems(file, c); err != nil {
		return nil, err
	}
	if st, err := os.Stat(file); err == nil && st.Mode().Perm()&0o077 != 0 && len(c.Keys) > 0 {
		fmt.Fprintf(w, "%s: mode %04o lets others read the pre-shared keys in it: use 0600\n", file, st.Mode().Perm())
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
		o.clock, o.joiner = clock.System{}, &mcast.Joiner{}
		o.watch = kernelWatch
		o.moment = func() clock.Moment { return machine.ReadMoment("") }
		o.openPlane = func(p dataplane.Options) (Plane, error) {
			if err := newBPFFolder(p.BPFDir).ready(); err != nil {
				return nil, err
			}
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
	d := &Daemon{random: machine.NewRandom(rand.Reader), state: &ks.State{}, lock: lock, o: o, log: o.Log, bus: cmp.Or(o.bus, event.NewBus()), store: model.NewStore(model.Snapshot{Boot: time.Now(), At: time.Now(), Hostname: c.Hostname}),
		signers: map[string]*ks.Signer{}, groups: map[string]*ksRun{}, members: map[string]*gmRun{}, joins: gm.Memberships{},
		last: changed{cli.Caller{User: "root", Source: "startup"}, time.Now()}}
	d.tracks = newTrackers(d.o.trackDir(), o.TrackHook, d.log)
	if o.joiner != nil {
		d.heard = &heard{Joiner: o.joiner}
		d.o.joiner = d.heard
	}
	d.startSinks(c)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(c); err != nil {
		err = errors.Join(err, d.down(true)) // what is closed stays closed
		d.finish()
		return nil, err
	}
	d.watchMachine()
	d.serveControl()
	d.bus.Emit(event.Restart{})
	if len(c.Groups) > 0 {
		d.bus.Emit(event.GDOIOnOff{State: "ON"})
	}
	return d, nil
}

// begin finds whatever can be wrong before it touches the system.
func (d *Daemon) begin(c *config.Config) error {
	p, err := d.plan(c)
	if err != nil {
		return err
	}
	if d.o.Socket != "" {
		if d.control, err = listenControl(d.o.Socket); err != nil {
			return err
		}
	}
	return d.up(p)
}

// finish ends what Start made before the configuration was brought up.
func (d *Daemon) finish() {
	if d.unwatch != nil {
		d.unwatch()
	}
	if d.control != nil {
		d.control.Close()
	}
	d.tracks.Close()
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

// up brings a configuration up from nothing. The caller holds the lock.
func (d *Daemon) up(p *plan) error {
	d.cfg = p.cfg
	ctx, cancel := context.WithCancel(context.Background())
	d.end = cancel
	if err := forgetOthers(d.o.StateDir, p.setups); err != nil {
		d.log.Warn("lists of groups that are gone", "error", err)
	}
	members := map[string]*gmRun{}
	if len(p.setups) > 0 {
		if err := d.openDataplane(ctx, p); err != nil {
			return err
		}
		var first []ipsec.GroupPolicy
		for _, s := range p.setups {
			m := d.newMember(s)
			members[s.Group.Name] = m
			first = append(first, m.member.Prepare()...)
		}
		// What must be closed, before anything else.
		if err := d.plane.InstallAll(first); err != nil {
			return err
		}
	} else {
		d.removeLeftovers()
	}
	if err := d.openEndpoint(p); err != nil {
		return err
	}
	if err := d.applyServers(p.servers, nil); err != nil {
		return err
	}
	for n, m := range members {
		d.run(n, m)
	}
	d.applyJoins(p.cfg)
	return nil
}

func (d *Daemon) openDataplane(ctx context.Context, pl *plan) error {
	p, err := d.o.openPlane(dataplane.Options{BPFDir: d.o.BPFDir, Queues: d.o.Queues, Emit: d.bus, Notify: d.noticed, Store: d.store})
	if err != nil {
		return fmt.Errorf("dataplane: %w", err)
	}
	d.plane, d.ifs = p, map[string]dataplane.InterfaceSettings{}
	if err := d.configure(pl); err != nil {
		return err
	}
	var one sync.Mutex // the newest addresses are set last
	local := func() {
		one.Lock()
		defer one.Unlock()
		if err := p.SetLocal(slices.Concat(d.o.addrs.all(), d.heard.list())); err != nil {
			d.log.Warn("local addresses", "error", err)
		}
	}
	local()
	d.heard.notify(local)
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

func (d *Daemon) openEndpoint(p *plan) error {
	d.tell(p.notes)
	o := ike.Options{Rand: d.random, Config: p.ike, Store: d.store, Events: d.bus, Log: d.log, Listen: d.o.listen,
		VendorIDs: [][]byte{gdoi.OurCapability().VendorID()}}
	if d.plane != nil {
		o.Control = d.plane.Exempt
	}
	ep, err := ike.New(o)
	if err != nil {
		return fmt.Errorf("IKE endpoint: %w", err)
	}
	d.ep = ep
	if err := d.useState(p.cfg); err != nil {
		return err
	}
	d.srv = ks.NewServer(ks.Options{Store: d.store, Events: d.bus, Log: d.log, Rand: d.random, Files: ks.Disk{},
		Dir: d.o.StateDir, Marks: d.marks(), Machine: ks.MachineGeneration(), Moment: d.o.moment, Clock: d.o.clock, Push: ep, State: d.state, Peers: ks.NewEndpointPeers(ep)})
	ep.HandlePull(d.srv.HandlePull)
	ep.HandlePeerNotify(d.srv.HandlePeerNotify)
	d.puller = gm.NewEndpointPuller(ep, d.random)
	return nil
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
	go func() { // the lock may be held by an Install that waits for the dataplane
		d.mu.Lock()
		m := d.members[n.Group]
		d.mu.Unlock()
		if m != nil {
			heed(m.member, n)
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
	d.leaveAll()
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
		d.heard.notify(nil)
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
	if d.o.Flush {
		err = errors.Join(err, forgetOthers(d.o.StateDir, nil))
	}
	d.mu.Unlock()
	d.bus.Emit(event.GDOIOnOff{State: "OFF"})
	d.finish()
	return err
}
