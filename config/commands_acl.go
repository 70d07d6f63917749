package config

// Access lists: numbered and named, IPv4 and IPv6.

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"getvpn/cli/grammar"
	"getvpn/ipsec"
)

// An address in a pattern, kept under n (any, address), nw (wildcard).
func addr4(n string) string {
	return "{" + n + "any:any|host " + n + ":A.B.C.D|" + n + ":A.B.C.D " + n + "w:A.B.C.D}"
}

func addr6(n string) string {
	return "{" + n + "any:any|host " + n + ":X:X:X:X::X|" + n + "p:X:X:X:X::X/<0-128>}"
}

func portPattern(n string) string {
	return "[{" + n + "op:{eq|neq|lt|gt} " + n + "lo:PORT|" + n + "op:range " + n + "lo:PORT " + n + "hi:PORT}]"
}

const logPattern = " [log:{log|log-input}]"

// aces are the forms of an extended entry behind head.
func aces(mode, head, tail string, f ipsec.Family) []command {
	a, any, num, icmp := addr4, "ip", "<1-255>", "ICMP4"
	if f == ipsec.IPv6 {
		a, any, icmp = addr6, "ipv6", "ICMP6"
	}
	var names []string
	for _, p := range protocols {
		names = append(names, p.name)
	}
	do := func(b *builder, m *grammar.Match) error { return addACE(b, m, f) }
	head += " act:{permit|deny} "
	return []command{
		{Mode: mode, Pattern: head + "proto:{" + any + "|" + strings.Join(names, "|") + "|" + num + "} " + a("s") + " " + a("d") + logPattern + tail, Help: "An entry", No: true, Do: do},
		{Mode: mode, Pattern: head + "proto:{tcp|udp} " + a("s") + " " + portPattern("s") + " " + a("d") + " " + portPattern("d") + logPattern + tail, Help: "An entry", No: true, Do: do},
		{Mode: mode, Pattern: head + "proto:icmp " + a("s") + " " + a("d") + " [icmp:" + icmp + "]" + logPattern + tail, Help: "An entry", No: true, Do: do},
	}
}

const (
	stdNumber = "{n:<1-99>|n:<1300-1999>}"
	extNumber = "{n:<100-199>|n:<2000-2699>}"
	stdACE    = " act:{permit|deny} {" + "sany:any|host s:A.B.C.D|s:A.B.C.D [sw:A.B.C.D]}" + logPattern
)

func aclCommands() []command {
	std := func(b *builder, m *grammar.Match) error { return addACE(b, m, ipsec.IPv4) }
	remark := func(b *builder, m *grammar.Match) error {
		if m.No {
			if m.Has("n") && !m.Has("text") {
				b.removeACL(m.Get("n"))
			}
			return nil
		}
		if err := b.openNumbered(m); err != nil {
			return err
		}
		l := &b.c.ACLs[b.acl]
		l.Remarks = append(l.Remarks, Remark{len(l.Entries), m.Get("text")})
		return nil
	}
	out := []command{
		{Mode: modeGlobal, Pattern: "access-list " + stdNumber + stdACE, Help: "A standard entry", No: true, Do: std},
		{Mode: modeGlobal, Pattern: "access-list {" + stdNumber + "|" + extNumber + "} remark text:LINE", Help: "A comment", No: true, Do: remark},
		{Mode: modeGlobal, Pattern: "ip access-list standard name:WORD", Help: "A standard list", Enter: modeStdACL, No: true, Do: openACL("standard")},
		{Mode: modeGlobal, Pattern: "ip access-list extended name:WORD", Help: "An extended list", Enter: modeExtACL, No: true, Do: openACL("extended")},
		{Mode: modeGlobal, Pattern: "ipv6 access-list name:WORD", Help: "An IPv6 list", Enter: modeV6ACL, No: true, Do: openACL("ipv6")},
		{Mode: modeStdACL, Pattern: "[seq:<1-2147483647>]" + stdACE, Help: "An entry", No: true, Do: std},
	}
	for _, mode := range []string{modeStdACL, modeExtACL, modeV6ACL} {
		out = append(out, command{Mode: mode, Pattern: "[seq:<1-2147483647>] remark text:LINE", Help: "A comment", No: true, Do: remark})
		out = append(out, command{Mode: mode, Pattern: "seq:<1-2147483647>", Help: "With no: remove the entry", No: true, Do: func(b *builder, m *grammar.Match) error {
			if !m.No {
				return bad(m, "seq", "An entry says permit or deny.")
			}
			l, n := &b.c.ACLs[b.acl], num(m, "seq")
			l.Entries = slices.DeleteFunc(l.Entries, func(e ipsec.ACE) bool { return e.Seq == n })
			return nil
		}})
	}
	out = append(out, aces(modeGlobal, "access-list "+extNumber, "", ipsec.IPv4)...)
	out = append(out, aces(modeExtACL, "[seq:<1-2147483647>]", "", ipsec.IPv4)...)
	return append(out, aces(modeV6ACL, "[{seq:<1-2147483647>|sequence seq:<1-2147483647>}]", " [sequence seq:<1-2147483647>]", ipsec.IPv6)...)
}

