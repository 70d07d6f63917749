package cli

// Views of cooperative key servers: ks coop, ks coop version, ks coop identifier, and the
// lines about redundancy in show crypto gdoi and ks. Blanks at the ends of lines are the
// device's.

import (
	"fmt"

	"getvpn/model"
)

// coopVersion is that of announcements, and of each part of them (docs/protocol/coop.md).
const coopVersion = "1.0.0"

// handle numbers the groups of this device as the device does, whichever are shown.
func (v *view) handle(g *model.KSGroup) int {
	for i := range v.s.KeyServers {
		if &v.s.KeyServers[i] == g {
			return firstHandle + i
		}
	}
	return firstHandle
}

// peerHandle numbers peers behind the groups.
func (v *view) peerHandle(g *model.KSGroup, peer int) int {
	n := firstHandle + len(v.s.KeyServers) + peer
	for i := range v.s.KeyServers {
		o := &v.s.KeyServers[i]
		if o == g {
			break
		}
		if o.Coop != nil {
			n += len(o.Coop.Peers)
		}
	}
	return n
}

func release(r [3]uint8) string {
	if r == [3]uint8{} {
		return "Unknown"
	}
	return fmt.Sprintf("%d.%d.%d", r[0], r[1], r[2])
}

func yesNo(b bool) string {
	if b {
		return "Yes"
	}
	return "No"
}

// redundancy is what show crypto gdoi and ks say of a group's cooperation; only the
// latter tells the version of announcements.
func (v *view) redundancy(c *model.Coop, protocol bool) {
	if c == nil {
		return
	}
	v.line("    Redundancy               : Configured")
	v.line("        Local Address        : %s", ip(c.Local))
	v.line("        Local Priority       : %d", c.Priority)
	v.line("        Local KS Status      : %s", model.CoopAlive)
	v.line("        Local KS Role        : %s", c.Role)
	v.line("        Local KS Version     : %s", release(c.Version))
	if protocol {
		v.line("        Local COOP Version   : %s ", release(c.Protocol))
	}
}

// ksCoop is one block a group. Without detail it has the form of older releases, which
// know no versions.
func (v *view) ksCoop(detail bool) {
	for i, g := range v.servers() {
		if i > 0 {
			v.line("")
		}
		v.line("Crypto Gdoi Group Name :%s ", g.Name)
		v.line("        Group handle: %d, Local Key Server handle: %d", v.handle(g), v.handle(g))
		if g.Coop == nil {
			v.line("        *NO* redundancy configured for this group")
			continue
		}
		v.coopLocal(g.Coop, detail)
		v.line("        Peer Sessions:")
		for j := range g.Coop.Peers {
			v.line("        Session %d:", j+1)
			v.line("                Server handle: %d", v.peerHandle(g, j))
			v.coopPeer(&g.Coop.Peers[j], detail)
		}
	}
}

func (v *view) coopLocal(c *model.Coop, detail bool) {
	v.line("\n        Local Address: %s ", ip(c.Local))
	v.line("        Local Priority: %-9d", c.Priority)
	v.line("        Local KS Role: %-10s, Local KS Status: %-10s", c.Role, model.CoopAlive)
	if detail {
		v.line("        Local KS version: %s", release(c.Version))
		v.line("        Local COOP version: %s ", release(c.Protocol))
	}
	if c.Role == model.CoopPrimary {
		v.line("        Primary Timers: ")
		v.line("                Primary Refresh Policy Time: %d ", seconds(c.Refresh))
		v.line("                Remaining Time: %d", v.left(c.Next))
	} else {
		v.line("        Secondary Timers: ")
		v.line("                Sec Primary Periodic Time: %d ", seconds(c.Periodic))
		v.line("                Remaining Time: %d, Retries: %d", v.left(c.Next), c.Retries)
		v.line("                Invalid ANN PST recvd: %d", c.Invalid)
		v.line("                New GM Temporary Blocking Enforced?: %s", yesNo(c.Gate == model.CoopGateElection || c.Gate == model.CoopGateStale))
	}
	if detail {
		v.line("                Per-user timer remaining time: 0")
	}
	v.line("                Antireplay Sequence Number: %d", c.Sequence)
	if !detail {
		v.line("")
	}
}

