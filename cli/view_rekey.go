package cli

// Views of rekeys: ks rekey, gm rekey, gm pubkey, rekey sa.

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"getvpn/config"
	"getvpn/model"
)

// connID numbers a rekey SA. It has no connection here, so the number comes from its
// SPI: the same in every view, for as long as the KEK lives.
func connID(k *model.KEK) int { return 1000 + int(binary.BigEndian.Uint16(k.SPI[4:6]))%60000 }

// cookies are how the device shortens the two halves of a KEK's SPI.
func cookies(k *model.KEK) (mine, his string) {
	return fmt.Sprintf("%X", k.SPI[:4]), fmt.Sprintf("%X", k.SPI[8:12])
}

// ackText is the acknowledgement that a key server's group is configured for.
func (v *view) ackText(group string) string {
	if x := v.c.GroupByName(group); x != nil && x.Local != nil {
		switch x.Local.RekeyAck {
		case config.AckInteroperable:
			return "Interoperable"
		case config.AckAny:
			return "Any"
		}
	}
	return "Cisco"
}

func (v *view) ksRekey() {
	for i, g := range v.servers() {
		if i > 0 {
			v.line("")
		}
		v.ksHead(g)
		if g.KEK != nil {
			v.kek(g)
		}
		c := &g.Counters
		v.line("  Rekeys sent : %d  Retransmits : %d  Datagrams : %d  Send errors : %d", c.RekeysSent, c.Retransmits, c.RekeyDatagrams, c.RekeySendErrors)
		v.line("  Acks received : %d  Members unanswered : %d  Members ejected : %d", c.AcksRcvd, g.Unanswered, c.MembersEjected)
		if !g.NextRekey.IsZero() {
			v.line("  Next rekey in (sec) : %d", v.left(g.NextRekey))
		}
	}
}

// gmRekey prints the counters of each group, and with detail its rekey SA.
func (v *view) gmRekey(detail bool) {
	for i, g := range v.members() {
		if i > 0 {
			v.line("\n")
		}
		v.line("Group %s (%s)", g.Name, transport(g.KEK == nil || g.KEK.Unicast))
		v.line("    Number of Rekeys received (cumulative)       : %d", g.RekeysReceived)
		v.line("    Number of Rekeys received after registration : %d", g.RekeysSinceRegistration)
		v.line("    Number of Rekey Acks sent                    : %d", g.AcksSent)
		if !detail {
			continue
		}
		none := "---             ---               ---    ---        ---"
		rows := map[string]string{"New": none, "Current": none, "Previous": none}
		row := func(name string, k *model.KEK) {
			mine, his := cookies(k)
			rows[name] = fmt.Sprintf("%-15s %-15s  %-7d %-10s %s", ip(v.rekeyTo(g)), ip(v.rekeyFrom(g)), connID(k), mine, his)
		}
		if k := g.KEK; k != nil {
			// A KEK is new until the first rekey under it.
			name := "Current"
			if k.Seq == 0 {
				name = "New"
			}
			row(name, k)
		}
		if k := g.PreviousKEK; k != nil {
			row("Previous", k)
		}
		v.line("\nRekey (KEK) SA information :")
		v.line("          dst             src             conn-id  my-cookie  his-cookie")
		for _, n := range []string{"New", "Current", "Previous"} {
			v.line("%-8s: %s", n, rows[n])
		}
	}
}

// rekeyTo is where a member's rekeys come to, rekeyFrom where from.
func (v *view) rekeyTo(g *model.GMGroup) netip.Addr {
	if g.KEK != nil && !g.KEK.Unicast && len(g.Joined) > 0 {
		return g.Joined[0]
	}
	return g.Local.Addr()
}

func (v *view) rekeyFrom(g *model.GMGroup) netip.Addr {
	if g.LastRekeyFrom.IsValid() {
		return g.LastRekeyFrom
	}
	return g.RegisteredWith
}

