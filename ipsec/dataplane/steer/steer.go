package steer

// What a caller holds: Open, the shared maps' operations, Close.

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Options of Open.
type Options struct {
	// Dir is a folder on a bpffs for pins (EnsureBPFFS makes one), for this network
	// namespace alone. Empty leaves everything unpinned: then policy dies with the
	// process (with tcx).
	Dir string
	// Backend is "auto" (or empty), "tcx" or "clsact".
	Backend string
	// KeepSPIs adopts the SPI map of a dead process; otherwise it is emptied, so that
	// ESP whose keys nobody has is judged as clear.
	KeepSPIs bool
	// Log receives one line for each thing worth telling; nil drops them.
	Log func(format string, args ...any)
}

// Steering is the programs and maps of one network namespace. Its methods may be
// called from several goroutines.
type Steering struct {
	dir  string
	log  func(string, ...any)
	be   backend
	old  backend // the other one: a dead process may have used it
	mark uint32  // of decrypted packets between TAP and interface

	mu      sync.Mutex
	m       *maps
	ifs     map[int]*iface
	adopted []int
}

// Open finds a back end, adopts what a dead process left under Dir (links and maps;
// a fresh secret mark, no socket cookies) and cleans what is stale.
func Open(o Options) (*Steering, error) {
	s := &Steering{dir: o.Dir, log: o.Log, ifs: map[int]*iface{}}
	if s.log == nil {
		s.log = func(string, ...any) {}
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		s.log("steer: locked memory stays limited: %v", err)
	}
	var err error
	if s.be, err = openBackend(o.Backend); err != nil {
		return nil, err
	}
	if s.old = backend(newTCX()); s.be.name() == s.old.name() {
		s.old = clsact{}
	}
	s.log("steer: back end %s", s.be.name())
	if s.mark, err = secretMark(); err != nil {
		return nil, err
	}
	if s.dir != "" {
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return nil, fmt.Errorf("steer: folder for pins: %w", err)
		}
	}
	if s.m, err = openMaps(s.dir); err != nil {
		return nil, err
	}
	if err := s.flush(o.KeepSPIs); err != nil {
		s.m.close()
		return nil, err
	}
	s.adopt()
	return s, nil
}

// flush takes out of adopted maps what belonged to the dead process.
func (s *Steering) flush(keepSPIs bool) error {
	if err := empty[uint64](s.m.sockets); err != nil {
		return fmt.Errorf("steer: flushing sockets: %w", err)
	}
	if keepSPIs {
		return nil
	}
	if err := empty[uint32](s.m.spis); err != nil {
		return fmt.Errorf("steer: flushing SPIs: %w", err)
	}
	return nil
}

// adopt finds the interfaces that a dead process left attached. Their policy goes
// on; the mark that it knew is worthless from here.
func (s *Steering) adopt() {
	if s.dir == "" {
		return
	}
	found, err := os.ReadDir(s.dir)
	if err != nil {
		s.log("steer: reading pins: %v", err)
		return
	}
	for _, f := range found {
		n, ok := strings.CutPrefix(f.Name(), "if")
		wan, err := strconv.Atoi(n)
		if !ok || err != nil {
			continue
		}
		dir := filepath.Join(s.dir, f.Name())
		if at := s.point(wan, egress); !s.be.alive(at) && !s.old.alive(at) {
			s.log("steer: interface %d is gone, its pins removed", wan)
			removePins(dir)
			continue
		}
		if cfg, err := ebpf.LoadPinnedMap(filepath.Join(dir, "config"), nil); err == nil {
			if v, err := readConfig(cfg); err == nil {
				if err := writeConfig(cfg, s.mark, v[1], v[2], v[3]); err != nil {
					s.log("steer: new mark on interface %d: %v", wan, err)
				}
			}
			cfg.Close()
		}
		s.adopted = append(s.adopted, wan)
		s.log("steer: adopted the programs on interface %d", wan)
	}
}

// Adopted lists the interfaces whose programs of an earlier process are still in
// place. Attach takes each over; Detach removes it.
func (s *Steering) Adopted() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.adopted)
}

