package ks

// What the tests of whole key servers want to know of a group.

// Sizes are how large a group's state is.
type Sizes struct {
	Members int
	Saved   int // octets of the whole, as it is saved
	Keys    int // … of keys, as they are handed on
	Rows    int // … of rows of members, as they are handed on
}

// Sizes encodes the group's state.
func (g *Group) Sizes() (z Sizes, err error) {
	err = g.call(func() error {
		d := g.export()
		z.Members = len(d.Members)
		b, err := d.encode()
		if err != nil {
			return err
		}
		z.Saved = len(b)
		k, _, err := g.shared()
		if err != nil {
			return err
		}
		z.Keys = len(k.Blob)
		for _, m := range g.roster.list {
			b, err := (&sharedRow{Path: m.path, Alt: m.slot.alt, NAT: m.nat, Identity: m.row.Identity, Version: m.row.Version,
				Registered: m.row.Registered, LastPull: m.row.LastPull, Registrations: m.row.Registrations, SIDs: m.row.SIDs,
				KEK: m.spi, Generation: m.gen, Keys: g.coop.keys}).encode()
			if err != nil {
				return err
			}
			z.Rows += len(b) + m.row.Addr.BitLen()/8
		}
		return nil
	})
	return z, err
}
