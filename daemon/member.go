package daemon

// What a member needs of the system: the endpoint's rekeys, multicast groups, a tracked
// object. Members are made before the endpoint, so they reach what is there when they
// use it.

import (
	"context"
	"net/netip"
	"path/filepath"

	"getvpn/gdoi/gm"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/ipsec/dataplane"
)

// setup is a member's configuration as its engine takes it.
func (d *Daemon) setup(s memberSetup) gm.Setup {
	g := gm.Setup{Group: s.Group, Attach: s.Attach, Accept: s.Accept, Source: s.Source, Local: localSource(s, d.o.addrs)}
	if n := s.Group.Client.Track; n > 0 {
		g.Tracker = d.tracks.object(n)
	}
	return g
}

// newMember makes a member with its surroundings.
func (d *Daemon) newMember(s memberSetup) *gmRun {
	m := gm.New(gm.Options{Setup: d.setup(s), Puller: lazyPuller{d}, Inst: d.plane, Rekeys: lazyRekeys{d}, Joiner: d.o.joiner,
		Store: d.store, Events: d.bus, Log: d.log, Memory: newMemory(d.o.StateDir, &s.Group), Clock: d.o.clock})
	return &gmRun{member: m, setup: s}
}

// lazyPuller reaches the endpoint that is there when a member registers.
type lazyPuller struct{ d *Daemon }

func (p lazyPuller) Pull(ctx context.Context, r gm.PullRequest) (*gm.PullResult, error) {
	return p.d.puller.Pull(ctx, r)
}

// lazyRekeys does for rekeys. A member runs only while there is an endpoint.
type lazyRekeys struct{ d *Daemon }

func (r lazyRekeys) HandlePush(ci, cr isakmp.Cookie, f func(ike.Datagram)) (release func()) {
	return r.d.ep.HandlePush(ci, cr, f)
}

func (r lazyRekeys) SendPush(datagram []byte, local netip.Addr, remote netip.AddrPort) error {
	return r.d.ep.SendPush(datagram, local, remote)
}

// dataErrors are the dataplane's errors that a member may recover from.
var dataErrors = map[dataplane.NoticeKind]gm.DataErrorKind{
	dataplane.BadSPI: gm.InvalidSPI, dataplane.Replayed: gm.ReplayFailed,
	dataplane.OutOfTime: gm.ReplayFailed, dataplane.BadICV: gm.DecryptFailed,
}

// heed gives a dataplane's notice to a member.
func heed(m *gm.Member, n dataplane.Notice) {
	if n.Kind == dataplane.SeqNearEnd {
		m.SeqNearEnd(n.SPI)
	} else if k, ok := dataErrors[n.Kind]; ok {
		m.DataError(k)
	}
}

// trackDir is where tracked objects are: beside the control socket.
func (o *Options) trackDir() string {
	if o.Socket != "" {
		return filepath.Join(filepath.Dir(o.Socket), "track")
	}
	return filepath.Join(o.StateDir, "track")
}
