package dataplane

// The inbound pump of one queue: takes what the ring shows, opens it in place, checks
// the inner packet against policy, joins segments and writes them to the TAP, whose
// ingress program passes them to the interface's ingress. Frames go back to the
// kernel when the batch is written, because the pieces point into them.

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"getvpn/ipsec"
)

// inBatch is the number of frames that are opened before their packets are written:
// enough for super-packets of 64 KB from several flows.
const inBatch = 192

// inWorker belongs to one goroutine.
type inWorker struct {
	p     *port
	queue int
	ring  *ring
	tap   int
	mac   [6]byte
	join  *coalescer
	cache flowCache
	c     *counters
	t     *table
	boot  time.Duration // boot time, read once a batch
	idle  waiter
	key   flowKey
	flow  ipsec.Flow
	meta  packet
	icmp  [vnetLen + etherLen + ipsec.ICMPMax]byte
	// clearMTU is mtuOf, made once lest each use allocate.
	clearMTU func(spi uint32, linkMTU int, f ipsec.Family) int
	frags    *ipsec.Reassembler
	// lostFrags is how many datagrams it has given up and been counted for.
	lostFrags uint64
	lost      time.Duration // when ring drops were last read
}

func newInWorker(p *port, queue int, r *ring, tap, stop int, mac [6]byte, c *counters) *inWorker {
	w := &inWorker{p: p, queue: queue, ring: r, tap: tap, mac: mac, c: c, join: newCoalescer(inBatch),
		frags: ipsec.NewReassembler(0),
		idle:  newWaiter(r, stop)}
	w.clearMTU = w.mtuOf
	return w
}

// run works until the stop descriptor is readable.
func (w *inWorker) run() {
	runtime.LockOSThread()
	for {
		if w.batch() > 0 {
			continue
		}
		w.readLoss()
		if !w.idle.wait() {
			return
		}
	}
}

// batch handles the frames that are there, and returns how many.
func (w *inWorker) batch() int {
	k := 0
	for ; k < inBatch; k++ {
		f, ok := w.ring.peek(k)
		if !ok {
			break
		}
		if k == 0 {
			w.t = w.p.table.Load()
			w.boot = w.p.d.clock.Boot()
		}
		w.frame(&f)
	}
	if k == 0 {
		return 0
	}
	w.write()
	w.ring.release(k)
	if w.boot-w.lost > time.Second {
		w.readLoss()
	}
	return k
}

// readLoss counts frames that the ring had no slot for.
func (w *inWorker) readLoss() {
	w.lost = w.boot
	w.c.drop(ipsec.DropRingFull, int(w.ring.drops()))
	w.frags.Expire(time.Now())
	w.givenUp()
}

// frame opens one frame of the ring.
func (w *inWorker) frame(f *ringFrame) {
	switch {
	case f.vlan:
		return // a sub-interface's
	case f.truncated || len(f.b) < etherLen+20:
		w.c.drop(ipsec.DropMalformed, 1)
		return
	}
	eth, ip := f.b[:etherLen], f.b[etherLen:]
	if eth[0]&1 == 0 && [6]byte(eth[:6]) != w.mac {
		return // for another host: the interface is promiscuous
	}
	w.packet(eth, ip)
}

// packet opens one ESP packet, or keeps a fragment of one.
func (w *inWorker) packet(eth, ip []byte) {
	if !isESP(ip) {
		w.icmpError(eth, ip)
		return
	}
	e, why := ipsec.LocateESP(ip)
	if why == ipsec.DropFragment {
		w.fragment(eth, ip)
		return
	}
	if why != ipsec.DropNone {
		w.c.drop(why, 1)
		return
	}
	sa := w.t.spis[e.SPI]
	if sa == nil && w.newer() {
		sa = w.t.spis[e.SPI]
	}
	if sa == nil {
		w.c.drop(ipsec.DropUnknownSPI, 1)
		return
	}
	if w.boot >= sa.ends {
		w.c.drop(ipsec.DropExpired, 1)
		return
	}
	o := sa.openers[w.queue]
	if w.t.timed {
		o.Now = w.t.clocks[sa.group].Now(w.boot)
	}
	inner, why := o.Open(ip)
	if why != ipsec.DropNone {
		w.c.drop(why, 1)
		return
	}
	p := &w.meta
	if !p.parse(inner) {
		w.c.drop(ipsec.DropMalformed, 1)
		return
	}
	inner = inner[:p.len]
	if !w.permitted(inner, p, sa.group) && !(w.newer() && w.t.spis[e.SPI] != nil && w.permitted(inner, p, w.t.spis[e.SPI].group)) {
		w.c.drop(ipsec.DropInnerPolicy, 1)
		return
	}
	if w.t.mss != 0 && p.proto == protoTCP && p.first {
		clampMSS(inner, p, w.t.mss, true)
	}
	w.c.packets.Add(1)
	w.c.octets.Add(uint64(len(inner)))
	sgt := o.SGT()
	if sgt>>w.t.tag.Width != 0 {
		sgt = 0 // has no room in the mark: better no tag than another one
	}
	w.join.add(eth, inner, p, sgt)
}

// newer takes the present table in the middle of a batch, where the one that the batch
// began with refuses, and reports whether it is another: frames that came after an
// install must find what it installed.
func (w *inWorker) newer() bool {
	t := w.p.table.Load()
	if t == w.t {
		return false
	}
	w.t = t
	return true
}

// permitted reports whether the group's policy protects what was inside, seen as the
// sender saw it or as the answer to it: a group's list may name one direction only.
func (w *inWorker) permitted(ip []byte, p *packet, group int32) bool {
	keyOf(&w.key, ip, p)
	w.key.flags |= uint16(group+1) << 2 // answers are by group
	a := w.cache.slot(&w.key)
	if a.gen == w.t.gen && a.key == w.key {
		return a.ok
	}
	w.flow = p.flow(ip)
	ok := w.protects(group)
	if !ok {
		f := &w.flow
		f.Src, f.Dst, f.SrcPort, f.DstPort = f.Dst, f.Src, f.DstPort, f.SrcPort
		ok = w.protects(group)
	}
	*a = flowAnswer{key: w.key, gen: w.t.gen, ok: ok}
	return ok
}

func (w *inWorker) protects(group int32) bool {
	v, i := w.t.out.Match(&w.flow)
	if i < 0 || w.t.send[i].group != group {
		return false
	}
	// A permit of a receive-only group lets pass what leaves.
	return v == ipsec.Protect || v == ipsec.Pass && w.t.out.Rules[i].Entry >= 0
}

// write hands the batch to the TAP.
func (w *inWorker) write() {
	items := w.join.items
	for i := range items {
		iov := w.join.finish(&items[i])
		// Doesn't block, so the scheduler needn't know.
		_, _, e := unix.RawSyscall(unix.SYS_WRITEV, uintptr(w.tap), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
		if e != 0 {
			w.c.drop(ipsec.DropTapFull, items[i].count)
			w.p.tapFailed(e)
		}
	}
	w.c.frames.Add(uint64(len(items)))
	w.join.reset()
}