func openACL(kind string) func(*builder, *grammar.Match) error {
	return func(b *builder, m *grammar.Match) error {
		if m.No {
			b.removeACL(m.Get("name"))
			return nil
		}
		return b.open(m, m.Get("name"), "name", kind)
	}
}

// openNumbered opens the list of an access-list line; within a named list it does
// nothing.
func (b *builder) openNumbered(m *grammar.Match) error {
	if !m.Has("n") {
		return nil
	}
	kind := "extended"
	if n := num(m, "n"); n < 100 || n >= 1300 && n < 2000 {
		kind = "standard"
	}
	return b.open(m, m.Get("n"), "n", kind)
}

func (b *builder) open(m *grammar.Match, name, arg, kind string) error {
	i := slices.IndexFunc(b.c.ACLs, func(a ACL) bool { return a.Name == name })
	if i >= 0 && b.c.ACLs[i].Kind != kind {
		return bad(m, arg, "List %s is a list of kind %s.", name, b.c.ACLs[i].Kind)
	}
	if n, err := strconv.Atoi(name); err == nil && kind != "ipv6" {
		std := n >= 1 && n <= 99 || n >= 1300 && n <= 1999
		ext := n >= 100 && n <= 199 || n >= 2000 && n <= 2699
		if kind == "standard" && !std || kind == "extended" && !ext {
			return bad(m, arg, "%s isn't the number of a list of kind %s.", name, kind)
		}
	}
	if i < 0 {
		i = len(b.c.ACLs)
		b.c.ACLs = append(b.c.ACLs, ACL{Name: name, Kind: kind})
	}
	b.acl = i
	b.mark("access-list " + name)
	return nil
}

func (b *builder) removeACL(name string) {
	b.c.ACLs = slices.DeleteFunc(b.c.ACLs, func(a ACL) bool { return a.Name == name })
}

