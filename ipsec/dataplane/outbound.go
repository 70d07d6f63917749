package dataplane

// The outbound pump of one queue: takes super-packets from the TAP's ring, cuts, judges
// and seals them, and sends the frames in batches. A batch ends when the ring has nothing
// more or the slots are used up, so that it is as large as the load makes it and
// nothing waits for a timer.

import (
	"runtime"
	"time"

	"getvpn/ipsec"
)

const (
	// outBatch is the number of frames a send call: larger gains nothing here and
	// falls out of the cache.
	outBatch = 64
	innerAt  = (etherLen + ipsec.Headroom + 15) &^ 15
	tapRead  = vnetLen + etherLen + 65535 + 1
)

// outSlot is one frame in the making.
type outSlot struct {
	buf  []byte
	n    int // octets of the inner packet, at innerAt
	rule *sendRule
	sgt  uint16 // security group tag, 0 for none
	eth  [etherLen]byte
}

// outWorker belongs to one goroutine.
type outWorker struct {
	p       *port
	queue   int
	ring    *ring
	send    *sender
	buf     []byte
	slots   []outSlot
	n       int
	seg     segmenter
	cache   flowCache
	c       *counters
	t       *table
	boot    time.Duration // boot time, read once a batch
	lost    time.Duration // when ring drops were last read
	idle    waiter
	key     flowKey
	flow    ipsec.Flow
	scratch []byte // a packet that is to be fragmented
	frag    ipsec.Fragmenter
	ident   uint32 // of fragments whose packet had DF set
	icmp    [ipsec.ICMPMax]byte
}

func newOutWorker(p *port, queue int, r *ring, stop, mtu int, s *sender, c *counters) *outWorker {
	w := &outWorker{p: p, queue: queue, ring: r, send: s, c: c,
		buf: make([]byte, tapRead), slots: make([]outSlot, outBatch), scratch: make([]byte, 65536),
		idle: newWaiter(r, stop)}
	stride := (innerAt + mtu + ipsec.Tailroom + 63) &^ 63
	slab := make([]byte, stride*outBatch)
	for i := range w.slots {
		w.slots[i].buf = slab[i*stride : (i+1)*stride : (i+1)*stride]
	}
	return w
}

// run works until the stop descriptor is readable.
func (w *outWorker) run() {
	runtime.LockOSThread()
	for {
		if !w.batch() && !w.idle.wait() {
			return
		}
	}
}

// batch handles what the ring shows, up to a full send call, and reports whether there
// was anything.
func (w *outWorker) batch() bool {
	k := 0
	for ; w.n < outBatch; k++ {
		f, ok := w.ring.peek(k)
		if !ok {
			break
		}
		if k == 0 {
			w.begin()
		}
		// What stands for a VLAN tag here is the security group tag (steer's tagOut).
		sgt := uint16(0)
		if f.vlan && w.t.tag.Width > 0 {
			sgt = f.tci
		}
		switch {
		case f.queued:
			// A super-packet: its octets go straight from the kernel's buffer to ours.
			n, e := rawRead(w.ring.fd, w.buf)
			if e != 0 || n < vnetLen+etherLen {
				w.c.drop(ipsec.DropTapFull, 1)
				continue
			}
			w.frame(w.buf[:n], sgt)
		case f.truncated || len(f.b) < vnetLen+etherLen:
			w.c.drop(ipsec.DropTapFull, 1) // no room in the socket's queue
		default:
			w.frame(f.b, sgt)
		}
	}
	if k == 0 {
		w.readLoss()
		return false
	}
	w.flush()
	w.ring.release(k)
	if w.boot-w.lost > time.Second {
		w.readLoss()
	}
	return true
}

// readLoss counts frames that the ring had no slot for.
func (w *outWorker) readLoss() {
	w.lost = w.boot
	w.c.drop(ipsec.DropTapFull, int(w.ring.drops()))
}

// begin starts a batch: one load of the table, one look at the clock.
func (w *outWorker) begin() {
	w.t = w.p.table.Load()
	w.boot = w.p.d.clock.Boot()
}

