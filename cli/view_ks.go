package cli

// Views of a key server: show crypto gdoi, ks, ks acl, ks members, ks policy.

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"getvpn/model"
)

func (v *view) ksGroup(g *model.KSGroup) {
	v.line("    Group Name               : %s (%s)", g.Name, transport(g.Unicast))
	v.line("    Re-auth on new CRL       : Disabled")
	v.line("    Group Identity           : %s", identity(g.Identity))
	v.line("    Group Type               : GDOI (ISAKMP)")
	v.line("    Crypto Path              : %s", path(g.IPv6))
	v.line("    Key Management Path      : ipv4")
	v.line("    Group Members            : %d", g.Members.Len())
	v.line("    IPSec SA Direction       : %s", g.Direction)
	v.line("    IP D3P Window            : Disabled")
	v.line("    CKM status               : Disabled")
	v.redundancy(g.Coop, false)
	v.line("    Group Rekey Lifetime     : %d secs", seconds(g.RekeyLifetime))
	if g.KEK != nil {
		v.line("    Group Rekey\n        Remaining Lifetime   : %d secs", v.left(g.KEK.Expires))
	}
	v.line("    Rekey Retransmit Period  : %d secs", seconds(g.RetransmitPeriod))
	v.line("    Rekey Retransmit Attempts: %d", g.RetransmitCount)
	v.line("    Group Retransmit\n        Remaining Lifetime   : 0 secs\n")
	for i := range g.Policies {
		p := &g.Policies[i]
		v.line("      IPSec SA Number        : %d", p.Seq)
		v.line("      IPSec SA Rekey Lifetime: %d secs", seconds(p.Lifetime))
		v.line("      Profile Name           : %s", p.Profile)
		v.line("      Replay method          : %s", p.Replay.Mode)
		v.line("      Replay Window Size     : %d", p.Replay.Window)
		v.line("      Tagging method         : %s", v.tagging(g.Name, p.Seq))
		if len(p.TEKs) > 0 {
			v.line("      SA Rekey\n         Remaining Lifetime  : %d secs", v.left(p.TEKs[0].Expires))
		}
		v.line("      ACL Configured         : access-list %s\n", p.ACL)
	}
	v.line("     Group Server list       : Local")
}

// tagging is how an sa ipsec carries security group tags.
func (v *view) tagging(group string, seq int) string {
	if x := v.c.GroupByName(group); x != nil && x.Local != nil {
		for i := range x.Local.SAs {
			if x.Local.SAs[i].Seq == seq && x.Local.SAs[i].Tag {
				return "cts sgt"
			}
		}
	}
	return "Disabled"
}

func (v *view) ks() {
	n := 0
	for i := range v.s.KeyServers {
		n += v.s.KeyServers[i].Members.Len()
	}
	v.line("Total group members registered to this box: %d", n)
	for _, g := range v.servers() {
		v.line("\nKey Server Information For Group %s:", g.Name)
		v.line("    Group Name               : %s", g.Name)
		v.line("    Re-auth on new CRL       : Disabled")
		v.line("    Group Identity           : %s", identity(g.Identity))
		v.line("    Group Type               : GDOI (ISAKMP)")
		v.line("    Group Members            : %d", g.Members.Len())
		v.line("    Rekey Acknowledgement Cfg: %s", v.ackText(g.Name))
		v.line("    IPSec SA Direction       : %s", g.Direction)
		v.line("    IP D3P Window            : Disabled")
		v.line("    Split Resiliency Factor  : 0")
		v.line("    CKM status               : Disabled")
		v.line("    ACL Configured: ")
		seen := map[string]bool{}
		for i := range g.Policies {
			if a := g.Policies[i].ACL; !seen[a] {
				seen[a] = true
				v.line("        access-list %s", a)
			}
		}
		v.redundancy(g.Coop, true)
	}
}

func (v *view) ksACL() {
	for i, g := range v.servers() {
		if i > 0 {
			v.line("")
		}
		v.line("Group Name: %s\n Configured ACL:", g.Name)
		for j := range g.Policies {
			for _, e := range g.Policies[j].ACEs {
				v.line("   access-list %s  %s", g.Policies[j].ACL, e.Text)
			}
		}
	}
}

func (v *view) ksMembers(only string) {
	for _, g := range v.servers() {
		a, err := netip.ParseAddr(only)
		if only != "" && (err != nil || g.Members.Find(a) == nil) {
			v.line("\n\nGroup Member not Found")
			continue
		}
		v.line("\nNumber of rekeys sent for group %s : %d", g.Name, g.Counters.RekeysSent)
		v.line("Number of retransmits during the last rekey for group %s : %d", g.Name, g.Counters.LastRetransmits)
		v.line("Duration of the last rekey for group %s : %d msec\n", g.Name, g.Counters.LastRekeyTook.Milliseconds())
		if only != "" {
			v.member(g, g.Members.Find(a))
			continue
		}
		for m := range g.Members.All() {
			v.member(g, m)
		}
	}
}

func (v *view) member(g *model.KSGroup, m *model.Member) {
	ver := m.Version
	if ver == "" {
		ver = "1.0.1"
	}
	v.line("Group Member ID    : %-11s GM Version: %s", m.Addr, ver)
	v.line(" Group ID          : %s", identity(g.Identity))
	v.line(" Group Name        : %s", g.Name)
	v.line(" Group Type        : GDOI (ISAKMP)")
	v.line(" GM State          : Registered")
	v.line(" Key Server ID     : %s", ip(homeOf(g, m)))
	v.line(" Rekeys sent       : %d", m.RekeysSent)
	v.line(" Rekeys retries    : %d", m.RekeyRetries)
	v.line(" Rekey Acks Rcvd   : %d", m.AcksRcvd)
	v.line(" Rekey Acks missed : %d\n", m.AcksMissed)
	v.line(" Sent seq num : %-6d%-6d%-6d%-6d", m.SentSeqs[0], m.SentSeqs[1], m.SentSeqs[2], m.SentSeqs[3])
	v.line(" Rcvd seq num : %-6d%-6d%-6d%-6d\n", m.RcvdSeqs[0], m.RcvdSeqs[1], m.RcvdSeqs[2], m.RcvdSeqs[3])
}

