package steer

// Where the programs keep things: stack slots below the frame pointer, registers,
// offsets in the context. All programs share the layout.

import "github.com/cilium/ebpf/asm"

// Registers that live through calls. The rest is scratch.
const (
	regCtx   = asm.R6
	regL4    = asm.R7 // offset of the transport header in the frame
	regNoL4  = asm.R8 // 1: no ports and no ICMP type (ipsec.Flow.Frag)
	regSpare = asm.R9 // fragment bits, see fragFirst and fragRest
)

// Fragment bits in regSpare.
const (
	fragFirst = 1 // more fragments follow the first one
	fragRest  = 2 // not the first fragment
)

// Stack slots. Those that policy compares are written by skb_load_bytes and by
// nothing else where possible: the verifier then knows nothing of them, so that it
// walks a long list once and not once for each value it has seen.
const (
	slotHdr    = -40 // IPv4 header (20) or IPv6 header (40)
	slotSrc4   = slotHdr + 12
	slotDst4   = slotHdr + 16
	slotSrc6   = slotHdr + 8
	slotDst6   = slotHdr + 24
	slotPorts  = -48  // source and destination port, network order; 0 if none
	slotType   = -44  // ICMP type; 0 if none
	slotProto  = -43  // transport protocol
	slotExt    = -56  // an extension header's first 8 octets
	slotKey4   = -64  // key of a 4-octet lookup
	slotRule   = -60  // rule index
	slotKey8   = -72  // socket cookie
	slotEnd    = -80  // end of the IP packet in the frame
	slotAddr   = -120 // fragKey: source 16, destination 16, identification 4, protocol 4
	slotAddr2  = slotAddr + 16
	slotID     = slotAddr + 32
	slotFProt  = slotAddr + 36
	slotQuote  = -168 // quoted header: 40 octets
	slotSPI    = -176
	slotFragID = -184 // identification in an IPv6 fragment header
)

// Offsets in struct __sk_buff (linux/bpf.h).
const (
	skbLen         = 0
	skbPktType     = 4
	skbMark        = 8
	skbProtocol    = 16
	skbVlanPresent = 20
	skbVlanTCI     = 24
	skbIfindex     = 40
	skbHash        = 68
)

// What a classifier says (linux/pkt_cls.h): next program, or drop.
const (
	verdictNext = -1
	verdictDrop = 2
)

// etherLen is the length of an Ethernet header; the tag of a VLAN is beside the
// frame, never in it, where policy looks.
const etherLen = 14

// EtherTypes, IP protocols, ICMP types by IANA.
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100
	etherQinQ = 0x88a8

	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoESP    = 50
	protoICMPv6 = 58
	protoSCTP   = 132
	protoUDPLt  = 136

	extHopByHop = 0
	extRouting  = 43
	extFragment = 44
	extDest     = 60

	// maxExtensions is how many extension headers a packet may have, as in
	// ipsec.ParseFlow.
	maxExtensions = 8
)

// passTypes is the closed list of ethertypes that no policy judges: none of them
// carries IP past the interface.
var passTypes = [...]uint16{
	0x0806, // ARP
	0x8035, // RARP
	0x888e, // EAPOL (802.1X)
	0x88cc, // LLDP
	0x8809, // slow protocols: LACP, OAM
	0x8902, // CFM
	0x88f7, // PTP
	0x88e5, // MACsec: its own interface has its own program
	0x8863, // PPPoE discovery
	0x8864, // PPPoE session: likewise
	0x0001, // 802.3 frames as the kernel names them: STP, IS-IS, CDP
	0x0004, // 802.2
}
