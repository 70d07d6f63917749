package cli

// Views of a group member: show crypto gdoi, gm, gm acl, gm dataplane counters.

import (
	"fmt"
	"net/netip"
	"strings"

	"getvpn/model"
)

// gdoi prints every group, key servers' first, as the device does.
func (v *view) gdoi() {
	if len(v.servers())+len(v.members()) == 0 {
		return
	}
	if v.group == "" {
		v.line("GROUP INFORMATION\n")
	}
	for i, g := range v.servers() {
		if i > 0 {
			v.line("")
		}
		v.ksGroup(g)
	}
	for i, g := range v.members() {
		if i > 0 || len(v.servers()) > 0 {
			v.line("")
		}
		v.gmGroup(g)
	}
}

func (v *view) gmGroup(g *model.GMGroup) {
	v.line("    Group Name               : %s", g.Name)
	v.line("    Group Identity           : %s", identity(g.Identity))
	v.line("    Group Type               : GDOI (ISAKMP)")
	v.line("    Crypto Path              : %s", path(g.IPv6))
	v.line("    Key Management Path      : ipv4")
	v.line("    Rekeys received          : %d", g.RekeysReceived)
	v.line("    IPSec SA Direction       : %s\n", g.Direction)
	for i, s := range g.Servers {
		if i == 0 {
			v.line("     Group Server list       : %s", s)
		} else {
			v.line("                               %s", s)
		}
	}
	v.line("")
	v.gmInfo(g)
	v.line("\n       allowable rekey cipher: %s", allowed(g.AcceptCiphers, "any"))
	v.line("       allowable rekey hash  : %s", allowed(g.AcceptHashes, "any"))
	v.line("       allowable transformtag: %s\n", allowed(g.AcceptTransforms, "any ESP"))
	v.line("    Rekeys cumulative")
	v.line("       Total received        : %d", g.RekeysReceived)
	v.line("       After latest register : %d", g.RekeysSinceRegistration)
	if g.KEK != nil && !g.KEK.Unicast {
		v.line("       Rekey Received        : %s\n", v.lastRekey(g, "never"))
	} else {
		v.line("       Rekey Acks sents      : %d\n", g.AcksSent)
	}
	v.line(" ACL Downloaded From KS %s:", ip(g.RegisteredWith))
	for _, e := range g.DownloadedACEs {
		v.line("   access-list   %s", e.Text)
	}
	v.line("\nKEK POLICY:")
	k := g.KEK
	if k == nil {
		// Without rekeys the key server sends none: the layout's neutral values.
		k = &model.KEK{Algorithm: "NONE", SigHash: "NONE", Unicast: true}
	}
	v.line("    Rekey Transport Type     : %s", transport(k.Unicast))
	v.line("    Lifetime (secs)          : %d", v.left(k.Expires))
	v.line("    Encrypt Algorithm        : %s", k.Algorithm)
	v.line("    Key Size                 : %d", k.KeyBits)
	v.line("    Sig Hash Algorithm       : %s", k.SigHash)
	v.line("    Sig Key Length (bits)    : %d\n", 8*publicLength(k))
	v.line("TEK POLICY for the current KS-Policy ACEs Downloaded:")
	last := ""
	for i := range g.TEKs {
		t := &g.TEKs[i]
		name := t.Interface
		if name == "" {
			name = g.Interface
		}
		if name != last {
			v.line("  %s:", name)
			last = name
		}
		v.tek(t)
	}
	local := ip(g.Local.Addr())
	v.line("\nKGS POLICY:\n  REG_GM: local_addr %s\n", local)
	v.line("P2P POLICY:\n  REG_GM: local_addr %s", local)
}

func (v *view) tek(t *model.TEK) {
	v.line("    IPsec SA:")
	v.line("        spi: 0x%08X(%d)", t.SPI, t.SPI)
	v.line("        transform: %s ", t.Transform)
	v.line("        sa timing:remaining key lifetime (sec): (%d)", v.left(t.Expires))
	switch t.Replay.Mode {
	case "Count Based":
		v.line("        Anti-Replay(Counter Based) : %d", t.Replay.Window)
	case "Time Based":
		v.line("        Anti-Replay(Time Based) : %d sec interval", t.Replay.Window)
	default:
		v.line("        Anti-Replay : Disabled")
	}
	v.line("        tag method : %s", map[bool]string{false: "disabled", true: "cts sgt"}[t.Tag])
	v.line("        alg key size: %d (bytes)", t.KeyBytes)
	v.line("        sig key size: %d (bytes)", t.AuthBytes)
	v.line("        encaps: %s\n", encaps(t.Tunnel))
}

func encaps(tunnel bool) string {
	if tunnel {
		return "ENCAPS_TUNNEL"
	}
	return "ENCAPS_TRANSPORT"
}

// keyLength is the length in octets of an RSA key of that many bits as
// SubjectPublicKeyInfo with exponent 65537, which the device prints.
func keyLength(bits int) int {
	switch {
	case bits == 0:
		return 0
	case bits <= 512:
		return bits/8 + 30
	case bits <= 1024:
		return bits/8 + 34
	}
	return bits/8 + 38
}

func (v *view) gm() {
	for i, g := range v.members() {
		if i > 0 {
			v.line("")
		}
		v.gmInfo(g)
	}
}

