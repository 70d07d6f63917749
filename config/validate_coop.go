package config

// Validation and advice about cooperative key servers and their Sender IDs.

func (v *validator) coop(g *Group) {
	l, at := g.Local, "crypto gdoi group "+g.Name
	v.kssids(g.Name, l, at+" identifier")
	r := l.Redundancy
	if r == nil {
		return
	}
	at += " redundancy"
	if !l.CoopAddress().IsValid() {
		v.bad(at, "group %s: redundancy: this key server has no address for the others: add address ipv4 A", g.Name)
	}
	if n := len(l.CoopPeers()); n > MaxPeers {
		v.bad(at, "group %s: redundancy: %d peers, at most %d are possible", g.Name, n, MaxPeers)
	}
	if r.Periodic <= r.Refresh {
		v.bad(at, "group %s: redundancy: a secondary waits %d s for what a primary sends every %d s: protocol timeout periodic must be longer than protocol timeout refresh",
			g.Name, secs(r.Periodic), secs(r.Refresh))
	}
}

func (v *validator) kssids(group string, l *LocalServer, at string) {
	if len(l.KSSIDs) == 0 {
		return
	}
	n := KSSIDBits(l.SIDBits)
	if n == 0 {
		v.bad(at, "group %s: identifier: Sender IDs of %d bits name no key server: set group size medium or large, or leave it out", group, l.SIDBits)
		return
	}
	for i, k := range l.KSSIDs {
		if k.High >= 1<<n {
			v.bad(at, "group %s: identifier %s: with Sender IDs of %d bits KSSIDs are 0 to %d", group, k, l.SIDBits, 1<<n-1)
		}
		if i > 0 && k.Low <= l.KSSIDs[i-1].High {
			v.bad(at, "group %s: identifier: %s and %s overlap", group, l.KSSIDs[i-1], k)
		}
	}
}

// coop is advice about redundancy.
func (a *adviser) coop(g *Group) {
	l, at := g.Local, "crypto gdoi group "+g.Name+" redundancy"
	if l.Redundancy == nil {
		if len(l.KSSIDs) > 0 {
			a.say("crypto gdoi group "+g.Name+" identifier", "group %s: identifier: without redundancy it has no effect: a key server alone gives out all Sender IDs", g.Name)
		}
		return
	}
	servers := 1 + len(l.CoopPeers())
	if servers == 1 {
		a.say(at, "group %s: redundancy names no other key server: add peer address ipv4 A", g.Name)
	}
	if name, _ := l.RekeyKey(); name == "" {
		a.say(at, "group %s: redundancy without rekeys: members that registered with different key servers can't be brought together again after these lost each other; add rekey authentication mypubkey rsa KEY, the same key at every key server", g.Name)
	}
	// Ranges of the others aren't known here, but how many there are.
	n := KSSIDBits(l.SIDBits)
	if n == 0 || len(l.KSSIDs) == 0 || !a.counterMode(g) {
		return
	}
	mine := 0
	for _, k := range l.KSSIDs {
		mine += int(k.High-k.Low) + 1
	}
	if share := 1 << n >> shareBits(servers); mine > share {
		a.say("crypto gdoi group "+g.Name+" identifier", "group %s: identifier names %d of %d KSSIDs, more than the %d that each of %d key servers can have: where ranges overlap no member is registered",
			g.Name, mine, 1<<n, share, servers)
	}
}

// counterMode reports whether a group has SAs whose members need Sender IDs.
func (a *adviser) counterMode(g *Group) bool {
	for _, v := range views(a.c, g) {
		for _, t := range v.sets {
			if t.Counter() {
				return true
			}
		}
	}
	return false
}
