package ipsec

// Where a packet's firewall mark has its security group tag.

import "math/bits"

// DefaultTagMask is where marks have tags if nobody says otherwise.
const DefaultTagMask = 0xffff

// TagBits reads a mask of 1 to 16 bits in a row: how many, above which. False: it is no
// such mask.
func TagBits(mask uint32) (width, shift int, ok bool) {
	if mask == 0 {
		return 0, 0, false
	}
	shift, width = bits.TrailingZeros32(mask), bits.OnesCount32(mask)
	return width, shift, width <= 16 && bits.Len32(mask>>shift) == width
}
