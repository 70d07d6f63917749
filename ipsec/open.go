package ipsec

// Opening: RFC 4303 §3.4 in place. The order: header, replay window (look), ICV,
// padding, next header and metadata, inner header against outer, replay window (mark)
// or time stamp, what the outer header hands down. State changes only in the last two steps.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"
)

// Opener opens packets of one SA for one goroutine.
type Opener struct {
	// Now is the group's pseudotime, read once a batch (Pseudotime.Now); NoStamp at
	// first. It matters to SAs with time-based anti-replay.
	Now Stamp

	sa      *SA
	eng     engine
	lastKey senderKey // the sender of the packet before, mostly the same
	lastWin *window
	meta    metadata // of the packet in work
	metaLen int      // 0: it has none
}

// NewOpener makes an Opener.
func (sa *SA) NewOpener() (*Opener, error) {
	o := &Opener{sa: sa, Now: NoStamp}
	if err := o.eng.init(sa, false); err != nil {
		return nil, fmt.Errorf("ipsec: opener: %w", err)
	}
	return o, nil
}

// SGT is the security group tag of the packet that Open returned last; 0 if it has
// none, or if the SA isn't to carry tags.
func (o *Opener) SGT() uint16 { return o.meta.sgt }

// SA that the Opener belongs to.
func (o *Opener) SA() *SA { return o.sa }

// ESPPacket says where ESP is in an IP packet.
type ESPPacket struct {
	V6     bool
	Off    int // of the SPI
	End    int // of the ICV: the IP packet's length
	SPI    uint32
	Seq    uint32
	nextAt int // octet that names ESP
}

// LocateESP finds ESP in an IP packet, behind IPv4 options or IPv6 extension headers.
// DropFragment: a fragment, which has to be reassembled first. DropMalformed: not a
// whole IP packet with ESP in it.
func LocateESP(pkt []byte) (e ESPPacket, why DropReason) {
	if len(pkt) < ipv4Len {
		return e, DropMalformed
	}
	switch pkt[0] >> 4 {
	case 4:
		e.Off, e.End, e.nextAt = int(pkt[0]&15)*4, int(binary.BigEndian.Uint16(pkt[2:])), 9
		if e.Off < ipv4Len || e.End > len(pkt) || e.Off > e.End || pkt[9] != protoESP {
			return e, DropMalformed
		}
		if binary.BigEndian.Uint16(pkt[6:])&0x3fff != 0 {
			return e, DropFragment
		}
	case 6:
		if len(pkt) < ipv6Len {
			return e, DropMalformed
		}
		e.V6, e.Off, e.End, e.nextAt = true, ipv6Len, ipv6Len+int(binary.BigEndian.Uint16(pkt[4:])), 6
		if e.End > len(pkt) {
			return e, DropMalformed
		}
		for i := 0; pkt[e.nextAt] != protoESP; i++ {
			if pkt[e.nextAt] == extFragment {
				return e, DropFragment
			}
			n, ok := extensionLen(pkt[e.nextAt], pkt[e.Off:e.End])
			if !ok || i == maxExtensions {
				return e, DropMalformed
			}
			e.nextAt, e.Off = e.Off, e.Off+n
		}
	default:
		return e, DropMalformed
	}
	if e.End-e.Off < espHeaderLen {
		return e, DropMalformed
	}
	e.SPI, e.Seq = binary.BigEndian.Uint32(pkt[e.Off:]), binary.BigEndian.Uint32(pkt[e.Off+4:])
	return e, DropNone
}

// Open turns the ESP packet that starts pkt into the packet inside, a part of pkt's
// octets. After a drop pkt's content isn't defined, except that DropReplay,
// DropUnknownSPI, DropFragment and DropMalformed from the look at the outer header
// leave it.
func (o *Opener) Open(pkt []byte) (inner []byte, why DropReason) {
	inner, why = o.open(pkt)
	s := &o.sa.stats
	switch why {
	case DropNone:
		s.decapPackets.Add(1)
		s.decapOctets.Add(uint64(len(inner)))
	case DropReplay:
		s.replay.Add(1)
		s.last.refusedFrom(&s.last.replay, pkt)
	case DropReplayOld, DropReplayNew: // counted by inTime
	case DropICV:
		s.icv.Add(1)
		s.last.refusedFrom(&s.last.icv, pkt)
	default:
		s.other.Add(1)
	}
	return inner, why
}

