package gdoi

// What time-based anti-replay and tags need of a group's policy: the clock in the
// GAP, the header ahead of the payload in the SAT. Both are private
// (docs/protocol/private-attributes.md).

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Lengths that a metadata header can have, in octets.
const (
	MetadataShort uint8 = 12
	MetadataLong  uint8 = 16
)

// Pseudotime is the clock of a group with time-based anti-replay. Value is the time
// since the first member registered, when the message was made; Tick how long one
// stamp lasts. Both have whole milliseconds on the wire. Header is the length of the
// metadata header that carries the stamp.
type Pseudotime struct {
	Value  time.Duration
	Tick   time.Duration
	Header uint8
}

const (
	pseudotimeLen     = 12
	pseudotimeVersion = 1
	maxPseudotime     = uint64(1<<63-1) / uint64(time.Millisecond)
)

// Append appends the 12 octets: version (1), header, tick (2), value (8). A tick is
// held between 1 ms and what fits; a negative value is 0.
func (p Pseudotime) Append(dst []byte) []byte {
	tick := min(max(p.Tick/time.Millisecond, 1), 1<<16-1)
	dst = append(dst, pseudotimeVersion, p.Header)
	dst = binary.BigEndian.AppendUint16(dst, uint16(tick))
	return binary.BigEndian.AppendUint64(dst, uint64(max(p.Value, 0)/time.Millisecond))
}

// ParsePseudotime reads the octets.
func ParsePseudotime(b []byte) (Pseudotime, error) {
	if len(b) != pseudotimeLen || b[0] != pseudotimeVersion {
		return Pseudotime{}, fmt.Errorf("gdoi: pseudotime of %d octets isn't of version %d", len(b), pseudotimeVersion)
	}
	tick, v := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint64(b[4:])
	if b[1] != MetadataShort && b[1] != MetadataLong || tick == 0 || v > maxPseudotime {
		return Pseudotime{}, fmt.Errorf("gdoi: pseudotime with header of %d octets, tick %d", b[1], tick)
	}
	return Pseudotime{Value: time.Duration(v) * time.Millisecond, Tick: time.Duration(tick) * time.Millisecond, Header: b[1]}, nil
}

// Metadata describes the header ahead of the payload of a data SA's packets.
type Metadata struct {
	Header uint8 // octets, MetadataShort or MetadataLong
	SGT    bool  // it carries a security group tag
}

const metadataSGT uint16 = 1 << 8

func (m Metadata) wire() uint16 {
	v := uint16(m.Header)
	if m.SGT {
		v |= metadataSGT
	}
	return v
}

func parseMetadata(v uint16) (Metadata, bool) {
	m := Metadata{Header: uint8(v), SGT: v&metadataSGT != 0}
	return m, m.wire() == v && (m.Header == MetadataShort || m.Header == MetadataLong)
}
