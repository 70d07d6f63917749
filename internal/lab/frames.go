package lab

// Frames made by hand, to be injected.

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// UDP makes an Ethernet frame with an IPv4 UDP datagram (checksum 0: none).
func UDP(to net.HardwareAddr, src, dst string, sport, dport uint16, payload []byte) []byte {
	u := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(u, sport)
	binary.BigEndian.PutUint16(u[2:], dport)
	binary.BigEndian.PutUint16(u[4:], uint16(8+len(payload)))
	return IPv4(to, src, dst, 17, append(u, payload...))
}

// IPv4 makes an Ethernet frame with an IPv4 packet of a protocol. Its source address
// on the link is a made-up one.
func IPv4(to net.HardwareAddr, src, dst string, proto uint8, payload []byte) []byte {
	f := append(append([]byte(nil), to...), 2, 0, 0, 0, 0, 1, 8, 0)
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 60, proto
	binary.BigEndian.PutUint16(ip[2:], uint16(20+len(payload)))
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	copy(ip[12:], s[:])
	copy(ip[16:], d[:])
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	return append(append(f, ip...), payload...)
}
