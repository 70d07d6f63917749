package daemon

// Multicast groups that this machine listens to count as addresses of its own: rekeys to
// them pass the policy as those to its own addresses do, whatever it protects.

import (
	"net/netip"
	"slices"
	"sync"

	"getvpn/gdoi/gm"
)

// heard is a Joiner that remembers the groups and says when they change.
type heard struct {
	gm.Joiner

	mu      sync.Mutex
	groups  map[netip.Addr]int
	changed func()
}

// Join is the Joiner's.
func (h *heard) Join(iface string, group, source netip.Addr) (leave func(), err error) {
	end, err := h.Joiner.Join(iface, group, source)
	if err != nil {
		return nil, err
	}
	h.count(group, 1)
	var once sync.Once
	return func() {
		once.Do(func() {
			end()
			h.count(group, -1)
		})
	}, nil
}

func (h *heard) count(group netip.Addr, n int) {
	h.mu.Lock()
	if h.groups == nil {
		h.groups = map[netip.Addr]int{}
	}
	h.groups[group] += n
	if h.groups[group] == 0 {
		delete(h.groups, group)
	}
	f := h.changed
	h.mu.Unlock()
	if f != nil {
		f()
	}
}

// notify sets what is called after each change.
func (h *heard) notify(f func()) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changed = f
}

// list is the groups.
func (h *heard) list() (out []netip.Addr) {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for g := range h.groups {
		out = append(out, g)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