func (o *Opener) open(pkt []byte) ([]byte, DropReason) {
	e, why := LocateESP(pkt)
	if why != DropNone {
		return nil, why
	}
	if e.SPI != o.sa.spi {
		return nil, DropUnknownSPI
	}
	tr := &o.sa.tr
	body := pkt[e.Off:e.End]
	pay := espHeaderLen + o.eng.iv
	crypt := len(body) - pay - o.eng.icv
	if block := tr.blockLen(); crypt < block || crypt%block != 0 {
		return nil, DropMalformed
	}

	terms := o.sa.terms.Load()
	rep := terms.replay
	if rep.Mode == ReplayTime && o.Now == NoStamp {
		return nil, DropNoPseudotime
	}
	var key senderKey
	if rep.Mode == ReplayCounter {
		key = o.sender(pkt, body, e.V6)
		if o.lastWin == nil || o.lastKey != key {
			o.lastKey, o.lastWin = key, o.sa.recv.find(key)
		}
		if e.Seq == 0 || o.lastWin != nil && !o.lastWin.check(e.Seq, rep.Window) {
			return nil, DropReplay
		}
	}
	if !o.eng.open(body) {
		return nil, DropICV
	}
	inner, why := o.unwrap(pkt, body[pay:pay+crypt], &e, terms.meta.Header != 0)
	if why != DropNone {
		return nil, why
	}
	if rep.Mode == ReplayCounter {
		if o.lastWin == nil {
			if o.lastWin = o.sa.recv.add(key); o.lastWin == nil {
				return nil, DropSenderLimit
			}
		}
		if !o.lastWin.commit(e.Seq, rep.Window) {
			return nil, DropReplay
		}
	}
	if rep.Mode == ReplayTime {
		if why := o.inTime(pkt, Stamp(rep.Window)*Stamp(time.Second/StampUnit)); why != DropNone {
			return nil, why
		}
	}
	if !terms.meta.SGT {
		o.meta.sgt = 0
	}
	if tr.Mode == Tunnel {
		inheritOuter(inner, pkt, e.V6)
		return inner, DropNone
	}
	pay += o.metaLen
	inner = pkt[pay : pay+e.Off+len(inner)]
	moveHeader(inner[:e.Off], pkt[:e.Off], len(inner), o.meta.next, e.nextAt, e.V6)
	return inner, DropNone
}

// sender names the packet's sender.
func (o *Opener) sender(pkt, body []byte, v6 bool) senderKey {
	if bits := o.sa.sidBits.Load(); bits != 0 && o.sa.tr.Counter() {
		return senderKey{kind: 1, lo: binary.BigEndian.Uint64(body[espHeaderLen:]) >> (64 - bits)}
	}
	if v6 {
		return senderKey{kind: 6, hi: binary.BigEndian.Uint64(pkt[8:]), lo: binary.BigEndian.Uint64(pkt[16:])}
	}
	return senderKey{kind: 4, lo: uint64(binary.BigEndian.Uint32(pkt[12:]))}
}

// unwrap checks trailer and content of the decrypted octets and returns the inner
// packet, in transport mode what follows the kept header. In tunnel mode next header
// 99 can be nothing but metadata; in transport mode only where the SA has it.
func (o *Opener) unwrap(pkt, plain []byte, e *ESPPacket, meta bool) ([]byte, DropReason) {
	next, pad := plain[len(plain)-1], int(plain[len(plain)-2])
	n := len(plain) - 2 - pad
	if n < 0 {
		return nil, DropPadding
	}
	for i, b := range plain[n : n+pad] { // RFC 4303 §2.4
		if b != byte(i+1) {
			return nil, DropPadding
		}
	}
	in := plain[:n]
	o.meta, o.metaLen = metadata{next: next, stamp: NoStamp}, 0
	if next == protoMetadata && (meta || o.sa.tr.Mode == Tunnel) {
		if o.metaLen = o.meta.parse(in); o.metaLen == 0 {
			return nil, DropMetadata
		}
		next, in = o.meta.next, in[o.metaLen:]
		n = len(in)
	}
	if next == protoNoNext {
		return nil, DropDummy
	}
	if o.sa.tr.Mode == Transport {
		if e.Off+n > maxPacket || e.V6 && e.Off+n-ipv6Len > maxPacket {
			return nil, DropMalformed
		}
		return in, DropNone
	}
	// Octets behind the inner packet's own length are traffic flow confidentiality
	// padding (RFC 4303 §2.7).
	if e.V6 {
		if next != protoIPv6 || n < ipv6Len || in[0]>>4 != 6 {
			return nil, DropMalformed
		}
		l := ipv6Len + int(binary.BigEndian.Uint16(in[4:]))
		if l > n {
			return nil, DropMalformed
		}
		if !bytes.Equal(in[8:40], pkt[8:40]) {
			return nil, DropInnerMismatch
		}
		return in[:l], DropNone
	}
	if next != protoIPIP || n < ipv4Len || in[0]>>4 != 4 {
		return nil, DropMalformed
	}
	l := int(binary.BigEndian.Uint16(in[2:]))
	if h := int(in[0]&15) * 4; h < ipv4Len || h > l || l > n {
		return nil, DropMalformed
	}
	if !bytes.Equal(in[12:20], pkt[12:20]) {
		return nil, DropInnerMismatch
	}
	return in[:l], DropNone
}
