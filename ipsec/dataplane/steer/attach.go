package steer

// An interface's programs: attaching, swapping, counting, detaching.

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"

	"getvpn/ipsec"
)

// iface is an attached interface.
type iface struct {
	wan, tap int
	cfg      *ebpf.Map
	ring     *ebpf.Program
	out, in  judge
	tag      TagBits
}

// judge is a program made from a ruleset, and its counters with those of the
// programs it replaced.
type judge struct {
	prog     *ebpf.Program
	count    *ebpf.Map
	retiring *ebpf.Map // of the program before: packets may still be in it
	base     []uint64  // named counters of all before that
}

func (f *iface) close() {
	for _, m := range []*ebpf.Map{f.cfg, f.out.count, f.out.retiring, f.in.count, f.in.retiring} {
		if m != nil {
			m.Close()
		}
	}
	for _, p := range []*ebpf.Program{f.ring, f.out.prog, f.in.prog} {
		if p != nil {
			p.Close()
		}
	}
}

func (s *Steering) folder(wan int) string {
	if s.dir == "" {
		return ""
	}
	return filepath.Join(s.dir, fmt.Sprintf("if%d", wan))
}

func (s *Steering) point(wan int, d direction) point {
	p := point{ifindex: wan, dir: d}
	if s.dir != "" {
		p.pin = filepath.Join(s.folder(wan), d.String())
	}
	return p
}

// tapPoint is the hook of the TAP that serves wan.
func (s *Steering) tapPoint(wan, tap int) point {
	p := point{ifindex: tap, dir: ingress}
	if s.dir != "" {
		p.pin = filepath.Join(s.folder(wan), "tap")
	}
	return p
}

// Attach puts both policies on the interface wan, whose packets go to the TAP tap,
// or replaces them. Each program is replaced atomically; egress comes first. Where
// the order matters (tighten first, loosen last), use SwapEgress and SwapIngress.
// After an error the interface may be half attached: call Attach again or Detach.
func (s *Steering) Attach(wan, tap int, out, in ipsec.Ruleset) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(check(&out), check(&in)); err != nil {
		return err
	}
	f := s.ifs[wan]
	fresh := f == nil
	if fresh {
		if d := s.folder(wan); d != "" {
			if err := mkdir(d); err != nil {
				return fmt.Errorf("steer: folder for pins: %w", err)
			}
		}
		pin := ""
		if s.dir != "" {
			pin = filepath.Join(s.folder(wan), "config")
		}
		cfg, err := openMap(pin, &ebpf.MapSpec{Name: "getvpn_config", Type: ebpf.Array, KeySize: 4, ValueSize: cfgSize, MaxEntries: 1})
		if err != nil {
			return err
		}
		f = &iface{wan: wan, cfg: cfg}
		// The TAP of the process before, if it is another one; 0 in a new map.
		if v, err := readConfig(cfg); err == nil && v[cfgTap/4] != 0 && int(v[cfgTap/4]) != tap {
			at := s.tapPoint(wan, int(v[cfgTap/4]))
			if err := errors.Join(s.be.detach(at), s.old.detach(at)); err != nil {
				s.log("steer: leaving TAP %d: %v", at.ifindex, err)
			}
		}
		s.ifs[wan] = f
		s.adopted = slices.DeleteFunc(s.adopted, func(n int) bool { return n == wan })
	}
	if f.tap != 0 && f.tap != tap {
		if err := s.be.detach(s.tapPoint(wan, f.tap)); err != nil {
			s.log("steer: leaving TAP %d: %v", f.tap, err)
		}
		f.tap = 0
	}
	if err := writeConfig(f.cfg, s.mark, uint32(tap), uint32(wan), f.tag.word()); err != nil {
		return fmt.Errorf("steer: configuring interface %d: %w", wan, err)
	}
	if f.tap == 0 {
		spec, err := tapSpec(f.cfg)
		if err != nil {
			return err
		}
		if err := s.hang(s.tapPoint(wan, tap), spec, nil); err != nil {
			return err
		}
		f.tap = tap
	}
	if f.ring == nil {
		spec, err := ringSpec(s.m, f.cfg)
		if err != nil {
			return err
		}
		if f.ring, err = load(spec); err != nil {
			return err
		}
	}
	if err := s.swap(f, egress, &out); err != nil {
		return err
	}
	if err := s.swap(f, ingress, &in); err != nil || !fresh {
		return err
	}
	// What a dead process hung there with the other back end is replaced now.
	for _, at := range s.points(wan, tap) {
		if err := s.old.detach(at); err != nil {
			return err
		}
	}
	return nil
}

// points are the hooks of an interface and its TAP.
func (s *Steering) points(wan, tap int) []point {
	at := []point{s.point(wan, egress), s.point(wan, ingress)}
	if tap != 0 {
		at = append(at, s.tapPoint(wan, tap))
	}
	return at
}

