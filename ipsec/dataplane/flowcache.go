package dataplane

// A worker's memory of what policy said about a flow, so that a hundred entries
// aren't walked for each packet of a stream. An answer counts for the table that
// gave it and for no other.

import (
	"encoding/binary"
	"math/bits"
)

const flowCacheBits = 10

// flowKey is all that a ruleset looks at.
type flowKey struct {
	src, dst [2]uint64
	ports    uint32
	proto    uint8
	icmpType uint8
	flags    uint16 // 1: IPv6, 2: no transport header; inbound adds the group above
}

// flowAnswer is a cached verdict: the rule's index (-1: the default) and, for
// outbound, whether it protects.
type flowAnswer struct {
	key  flowKey
	gen  uint64 // of the table; 0 is never one
	rule int32
	ok   bool
}

type flowCache struct {
	slots [1 << flowCacheBits]flowAnswer
}

// keyOf reads a parsed packet's key.
func keyOf(k *flowKey, b []byte, p *packet) {
	le := binary.LittleEndian
	*k = flowKey{proto: p.proto}
	if p.v6 {
		k.src = [2]uint64{le.Uint64(b[8:]), le.Uint64(b[16:])}
		k.dst = [2]uint64{le.Uint64(b[24:]), le.Uint64(b[32:])}
		k.flags = 1
	} else {
		k.src[0], k.dst[0] = uint64(le.Uint32(b[12:])), uint64(le.Uint32(b[16:]))
	}
	if !p.first {
		k.flags |= 2
		return
	}
	switch t := b[p.l4:p.len]; p.proto {
	case protoTCP, protoUDP, 132, 136:
		if len(t) >= 4 {
			k.ports = le.Uint32(t)
		} else {
			k.flags |= 2
		}
	case protoICMP, protoICMPv6:
		if len(t) >= 1 {
			k.icmpType = t[0]
		} else {
			k.flags |= 2
		}
	}
}

// slot is where the key's answer would be.
func (c *flowCache) slot(k *flowKey) *flowAnswer {
	const m = 0x9e3779b97f4a7c15
	h := (k.src[0] ^ bits.RotateLeft64(k.dst[0], 32)) * m
	h = (h ^ k.src[1] ^ bits.RotateLeft64(k.dst[1], 17)) * m
	h = (h ^ uint64(k.ports) ^ uint64(k.proto)<<32 ^ uint64(k.icmpType)<<40 ^ uint64(k.flags)<<48) * m
	return &c.slots[h>>(64-flowCacheBits)]
}