// homeOf is the key server where a member registered.
func homeOf(g *model.KSGroup, m *model.Member) netip.Addr {
	switch {
	case m.KeyServer.IsValid():
		return m.KeyServer
	case g.Coop != nil:
		return g.Coop.Local
	}
	return g.Local
}

// ksSummary lists members by the key servers where they registered, this one first.
func (v *view) ksSummary() {
	v.line("Group Member Information : ")
	for i, g := range v.servers() {
		if i > 0 {
			v.line("")
		}
		v.line("\nGroup Name: %s, ID: %s, Group Members: %d", g.Name, identity(g.Identity), g.Members.Len())
		here := homeOf(g, &model.Member{})
		homes, by := []netip.Addr{here}, map[netip.Addr][]*model.Member{}
		if g.Coop != nil {
			for j := range g.Coop.Peers {
				homes = append(homes, g.Coop.Peers[j].Addr)
			}
		}
		for m := range g.Members.All() {
			a := homeOf(g, m)
			if !slices.Contains(homes, a) { // one that isn't configured any more
				homes = append(homes, a)
			}
			by[a] = append(by[a], m)
		}
		for j, a := range homes {
			if j > 0 {
				v.line("")
			}
			state := "LOCAL"
			if a != here {
				state = "REDUNDANT"
			}
			v.line("Key Server ID: %s, GMDB state: %s, Group Members: %d", ip(a), state, len(by[a]))
			v.line("  Member ID     Version      Rekey sent     Rekey Ack missed")
			for _, m := range by[a] {
				v.line("  %-12s %-14s %-15d %d", m.Addr, m.Version, m.RekeysSent, m.AcksMissed)
			}
		}
	}
}

// firstHandle is the number that the device gives its first group.
const firstHandle = 0x40000002

func (v *view) ksPolicy() {
	v.line("Key Server Policy:")
	for _, g := range v.servers() {
		v.ksHead(g)
		if g.KEK != nil {
			v.kek(g)
		}
		for j := range g.Policies {
			for k := range g.Policies[j].TEKs {
				v.ksTEK(&g.Policies[j], &g.Policies[j].TEKs[k])
			}
		}
	}
}

// ksHead begins a group in ks policy and ks rekey.
func (v *view) ksHead(g *model.KSGroup) {
	teks, seq := 0, uint32(0)
	for j := range g.Policies {
		teks += len(g.Policies[j].TEKs)
	}
	if g.KEK != nil {
		seq = g.KEK.Seq
	}
	v.line("For group %s (handle: 0x%08X) server %s (handle: 0x%08X):\n", g.Name, v.handle(g), ip(g.Local), v.handle(g))
	v.line("  # of teks : %d  Seq num : %d", teks, seq)
}

func (v *view) kek(g *model.KSGroup) {
	k := g.KEK
	iv, key := 16, ""
	if k.Algorithm != "AES" {
		iv = 8
	}
	if x := v.c.GroupByName(g.Name); x != nil && x.Local != nil {
		key, _ = x.Local.RekeyKey()
	}
	two := func(a string, x any, b string, y any) { v.line("    %-19s: %-14v%-22s: %v", a, x, b, y) }
	v.line("  KEK POLICY (transport type : %s)", transport(k.Unicast))
	v.line("    spi : 0x%X", k.SPI)
	two("management alg", "disabled", "encrypt alg", k.Algorithm)
	two("crypto iv length", iv, "key size", k.KeyBits/8)
	two("orig life(sec)", seconds(k.Lifetime), "remaining life(sec)", v.left(k.Expires))
	v.line("    time to rekey (sec): %s", v.timeToRekey(k.RekeyAt))
	two("sig hash algorithm", "enabled", "sig key length", publicLength(k))
	v.line("    sig size           : %d", sigSize(k))
	v.line("    sig key name       : %s", key)
	v.line("    acknowledgement    : %s\n", v.ackText(g.Name))
}

// timeToRekey is n/a for a key that no rekey is planned for.
func (v *view) timeToRekey(at time.Time) string {
	if at.IsZero() {
		return "n/a"
	}
	return fmt.Sprint(v.left(at))
}

func (v *view) ksTEK(p *model.KSPolicy, t *model.TEK) {
	two := func(a string, x any, b string, y any) { v.line("    %-19s: %-14v%-22s: %v", a, x, b, y) }
	life, left := seconds(t.Lifetime), v.left(t.Expires)
	v.line("  TEK POLICY (encaps : %s)", encaps(t.Tunnel))
	v.line("    spi                : 0x%08X", t.SPI)
	v.line("    access-list        : %s", p.ACL)
	v.line("    transform          : %s ", t.Transform)
	two("alg key size", t.KeyBytes, "sig key size", t.AuthBytes)
	two("orig life(sec)", life, "remaining life(sec)", left)
	two("tek life(sec)", life, "elapsed time(sec)", max(0, life-left))
	v.line("    override life(sec) : 0             antireplay window size: %d", t.Replay.Window)
	v.line("    time to rekey (sec): %s\n", v.timeToRekey(t.RekeyAt))
}
