package dataplane

// Security group tags of packets, on this side of the encryption: bits of the mark
// that any firewall rule can set and match. The mark doesn't pass a TAP, so it goes
// beside the frame where a VLAN tag would be, both ways (docs/dataplane.md).

import (
	"getvpn/ipsec"
	"getvpn/ipsec/dataplane/steer"
)

// tagBits reads a mask; 0 is the default one.
func tagBits(mask uint32) (steer.TagBits, bool) {
	if mask == 0 {
		mask = ipsec.DefaultTagMask
	}
	width, shift, ok := ipsec.TagBits(mask)
	return steer.TagBits{Width: uint8(width), Shift: uint8(shift)}, ok
}