// frame takes what one read gave, virtio header, Ethernet header, packet, and the
// packet's tag.
func (w *outWorker) frame(b []byte, sgt uint16) {
	v, eth, ip := b[:vnetLen], b[vnetLen:vnetLen+etherLen], b[vnetLen+etherLen:]
	s := &w.seg
	if err := s.start(v, ip); err != nil {
		w.c.drop(ipsec.DropMalformed, 1)
		return
	}
	rule, why := w.judge(s.src, &s.packet)
	if why != ipsec.DropNone {
		w.c.drop(why, 1)
		return
	}
	if w.t.mss != 0 && s.proto == protoTCP && s.kind == gsoNone && s.first {
		clampMSS(s.src, &s.packet, w.t.mss, s.csumAt == 0)
	}
	limit := rule.mtu[0]
	if s.v6 {
		limit = rule.mtu[1]
	}
	if s.largest() > limit {
		w.tooBig(rule, eth, limit, sgt)
		return
	}
	for {
		if w.n == outBatch {
			w.flush()
		}
		slot := &w.slots[w.n]
		n := s.next(slot.buf[innerAt:])
		if n == 0 {
			return
		}
		slot.n, slot.rule, slot.sgt = n, rule, sgt
		copy(slot.eth[:], eth)
		w.n++
	}
}

// judge finds the rule that protects the packet: in the table that the batch began with,
// and if that refuses, in the present one, by which the program may have judged.
func (w *outWorker) judge(ip []byte, p *packet) (*sendRule, ipsec.DropReason) {
	r, why := w.rule(ip, p)
	if why != ipsec.DropNone && w.p.table.Load() != w.t {
		w.flush() // what is in the slots belongs to the old one
		w.begin()
		r, why = w.rule(ip, p)
	}
	return r, why
}

func (w *outWorker) rule(ip []byte, p *packet) (*sendRule, ipsec.DropReason) {
	keyOf(&w.key, ip, p)
	a := w.cache.slot(&w.key)
	if a.gen != w.t.gen || a.key != w.key {
		w.flow = p.flow(ip)
		v, i := w.t.out.Match(&w.flow)
		*a = flowAnswer{key: w.key, gen: w.t.gen, rule: int32(i), ok: v == ipsec.Protect && i >= 0}
	}
	if !a.ok {
		// The program protected it, by an older or newer policy.
		return nil, ipsec.DropPolicyRace
	}
	r := &w.t.send[a.rule]
	if w.t.hits != nil {
		w.t.hits[a.rule].Add(1)
	}
	switch {
	case r.sa == nil:
		return nil, ipsec.DropNoSA
	case w.boot >= r.ends:
		return nil, ipsec.DropExpired
	}
	return r, ipsec.DropNone
}

// flush seals and sends the slots.
func (w *outWorker) flush() {
	for at := 0; at < w.n; {
		rule := w.slots[at].rule
		end := at + 1
		for end < w.n && w.slots[end].rule.sa == rule.sa {
			end++
		}
		// With several workers a counter-replay SA's numbers must leave in their order.
		alone := len(rule.sa.sealers) == 1 || !rule.ordered
		if !alone {
			w.transmit()
			rule.sa.sending.Lock()
		}
		w.seal(rule, w.slots[at:end])
		if !alone {
			w.transmit()
			rule.sa.sending.Unlock()
		}
		at = end
	}
	w.n = 0
	w.transmit()
}

// seal takes numbers for all slots at once and hands the frames to the sender.
func (w *outWorker) seal(rule *sendRule, slots []outSlot) {
	sa := rule.sa
	sealer := sa.sealers[w.queue]
	if w.t.timed {
		sealer.Stamp = w.t.clocks[rule.group].Stamp(w.boot)
	}
	granted, why := sealer.Reserve(len(slots))
	octets := 0
	for i := range slots {
		s := &slots[i]
		if i >= granted {
			if why == ipsec.DropNone {
				why = ipsec.DropSeqLimit
			}
			w.c.drop(why, len(slots)-i)
			slots = slots[:i]
			break
		}
		sealer.SGT = s.sgt
		start, n, why := sealer.Seal(s.buf, innerAt, s.n)
		if why != ipsec.DropNone {
			w.c.drop(why, 1)
			continue
		}
		copy(s.buf[start-etherLen:start], s.eth[:])
		w.send.add(s.buf[start-etherLen : start+n])
		octets += s.n
	}
	w.c.packets.Add(uint64(len(slots)))
	w.c.octets.Add(uint64(octets))
	if sa.TakeNearEnd() {
		w.p.d.notify(Notice{Kind: SeqNearEnd, Group: sa.group, Interface: w.p.name, SPI: sa.SPI()})
	}
}

func (w *outWorker) transmit() {
	if w.send.n == 0 {
		return
	}
	n := w.send.n
	refused, err := w.send.flush()
	w.c.frames.Add(uint64(n - refused))
	if refused > 0 {
		w.c.drop(ipsec.DropSend, refused)
		w.p.sendFailed(err)
	}
}
