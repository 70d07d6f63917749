package sim

// The dataplane of a site's daemon: what package dataplane does, without a kernel.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"net/netip"

	"getvpn/ipsec"
	"getvpn/ipsec/dataplane"
	"getvpn/model"
)

// keepExpired is dataplane's: how long an SA object outlives its TEK.
const keepExpired = time.Hour

// noticeEvery is the least time between two notices of one kind about one group.
const noticeEvery = 30 * time.Second

// Plane meets what a daemon wants of a dataplane. The site's lock guards it.
type Plane struct {
	s      *Site
	o      dataplane.Options
	groups []ipsec.GroupPolicy // in the order of their crypto map entries
	sas    ipsec.SADB
	spis   map[uint32]*planeSA
	hits   map[string][]uint64
	told   map[noticeKey]time.Time
	expiry *time.Timer
	ready  bool // the kernel has this dataplane's policy, not an earlier one's
	closed bool
	encap  uint64
	decap  uint64
	shown  [3]uint64 // encap, decap and drops as published last
}

type planeSA struct {
	sa    *ipsec.SA
	seal  *ipsec.Sealer
	open  *ipsec.Opener
	ends  time.Time
	group int
}

type noticeKey struct {
	kind  dataplane.NoticeKind
	group string
}

// Open gives the site a dataplane. What an earlier one left in the kernel stands until
// a policy takes its place.
func (s *Site) Open(o dataplane.Options) *Plane {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plane = &Plane{s: s, o: o, spis: map[uint32]*planeSA{}, hits: map[string][]uint64{}, told: map[noticeKey]time.Time{}}
	return s.plane
}

var errClosed = errors.New("sim: the dataplane is closed")

// Install replaces what a group has on an interface.
func (p *Plane) Install(g ipsec.GroupPolicy) error { return p.InstallAll([]ipsec.GroupPolicy{g}) }

// InstallAll is Install for several in one step.
func (p *Plane) InstallAll(list []ipsec.GroupPolicy) error {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.closed {
		return errClosed
	}
	next := slices.Clone(p.groups)
	for _, g := range list {
		next = slices.DeleteFunc(next, func(x ipsec.GroupPolicy) bool { return x.Group == g.Group && x.Interface == g.Interface })
		next = append(next, g)
	}
	slices.SortFunc(next, func(a, b ipsec.GroupPolicy) int {
		if a.MapSeq != b.MapSeq {
			return a.MapSeq - b.MapSeq
		}
		return strings.Compare(a.Group, b.Group)
	})
	return p.put(next)
}

// Remove takes a group off an interface.
func (p *Plane) Remove(group, iface string) error {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return p.put(slices.DeleteFunc(slices.Clone(p.groups), func(x ipsec.GroupPolicy) bool { return x.Group == group && x.Interface == iface }))
}

// put brings SAs and kernel to what groups say.
func (p *Plane) put(groups []ipsec.GroupPolicy) error {
	now := time.Now()
	spis := map[uint32]*planeSA{}
	for i := range groups {
		g := &groups[i]
		var valid []ipsec.TEK
		for _, k := range g.TEKs {
			sa, err := p.sas.Install(k, now)
			if errors.Is(err, ipsec.ErrExpired) {
				continue
			}
			if err != nil {
				return fmt.Errorf("sim: group %s, SPI %#x: %w", g.Group, k.SPI, err)
			}
			x := p.spis[k.SPI]
			if x == nil || x.sa != sa {
				x = &planeSA{sa: sa}
				if x.seal, err = sa.NewSealer(nil); err != nil {
					return err
				}
				if x.open, err = sa.NewOpener(); err != nil {
					return err
				}
			}
			x.ends, x.group = k.Expires, i
			spis[k.SPI] = x
			valid = append(valid, k)
		}
		g.TEKs = valid
	}
	p.groups, p.spis, p.ready = groups, spis, true
	p.s.most = max(p.s.most, len(spis))
	p.s.out, p.s.in = ipsec.Compile(groups)
	p.sas.Sweep(now, keepExpired)
	p.schedule(now)
	return nil
}

