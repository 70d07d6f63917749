package config

// Lines of the vendor's configurations that mean nothing here: kept verbatim with the
// block below them, printed again where the device prints them, never an error.

import (
	"strings"

	"getvpn/cli/grammar"
)

// keptLines are their first words with the slot of show running-config that they are
// printed in.
var keptLines = []struct {
	slot    int
	pattern string
}{
	{slotService, "{version|service|boot-start-marker|boot-end-marker|boot|platform|license|config-register|resource|mmi|memory-size|buffers|prompt|network-clock|call-home} [LINE]"},
	{slotLogging, "logging {buffered|trap|facility|source-interface|on|origin-id|monitor|rate-limit|userinfo|event|count|discriminator|history|queue-limit|message-counter|synchronous|persistent|exception|esm} [LINE]"},
	{slotLogging, "{enable|aaa|security|username|archive|password|privilege|memory|process|scheduler|exception|tacacs-server|radius-server|radius|tacacs|login} [LINE]"},
	{slotClock, "{clock|ntp} [LINE]"},
	{slotIP, "ip {route|classless|subnet-zero|domain|domain-name|domain-lookup|domain-list|name-server|cef|multicast-routing|multicast|pim|http|ssh|" +
		"forward-protocol|prefix-list|as-path|community-list|tftp|scp|sla|nat|dhcp|host|source-route|bootp|finger|tcp|vrf|routing|igmp|" +
		"flow|flow-export|flow-cache|flow-top-talkers|telnet|radius|tacacs|local|ftp|gratuitous-arps|audit|inspect|port-map|mroute|sap|" +
		"rcmd|default-gateway|default-network|arp|icmp|options|msdp|mtu|identd|ips|urlfilter|auth-proxy|admission|rtcp|nbar|accounting-threshold|explicit-path|rsvp|mrm|wccp|kerberos|portbundle|subscriber} [LINE]"},
	{slotIP, "ipv6 {route|unicast-routing|cef|multicast-routing|pim|prefix-list|router|host|nd|neighbor|mld|source-route|general-prefix|dhcp|local|icmp|hop-limit|eigrp|ospf|inspect|mfib|mfib-mode} [LINE]"},
	{slotIP, "{mpls|vrf|multilink|voice-card|vtp|spanning-tree|vlan|vpdn|errdisable|diagnostic|hw-module|card|controller|key|track|event|class-map|policy-map|" +
		"zone|zone-pair|parameter-map|object-group|flow|sampler|frame-relay|lldp|cdp|alias|macro|dot11|bridge|dial-peer|cts|mac|mac-address-table|parser|l2tp-class|pseudowire-class|bfd|standby|tftp-server|time-range|ephone|default|fhrp|rmon|redundancy|subscriber|template|transceiver|nat64|monitor|netconf|netconf-yang|restconf|wsma|onep|virtual-service|iox|app-hosting|gateway|sip-ua|call|voice|global|cns|configuration|file|stackwise|switch|udld|system|power|software|port-channel|pppoe|bba-group|lacp|ipc|appfw|device-tracking|dspfarm|sccp|telephony-service|mgcp|ccm-manager|tunnel} [LINE]"},
	{slotPKI, "crypto {pki|key|keyring|ca|identity|engine|ikev2|logging|provisioning|xauth|wui|vpn|eli|ssl|dynamic-map} [LINE]"},
	{slotPKI, "crypto isakmp {profile|client|nat|invalid-spi-recovery|xauth|default|diagnose|enable|fragmentation|peer} [LINE]"},
	{slotPKI, "crypto ipsec {security-association|fragmentation|nat-transparency|client|optional|ipv4-deny-policy|server|default} [LINE]"},
	{slotPKI, "crypto {gdoi|gkm} {fail-close|logging} [LINE]"},
	{slotPKI, "crypto map name:WORD {isakmp-profile|client|isakmp|redundancy|ipsec-isakmp|seq:<1-65535> {ipsec-isakmp|ipsec-manual}} [LINE]"},
	{slotRouting, "{router|route-map|address-family} LINE"},
	{slotSNMP, "snmp-server [LINE]"},
	{slotSNMP, "snmp [LINE]"},
	{slotLine, "{control-plane|line|banner|webvpn|ftp-server|exec|menu|terminal|terminal-queue|rtr|pagent|sntp|dialer-list|access-session|radius-proxy} [LINE]"},
}

func keptCommands() []command {
	var out []command
	for _, k := range keptLines {
		out = append(out, command{Mode: modeGlobal, Pattern: k.pattern, Help: "Kept, without effect", Enter: modeKept, No: true, Full: true, Do: keepGlobal})
	}
	return out
}

func keepGlobal(b *builder, m *grammar.Match) error {
	k := KeptLine{Line: b.line, Text: strings.TrimRight(strings.TrimLeft(m.Line, " \t"), " \t")}
	b.c.Kept = append(b.c.Kept, k)
	return nil
}

// finish tells once what was kept and marks where.
func (b *builder) finish() {
	if n := len(b.c.Kept); n > 0 {
		b.line = b.c.Kept[0].Line
		var heads []string
		seen := map[string]bool{}
		for _, k := range b.c.Kept {
			h := heading(k.Text)
			if !seen[h] && h != "version" && !strings.HasPrefix(h, "boot") {
				seen[h] = true
				heads = append(heads, h)
			}
		}
		if len(heads) > 0 {
			b.warn("kept, without effect here: %s", strings.Join(heads, ", "))
		}
	}
}

// heading is as much of a line as may be told: its first words, never a password.
func heading(text string) string {
	f := strings.Fields(text)
	n := 1
	if f[0] == "no" || f[0] == "ip" || f[0] == "ipv6" || f[0] == "crypto" {
		n = 2
	}
	return strings.Join(f[:min(n, len(f))], " ")
}
