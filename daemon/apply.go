package daemon

// Following a changed configuration: groups whose setup changed are restarted, others
// are left alone. A key server's group that restarts has new keys.

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"getvpn/config"
	"getvpn/gdoi/ks"
	"getvpn/model"
	"getvpn/model/event"
)

// Reload reads the file again and applies it. A bad file changes nothing.
func (d *Daemon) Reload(source string) error {
	c, err := load(d.o.ConfigFile, d.o.Console)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.apply(c); err != nil {
		return err
	}
	d.bus.Emit(event.ConfigChanged{Source: source, User: "root"})
	return nil
}

// apply makes c the configuration in force. Whatever can be wrong with it is found
// before anything is changed. The caller holds the lock.
func (d *Daemon) apply(c *config.Config) error {
	setups, err := memberSetups(c)
	if err != nil {
		return err
	}
	servers, err := d.resolve(c)
	if err != nil {
		return err
	}
	if len(setups) > 0 && d.plane == nil {
		// Sockets that were opened without a dataplane aren't exempt from its policy.
		if err := d.down(true); err != nil {
			d.log.Warn("restarting for the dataplane", "error", err)
		}
		return d.up(c, setups, servers)
	}
	cfg, notes := ikeConfig(c)
	for _, n := range notes {
		fmt.Fprintln(d.o.Console, "%", n)
	}
	d.ep.SetConfig(cfg)
	if d.plane != nil {
		for name, s := range interfaceSettings(c, d.o.addrs) {
			if err := d.plane.Configure(name, s); err != nil {
				return fmt.Errorf("interface %s: %w", name, err)
			}
		}
	}
	d.cfg = c
	d.store.Update(func(s *model.Snapshot) { s.Hostname = c.Hostname })
	if err := d.applyMembers(c, setups); err != nil {
		return err
	}
	return d.applyServers(servers)
}

func (d *Daemon) applyMembers(c *config.Config, setups []memberSetup) error {
	want := map[string]memberSetup{}
	for _, s := range setups {
		want[s.Group.Name] = s
	}
	for n, m := range maps.Clone(d.members) {
		s, ok := want[n]
		if ok && reflect.DeepEqual(s, m.setup) {
			delete(want, n)
			continue
		}
		m.stop()
		delete(d.members, n)
		if !ok {
			if err := m.member.Leave(); err != nil {
				return fmt.Errorf("group %s: %w", n, err)
			}
			continue
		}
		for _, a := range m.setup.Attach { // interfaces that it leaves
			still := false
			for _, b := range s.Attach {
				still = still || b.Interface == a.Interface
			}
			if !still {
				if err := d.plane.Remove(n, a.Interface); err != nil {
					return fmt.Errorf("group %s: %w", n, err)
				}
			}
		}
	}
	for _, n := range slices.Sorted(maps.Keys(want)) {
		m, err := d.newMember(c, want[n])
		if err != nil {
			return err
		}
		d.run(n, m)
	}
	return nil
}

// resolve prepares the key server's groups of c.
func (d *Daemon) resolve(c *config.Config) (map[string]*ks.Setup, error) {
	out := map[string]*ks.Setup{}
	for i := range c.Groups {
		g := &c.Groups[i]
		if g.Local == nil {
			continue
		}
		s, events, err := ks.Resolve(c, g, d.signer)
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

func (d *Daemon) signer(name string) (*ks.Signer, error) {
	if s := d.signers[name]; s != nil {
		return s, nil
	}
	s, err := ks.LoadSigner(ks.Disk{}, d.o.StateDir, name)
	if err == nil {
		d.signers[name] = s
	}
	return s, err
}

func (d *Daemon) applyServers(want map[string]*ks.Setup) error {
	for n, g := range maps.Clone(d.groups) {
		if s, ok := want[n]; ok && reflect.DeepEqual(s, g.setup) {
			delete(want, n)
			continue
		}
		g.stop()
		d.srv.Remove(g.group)
		delete(d.groups, n)
	}
	for _, n := range slices.Sorted(maps.Keys(want)) {
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