func addACE(b *builder, m *grammar.Match, f ipsec.Family) error {
	if m.No && m.Has("n") && !m.Has("act") {
		b.removeACL(m.Get("n"))
		return nil
	}
	// "no" lets words be left out, but half an entry names none.
	whole := slices.ContainsFunc([]string{"sany", "s", "sp"}, m.Has) && (!m.Has("proto") || slices.ContainsFunc([]string{"dany", "d", "dp"}, m.Has))
	if !whole {
		return bad(m, "act", "Incomplete command.")
	}
	if err := b.openNumbered(m); err != nil {
		return err
	}
	e, err := aceOf(m, f)
	if err != nil {
		return err
	}
	l := &b.c.ACLs[b.acl]
	if m.No {
		l.Entries = slices.DeleteFunc(l.Entries, func(x ipsec.ACE) bool { s := x; s.Seq = e.Seq; return s == e })
		return nil
	}
	if m.Has("log") {
		b.warn("%q is ignored: entries don't log here", m.Get("log"))
	}
	if i := slices.IndexFunc(l.Entries, func(x ipsec.ACE) bool { s := x; s.Seq = e.Seq; return s == e }); i >= 0 {
		return nil // the device takes a copy without a word
	}
	if !m.Has("seq") {
		e.Seq = 10
		if n := len(l.Entries); n > 0 {
			e.Seq = l.Entries[n-1].Seq/10*10 + 10
		}
	}
	i, found := slices.BinarySearchFunc(l.Entries, e.Seq, func(x ipsec.ACE, n int) int { return x.Seq - n })
	if found {
		return bad(m, "seq", "The list has an entry %d already.", e.Seq)
	}
	l.Entries = slices.Insert(l.Entries, i, e)
	for j := range l.Remarks {
		if l.Remarks[j].Before > i {
			l.Remarks[j].Before++
		}
	}
	b.mark("access-list " + l.Name + " " + strconv.Itoa(e.Seq))
	return nil
}

func aceOf(m *grammar.Match, f ipsec.Family) (ipsec.ACE, error) {
	e := ipsec.ACE{Seq: num(m, "seq"), Family: f}
	if m.Get("act") == "permit" {
		e.Action = ipsec.Permit
	}
	switch p := m.Get("proto"); p {
	case "", "ip", "ipv6":
	case "tcp":
		e.Proto = 6
	case "udp":
		e.Proto = 17
	case "icmp":
		e.Proto = ipsec.ICMPProtocol(f)
	default:
		n, _ := numberOf(p, 255, protocols)
		e.Proto = uint8(n)
	}
	var err error
	if e.Src, err = matchOf(m, "s"); err != nil {
		return e, err
	}
	if e.Dst, err = matchOf(m, "d"); err != nil {
		return e, err
	}
	if e.SrcPort, err = portOf(m, "s", e.Proto); err != nil {
		return e, err
	}
	if e.DstPort, err = portOf(m, "d", e.Proto); err != nil {
		return e, err
	}
	if m.Has("icmp") {
		n, _ := numberOf(m.Get("icmp"), 255, icmpTable(f))
		e.HasICMPType, e.ICMPType = true, uint8(n)
	}
	return e, nil
}

// matchOf reads an address; any, a wildcard of ones and a /0 are the same.
func matchOf(m *grammar.Match, n string) (ipsec.AddrMatch, error) {
	var out ipsec.AddrMatch
	switch {
	case m.Has(n + "p"):
		p, err := netip.ParsePrefix(m.Get(n + "p"))
		if err != nil {
			return out, bad(m, n+"p", "Bad prefix.")
		}
		out = ipsec.MatchPrefix(p)
	case m.Has(n + "w"):
		out = ipsec.MatchWildcard(addr(m, n), addr(m, n+"w"))
	case m.Has(n):
		a := addr(m, n)
		out = ipsec.MatchPrefix(netip.PrefixFrom(a, a.BitLen()))
	}
	if p, ok := out.Prefix(); ok && p.Bits() == 0 {
		return ipsec.AddrMatch{}, nil
	}
	return out, nil
}

func portOf(m *grammar.Match, n string, proto uint8) (ipsec.PortMatch, error) {
	if !m.Has(n + "op") {
		return ipsec.PortMatch{}, nil
	}
	op := map[string]ipsec.PortOp{"eq": ipsec.PortEq, "neq": ipsec.PortNeq, "lt": ipsec.PortLt, "gt": ipsec.PortGt, "range": ipsec.PortRange}[m.Get(n+"op")]
	lo, _ := numberOf(m.Get(n+"lo"), 65535, portTables(proto)...)
	p := ipsec.PortMatch{Op: op, Lo: lo}
	if op == ipsec.PortRange {
		p.Hi, _ = numberOf(m.Get(n+"hi"), 65535, portTables(proto)...)
		if p.Hi < p.Lo {
			return p, bad(m, n+"hi", "The range ends before it begins.")
		}
	}
	return p, nil
}