// schedule arms the timer of the next TEK that ends.
func (p *Plane) schedule(now time.Time) {
	var next time.Time
	for _, x := range p.spis {
		if !x.ends.IsZero() && (next.IsZero() || x.ends.Before(next)) {
			next = x.ends
		}
	}
	if p.expiry != nil {
		p.expiry.Stop()
	}
	if !next.IsZero() {
		p.expiry = time.AfterFunc(next.Sub(now)+time.Millisecond, p.expire)
	}
}

// expire takes out what has ended.
func (p *Plane) expire() {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.closed {
		return
	}
	now := time.Now()
	for spi, x := range p.spis {
		if !x.ends.IsZero() && !now.Before(x.ends) {
			g := p.groups[x.group]
			p.notify(dataplane.Notice{Kind: dataplane.SAExpired, Group: g.Group, Interface: g.Interface, SPI: spi})
		}
	}
	if err := p.put(p.groups); err != nil {
		p.s.notes = append(p.s.notes, "expiry: "+err.Error())
	}
}

// seal seals buf[Headroom:Headroom+n] by an outbound rule.
func (p *Plane) seal(buf []byte, n int, r *ipsec.Rule) (esp []byte, spi uint32, why ipsec.DropReason) {
	g := &p.groups[r.Group]
	h := p.hits[g.Group]
	for len(h) < len(g.Entries) {
		h = append(h, 0)
	}
	h[r.Entry]++
	p.hits[g.Group] = h
	spi = g.Entries[r.Entry].SPI
	x := p.spis[spi]
	if x == nil || x.group != r.Group {
		return nil, spi, ipsec.DropNoSA
	}
	if !x.ends.IsZero() && !time.Now().Before(x.ends) {
		return nil, spi, ipsec.DropExpired
	}
	x.seal.Stamp = g.Pseudo.Stamp(p.s.clock.Boot())
	start, n, why := x.seal.Seal(buf, ipsec.Headroom, n)
	if why != ipsec.DropNone {
		return nil, spi, why
	}
	p.encap++
	p.nearEnd(g, x, spi)
	return buf[start : start+n], spi, ipsec.DropNone
}

// nearEnd tells once that an SA's numbers run out.
func (p *Plane) nearEnd(g *ipsec.GroupPolicy, x *planeSA, spi uint32) {
	if x.sa.TakeNearEnd() {
		p.notify(dataplane.Notice{Kind: dataplane.SeqNearEnd, Group: g.Group, Interface: g.Interface, SPI: spi})
	}
}

// spend takes numbers in batches, as a sealer does.
func (p *Plane) spend(group string, n int) (granted int) {
	for i := range p.groups {
		g := &p.groups[i]
		k := slices.IndexFunc(g.Entries, func(e ipsec.Entry) bool { return e.ACE.Action == ipsec.Permit })
		if g.Group != group || k < 0 || p.spis[g.Entries[k].SPI] == nil {
			continue
		}
		x := p.spis[g.Entries[k].SPI]
		for granted < n {
			got, why := x.seal.Reserve(min(n-granted, 1<<16))
			if granted += got; why != ipsec.DropNone {
				break
			}
		}
		p.nearEnd(g, x, g.Entries[k].SPI)
	}
	return granted
}

// open opens an ESP packet and judges what was inside.
func (p *Plane) open(ip []byte, e *ipsec.ESPPacket) ([]byte, ipsec.DropReason) {
	x := p.spis[e.SPI]
	if x == nil {
		p.trouble(dataplane.BadSPI, 0, e.SPI)
		return nil, ipsec.DropUnknownSPI
	}
	if !x.ends.IsZero() && !time.Now().Before(x.ends) {
		return nil, ipsec.DropExpired
	}
	x.open.Now = p.groups[x.group].Pseudo.Now(p.s.clock.Boot())
	inner, why := x.open.Open(ip)
	switch why {
	case ipsec.DropNone:
	case ipsec.DropReplay:
		p.trouble(dataplane.Replayed, x.group, e.SPI)
	case ipsec.DropReplayOld, ipsec.DropReplayNew:
		p.trouble(dataplane.OutOfTime, x.group, e.SPI)
	case ipsec.DropICV:
		p.trouble(dataplane.BadICV, x.group, e.SPI)
	}
	if why != ipsec.DropNone {
		return nil, why
	}
	f, _, why := ipsec.ParseFlow(inner)
	if why != ipsec.DropNone {
		return nil, why
	}
	if !p.protects(&f, x.group) {
		f.Src, f.Dst, f.SrcPort, f.DstPort = f.Dst, f.Src, f.DstPort, f.SrcPort
		if !p.protects(&f, x.group) {
			return nil, ipsec.DropInnerPolicy
		}
	}
	p.decap++
	return inner, ipsec.DropNone
}

