package cli

// Views of SAs and refusals: show crypto isakmp sa, ipsec sa, gdoi ipsec sa, map gdoi
// fail-close, drops.

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"getvpn/model"
)

func (v *view) isakmpSA(detail bool) {
	for i, six := range []bool{false, true} {
		if i > 0 {
			v.line("")
		}
		v.line("%s Crypto ISAKMP SA", map[bool]string{false: "IPv4", true: "IPv6"}[six])
		switch {
		case detail && !six:
			v.line("\nC-id  Local           Remote          I-VRF  Status Encr Hash   Auth DH Lifetime Cap.\n")
		case !detail && !six:
			v.line("dst             src             state          conn-id status")
		}
		for _, sa := range v.rekeySAs() {
			if sa.Remote.Addr().Unmap().Is6() == six {
				v.isakmpRow(&sa, detail)
			}
		}
		for j := range v.s.IKE.SAs {
			if sa := &v.s.IKE.SAs[j]; sa.Remote.Addr().Unmap().Is6() == six {
				v.isakmpRow(sa, detail)
			}
		}
	}
}

// rekeySAs are members' KEKs as rows of show crypto isakmp sa: the registration's SA may
// be long gone while rekeys still come.
func (v *view) rekeySAs() []model.IKESA {
	var out []model.IKESA
	for i := range v.s.Members {
		g := &v.s.Members[i]
		k := g.KEK
		if k == nil || g.Status != model.Registered {
			continue
		}
		auth := "rsa-sig"
		if isCurve(k.SigBits) {
			auth = "ecdsa-sig"
		}
		out = append(out, model.IKESA{ID: uint32(connID(k)), Local: netip.AddrPortFrom(v.rekeyTo(g), 848), Remote: netip.AddrPortFrom(v.rekeyFrom(g), 848),
			State: "GDOI_REKEY", Encr: strings.ToLower(k.Algorithm), Hash: strings.ToLower(strings.TrimPrefix(k.SigHash, "HMAC_AUTH_")), Auth: auth, Expires: k.Expires})
	}
	return out
}

func (v *view) isakmpRow(sa *model.IKESA, detail bool) {
	status := "ACTIVE"
	if sa.Deleted {
		status += " (deleted)"
	}
	if !detail {
		dst, src := sa.Local, sa.Remote
		if sa.Initiator {
			dst, src = src, dst
		}
		v.line("%-15s %-15s %-15s%7d %s", ip(dst.Addr()), ip(src.Addr()), sa.State, sa.ID, status)
		return
	}
	caps := ""
	if sa.DPD {
		caps += "D"
	}
	if sa.NATT {
		caps += "N"
	}
	auth := map[string]string{"pre-share": "psk", "rsa-sig": "rsig", "ecdsa-sig": "ecds"}[sa.Auth]
	if auth == "" {
		auth = sa.Auth
	}
	v.line("%-5d %-15s %-15s %-6s %-6s %-4s %-6s %-4s %-2d %s %-3s", sa.ID, ip(sa.Local.Addr()), ip(sa.Remote.Addr()), "",
		"ACTIVE", sa.Encr, sa.Hash, auth, sa.DHGroup, clock(sa.Expires.Sub(v.now)), caps)
	v.line("       Engine-id:Conn-id =  SW:%d\n", sa.ID)
}

// flow is an access list entry read back from its text.
type flow struct {
	permit   bool
	proto    string
	src, dst ident
}

// ident is one side of an entry.
type ident struct {
	addr, mask string // mask in the form of a netmask
	bits       int    // -1 when the mask isn't contiguous
	any        bool
	port       string
}

// readACE reads "permit ip 10.1.0.0 0.0.255.255 any port = 22", for IPv6 "… any eq 22".
func readACE(text string) flow {
	t := strings.Fields(text)
	if len(t) < 2 {
		return flow{}
	}
	f := flow{permit: t[0] == "permit", proto: t[1]}
	rest := t[2:]
	f.src, rest = readIdent(rest)
	f.dst, _ = readIdent(rest)
	return f
}