// SwapEgress replaces the outbound policy of an attached interface atomically.
func (s *Steering) SwapEgress(wan int, out ipsec.Ruleset) error { return s.swapOne(wan, egress, &out) }

// SwapIngress replaces the inbound policy of an attached interface atomically.
func (s *Steering) SwapIngress(wan int, in ipsec.Ruleset) error { return s.swapOne(wan, ingress, &in) }

func (s *Steering) swapOne(wan int, d direction, r *ipsec.Ruleset) error {
	if err := check(r); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.ifs[wan]
	if f == nil {
		return fmt.Errorf("steer: interface %d isn't attached", wan)
	}
	return s.swap(f, d, r)
}

// swap loads a program for the ruleset and puts it in the place of the present one.
func (s *Steering) swap(f *iface, d direction, r *ipsec.Ruleset) error {
	count, err := newCount(len(r.Rules))
	if err != nil {
		return fmt.Errorf("steer: counters: %w", err)
	}
	j, make := &f.out, egressSpec
	if d == ingress {
		j, make = &f.in, ingressSpec
	}
	spec, err := make(s.m, f.cfg, count, r)
	if err != nil {
		count.Close()
		return err
	}
	if err := s.hang(s.point(f.wan, d), spec, &j.prog); err != nil {
		count.Close()
		return err
	}
	return j.retire(count)
}

// hang loads a program and attaches it. If keep is nil the back end alone holds it,
// else it replaces what keep had.
func (s *Steering) hang(at point, spec *ebpf.ProgramSpec, keep **ebpf.Program) error {
	p, err := load(spec)
	if err != nil {
		return err
	}
	if err := s.be.attach(at, p); err != nil {
		p.Close()
		return fmt.Errorf("steer: attaching to %s of interface %d (%s): %w", at.dir, at.ifindex, s.be.name(), err)
	}
	if keep == nil {
		return p.Close()
	}
	if *keep != nil {
		(*keep).Close()
	}
	*keep = p
	return nil
}

func load(spec *ebpf.ProgramSpec) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(spec)
	if err != nil {
		return nil, fmt.Errorf("steer: loading %s (%d instructions): %w", spec.Name, len(spec.Instructions), err)
	}
	return p, nil
}

// Detach removes the programs from the interface and its TAP. A device that is gone
// is no error.
func (s *Steering) Detach(wan int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.ifs[wan]
	tap := 0
	if f != nil {
		tap = f.tap
	} else if d := s.folder(wan); d != "" {
		if cfg, err := ebpf.LoadPinnedMap(filepath.Join(d, "config"), nil); err == nil {
			if v, err := readConfig(cfg); err == nil {
				tap = int(v[cfgTap/4])
			}
			cfg.Close()
		}
	}
	var errs []error
	for _, at := range s.points(wan, tap) {
		errs = append(errs, s.be.detach(at), s.old.detach(at))
	}
	if f != nil {
		f.close()
		delete(s.ifs, wan)
	}
	s.adopted = slices.DeleteFunc(s.adopted, func(n int) bool { return n == wan })
	if d := s.folder(wan); d != "" {
		removePins(d)
	}
	return errors.Join(errs...)
}

// RingFilter returns the descriptor of a socket filter for a packet socket on wan
// (SO_ATTACH_BPF): ESP with our SPIs, non-first ESP fragments, ICMP errors that
// quote our ESP. Steering owns it and closes it in Detach and Close; a socket that
// has it keeps it.
func (s *Steering) RingFilter(wan int) (fd int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.ifs[wan]
	if f == nil || f.ring == nil {
		return -1, fmt.Errorf("steer: interface %d isn't attached", wan)
	}
	return f.ring.FD(), nil
}

// SetTag says which bits of the mark are the security group tag on an attached
// interface: of packets that are protected, and of those that were.
func (s *Steering) SetTag(wan int, t TagBits) error {
	if t.Width > 16 || int(t.Width)+int(t.Shift) > 32 {
		return fmt.Errorf("steer: a tag of %d bits above %d", t.Width, t.Shift)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.ifs[wan]
	if f == nil {
		return fmt.Errorf("steer: interface %d isn't attached", wan)
	}
	if f.tag == t {
		return nil
	}
	if err := writeConfig(f.cfg, s.mark, uint32(f.tap), uint32(wan), t.word()); err != nil {
		return fmt.Errorf("steer: configuring interface %d: %w", wan, err)
	}
	f.tag = t
	return nil
}

func writeConfig(cfg *ebpf.Map, mark, tap, wan, tag uint32) error {
	return cfg.Put(uint32(0), [cfgSize / 4]uint32{cfgMark / 4: mark, cfgTap / 4: tap, cfgWan / 4: wan, cfgTag / 4: tag})
}

func readConfig(cfg *ebpf.Map) (v [cfgSize / 4]uint32, err error) {
	return v, cfg.Lookup(uint32(0), &v)
}
