package daemon

// Following a changed configuration. A key server's group is told what changed and what
// that asks for; it begins anew, with new keys, only when it has become another group.
// A member goes on with a changed setup; one that is of another group from now on is
// another member, and what the group's name stands for in the dataplane stays until that
// one has keys. Others are left alone.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"getvpn/cli"
	"getvpn/config"
	"getvpn/gdoi/gm"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/ks"
	"getvpn/ipsec"
	"getvpn/ipsec/dataplane"
	"getvpn/model"
	"getvpn/model/event"
	"getvpn/syslog"
)

// plan is a configuration with all that can be worked out of it before anything is
// changed.
type plan struct {
	cfg     *config.Config
	setups  []memberSetup
	servers map[string]*ks.Setup
	ike     *ike.Config
	notes   []string
	ifs     map[string]dataplane.InterfaceSettings
	inline  map[string]dataplane.Inline
}

func (d *Daemon) plan(c *config.Config) (*plan, error) {
	p := &plan{cfg: c, ifs: interfaceSettings(c, d.o.addrs), inline: inlinePorts(c)}
	var err error
	if p.setups, err = memberSetups(c); err != nil {
		return nil, err
	}
	if p.servers, err = d.resolve(c); err != nil {
		return nil, err
	}
	p.ike, p.notes = ikeConfig(c)
	return p, nil
}

// Reload reads the file again and applies it. A bad file changes nothing, nor does one
// that says what is in force already.
func (d *Daemon) Reload(source string) error {
	c, err := load(d.o.ConfigFile, d.o.Console)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.partly || !config.Equal(c, d.cfg) {
		if err := d.apply(c); err != nil {
			return err
		}
		d.last = changed{cli.Caller{User: "root", Source: source}, time.Now()}
	}
	d.bus.Emit(event.ConfigChanged{Source: source, User: "root"})
	return nil
}

// apply makes c the configuration in force. Whatever can be wrong with it is found
// before anything is changed; if the system refuses nevertheless, the configuration
// before is applied again. The caller holds the lock.
func (d *Daemon) apply(c *config.Config) error {
	p, err := d.plan(c)
	if err != nil {
		return err
	}
	old := d.cfg
	d.partly = true
	if err := d.change(p, old); err != nil {
		back, again := d.plan(old)
		if again == nil {
			again = d.change(back, c)
		}
		d.cfg, d.partly = old, again != nil
		if again != nil {
			again = fmt.Errorf("going back to the configuration before: %w", again)
		}
		return errors.Join(err, again)
	}
	d.partly = false
	return nil
}

// change puts a plan in place of what was made from the configuration was.
func (d *Daemon) change(p *plan, was *config.Config) error {
	logging := d.cfg.Logging
	if (d.ep == nil) || len(p.setups) > 0 && d.plane == nil {
		// Sockets that were opened without a dataplane aren't exempt from its policy.
		if err := d.down(true); err != nil {
			d.log.Warn("restarting for the dataplane", "error", err)
		}
		if err := d.up(p); err != nil {
			return errors.Join(err, d.down(true))
		}
	} else {
		if d.plane != nil {
			if err := d.configure(p); err != nil {
				return err
			}
		}
		if err := d.applyMembers(p.setups); err != nil {
			return err
		}
		if err := d.changeState(was, p.cfg); err != nil {
			return err
		}
		if err := d.applyServers(p.servers, config.Diff(was, p.cfg)); err != nil {
			return err
		}
		d.applyJoins(p.cfg)
		d.tell(p.notes)
		d.ep.SetConfig(p.ike)
		d.cfg = p.cfg
	}
	d.store.Update(func(s *model.Snapshot) { s.Hostname = p.cfg.Hostname })
	if !reflect.DeepEqual(logging, p.cfg.Logging) {
		d.startSinks(p.cfg)
	}
	return nil
}

// tell says on the console what of a configuration isn't used.
func (d *Daemon) tell(notes []string) {
	for _, n := range notes {
		fmt.Fprintln(d.o.Console, "%", n)
	}
}

// configure tells the dataplane what has changed of the interfaces' settings.
func (d *Daemon) configure(p *plan) error {
	if err := d.plane.SetInline(p.inline); err != nil {
		// Those frames are lost as they were without the line; the rest works.
		d.log.Warn("tags in frames", "error", err)
	}
	want := p.ifs
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if s, ok := d.ifs[name]; ok && s == want[name] {
			continue
		}
		if err := d.plane.Configure(name, want[name]); err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
		d.ifs[name] = want[name]
	}
	return nil
}

