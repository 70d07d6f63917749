package dataplane

// Security group tags of packets, on this side of the encryption: bits of the mark
// that any firewall rule can set and match. The mark doesn't pass a TAP, so it goes
// beside the frame where a VLAN tag would be, both ways (docs/dataplane.md).

import (
	"math/bits"

	"getvpn/ipsec/dataplane/steer"
)

// defaultTagMask is where marks have tags if nobody says otherwise.
const defaultTagMask = 0xffff

// tagBits reads a mask of up to 16 bits in a row; 0 is the default one.
func tagBits(mask uint32) (steer.TagBits, bool) {
	if mask == 0 {
		mask = defaultTagMask
	}
	shift := bits.TrailingZeros32(mask)
	width := bits.OnesCount32(mask)
	return steer.TagBits{Width: uint8(width), Shift: uint8(shift)}, width <= 16 && bits.Len32(mask>>shift) == width
}
