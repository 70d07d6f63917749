package config

// Commands of the outermost mode that have a meaning of their own: host name, syslog.

import (
	"net/netip"
	"slices"
	"strconv"

	"getvpn/cli/grammar"
)

func num(m *grammar.Match, name string) int {
	n, _ := strconv.Atoi(m.Get(name)) // checked by the grammar
	return n
}

func addr(m *grammar.Match, name string) netip.Addr {
	a, _ := netip.ParseAddr(m.Get(name)) // checked by the grammar
	return a
}

func globalCommands() []command {
	return []command{
		{Mode: modeGlobal, Pattern: "hostname name:WORD", Help: "Name of this device", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.c.Hostname = m.Get("name")
			if m.No {
				b.c.Hostname = New().Hostname
			}
			return nil
		}},
		{Mode: modeGlobal, Pattern: "logging {host a:A.B.C.D|a:A.B.C.D|host a:X:X:X:X::X} [transport {udp [port p:<1-65535>]}]", Help: "Send messages to a host", No: true, Do: logHost},
		{Mode: modeGlobal, Pattern: "logging console [level:WORD]", Help: "Messages on the console", No: true, Do: func(b *builder, m *grammar.Match) error {
			b.c.Logging.Console = !m.No
			b.c.Logging.ConsoleLevel = m.Get("level")
			return nil
		}},
	}
}

func logHost(b *builder, m *grammar.Match) error {
	h := LogHost{addr(m, "a"), 514}
	if m.Has("p") {
		h.Port = uint16(num(m, "p"))
	}
	l := &b.c.Logging.Hosts
	if m.No {
		*l = slices.DeleteFunc(*l, func(x LogHost) bool { return x.Addr == h.Addr })
		return nil
	}
	if !slices.Contains(*l, h) {
		*l = append(*l, h)
	}
	return nil
}
