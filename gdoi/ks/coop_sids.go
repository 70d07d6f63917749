package ks

// Sender IDs among cooperative key servers: each gives out those of its own ranges, and
// goes on counting when keys change hands, for members keep theirs. It begins again only
// where a clean slate has told all members to leave the keys that it counted for.

import "slices"

// followLedger binds the ledger to keys that another key server has made.
func (g *Group) followLedger(d *durable) error {
	switch l := g.ledger; {
	case l == nil || l.gen == d.Generation:
		return nil
	case slices.Contains(d.Ended, l.gen):
		return l.Reset(d.Generation)
	default:
		return l.Rebind(d.Generation)
	}
}