func (v *view) coopPeer(p *model.CoopPeer, detail bool) {
	v.line("                Peer Address: %s", ip(p.Addr))
	if detail {
		protocol := "base"
		if p.Optimize {
			protocol = "optimize"
		}
		v.line("                Peer Version: %s", release(p.Version))
		v.line("                Peer COOP version: %s ", release(p.Protocol))
		v.line("                COOP Protocol: %s", protocol)
	}
	v.line("                Peer Priority: %-16d", p.Priority)
	v.line("                Peer KS Role: %-10s, Peer KS Status: %-10s", p.Role, p.Status)
	v.line("                Antireplay Sequence Number: %d\n", p.Sequence)
	v.line("                IKE status: %s", ikeStatus(p))
	v.line("                Counters:")
	n := &p.Counters
	v.line("                    Ann msgs sent: %d", n.AnnSent)
	v.line("                    Ann msgs sent with reply request: %d", n.AnnSentAsking)
	v.line("                    Ann msgs recv: %d ", n.AnnRcvd)
	v.line("                    Ann msgs recv with reply request: %d", n.AnnRcvdAsking)
	v.line("                    Packet sent drops: %d ", n.SentDrops)
	v.line("                    Packet Recv drops: %d ", n.RcvdDrops)
	v.line("                    Total bytes sent: %d ", n.OctetsSent)
	v.line("                    Total bytes recv: %d", n.OctetsRcvd)
}

func ikeStatus(p *model.CoopPeer) string {
	switch {
	case p.IKE:
		return "Established"
	case p.Status == model.CoopUnknown:
		return "In Progress"
	}
	return "Failed"
}

// ksCoopVersion is the same for all groups.
func (v *view) ksCoopVersion() {
	v.line("Cooperative key server infra Version : %s ", coopVersion)
	v.line("Client : KS_POLICY_CLIENT Version : %s ", coopVersion)
	v.line("Client : GROUP_MEMBER_CLIENT Version : %s ", coopVersion)
	v.line("Client : SID_CLIENT Version : %s", coopVersion)
}

// ksCoopIdentifier shows who may give out which Sender IDs. What of them a peer has used
// isn't announced.
func (v *view) ksCoopIdentifier(detail bool) {
	for i, g := range v.servers() {
		if i > 0 {
			v.line("\n")
		}
		v.line("COOP-KS Sender ID (SID) Information for Group %s:\n", g.Name)
		c := g.Coop
		if c == nil {
			v.line("        *NO* redundancy configured for this group")
			continue
		}
		v.line("    Local KS Role: %-10s, Local KS Status: %s", c.Role, model.CoopAlive)
		v.line("        Local Address                : %s", ip(c.Local))
		k := kssidsOf(g)
		v.coopSIDs(g, c.Reinit, c.Overlap(), k.current, k.assigned, k.used, k.old)
		if !detail {
			continue
		}
		for j := range c.Peers {
			p := &c.Peers[j]
			v.line("\n    Peer KS Role:  %-10s, Peer KS Status:  %s", p.Role, p.Status)
			v.line("        Peer Address                 : %s", ip(p.Addr))
			v.coopSIDs(g, false, p.Overlap, "none", k.text(p.SIDs), "none", "none")
		}
	}
}

func (v *view) coopSIDs(g *model.KSGroup, reinit, overlap bool, current, assigned, used, old string) {
	v.line("        Next SID Client Operation    : NOTIFY")
	v.line("        Re-initializing              : %s", yesNo(reinit))
	v.line("        KSSID Overlap                : %s", yesNo(overlap))
	v.line("        SID Length (Group Size) Cfg  : %s", sizeText(g.SIDBits))
	v.line("        SID Length (Group Size) Used : %s", sizeText(g.SIDBits))
	v.line("        Current KSSID In-Use         : %s", current)
	v.line("        KSSID(s) Assigned            : %s", assigned)
	v.line("        KSSID(s) Used                : %s", used)
	v.line("        Old KSSID(s) Used            : %s", old)
}
