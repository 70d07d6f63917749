package dataplane

import (
	"errors"
	"syscall"

	"getvpn/ipsec"
	"getvpn/model"
)

// Dataplane owns the protected interfaces of this host. Its methods may be called
// from any goroutine.
type Dataplane struct {
	o Options
}

var errNotYet = errors.New("dataplane: not built yet")

// Open prepares steering. Nothing is attached until Install names an interface;
// what an earlier process left pinned in BPFDir stays in force until then.
func Open(o Options) (*Dataplane, error) { return &Dataplane{o: o}, nil }

// Configure sets an interface's settings; it may come before or after Install.
func (d *Dataplane) Configure(iface string, s InterfaceSettings) error { return errNotYet }

// Install replaces what p.Group has on p.Interface, and attaches the interface if
// it is the first group there. A TEK that is installed already, by SPI and key,
// keeps its counters and window. An interface that doesn't exist now is no error:
// it is attached when it appears.
func (d *Dataplane) Install(p ipsec.GroupPolicy) error { return errNotYet }

// Remove takes a group off an interface; the interface's last one detaches it.
func (d *Dataplane) Remove(group, iface string) error { return errNotYet }

// Exempt lets a socket of ours (GDOI, IKE) past every policy.
func (d *Dataplane) Exempt(c syscall.RawConn) error { return errNotYet }

// SACounters returns the counters of the SA with that SPI on any interface.
func (d *Dataplane) SACounters(spi uint32) (model.SACounters, bool) {
	return model.SACounters{}, false
}

// RuleHits returns how many packets the entries of a group's downloaded list
// decided outbound, in the list's order.
func (d *Dataplane) RuleHits(group, iface string) []uint64 { return nil }

// Model returns the dataplane's part of the snapshot as it is now.
func (d *Dataplane) Model() model.Dataplane { return model.Dataplane{} }

// Publish puts Model into the store.
func (d *Dataplane) Publish() {
	if d.o.Store != nil {
		m := d.Model()
		d.o.Store.Update(func(s *model.Snapshot) { s.Dataplane = m })
	}
}

// Close stops the workers. With keepPolicy the programs, the map of SPIs and the
// TAPs stay, so that permits die in the kernel until the next process takes over;
// without it the interfaces are as if the product had never been there.
func (d *Dataplane) Close(keepPolicy bool) error { return nil }
