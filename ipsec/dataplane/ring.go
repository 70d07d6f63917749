package dataplane

// The receive ring: a TPACKET_V2 ring of an AF_PACKET socket, mapped into this
// process. V2 and not V3: it shows each frame at once, whereas V3 hands over a block
// when it is full or a timer of milliseconds ends (docs/dataplane.md has figures).

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is read by one worker.
type ring struct {
	fd       int
	mem      []byte
	frame    int // octets a slot
	perBlock int
	n        int // slots
	at       int
	vnet     bool // a virtio header stands before each frame
}

const (
	ringBlock  = 1 << 16
	ringFrames = 4096
	ringSlot   = 2048
	tapFrames  = 4096 // what arrives while the worker sends
	ringMargin = 128  // tpacket2_hdr, sockaddr_ll and alignment, with room to spare
)

// openRing makes a ring for frames of up to mtu octets of IP on the interface and
// attaches the socket filter prog, a program's descriptor, before the first frame
// can come. fanout is a group number, and 0 for a ring alone.
func openRing(ifindex, mtu, filter, fanout int) (*ring, error) {
	return newRing(ifindex, max(ringSlot, (mtu+etherLen+ringMargin+15)&^15), ringFrames, fanout, false, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, filter)
	})
}

// openTransmitRing makes a ring that sees what the kernel sends out of a TAP, each
// frame with a virtio header. A super-packet doesn't fit a slot: the slot says so, and
// recv on the socket returns it whole.
func openTransmitRing(ifindex, fanout int) (*ring, error) {
	return newRing(ifindex, ringSlot, tapFrames, fanout, true, func(fd int) error {
		for _, o := range [][2]int{{unix.PACKET_VNET_HDR, 1}, {unix.PACKET_COPY_THRESH, 1}} {
			if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, o[0], o[1]); err != nil {
				return err
			}
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<20); err != nil {
				return err
			}
		}
		// Outgoing frames only, not those that we write: ld pkttype; jeq PACKET_OUTGOING.
		p := []unix.SockFilter{{Code: 0x28, K: 0xfffff004}, {Code: 0x15, Jf: 1, K: unix.PACKET_OUTGOING}, {Code: 6, K: 1 << 18}, {Code: 6}}
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]})
	})
}

func newRing(ifindex, frame, frames, fanout int, vnet bool, prepare func(fd int) error) (*ring, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("dataplane: packet socket: %w", err)
	}
	r := &ring{fd: fd, vnet: vnet}
	if err := r.setup(ifindex, frame, frames, fanout, prepare); err != nil {
		r.close()
		return nil, fmt.Errorf("dataplane: receive ring: %w", err)
	}
	return r, nil
}

func (r *ring) setup(ifindex, frame, frames, fanout int, prepare func(fd int) error) error {
	set := func(opt, v int) error { return unix.SetsockoptInt(r.fd, unix.SOL_PACKET, opt, v) }
	if err := set(unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return err
	}
	if err := prepare(r.fd); err != nil {
		return fmt.Errorf("options and filter: %w", err)
	}
	r.frame = frame
	block := ringBlock
	for block < r.frame {
		block *= 2
	}
	r.perBlock = block / r.frame
	blocks := (frames + r.perBlock - 1) / r.perBlock
	r.n = blocks * r.perBlock
	req := unix.TpacketReq{Block_size: uint32(block), Block_nr: uint32(blocks),
		Frame_size: uint32(r.frame), Frame_nr: uint32(r.n)}
	if err := unix.SetsockoptTpacketReq(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return err
	}
	mem, err := unix.Mmap(r.fd, 0, block*blocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	r.mem = mem
	if err := unix.Bind(r.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: ifindex}); err != nil {
		return err
	}
	if fanout > 0 {
		const fanoutHash, rollover = 0, 0x1000
		return set(unix.PACKET_FANOUT, fanout|(fanoutHash|rollover)<<16)
	}
	return nil
}

func (r *ring) slot(i int) []byte {
	i %= r.n
	off := i/r.perBlock*(len(r.mem)/(r.n/r.perBlock)) + i%r.perBlock*r.frame
	return r.mem[off : off+r.frame : off+r.frame]
}

// ringFrame is a received frame, inside the ring until release.
type ringFrame struct {
	b         []byte // Ethernet frame
	truncated bool
	vlan      bool   // a tag was taken off: the frame is a sub-interface's
	tci       uint16 // that tag
	queued    bool   // the whole frame waits in the socket's queue
}

// peek returns the k-th frame from the reading position, false if it isn't there yet.
func (r *ring) peek(k int) (ringFrame, bool) {
	if k >= r.n {
		return ringFrame{}, false
	}
	s := r.slot(r.at + k)
	st := atomic.LoadUint32((*uint32)(unsafe.Pointer(&s[0])))
	if st&unix.TP_STATUS_USER == 0 {
		return ringFrame{}, false
	}
	h := (*unix.Tpacket2Hdr)(unsafe.Pointer(&s[0]))
	mac, n := int(h.Mac), int(h.Snaplen)
	if mac < 32 || mac+n > len(s) {
		return ringFrame{truncated: true}, true
	}
	if r.vnet {
		mac, n = mac-vnetLen, n+vnetLen
	}
	return ringFrame{b: s[mac : mac+n : mac+n], truncated: h.Snaplen < h.Len,
		vlan: st&unix.TP_STATUS_VLAN_VALID != 0, tci: h.Vlan_tci, queued: st&unix.TP_STATUS_COPY != 0}, true
}

// release gives the first k frames back to the kernel.
func (r *ring) release(k int) {
	for i := range k {
		s := r.slot(r.at + i)
		atomic.StoreUint32((*uint32)(unsafe.Pointer(&s[0])), unix.TP_STATUS_KERNEL)
	}
	r.at = (r.at + k) % r.n
}

// drops returns the frames that found no slot since the last call.
func (r *ring) drops() uint64 {
	st, err := unix.GetsockoptTpacketStats(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0
	}
	return uint64(st.Drops)
}

func (r *ring) close() {
	if r.mem != nil {
		unix.Munmap(r.mem)
		r.mem = nil
	}
	unix.Close(r.fd)
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }
