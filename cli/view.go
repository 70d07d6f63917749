package cli

// What all views share: the text under way, the group asked for, units.

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"getvpn/config"
	"getvpn/model"
)

type view struct {
	b     strings.Builder
	s     *model.Snapshot
	c     *config.Config
	now   time.Time
	group string // "" for all
}

func (v *view) text() string { return v.b.String() }

func (v *view) line(format string, args ...any) { fmt.Fprintf(&v.b, format+"\n", args...) }

// known reports whether there is a group of the name asked for.
func (v *view) known() bool { return len(v.members()) > 0 || len(v.servers()) > 0 }

func (v *view) members() []*model.GMGroup {
	var out []*model.GMGroup
	for i := range v.s.Members {
		if g := &v.s.Members[i]; v.group == "" || g.Name == v.group {
			out = append(out, g)
		}
	}
	return out
}

func (v *view) servers() []*model.KSGroup {
	var out []*model.KSGroup
	for i := range v.s.KeyServers {
		if g := &v.s.KeyServers[i]; v.group == "" || g.Name == v.group {
			out = append(out, g)
		}
	}
	return out
}

// left is the time until t in whole seconds, never negative.
func (v *view) left(t time.Time) int {
	if t.IsZero() {
		return 0
	}
	return max(0, int(t.Sub(v.now)/time.Second))
}

func seconds(d time.Duration) int { return int(d / time.Second) }

// ip prints an address; none is 0.0.0.0, which parsers take.
func ip(a netip.Addr) string {
	if !a.IsValid() {
		return "0.0.0.0"
	}
	return a.Unmap().String()
}

// port is the port of a, 848 while it isn't known.
func port(a netip.AddrPort) uint16 {
	if a.Port() == 0 {
		return 848
	}
	return a.Port()
}

func identity(id model.GroupID) string {
	if id.Addr.IsValid() {
		return id.Addr.String()
	}
	return fmt.Sprint(id.Number)
}

func path(ipv6 bool) string {
	if ipv6 {
		return "ipv6"
	}
	return "ipv4"
}

func transport(unicast bool) string {
	if unicast {
		return "Unicast"
	}
	return "Multicast"
}

func clock(d time.Duration) string {
	s := max(0, int(d/time.Second))
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}