func readIdent(t []string) (ident, []string) {
	id := ident{addr: "0.0.0.0", mask: "0.0.0.0", port: "0", any: true}
	switch {
	case len(t) == 0:
		return id, nil
	case t[0] == "any":
		t = t[1:]
	case t[0] == "host" && len(t) > 1:
		id = ident{addr: t[1], mask: "255.255.255.255", bits: 32, port: "0"}
		if strings.Contains(t[1], ":") {
			id.mask, id.bits = "128", 128
		}
		t = t[2:]
	case strings.Contains(t[0], "/"):
		if p, err := netip.ParsePrefix(t[0]); err == nil {
			id = ident{addr: p.Addr().String(), mask: fmt.Sprint(p.Bits()), bits: p.Bits(), port: "0"}
		}
		t = t[1:]
	case len(t) > 1:
		id = ident{addr: t[0], bits: -1, port: "0"}
		if w, err := netip.ParseAddr(t[1]); err == nil && w.Is4() {
			m := w.As4()
			n, whole := 0, true
			for i := range m {
				m[i] = ^m[i]
				for b := 7; b >= 0; b-- {
					if m[i]>>b&1 == 1 {
						whole = whole && n == i*8+7-b
						n++
					}
				}
			}
			id.mask = netip.AddrFrom4(m).String()
			if whole {
				id.bits = n
			}
		}
		t = t[2:]
	}
	if len(t) > 2 && t[0] == "port" { // of IPv4; IPv6 has operators alone
		t = t[1:]
	}
	switch {
	case len(t) > 2 && t[0] == "range":
		id.port, t = t[1]+"-"+t[2], t[3:]
	case len(t) > 1 && slices.Contains([]string{"=", "!=", "<", ">", "eq", "neq", "lt", "gt"}, t[0]):
		id.port, t = t[1], t[2:]
	}
	return id, t
}

// text is the side as show crypto gdoi ipsec sa prints it.
func (i ident) text() string {
	switch {
	case i.any:
		return "ANY"
	case i.bits == 32 && !strings.Contains(i.addr, ":") || i.bits == 128:
		return i.addr
	case i.bits < 0:
		return i.addr + "/" + i.mask
	}
	return fmt.Sprintf("%s/%d", i.addr, i.bits)
}

func (v *view) gdoiSA() {
	for _, g := range v.members() {
		v.line("SA created for group %s:", g.Name)
		if g.Status != model.Registered || len(g.TEKs) == 0 {
			continue
		}
		v.line("  %s:", g.Interface)
		replay := "None/0"
		switch r := g.TEKs[0].Replay; r.Mode {
		case "Count Based":
			replay = fmt.Sprintf("Counter/%d", r.Window)
		case "Time Based":
			replay = fmt.Sprintf("Time/%d sec", r.Window)
		}
		for _, e := range g.DownloadedACEs {
			f := readACE(e.Text)
			v.line("    protocol = %s", f.proto)
			v.line("      local ident  = %s, port = %s", f.src.text(), f.src.port)
			v.line("      remote ident = %s, port = %s", f.dst.text(), f.dst.port)
			v.line("      direction: %s, replay(method/window): %s", g.Direction, replay)
		}
	}
}