func (v *view) gmPubkey() {
	for _, g := range v.members() {
		v.line("  GDOI Group: %s", g.Name)
		k := g.KEK
		if k == nil || len(k.Public) == 0 {
			continue
		}
		mine, his := cookies(k)
		v.line("    KS IP Address: %s", ip(g.RegisteredWith))
		v.line("    conn-id: %d    my-cookie:%s    his-cookie:%s", connID(k), mine, his)
		v.line("    Key Data:")
		for d := k.Public; len(d) > 0; {
			row := d[:min(32, len(d))]
			d = d[len(row):]
			v.b.WriteString("      ")
			for len(row) > 0 {
				n := min(4, len(row))
				fmt.Fprintf(&v.b, "%X ", row[:n])
				row = row[n:]
			}
			v.line("")
		}
		v.line("")
	}
}

// rekeySA lists the KEKs of members and key servers here.
func (v *view) rekeySA(detail bool) {
	type sa struct {
		dst, src      netip.Addr
		k             *model.KEK
		group, iface  string
		local, remote netip.Addr
	}
	var all []sa
	for _, g := range v.members() {
		if g.KEK != nil {
			all = append(all, sa{v.rekeyTo(g), v.rekeyFrom(g), g.KEK, g.Name, g.Interface, g.Local.Addr(), v.rekeyFrom(g)})
		}
	}
	for _, g := range v.servers() {
		if g.KEK != nil {
			all = append(all, sa{netip.Addr{}, g.Local, g.KEK, g.Name, "", g.Local, netip.Addr{}})
		}
	}
	if !detail {
		v.line("GETVPN REKEY SA")
		v.line("dst             src             conn-id         status")
		for _, s := range all {
			v.line("%-15s %-15s %-15d ACTIVE", ip(s.dst), ip(s.src), connID(s.k))
		}
		return
	}
	v.line("KEK SA DB STATS:")
	v.line("    num_active = %d\n    num_malloc = %d\n    num_free = 0", len(all), len(all))
	for i, s := range all {
		two := func(a string, x any, b string, y any) { v.line("    %-19s: %-12v%-18s: %-8v", a, x, b, y) }
		iv := 16
		if s.k.Algorithm != "AES" {
			iv = 8
		}
		v.line("\n  KEK POLICY (transport type : %s)", transport(s.k.Unicast))
		v.line("   Local addr/port : %s/848", ip(s.local))
		v.line("   Remote addr/port : %s/848", ip(s.remote))
		v.line("    spi : 0x%X", s.k.SPI)
		two("management alg", "disabled", "encrypt alg", s.k.Algorithm)
		two("crypto iv length", iv, "key size", s.k.KeyBits/8)
		v.line("    orig life(sec)     : %-10d", seconds(s.k.Lifetime))
		two("sig hash algorithm", "enabled", "sig key length", publicLength(s.k))
		v.line("    sig size           : %d", sigSize(s.k))
		v.line("    acknowledgement    : %s", v.ackText(s.group))
		v.line("    conn_id (IKEv1)    : %d", connID(s.k))
		two("seq num", s.k.Seq, "prev seq num", max(1, s.k.Seq)-1)
		v.line("    handle             : %-10X", firstHandle+i)
		v.line("    Interface          : %s", s.iface)
		v.line("    Group Name         : %-20s", s.group)
	}
}

// publicLength is the length in octets of the key that verifies rekeys, as
// SubjectPublicKeyInfo.
func publicLength(k *model.KEK) int {
	if len(k.Public) > 0 {
		return len(k.Public)
	}
	return keyLength(k.SigBits)
}

// sigSize is the length of a signature in octets. No RSA key is as short as a curve.
func sigSize(k *model.KEK) int {
	if isCurve(k.SigBits) {
		return 2 * ((k.SigBits + 7) / 8)
	}
	return k.SigBits / 8
}

func isCurve(bits int) bool { return bits == 256 || bits == 384 || bits == 521 }
