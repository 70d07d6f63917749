package ipsec

// Metadata in front of the payload, inside the encryption: a header that names the
// payload's protocol and carries options (a time stamp, a security group tag). ESP's
// next header is 99 then. The layout is this product's own, docs/protocol/metadata.md.

import (
	"encoding/binary"
	"fmt"
)

// Sizes of the header in octets. The short form is what the options need; the long one
// keeps the payload aligned to 16 octets.
const (
	MetadataShort = 12
	MetadataLong  = 16
)

const (
	protoMetadata   = 99 // any private encryption scheme (IANA)
	metadataVersion = 1
	metadataFixed   = 3

	// An option's first octet is its kind and, in the low three bits, the length of
	// what follows. A zero octet ends the options.
	metaTime    = 1<<3 | 5
	metaSGT     = 2<<3 | 2
	metaLenMask = 7
	maxStamp    = 1<<40 - 1
)

// Metadata says what a sender puts in front of the payload of a TEK's packets. A
// receiver takes both sizes, whatever it sends.
type Metadata struct {
	Header int  // octets: 0 none, MetadataShort or MetadataLong
	SGT    bool // carries the packet's security group tag ("tag cts sgt")
}

// fill gives a header to what needs one, and refuses other sizes.
func (m *Metadata) fill(r Replay) error {
	if m.Header == 0 && (m.SGT || r.Mode == ReplayTime) {
		m.Header = MetadataShort
	}
	switch m.Header {
	case 0, MetadataShort, MetadataLong:
		return nil
	}
	return fmt.Errorf("%w: header of %d octets", ErrMetadata, m.Header)
}

// metadata is a header's content. stamp is NoStamp and tagged false where the option
// isn't there.
type metadata struct {
	next   byte
	stamp  Stamp
	sgt    uint16
	tagged bool
}

// put writes the header to h, whose length is the header's.
func (m *metadata) put(h []byte) {
	h[0], h[1], h[2] = metadataVersion, m.next, byte(len(h))
	o := h[metadataFixed:]
	clear(o)
	if m.stamp != NoStamp {
		o[0] = metaTime
		o[1] = byte(m.stamp >> 32)
		binary.BigEndian.PutUint32(o[2:], uint32(m.stamp))
		o = o[6:]
	}
	if m.tagged {
		o[0] = metaSGT
		binary.BigEndian.PutUint16(o[1:], m.sgt)
	}
}

// parse reads the header at the start of b and returns its length, 0 for what isn't
// one. Each option may come once; one that it doesn't know is passed over.
func (m *metadata) parse(b []byte) int {
	*m = metadata{stamp: NoStamp}
	if len(b) < MetadataShort || b[0] != metadataVersion {
		return 0
	}
	n := int(b[2])
	if n != MetadataShort && n != MetadataLong || n > len(b) {
		return 0
	}
	m.next = b[1]
	for o := b[metadataFixed:n]; len(o) > 0; {
		if o[0] == 0 { // the rest is padding
			for _, x := range o {
				if x != 0 {
					return 0
				}
			}
			break
		}
		l := 1 + int(o[0]&metaLenMask)
		if l > len(o) {
			return 0
		}
		switch o[0] {
		case metaTime:
			if m.stamp != NoStamp {
				return 0
			}
			m.stamp = Stamp(o[1])<<32 | Stamp(binary.BigEndian.Uint32(o[2:]))
		case metaSGT:
			if m.tagged {
				return 0
			}
			m.sgt, m.tagged = binary.BigEndian.Uint16(o[1:]), true
		default:
			if k := o[0] &^ metaLenMask; k == metaTime&^metaLenMask || k == metaSGT&^metaLenMask {
				return 0 // a kind that is known, with another length
			}
		}
		o = o[l:]
	}
	return n
}
