package sim

// The network between sites. A recorder judges every packet that is sent into it: ESP,
// and whether an IV repeats under its key, or clear.

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"getvpn/internal/clock"
	"getvpn/internal/memnet"
	"getvpn/ipsec"
)

// corePort is where sites meet: IP packets travel as datagrams of the memory network.
const corePort = 4

// ivsKept is how many SPIs the recorder remembers the IVs of: more than ever live.
const ivsKept = 32

// Core connects sites.
type Core struct {
	net   *memnet.Network
	sites []*Site
	wg    sync.WaitGroup

	mu    sync.Mutex
	seen  map[uint32]map[uint64]bool // IVs by SPI
	order []uint32
	esp   int
	clear int
	again int
}

// NewCore makes a network that delays packets as link says.
func NewCore(seed uint64, link memnet.Link) *Core {
	c := &Core{net: memnet.New(seed), seen: map[uint32]map[uint64]bool{}}
	c.net.SetAll(link)
	c.net.Watch(func(d memnet.Datagram) { c.record(d.Data) })
	return c
}

// Net is the memory network below, for cuts and taps.
func (c *Core) Net() *memnet.Network { return c.net }

// record judges a packet on the wire.
func (c *Core) record(ip []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, why := ipsec.LocateESP(ip)
	if why != ipsec.DropNone || e.End-e.Off < 16 {
		c.clear++
		return
	}
	c.esp++
	ivs := c.seen[e.SPI]
	if ivs == nil {
		ivs = map[uint64]bool{}
		c.seen[e.SPI] = ivs
		if c.order = append(c.order, e.SPI); len(c.order) > ivsKept {
			delete(c.seen, c.order[0])
			c.order = c.order[1:]
		}
	}
	iv := binary.BigEndian.Uint64(ip[e.Off+8:])
	if ivs[iv] {
		c.again++
	}
	ivs[iv] = true
}

// Wire is what the recorder saw: ESP packets, clear ones, and IVs that came twice under
// one SPI.
func (c *Core) Wire() (esp, clear, repeated int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.esp, c.clear, c.again
}

// Site adds a site whose hosts have these addresses.
func (c *Core) Site(name string, k clock.Clock, hosts ...netip.Addr) (*Site, error) {
	conn, err := c.net.Listen(netip.AddrPortFrom(netip.IPv4Unspecified(), corePort), hosts...)
	if err != nil {
		return nil, err
	}
	s := &Site{Name: name, Host: hosts[0], core: c, conn: conn, clock: k, drops: map[ipsec.DropReason]int{},
		last: map[int]uint32{}, switches: map[int]int{}}
	c.sites = append(c.sites, s)
	c.wg.Go(s.receive)
	return s, nil
}

// Close ends all sites.
func (c *Core) Close() {
	for _, s := range c.sites {
		s.conn.Close()
	}
	c.wg.Wait()
}