// AdoptedBy returns the interface whose adopted programs lead to that TAP, under
// whatever name it goes now; 0 if there is none.
func (s *Steering) AdoptedBy(tap int) int {
	for _, wan := range s.Adopted() {
		cfg, err := ebpf.LoadPinnedMap(filepath.Join(s.folder(wan), "config"), nil)
		if err != nil {
			continue
		}
		v, err := readConfig(cfg)
		cfg.Close()
		if err == nil && int(v[cfgTap/4]) == tap {
			return wan
		}
	}
	return 0
}

// Alive reports that both programs hang on the interface still: a device that went to
// another network namespace and back has its old index, but lost its filters.
func (s *Steering) Alive(wan int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.be.alive(s.point(wan, egress)) && s.be.alive(s.point(wan, ingress))
}

// Backend says "tcx" or "clsact".
func (s *Steering) Backend() string { return s.be.name() }

// AddSPIs makes ESP with these SPIs ours on every attached interface.
func (s *Steering) AddSPIs(spis ...uint32) error {
	for _, v := range spis {
		if err := s.m.spis.Put(spiKey(v), uint32(1)); err != nil {
			return fmt.Errorf("steer: adding SPI 0x%08x: %w", v, err)
		}
	}
	return nil
}

// RemoveSPIs ends that. An SPI that isn't there is no error.
func (s *Steering) RemoveSPIs(spis ...uint32) error {
	for _, v := range spis {
		if err := s.m.spis.Delete(spiKey(v)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("steer: removing SPI 0x%08x: %w", v, err)
		}
	}
	return nil
}

func spiKey(v uint32) (k [4]byte) {
	binary.BigEndian.PutUint32(k[:], v)
	return k
}

// AllowSocket lets a socket's packets out unjudged; cookie is its SO_COOKIE.
func (s *Steering) AllowSocket(cookie uint64) error {
	if err := s.m.sockets.Put(cookie, uint32(1)); err != nil {
		return fmt.Errorf("steer: allowing a socket: %w", err)
	}
	return nil
}

// ForbidSocket ends that. A socket that isn't allowed is no error.
func (s *Steering) ForbidSocket(cookie uint64) error {
	if err := s.m.sockets.Delete(cookie); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("steer: forbidding a socket: %w", err)
	}
	return nil
}

// SocketCookie reads SO_COOKIE of a socket.
func SocketCookie(fd int) (uint64, error) {
	c, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("steer: socket cookie: %w", err)
	}
	return c, nil
}

// SetLocal sets the addresses whose UDP ports 848 and 4500 are our GDOI: those of
// this host, and the groups of multicast rekeys.
func (s *Steering) SetLocal(addrs []netip.Addr) error {
	want := map[[16]byte]bool{}
	for _, a := range addrs {
		want[addrKey(a)] = true
	}
	for k := range want {
		if err := s.m.local.Put(k, uint32(1)); err != nil {
			return fmt.Errorf("steer: adding a local address: %w", err)
		}
	}
	var k [16]byte
	var v uint32
	var old [][16]byte
	it := s.m.local.Iterate()
	for it.Next(&k, &v) {
		if !want[k] {
			old = append(old, k)
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("steer: reading local addresses: %w", err)
	}
	for _, k := range old {
		if err := s.m.local.Delete(k); err != nil {
			return fmt.Errorf("steer: removing a local address: %w", err)
		}
	}
	return nil
}

// Close ends the use of the programs. With keep they stay, if Dir pins them (tcx) or
// in any case (clsact): policy survives the process. Without keep all goes.
func (s *Steering) Close(keep bool) error {
	var errs []error
	if !keep {
		for _, wan := range s.all() {
			errs = append(errs, s.Detach(wan))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.ifs {
		f.close()
	}
	s.ifs = map[int]*iface{}
	s.be.close()
	s.old.close()
	if !keep && s.dir != "" {
		for _, m := range s.m.all() {
			errs = append(errs, m.Unpin())
		}
		os.Remove(s.dir) // not if it is the mount, or holds what isn't ours
	}
	s.m.close()
	return errors.Join(errs...)
}

func (s *Steering) all() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.adopted)
	for wan := range s.ifs {
		all = append(all, wan)
	}
	return all
}

// secretMark draws a mark that nobody outside can guess, never 0.
func secretMark() (uint32, error) {
	var b [4]byte
	for {
		if _, err := rand.Read(b[:]); err != nil {
			return 0, fmt.Errorf("steer: secret mark: %w", err)
		}
		if v := binary.NativeEndian.Uint32(b[:]); v != 0 {
			return v, nil
		}
	}
}
