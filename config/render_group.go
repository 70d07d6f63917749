package config

// Groups, crypto maps, interfaces and lists as show running-config prints them.

import (
	"fmt"
	"strings"

	"getvpn/ipsec"
)

func (p *printer) group(g *Group) {
	head := "crypto gdoi group "
	if g.IPv6 {
		head += "ipv6 "
	}
	l := []string{head + g.Name}
	l = on(l, g.HasNumber, " identity number %d", g.Number)
	l = on(l, g.Address.IsValid(), " identity address ipv4 %s", g.Address)
	for _, s := range g.Servers {
		l = append(l, " server address "+family(s.Is6())+" "+s.String())
	}
	l = append(l, clientLines(g)...)
	l = on(l, g.Passive, " passive")
	l = on(l, g.Interop, " interop rfc6407")
	for _, k := range g.Kept {
		l = append(l, " "+k)
	}
	if g.Local != nil {
		l = append(l, " server local")
		l = append(l, localLines(g.Local)...)
	}
	p.add(slotGroups, l...)
}

func family(six bool) string {
	if six {
		return "ipv6"
	}
	return "ipv4"
}

func localLines(s *LocalServer) []string {
	var l []string
	l = on(l, s.RekeyEncr == EncrAES, "  rekey algorithm aes %d", s.RekeyKeyBits)
	l = on(l, s.RekeySigHash != "sha", "  rekey sig-hash algorithm %s", s.RekeySigHash)
	l = on(l, s.RekeyAddress != "", "  rekey address %s %s", family(s.RekeyAddressV6), s.RekeyAddress)
	l = on(l, s.RekeyLifetime != defaultKEK, "  rekey lifetime seconds %d", secs(s.RekeyLifetime))
	switch {
	case s.RekeyPeriodic:
		l = append(l, fmt.Sprintf("  rekey retransmit %d periodic", secs(s.RekeyRetransmit)))
	case s.RekeyRetransmit == 0:
		l = append(l, "  no rekey retransmit")
	case s.RekeyRetransmit != seconds(10) || s.RekeyNumber != 2:
		l = append(l, fmt.Sprintf("  rekey retransmit %d number %d", secs(s.RekeyRetransmit), s.RekeyNumber))
	}
	l = on(l, s.RekeyAuthRSA != "", "  rekey authentication mypubkey rsa %s", s.RekeyAuthRSA)
	l = on(l, s.RekeyAuthECDSA != "", "  rekey authentication mypubkey ecdsa %s", s.RekeyAuthECDSA)
	l = on(l, s.RekeyAck != AckCisco, "  rekey acknowledgement %s", s.RekeyAck)
	l = on(l, s.RekeyUnicast, "  rekey transport unicast")
	l = on(l, s.AuthAddress != "", "  authorization address ipv4 %s", s.AuthAddress)
	l = on(l, s.ReceiveOnly, "  sa receive-only")
	switch s.SIDBits {
	case 24:
	case 32:
		l = append(l, "  group size large")
	default:
		l = append(l, fmt.Sprintf("  group size small %d", s.SIDBits))
	}
	l = on(l, len(s.KSSIDs) > 0, "  identifier")
	for _, k := range s.KSSIDs {
		if k.Low == k.High {
			l = append(l, fmt.Sprintf("   value %d", k.Low))
			continue
		}
		l = append(l, fmt.Sprintf("   range %d - %d", k.Low, k.High))
	}
	for _, x := range s.SAs {
		l = append(l, fmt.Sprintf("  sa ipsec %d", x.Seq))
		l = on(l, x.Profile != "", "   profile %s", x.Profile)
		l = on(l, x.ACL != "", "   match address %s %s", family(x.IPv6), x.ACL)
		switch x.Replay.Mode {
		case ipsec.ReplayCounter:
			l = append(l, fmt.Sprintf("   replay counter window-size %d", x.Replay.Window))
		case ipsec.ReplayTime:
			l = append(l, fmt.Sprintf("   replay time window-size %d", x.Replay.Window))
		default:
			l = append(l, "   no replay")
		}
		l = on(l, x.Tag, "   tag cts sgt")
		for _, k := range x.Kept {
			l = append(l, "   "+k)
		}
	}
	l = on(l, s.Address.IsValid(), "  address ipv4 %s", s.Address)
	l = append(l, redundancyLines(s.Redundancy)...)
	for _, k := range s.Kept {
		l = append(l, "  "+k)
	}
	return l
}