// startSinks makes the log lines go where c says, in place of where they went.
func (d *Daemon) startSinks(c *config.Config) {
	o := syslog.Options{}
	if c.Logging.Console {
		o.Console = d.o.Console
	}
	for _, h := range c.Logging.Hosts {
		o.Hosts = append(o.Hosts, netip.AddrPortFrom(h.Addr, h.Port))
	}
	l := syslog.New(o)
	old := d.lines
	d.lines = d.bus.Subscribe("syslog", 4096)
	if old != nil {
		d.bus.Unsubscribe(old) // it still writes what it has
	}
	sub := d.lines
	d.sinks.Go(func() { l.Run(sub) })
}

// applyMembers stops members that are gone or replaced, brings the policy of new ones
// into force, gives the others their new setups, then takes away what isn't wanted any
// more, then starts the new members.
func (d *Daemon) applyMembers(setups []memberSetup) error {
	want := map[string]memberSetup{}
	for _, s := range setups {
		want[s.Group.Name] = s
	}
	was := map[string]*gmRun{}
	var changed []memberSetup
	for n, m := range maps.Clone(d.members) {
		if s, ok := want[n]; ok && s.sameMember(&m.setup) {
			delete(want, n)
			if !reflect.DeepEqual(s, m.setup) {
				changed = append(changed, s)
			}
			continue
		}
		m.stop()
		delete(d.members, n)
		was[n] = m
	}
	var first []ipsec.GroupPolicy
	fresh := map[string]*gmRun{}
	for _, n := range slices.Sorted(maps.Keys(want)) {
		m := d.newMember(want[n])
		fresh[n] = m
		if was[n] != nil && !was[n].member.Registered() {
			first = append(first, m.member.Unregistered()...) // in place of what it had
			continue
		}
		for _, p := range m.member.Prepare() {
			// Keys that are in force stay until the member has newer ones.
			if p.State == ipsec.Unregistered || was[n] == nil || !was[n].on(p.Interface) {
				first = append(first, p)
			}
		}
	}
	var errs []error
	if len(first) > 0 {
		errs = append(errs, d.plane.InstallAll(first))
	}
	for _, s := range changed {
		m := d.members[s.Group.Name]
		if err := m.member.Apply(d.setup(s)); err != nil {
			errs = append(errs, err)
			continue
		}
		m.setup = s
		d.log.Info("member changed", "group", s.Group.Name)
	}
	for _, n := range slices.Sorted(maps.Keys(was)) {
		m := was[n]
		if fresh[n] == nil {
			errs = append(errs, m.member.Leave())
			continue
		}
		for _, a := range m.setup.Attach { // interfaces that it leaves
			if !fresh[n].on(a.Interface) {
				errs = append(errs, d.plane.Remove(n, a.Interface))
			}
		}
	}
	for n, m := range fresh {
		d.run(n, m)
	}
	return errors.Join(errs...)
}

// on reports whether the member has a map on the interface.
func (m *gmRun) on(iface string) bool {
	return slices.ContainsFunc(m.setup.Attach, func(a gm.Attachment) bool { return a.Interface == iface })
}

// resolve prepares the key server's groups of c.
func (d *Daemon) resolve(c *config.Config) (map[string]*ks.Setup, error) {
	out := map[string]*ks.Setup{}
	store, err := d.signerStore(c)
	if err != nil {
		return nil, err
	}
	for i := range c.Groups {
		g := &c.Groups[i]
		if g.Local == nil {
			continue
		}
		s, events, err := ks.Resolve(c, g, func(ref string) (*ks.Signer, error) { return d.signer(store, ref) })
		for _, e := range events {
			d.bus.Emit(e)
		}
		if err != nil {
			return nil, err
		}
		out[g.Name] = s
	}
	return out, nil
}

// applyServers brings the key server's groups to want. effects is what each changed
// group's change asks for.
func (d *Daemon) applyServers(want map[string]*ks.Setup, effects map[string]config.Effects) error {
	for _, n := range slices.Sorted(maps.Keys(d.groups)) {
		g, s := d.groups[n], want[n]
		e := effects[n]
		switch {
		case s != nil && reflect.DeepEqual(s, g.setup):
			continue
		case s != nil && !e.Restart:
			if err := g.group.Apply(s, e); err != nil {
				return fmt.Errorf("group %s: %w", n, err)
			}
			g.setup = s
			d.log.Info("group changed", "group", n, "effects", e.String())
			continue
		case s == nil:
			g.group.Retire() // members of a group that begins anew aren't told: they go on to the end of their keys
		}
		g.stop()
		d.srv.Remove(g.group)
		delete(d.groups, n)
		if err := d.srv.Forget(n); err != nil { // another group begins, or none
			d.log.Warn("state", "group", n, "error", err)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(want)) {
		if d.groups[n] != nil {
			continue
		}
		g, err := d.srv.Add(want[n])
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		r := &ksRun{group: g, setup: want[n], cancel: cancel, done: make(chan struct{})}
		d.groups[n] = r
		go func() {
			defer close(r.done)
			g.Run(ctx)
		}()
	}
	return nil
}
