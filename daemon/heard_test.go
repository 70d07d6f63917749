package daemon

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
)

type stubJoiner struct{ err error }

func (s stubJoiner) Join(string, netip.Addr, netip.Addr) (func(), error) { return func() {}, s.err }

// A group is heard as long as anybody has joined it.
func TestHeardGroups(t *testing.T) {
	h := &heard{Joiner: stubJoiner{}}
	var last []netip.Addr
	calls := 0
	h.notify(func() { last = h.list(); calls++ })
	g := netip.MustParseAddr("239.1.1.1")
	a, _ := h.Join("eth0", g, netip.Addr{})
	b, _ := h.Join("eth1", g, netip.Addr{})
	a()
	a()
	if !slices.Equal(last, []netip.Addr{g}) || calls != 3 {
		t.Errorf("%v after %d changes", last, calls)
	}
	if b(); len(last) != 0 {
		t.Errorf("%v", last)
	}
	h.Joiner = stubJoiner{errors.New("no")}
	if _, err := h.Join("eth0", g, netip.Addr{}); err == nil || len(h.list()) != 0 {
		t.Error("a failed join is heard")
	}
}