func redundancyLines(r *Redundancy) []string {
	if r == nil {
		return nil
	}
	l := []string{"  redundancy"}
	l = on(l, r.Priority != 1, "   local priority %d", r.Priority)
	l = on(l, r.Address.IsValid(), "   local address %s", r.Address)
	for _, a := range r.Peers {
		l = append(l, "   peer address ipv4 "+a.String())
	}
	l = on(l, r.Optimize, "   protocol version optimize")
	l = on(l, r.Refresh != defaultRefresh, "   protocol timeout refresh %d", secs(r.Refresh))
	l = on(l, r.Periodic != defaultPeriodic, "   protocol timeout periodic %d", secs(r.Periodic))
	return on(l, r.Retransmit != defaultCoopResend, "   protocol retransmit %d", secs(r.Retransmit))
}

func (p *printer) cryptoMap(m *CryptoMap) {
	head := "crypto map "
	if m.IPv6 {
		head += "ipv6 "
	}
	head += m.Name
	var l []string
	l = on(l, m.LocalAddress != "", "%s local-address %s", head, m.LocalAddress)
	if f := m.FailClose; f != nil {
		l = append(l, head+" gdoi fail-close")
		l = on(l, f.ACL != "", " match address %s", f.ACL)
		l = on(l, f.Activate, " activate")
	}
	for _, e := range m.Entries {
		l = append(l, fmt.Sprintf("%s %d gdoi", head, e.Seq))
		l = on(l, e.Group != "", " set group %s", e.Group)
		l = on(l, e.ACL != "", " match address %s", e.ACL)
	}
	p.add(slotMaps, l...)
}

func (p *printer) iface(i *Interface) {
	l := []string{"interface " + i.Name}
	for _, k := range i.Kept {
		l = append(l, " "+k)
	}
	l = on(l, i.AdjustMSS != 0, " ip tcp adjust-mss %d", i.AdjustMSS)
	l = on(l, i.FragAfter, " crypto ipsec fragmentation after-encryption")
	for _, j := range i.Joins {
		l = append(l, " "+joinText(j))
	}
	l = on(l, i.Shutdown, " shutdown")
	l = on(l, i.CryptoMap != "", " crypto map %s", i.CryptoMap)
	p.add(slotInterfaces, l...)
}

// acl prints a list. Entries numbered 10, 20, 30… print no number; a numbered list with
// other numbers is printed in the named form, which can show them.
func (p *printer) acl(a *ACL) {
	plain := true
	for i, e := range a.Entries {
		plain = plain && e.Seq == (i+1)*10
	}
	numbered := plain && strings.Trim(a.Name, "0123456789") == "" && a.Kind != "ipv6"
	head, indent := "", " "
	switch {
	case numbered:
		indent = "access-list " + a.Name + " "
	case a.Kind == "ipv6":
		head = "ipv6 access-list " + a.Name
	default:
		head = "ip access-list " + a.Kind + " " + a.Name
	}
	var l []string
	l = on(l, head != "", "%s", head)
	for i, e := range a.Entries {
		l = append(l, remarks(a, i, indent)...)
		s := indent
		switch {
		case plain:
		case a.Kind == "ipv6":
			s += fmt.Sprintf("sequence %d ", e.Seq)
		default:
			s += fmt.Sprintf("%d ", e.Seq)
		}
		l = append(l, s+aceText(&e, a.Kind == "standard"))
	}
	p.add(slotACLs, append(l, remarks(a, len(a.Entries), indent)...)...)
}

func remarks(a *ACL, at int, indent string) []string {
	var l []string
	for _, r := range a.Remarks {
		l = on(l, r.Before == at, "%sremark %s", indent, r.Text)
	}
	return l
}

func aceText(e *ipsec.ACE, standard bool) string {
	if standard {
		return e.Action.String() + " " + strings.TrimPrefix(e.Src.String(), "host ")
	}
	return e.ConfigText(aceWords)
}