// protects reports whether a group's list has a permit for the flow.
func (p *Plane) protects(f *ipsec.Flow, group int) bool {
	v, i := p.s.out.Match(f)
	if i < 0 || p.s.out.Rules[i].Group != group {
		return false
	}
	return v == ipsec.Protect || v == ipsec.Pass && p.s.out.Rules[i].Entry >= 0
}

// trouble tells of packets that newer keys would mend.
func (p *Plane) trouble(kind dataplane.NoticeKind, group int, spi uint32) {
	if group >= len(p.groups) {
		return
	}
	g := p.groups[group]
	k, now := noticeKey{kind, g.Group}, time.Now()
	if at, ok := p.told[k]; ok && now.Sub(at) < noticeEvery {
		return
	}
	p.told[k] = now
	p.notify(dataplane.Notice{Kind: kind, Group: g.Group, Interface: g.Interface, SPI: spi, Packets: 1})
}

func (p *Plane) notify(n dataplane.Notice) {
	if p.o.Notify != nil {
		go p.o.Notify(n)
	}
}

// Configure, Exempt, SetLocal and ClearReplay have nothing to do here: control traffic
// has a network of its own.
func (p *Plane) Configure(string, dataplane.InterfaceSettings) error { return nil }

func (p *Plane) SetInline(map[string]dataplane.Inline) error { return nil }

func (p *Plane) Exempt(syscall.RawConn) error { return nil }

func (p *Plane) SetLocal([]netip.Addr) error { return nil }

func (p *Plane) ClearReplay(string) {}

// Settle takes away what an earlier daemon left if this one has nothing to protect.
func (p *Plane) Settle() error {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if len(p.groups) == 0 {
		p.s.out, p.s.in = ipsec.Ruleset{}, ipsec.Ruleset{}
	}
	return nil
}

// SACounters are those of the SA with that SPI.
func (p *Plane) SACounters(spi uint32) (model.SACounters, bool) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	x := p.spis[spi]
	if x == nil {
		return model.SACounters{}, false
	}
	c := x.sa.Counters()
	return model.SACounters{EncapPackets: c.EncapPackets, EncapOctets: c.EncapOctets, DecapPackets: c.DecapPackets,
		DecapOctets: c.DecapOctets, SeqHigh: c.SeqHigh, ReplayDrops: c.ReplayDrops, ICVDrops: c.ICVDrops, OtherDrops: c.OtherDrops}, true
}

// RuleHits are the packets that each entry of the group's list has sealed.
func (p *Plane) RuleHits(group, _ string) []uint64 {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return slices.Clone(p.hits[group])
}

// Publish puts the interface's counters into the model, if they have changed.
func (p *Plane) Publish() {
	p.s.mu.Lock()
	now := [3]uint64{p.encap, p.decap, 0}
	for _, n := range p.s.drops {
		now[2] += uint64(n)
	}
	if p.o.Store == nil || now == p.shown {
		p.s.mu.Unlock()
		return
	}
	p.shown = now
	i := model.Interface{Name: "wan", Attached: true, EncapPackets: p.encap, DecapPackets: p.decap, Drops: map[string]uint64{}}
	for r, n := range p.s.drops {
		i.Drops[r.String()] = uint64(n)
	}
	p.s.mu.Unlock()
	p.o.Store.Update(func(s *model.Snapshot) {
		s.Dataplane = model.Dataplane{Backend: "sim", Drops: i.Drops, Interfaces: []model.Interface{i}}
	})
}

// Close ends the dataplane; the policy stays in the kernel or goes.
func (p *Plane) Close(keepPolicy bool) error {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.closed = true
	if p.expiry != nil {
		p.expiry.Stop()
	}
	if p.s.plane == p {
		p.s.plane = nil
	}
	if !keepPolicy {
		p.s.out, p.s.in = ipsec.Ruleset{}, ipsec.Ruleset{}
	}
	return nil
}
