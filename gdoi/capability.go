package gdoi

// What an implementation of ours can do, said twice: in a vendor ID of phase 1,
// which no hash covers, and again in an authenticated GAP of PULL. Both must be
// equal, so that nobody between the two can take a capability away.

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Feature is a bit of Capability.Features.
type Feature uint32

const (
	FeatureDenyEntries Feature = 1 << iota // access lists with deny entries and exact entries
	FeatureReplay                          // replay policy and age in the SAT
	FeatureTimeReplay                      // time-based anti-replay: pseudotime in the GAP
	FeatureMetadata                        // metadata ahead of the payload, with tags
	FeatureRekey                           // the mark of a replaced policy in a rekey
)

// Capability says which private parts of the protocol a party understands. The
// version octets are those of the group protocol (major.minor.mini).
type Capability struct {
	Major, Minor, Mini uint8
	Features           Feature
}

// OurCapability is what this code does.
func OurCapability() Capability {
	return Capability{Major: 1, Minor: 0, Mini: 1,
		Features: FeatureDenyEntries | FeatureReplay | FeatureTimeReplay | FeatureMetadata | FeatureRekey}
}

// Has reports whether all of f are there.
func (c Capability) Has(f Feature) bool { return c.Features&f == f }

// Version prints major.minor.mini, the form of the vendor's feature versions.
func (c Capability) Version() string { return fmt.Sprintf("%d.%d.%d", c.Major, c.Minor, c.Mini) }

// vendorPrefix marks a vendor ID of ours: the first 12 octets of SHA-256 of
// "getvpn for Linux". What follows is a Capability.
func vendorPrefix() []byte {
	return []byte{0x07, 0x71, 0x26, 0x5f, 0x40, 0x45, 0xab, 0x02, 0xe6, 0x20, 0x3e, 0xd4}
}

const (
	capabilityLen     = 8
	capabilityVersion = 1
)

// Append appends the 8 octets: layout version (1), major, minor, mini, features (4).
func (c Capability) Append(dst []byte) []byte {
	dst = append(dst, capabilityVersion, c.Major, c.Minor, c.Mini)
	return binary.BigEndian.AppendUint32(dst, uint32(c.Features))
}

// ParseCapability reads the octets. Features that aren't known are kept; a longer
// form of the same layout version is refused.
func ParseCapability(b []byte) (Capability, error) {
	if len(b) != capabilityLen || b[0] != capabilityVersion {
		return Capability{}, fmt.Errorf("gdoi: capability of %d octets isn't of version %d", len(b), capabilityVersion)
	}
	return Capability{Major: b[1], Minor: b[2], Mini: b[3], Features: Feature(binary.BigEndian.Uint32(b[4:]))}, nil
}

// VendorID is the vendor ID of phase 1 that announces the capability.
func (c Capability) VendorID() []byte { return c.Append(vendorPrefix()) }

// CapabilityOf finds our vendor ID among those of a peer; nil when there is none.
func CapabilityOf(vendorIDs [][]byte) *Capability {
	for _, v := range vendorIDs {
		if rest, ok := bytes.CutPrefix(v, vendorPrefix()); ok {
			if c, err := ParseCapability(rest); err == nil {
				return &c
			}
		}
	}
	return nil
}

// CheckCapability compares what a peer announced in phase 1 with what its
// authenticated GAP repeats (gap may be nil). need are the features that the
// group's policy cannot do without; 0 for a group marked "interop rfc6407", where
// nothing is repeated.
func CheckCapability(vendor *Capability, gap *GAP, need Feature) error {
	var said *Capability
	if gap != nil {
		said = gap.Capability
	}
	switch {
	case said != nil && (vendor == nil || *vendor != *said):
		return &Error{Reason: CapabilityMismatch, Fatal: true}
	case need == 0:
		return nil
	case said == nil && vendor != nil:
		return &Error{Reason: CapabilityMismatch, Fatal: true}
	case said == nil || !said.Has(need):
		return &Error{Reason: CapabilityMissing, Fatal: true}
	}
	return nil
}
