package ks

// A key server that can't use the keys of its group: they have another form than its
// configuration says, or it can't sign under their KEK because its signing key is another
// one. It registers nobody, and announces priority 0: it becomes primary only where nobody
// else is left, and then says whose rekeys go nowhere.

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"getvpn/gdoi/coop"
	"getvpn/model/event"
)

// untaken are keys of the primary that can't be used, or not all of them.
type untaken struct {
	keys coop.TakeKeys
	came time.Time
}

// coopConfig is what the machine is to do.
func (g *Group) coopConfig() coop.Config {
	k := g.setup.coopConfig()
	if g.coop != nil && g.coop.untaken != nil {
		k.Priority = 0
	}
	return k
}

// signs reports whether there is a KEK that we can sign under, if one is needed.
func (k *keyring) signs() bool { return !k.active() || k.kspec == nil || k.kek != nil }

// weigh notes whether the keys that came can be used, and tells the others.
func (g *Group) weigh(r coop.TakeKeys, came, now time.Time) {
	c := g.coop
	was := c.untaken != nil
	if c.untaken = nil; c.wrong || !g.ring.signs() {
		c.untaken = &untaken{r, came}
	}
	if was != (c.untaken != nil) {
		g.configureCoop(now)
	}
}

// configureCoop tells the machine of our priority as it is now.
func (g *Group) configureCoop(now time.Time) {
	out, err := g.coop.m.Configure(g.coopConfig(), now)
	if err != nil {
		g.s.o.Log.Error("priority among key servers", "group", g.Name(), "error", err)
		return
	}
	g.cooperate(out)
}

// retake tries again to use keys that couldn't be used, under another configuration.
func (g *Group) retake(now time.Time) {
	if u := g.coop.untaken; u != nil {
		g.take(u.keys, u.came, now)
	}
}

// membersALine is how many members a line names, at most.
const membersALine = 32

// unheard tells at a new primary which members hold a KEK that it can't sign under. They
// have their TEKs, and come before these end.
func (g *Group) unheard() {
	c, r := g.coop, g.setup.Rekey
	if c.untaken == nil || r == nil || r.Signer == nil {
		return
	}
	var names []string
	for _, m := range g.roster.list {
		if m.origin.IsValid() && g.kekOf(coop.SPI(m.spi)) == nil || g.keks[m.holds] == nil {
			m.holds = 0
			names = append(names, m.row.Addr.String())
		}
	}
	mine := sha256.Sum256(r.Signer.Public)
	for len(names) > 0 {
		n := min(membersALine, len(names))
		g.note(event.CoopRekeysUnheard{Group: g.Name(), Members: strings.Join(names[:n], ", "), Mine: hex.EncodeToString(mine[:])})
		names = names[n:]
	}
}
