package config

// Names of protocols, ports and ICMP types, as IOS writes them.

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"getvpn/ipsec"
)

func isAddress(w string) bool {
	if _, err := netip.ParseAddr(w); err == nil {
		return true
	}
	_, err := netip.ParsePrefix(w)
	return err == nil
}

type named struct {
	name string
	n    uint16
}

// protocols that have a keyword in both families, besides ip and ipv6, tcp, udp, icmp.
var protocols = func() (out []named) {
	for _, k := range ipsec.ProtocolKeywords() {
		out = append(out, named{k.Name, uint16(k.Number)})
	}
	return out
}()

// ports: the first name of a number is the one that is printed. Names that older
// devices don't know stand in extraPorts and are printed as numbers.
var tcpPorts = []named{{"bgp", 179}, {"chargen", 19}, {"cmd", 514}, {"daytime", 13}, {"discard", 9}, {"domain", 53},
	{"drip", 3949}, {"echo", 7}, {"exec", 512}, {"finger", 79}, {"ftp", 21}, {"ftp-data", 20}, {"gopher", 70},
	{"hostname", 101}, {"ident", 113}, {"irc", 194}, {"klogin", 543}, {"kshell", 544}, {"login", 513}, {"lpd", 515},
	{"nntp", 119}, {"pim-auto-rp", 496}, {"pop2", 109}, {"pop3", 110}, {"smtp", 25}, {"sunrpc", 111}, {"tacacs", 49},
	{"talk", 517}, {"telnet", 23}, {"time", 37}, {"uucp", 540}, {"whois", 43}, {"www", 80}}

var udpPorts = []named{{"biff", 512}, {"bootpc", 68}, {"bootps", 67}, {"discard", 9}, {"dnsix", 195}, {"domain", 53},
	{"echo", 7}, {"isakmp", 500}, {"mobile-ip", 434}, {"nameserver", 42}, {"netbios-dgm", 138}, {"netbios-ns", 137},
	{"netbios-ss", 139}, {"non500-isakmp", 4500}, {"ntp", 123}, {"pim-auto-rp", 496}, {"rip", 520}, {"snmp", 161},
	{"snmptrap", 162}, {"sunrpc", 111}, {"syslog", 514}, {"tacacs", 49}, {"talk", 517}, {"tftp", 69}, {"time", 37},
	{"who", 513}, {"xdmcp", 177}}

var extraPorts = []named{{"ssh", 22}, {"https", 443}, {"http", 80}, {"ldap", 389}, {"ldp", 646}, {"gdoi", 848}, {"bfd", 3784}}

var icmp4Types = []named{{"echo-reply", 0}, {"unreachable", 3}, {"source-quench", 4}, {"redirect", 5}, {"echo", 8},
	{"router-advertisement", 9}, {"router-solicitation", 10}, {"time-exceeded", 11}, {"parameter-problem", 12},
	{"timestamp-request", 13}, {"timestamp-reply", 14}, {"information-request", 15}, {"information-reply", 16},
	{"mask-request", 17}, {"mask-reply", 18}, {"traceroute", 30}}

var icmp6Types = []named{{"destination-unreachable", 1}, {"packet-too-big", 2}, {"time-exceeded", 3}, {"parameter-problem", 4},
	{"echo-request", 128}, {"echo-reply", 129}, {"mld-query", 130}, {"mld-report", 131}, {"mld-reduction", 132},
	{"router-solicitation", 133}, {"router-advertisement", 134}, {"nd-ns", 135}, {"nd-na", 136}, {"redirect", 137},
	{"router-renumbering", 138}}

func nameOf(table []named, n uint16) string {
	for _, x := range table {
		if x.n == n {
			return x.name
		}
	}
	return strconv.Itoa(int(n))
}

func numberOf(w string, limit uint64, tables ...[]named) (uint16, bool) {
	if n, err := strconv.ParseUint(w, 10, 16); err == nil && n <= limit {
		return uint16(n), true
	}
	for _, t := range tables {
		if i := slices.IndexFunc(t, func(x named) bool { return strings.EqualFold(x.name, w) }); i >= 0 {
			return t[i].n, true
		}
	}
	return 0, false
}

func portTables(proto uint8) [][]named {
	if proto == 17 {
		return [][]named{udpPorts, extraPorts, tcpPorts}
	}
	return [][]named{tcpPorts, extraPorts, udpPorts}
}

func icmpTable(f ipsec.Family) []named {
	if f == ipsec.IPv6 {
		return icmp6Types
	}
	return icmp4Types
}

// aceWords spell the numbers of entries.
var aceWords = ipsec.Words{
	Port: func(proto uint8, n uint16) string {
		if proto == 17 {
			return nameOf(udpPorts, n)
		}
		return nameOf(tcpPorts, n)
	},
	ICMPType: func(f ipsec.Family, t uint8) string { return nameOf(icmpTable(f), uint16(t)) },
}
