package dataplane

// What the ports ask of steering, in this package's words: policy of one interface
// swapped in the right order, SPIs shared by interfaces, descriptors for cookies.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"sync"

	"getvpn/ipsec"
	"getvpn/ipsec/dataplane/steer"
	"getvpn/model"
)

type steering struct {
	s *steer.Steering

	mu    sync.Mutex
	owned map[string][]uint32 // SPIs by interface name
	known map[uint32]bool     // in the kernel's map
	rules map[int][2]ipsec.Ruleset
}

func openSteering(dir, backend string) (*steering, error) {
	s, err := steer.Open(steer.Options{Dir: dir, Backend: backend})
	if err != nil {
		return nil, fmt.Errorf("dataplane: %w", err)
	}
	return &steering{s: s, owned: map[string][]uint32{}, known: map[uint32]bool{}, rules: map[int][2]ipsec.Ruleset{}}, nil
}

// attached reports whether the interface has a policy of ours already.
func (s *steering) attached(wan int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.rules[wan]
	return ok
}

// swap brings an interface's policy into the kernel, attaching it if need be.
func (s *steering) swap(wan, tap int, out, in *ipsec.Ruleset) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, ok := s.rules[wan]
	var err error
	switch {
	case !ok:
		err = s.s.Attach(wan, tap, *out, *in)
	default:
		if !reflect.DeepEqual(was[0], *out) {
			err = s.s.SwapEgress(wan, *out)
		}
		if err == nil && !reflect.DeepEqual(was[1], *in) {
			err = s.s.SwapIngress(wan, *in)
		}
	}
	if err != nil {
		return fmt.Errorf("dataplane: steering: %w", err)
	}
	s.rules[wan] = [2]ipsec.Ruleset{*out, *in}
	return nil
}

// spis makes the SPIs ours that an interface has, and those nobody's that no interface
// has any more.
func (s *steering) spis(iface string, spis []uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(spis) == 0 {
		delete(s.owned, iface)
	} else {
		s.owned[iface] = spis
	}
	want := map[uint32]bool{}
	var add, del []uint32
	for _, l := range s.owned {
		for _, spi := range l {
			if !want[spi] && !s.known[spi] {
				add = append(add, spi)
			}
			want[spi] = true
		}
	}
	for spi := range s.known {
		if !want[spi] {
			del = append(del, spi)
		}
	}
	if len(add) > 0 {
		if err := s.s.AddSPIs(add...); err != nil {
			return fmt.Errorf("dataplane: steering: %w", err)
		}
	}
	if len(del) > 0 {
		if err := s.s.RemoveSPIs(del...); err != nil {
			return fmt.Errorf("dataplane: steering: %w", err)
		}
	}
	s.known = want
	return nil
}

// tag says where marks have security group tags on an attached interface.
func (s *steering) tag(wan int, t steer.TagBits) error {
	if err := s.s.SetTag(wan, t); err != nil {
		return fmt.Errorf("dataplane: steering: %w", err)
	}
	return nil
}

func (s *steering) detach(wan int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.rules[wan]; !ok {
		return nil
	}
	delete(s.rules, wan)
	if err := s.s.Detach(wan); err != nil {
		return fmt.Errorf("dataplane: steering: %w", err)
	}
	return nil
}

// alive reports whether the policy that attached put there hangs there still.
func (s *steering) alive(wan int) bool { return !s.attached(wan) || s.s.Alive(wan) }

// adoptedBy returns the interface that an earlier process attached to that TAP.
func (s *steering) adoptedBy(tap string) int {
	if l, err := net.InterfaceByName(tap); err == nil {
		return s.s.AdoptedBy(l.Index)
	}
	return 0
}

// settle removes what an earlier process left on interfaces that have no policy now.
func (s *steering) settle() error {
	var errs []error
	for _, wan := range s.s.Adopted() {
		if !s.attached(wan) {
			errs = append(errs, s.s.Detach(wan))
		}
	}
	return errors.Join(errs...)
}

func (s *steering) filter(wan int) (int, error) {
	return s.s.RingFilter(wan)
}

func (s *steering) allow(fd int) error {
	c, err := steer.SocketCookie(fd)
	if err == nil {
		err = s.s.AllowSocket(c)
	}
	if err != nil {
		return fmt.Errorf("dataplane: steering: %w", err)
	}
	return nil
}

func (s *steering) forget(fd int) error {
	c, err := steer.SocketCookie(fd)
	if err != nil {
		return err
	}
	return s.s.ForbidSocket(c)
}

func (s *steering) setLocal(addrs []netip.Addr) error { return s.s.SetLocal(addrs) }

func (s *steering) backend() string { return s.s.Backend() }

func (s *steering) close(keep bool) error { return s.s.Close(keep) }

// refused are the counts of packets that an interface's ingress took for clear ones,
// or for ESP with unknown SPIs.
type refused struct{ clear, esp uint64 }

// refusals returns them by interface.
func (s *steering) refusals() (map[int]refused, error) {
	all, err := s.s.Counters()
	if err != nil {
		return nil, fmt.Errorf("dataplane: %w", err)
	}
	m := make(map[int]refused, len(all))
	for wan, c := range all {
		m[wan] = refused{c.Ingress.Drops[ipsec.DropClearInbound], c.Ingress.Drops[ipsec.DropUnknownSPI]}
	}
	return m, nil
}

// count adds what the programs counted on an interface.
func (s *steering) count(wan int, i *model.Interface, drops *[ipsec.NumDropReasons]uint64) {
	all, err := s.s.Counters()
	c, ok := all[wan]
	if err != nil || !ok {
		return
	}
	i.ClearOutPackets, i.ClearInPkts = c.Egress.Passed, c.Ingress.Passed
	for r := range drops {
		drops[r] += c.Egress.Drops[r] + c.Ingress.Drops[r]
	}
}