func (v *view) gmInfo(g *model.GMGroup) {
	v.line("Group Member Information For Group %s:", g.Name)
	v.line("    IPSec SA Direction       : %s", g.Direction)
	v.line("    ACL Received From KS     : gdoi_group_%s_temp_acl\n", g.Name)
	v.line("    Group member             : %-16svrf: None", ip(g.Local.Addr()))
	v.line("       Local addr/port       : %s", endpoint(g.Local))
	v.line("       Remote addr/port      : %s", endpoint(g.Remote))
	v.line("       fvrf/ivrf             : None/None")
	v.line("       Version               : %s", g.Version)
	v.line("       Registration status   : %s", g.Status)
	v.line("       Registered with       : %s", ip(g.RegisteredWith))
	v.line("       Re-registers in       : %d sec", v.left(g.ReRegisters))
	v.line("       Succeeded registration: %d", g.Succeeded)
	v.line("       Attempted registration: %d", g.Attempted)
	v.line("       Last rekey from       : %s", ip(g.LastRekeyFrom))
	v.line("       Last rekey seq num    : %d", g.LastRekeySeq)
	if g.KEK != nil && !g.KEK.Unicast {
		v.line("       Multicast rekey rcvd  : %d", g.RekeysReceived)
	} else {
		v.line("       Unicast rekey received: %d", g.RekeysReceived)
		v.line("       Rekey ACKs sent       : %d", g.AcksSent)
		v.line("       Rekey Rcvd(hh:mm:ss)  : %s", v.lastRekey(g, "00:00:00"))
	}
	v.line("       PFS Rekey received    : 0")
	v.line("       DP Error Monitoring   : %s", map[bool]string{false: "OFF", true: "ON"}[g.Recovery.Interval > 0])
	v.line("       IPSEC init reg executed    : %d", g.Recovery.Executed)
	v.line("       IPSEC init reg postponed   : %d", g.Recovery.Postponed)
	v.line("       Active TEK Number     : %d", len(g.TEKs))
	track := "disabled"
	if g.Track.ID != 0 {
		track = fmt.Sprintf("%d/%s", g.Track.ID, map[bool]string{false: "DOWN", true: "UP"}[g.Track.Up])
	}
	v.line("       SA Track (OID/status) : %s", track)
	v.line("       Fail-Close Revert : %s", map[bool]string{false: "Disabled", true: "Enabled"}[g.Revert])
	if !g.Removal.IsZero() {
		v.line("       KS Policy Removal in : %d sec", v.left(g.Removal))
	}
}

// lastRekey is how long ago the last rekey came.
func (v *view) lastRekey(g *model.GMGroup, never string) string {
	if g.LastRekeyAt.IsZero() {
		return never
	}
	return clock(v.now.Sub(g.LastRekeyAt))
}

// allowed lists what a member takes.
func allowed(l []string, none string) string {
	if len(l) == 0 {
		return none
	}
	return strings.Join(l, ", ")
}

func endpoint(a netip.AddrPort) string {
	return fmt.Sprintf("%s/%d", ip(a.Addr()), port(a))
}

func (v *view) gmACL(which string) {
	for _, g := range v.members() {
		v.line("Group Name: %s", g.Name)
		if which != "local" {
			v.line(" ACL Downloaded From KS %s:", ip(g.RegisteredWith))
			for _, e := range g.DownloadedACEs {
				v.line("   access-list  %s", e.Text)
			}
		}
		if which == "download" {
			continue
		}
		v.line(" ACL Configured Locally: ")
		if g.LocalACL != "" {
			v.line("  Map Name: %s", g.MapName)
		}
		for _, e := range g.LocalACEs {
			v.line("   access-list %s %s", g.LocalACL, e.Text)
		}
	}
}

// gmCounters fits our drop reasons into the device's seven lines; show crypto drops
// has each by its own name. Drops are the dataplane's, over all groups.
func (v *view) gmCounters() {
	d := v.s.Dataplane.Drops
	for _, g := range v.members() {
		var enc, dec uint64
		for i := range g.TEKs {
			enc += g.TEKs[i].SA.EncapPackets
			dec += g.TEKs[i].SA.DecapPackets
		}
		two := func(a string, x uint64, b string, y uint64) {
			v.line("    #pkts %-19s: %-9d#pkts %-19s: %d", a, x, b, y)
		}
		v.line("\nData-plane statistics for group %s:", g.Name)
		two("encrypt", enc, "decrypt", dec)
		two("tagged (send)", 0, "untagged (rcv)", 0)
		two("no sa (send)", sum(d, "no-sa", "sa-expired", "no-sender-id"), "invalid sa (rcv)", sum(d, "unknown-spi"))
		two("encaps fail (send)", sum(d, "too-big", "fragment", "sequence-limit", "receive-only", "no-random"), "decap fail (rcv)", sum(d, "malformed", "padding", "reassembly", "inner-mismatch"))
		two("invalid prot (rcv)", sum(d, "clear-inbound", "inner-policy"), "verify fail (rcv)", sum(d, "icv", "replay"))
		two("not tagged (send)", 0, "not untagged (rcv)", 0)
		two("internal err (send)", sum(d, "policy-race", "send-failed"), "internal err (rcv)", sum(d, "ring-full", "tap-full", "sender-limit"))
	}
}

func sum(d map[string]uint64, names ...string) uint64 {
	var n uint64
	for _, k := range names {
		n += d[k]
	}
	return n
}
