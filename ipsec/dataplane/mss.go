package dataplane

// "ip tcp adjust-mss": lowers the MSS option of SYN segments of protected flows, so
// that TCP never meets the path's smaller MTU (RFC 9293 §3.7.1).

import "encoding/binary"

// clampMSS lowers a SYN's MSS to limit. With fix it corrects the checksum (RFC 1624);
// without, the checksum is still to be completed over what stands there.
func clampMSS(ip []byte, p *packet, limit uint16, fix bool) {
	t := ip[p.l4:p.len]
	if len(t) < 20 || t[13]&0x02 == 0 {
		return
	}
	hl := int(t[12]>>4) * 4
	if hl < 20 || hl > len(t) {
		return
	}
	be := binary.BigEndian
	for i := 20; i+1 < hl; {
		kind, n := t[i], int(t[i+1])
		if kind == 0 {
			return
		}
		if kind == 1 {
			i++
			continue
		}
		if n < 2 || i+n > hl {
			return
		}
		if kind == 2 && n == 4 {
			old := be.Uint16(t[i+2:])
			if old <= limit {
				return
			}
			be.PutUint16(t[i+2:], limit)
			if fix {
				x, y := old, limit
				if i&1 == 1 { // at an odd offset its octets stand swapped in the sum
					x, y = x<<8|x>>8, y<<8|y>>8
				}
				s := uint32(^be.Uint16(t[16:])) + uint32(^x) + uint32(y)
				s = s>>16 + s&0xffff
				s = s>>16 + s&0xffff
				be.PutUint16(t[16:], ^uint16(s))
			}
			return
		}
		i += n
	}
}