var protoNumbers = map[string]int{"icmp": 1, "igmp": 2, "ipinip": 4, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ahp": 51, "eigrp": 88, "ospf": 89, "pim": 103, "sctp": 132}

// ipsecSA prints a block for each permitted identity. The identities of a group share
// its SAs, and so the counters printed with each.
func (v *view) ipsecSA() {
	for _, g := range v.members() {
		if g.Interface == "" {
			continue
		}
		v.line("\ninterface: %s", g.Interface)
		v.line("    Crypto map tag: %s, local addr %s", g.MapName, ip(g.Local.Addr()))
		for _, e := range g.DownloadedACEs {
			if f := readACE(e.Text); f.permit {
				v.identitySA(g, f)
			}
		}
	}
}

func (v *view) identitySA(g *model.GMGroup, f flow) {
	var c model.SACounters
	for i := range g.TEKs {
		a := &g.TEKs[i].SA
		c.EncapPackets, c.DecapPackets = c.EncapPackets+a.EncapPackets, c.DecapPackets+a.DecapPackets
		c.OtherDrops += a.OtherDrops + a.ICVDrops + a.ReplayDrops
	}
	proto := protoNumbers[f.proto]
	v.line("\n   protected vrf: (none)")
	v.line("   local  ident (addr/mask/prot/port): (%s/%s/%d/%s)", f.src.addr, f.src.mask, proto, f.src.port)
	v.line("   remote ident (addr/mask/prot/port): (%s/%s/%d/%s)", f.dst.addr, f.dst.mask, proto, f.dst.port)
	v.line("   Group: %s", g.Name)
	v.line("   current_peer 0.0.0.0 port 848")
	v.line("     PERMIT, flags={}")
	v.line("    #pkts encaps: %d, #pkts encrypt: %d, #pkts digest: %d", c.EncapPackets, c.EncapPackets, c.EncapPackets)
	v.line("    #pkts decaps: %d, #pkts decrypt: %d, #pkts verify: %d", c.DecapPackets, c.DecapPackets, c.DecapPackets)
	v.line("    #pkts compressed: 0, #pkts decompressed: 0")
	v.line("    #pkts not compressed: 0, #pkts compr. failed: 0")
	v.line("    #pkts not decompressed: 0, #pkts decompress failed: 0")
	v.line("    #send errors 0, #recv errors %d\n", c.OtherDrops)
	v.line("     local crypto endpt.: %s, remote crypto endpt.: 0.0.0.0", ip(g.Local.Addr()))
	mtu := 1500
	for i := range v.s.Dataplane.Interfaces {
		if x := &v.s.Dataplane.Interfaces[i]; x.Name == g.Interface && x.MTU > 0 {
			mtu = x.MTU
		}
	}
	spi, plain := uint32(0), mtu
	if len(g.TEKs) > 0 {
		spi, plain = g.TEKs[0].SPI, plaintextMTU(&g.TEKs[0], mtu, g.IPv6)
	}
	v.line("     plaintext mtu %d, path mtu %d, ip mtu %d, ip mtu idb %s", plain, mtu, mtu, g.Interface)
	v.line("     current outbound spi: 0x%X(%d)", spi, spi)
	v.line("     PFS (Y/N): N, DH group: none\n")
	v.espSAs(g, "inbound")
	v.line("     inbound ah sas:\n\n     inbound pcp sas:\n")
	v.espSAs(g, "outbound")
	v.line("     outbound ah sas:\n\n     outbound pcp sas:")
}

// ivLength is the octets of the IV on the wire.
func ivLength(transform string) int {
	switch {
	case strings.Contains(transform, "null"):
		return 0
	case strings.HasSuffix(strings.Fields(transform + " -")[0], "aes"):
		return 16
	}
	return 8
}

// plaintextMTU is the largest inner packet that fits: outer header, ESP header (8), IV,
// trailer (2, padded to the cipher's block) and check value are taken off.
func plaintextMTU(t *model.TEK, mtu int, six bool) int {
	iv, block, icv := ivLength(t.Transform), 4, 16
	if iv == 16 || strings.Contains(t.Transform, "3des") {
		block = iv
	}
	if n, ok := map[int]int{20: 12, 32: 16, 48: 24, 64: 32}[t.AuthBytes]; ok {
		icv = n
	}
	outer := 0
	if t.Tunnel {
		outer = 20
		if six {
			outer = 40
		}
	}
	room := mtu - outer - 8 - iv - icv
	return max(0, room-room%block-2)
}

func (v *view) espSAs(g *model.GMGroup, way string) {
	v.line("     %s esp sas:", way)
	for i := range g.TEKs {
		t := &g.TEKs[i]
		mode, replay := "Transport", "N"
		if t.Tunnel {
			mode = "Tunnel"
		}
		if t.Replay.Mode != "Disabled" && t.Replay.Mode != "" {
			replay = "Y"
		}
		v.line("      spi: 0x%X(%d)", t.SPI, t.SPI)
		v.line("        transform: %s ,", t.Transform)
		v.line("        in use settings ={%s, }", mode)
		v.line("        conn id: %d, flow_id: SW:%d, sibling_flags 80000040, crypto map: %s", i+1, i+1, g.MapName)
		v.line("        sa timing: remaining key lifetime (sec): %d", v.left(t.Expires))
		v.line("        IV size: %d bytes", ivLength(t.Transform))
		v.line("        replay detection support: %s", replay)
		v.line("        Status: ACTIVE(ACTIVE)")
	}
	v.line("")
}

func (v *view) failClose(only string) {
	for i := range v.c.CryptoMaps {
		m := &v.c.CryptoMaps[i]
		if m.FailClose == nil || only != "" && m.Name != only {
			continue
		}
		v.line("Crypto Map: \"%s\"", m.Name)
		v.line("    Activate: %s", map[bool]string{true: "yes", false: "no"}[m.FailClose.Activate])
		v.line("    Fail-Close Access-List: (Deny = Forward In Clear, Permit = Drop)\n")
		if a := v.c.ACLByName(m.FailClose.ACL); a != nil {
			for _, e := range a.Entries {
				v.line("        access-list %s %s", a.Name, e)
			}
		}
	}
}

// drops lists every refusal that was counted, by its name.
func (v *view) drops() {
	table := func(title string, m map[string]uint64) {
		v.line("%s", title)
		for _, k := range slices.Sorted(maps.Keys(m)) {
			v.line("  %-32s %d", k, m[k])
		}
		if len(m) == 0 {
			v.line("  none")
		}
	}
	table("Packets dropped by the dataplane:", v.s.Dataplane.Drops)
	for i := range v.s.Dataplane.Interfaces {
		if x := &v.s.Dataplane.Interfaces[i]; len(x.Drops) > 0 {
			table(fmt.Sprintf("Packets dropped on %s:", x.Name), x.Drops)
		}
		if x := &v.s.Dataplane.Interfaces[i]; x.LastError != "" {
			v.line("Last failure on %s: %s", x.Name, x.LastError)
		}
	}
	table("IKE datagrams and exchanges refused:", v.s.IKE.Drops)
	if len(v.s.KSRejected) > 0 {
		table("Refused before a group was known:", v.s.KSRejected)
	}
	for _, g := range v.servers() {
		table(fmt.Sprintf("Registrations refused in group %s:", g.Name), g.Rejected)
	}
	for _, g := range v.members() {
		table(fmt.Sprintf("Registrations of group %s that failed:", g.Name), g.FailuresByReason)
	}
}
