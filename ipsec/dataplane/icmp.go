package dataplane

// ICMP answers go out through raw sockets: the kernel routes them like any packet of
// this host, which is not what would happen to a packet written to the TAP with a
// source address of our own.

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"getvpn/ipsec"
)

// icmpRate bounds the answers a second, over all interfaces (RFC 1812 §4.3.2.8).
const icmpRate = 1000

type icmpSender struct {
	fd4, fd6 int
	mu       sync.Mutex
	second   int64
	sent     int
}

func openICMP() (*icmpSender, error) {
	s := &icmpSender{fd6: -1}
	var err error
	if s.fd4, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW); err != nil {
		return nil, fmt.Errorf("dataplane: raw socket: %w", err)
	}
	// A host without IPv6 has nothing to answer there.
	if s.fd6, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW); err != nil {
		s.fd6 = -1
	}
	return s, nil
}

// allow takes one answer from the second's ration.
func (s *icmpSender) allow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now().Unix(); now != s.second {
		s.second, s.sent = now, 0
	}
	s.sent++
	return s.sent <= icmpRate
}

// send lets the routing deliver an IP packet with its header.
func (s *icmpSender) send(ip []byte) error {
	if ip[0]>>4 == 6 {
		if s.fd6 < 0 {
			return unix.EAFNOSUPPORT
		}
		return unix.Sendto(s.fd6, ip, 0, &unix.SockaddrInet6{Addr: [16]byte(ip[24:40])})
	}
	return unix.Sendto(s.fd4, ip, 0, &unix.SockaddrInet4{Addr: [4]byte(ip[16:20])})
}

func (s *icmpSender) close() {
	unix.Close(s.fd4)
	if s.fd6 >= 0 {
		unix.Close(s.fd6)
	}
}

// tooBig deals with a packet or super-packet whose segments don't fit, sealed, into
// the interface's MTU: refused with an ICMP answer that names the largest that fits,
// or fragmented before encryption.
func (w *outWorker) tooBig(rule *sendRule, eth []byte, limit int, sgt uint16) {
	s := &w.seg
	n := s.next(w.scratch)
	why := w.frag.Start(w.scratch[:n], limit, w.fragOptions())
	if why == ipsec.DropTooBig {
		segments := 1
		if s.kind != gsoNone {
			segments = (s.len - s.hdr + s.size - 1) / s.size
		}
		w.c.drop(why, segments)
		w.answer(w.scratch[:n], limit)
		return
	}
	for ; n > 0; n = s.next(w.scratch) {
		if why := w.frag.Start(w.scratch[:n], limit, w.fragOptions()); why != ipsec.DropNone {
			w.c.drop(why, 1)
			continue
		}
		for {
			if w.n == outBatch {
				w.flush()
			}
			slot := &w.slots[w.n]
			k := w.frag.Next(slot.buf[innerAt:])
			if k == 0 {
				break
			}
			slot.n, slot.rule, slot.sgt = k, rule, sgt
			copy(slot.eth[:], eth)
			w.n++
			w.c.fragments.Add(1)
		}
	}
}

func (w *outWorker) fragOptions() ipsec.FragmentOptions {
	w.ident++
	return ipsec.FragmentOptions{IgnoreDF: w.t.clearDF, ID: w.ident}
}

// answer tells the source of a packet how large it may be.
func (w *outWorker) answer(ip []byte, mtu int) {
	if !w.p.d.icmp.allow() {
		return
	}
	from := w.source(ip)
	if !from.IsValid() {
		return
	}
	n := ipsec.BuildTooBig(w.icmp[:], ip, mtu, from)
	if n > 0 && w.p.d.icmp.send(w.icmp[:n]) == nil {
		w.c.tooBigSent.Add(1)
	}
}

// source is the address of this host that an answer to the packet comes from.
func (w *outWorker) source(ip []byte) netip.Addr {
	a := w.p.addrs.Load()
	if a == nil {
		return netip.Addr{}
	}
	if ip[0]>>4 == 6 {
		return a[1]
	}
	return a[0]
}

// isESP tells ESP, fragments of it included, from what else the filter lets into the
// ring: ICMP errors.
func isESP(ip []byte) bool {
	var p packet
	return !p.parse(ip) || p.proto == protoESP || p.proto != protoICMP && p.proto != protoICMPv6
}

// icmpError takes an ICMP error from the core that quotes a sealed packet of ours. What
// goes on to the host quotes the host's own packet, with the MTU that is left for it.
func (w *inWorker) icmpError(eth, ip []byte) {
	const front = vnetLen + etherLen
	clear(w.icmp[:vnetLen])
	copy(w.icmp[vnetLen:], eth)
	n, _ := ipsec.RewriteICMP(w.icmp[front:], ip, w.p.sent, w.clearMTU)
	if n == 0 {
		w.c.drop(ipsec.DropMalformed, 1)
		return
	}
	if _, e := rawWrite(w.tap, w.icmp[:front+n]); e != 0 {
		w.c.drop(ipsec.DropTapFull, 1)
		w.p.tapFailed(e)
		return
	}
	w.c.rewritten.Add(1)
}

// mtuOf is the largest clear packet of an SA of ours on a link with that MTU.
func (w *inWorker) mtuOf(spi uint32, linkMTU int, f ipsec.Family) int {
	sa := w.t.spis[spi]
	if sa == nil {
		return 0
	}
	return sa.ClearMTU(min(linkMTU, w.t.mtu), f)
}
