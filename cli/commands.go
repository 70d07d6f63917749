package cli

// The exec commands and the views behind them.

import (
	"getvpn/cli/grammar"
	"getvpn/config"
	"getvpn/model"
)

// show makes a handler of a view; --json prints what part returns.
func show(v func(*call, *grammar.Match), part func(*model.Snapshot) any) func(*call, *grammar.Match) error {
	return func(c *call, m *grammar.Match) error {
		if part != nil {
			c.json = part(c.s)
		}
		c.group = m.Get("g")
		if c.group != "" && !c.known() {
			return refuse("Group %s is not configured.", c.group)
		}
		v(c, m)
		return nil
	}
}

func whole(s *model.Snapshot) any { return s }

func execCommands() []command {
	gdoi := "show crypto {gdoi|gkm} [group g:WORD] "
	ex := func(pattern, help string, v func(*call, *grammar.Match)) command {
		return command{Mode: execMode, Pattern: pattern, Help: help, Do: show(v, whole)}
	}
	text := func(pattern, help string, v func(*call, *grammar.Match)) command {
		return command{Mode: execMode, Pattern: pattern, Help: help, Do: show(v, nil)}
	}
	return []command{
		ex(gdoi+"[detail]", "Everything about groups", func(c *call, m *grammar.Match) { c.gdoi() }),
		ex(gdoi+"gm", "This member", func(c *call, m *grammar.Match) { c.gm() }),
		ex(gdoi+"gm acl [w:{download|local}]", "Lists of this member", func(c *call, m *grammar.Match) { c.gmACL(m.Get("w")) }),
		ex(gdoi+"gm dataplane counters", "Packets", func(c *call, m *grammar.Match) { c.gmCounters() }),
		ex(gdoi+"gm rekey [w:detail]", "Rekeys of this member", func(c *call, m *grammar.Match) { c.gmRekey(m.Has("w")) }),
		ex(gdoi+"gm replay", "Time-based anti-replay", func(c *call, m *grammar.Match) { c.gmReplay() }),
		ex(gdoi+"gm pubkey", "Key that verifies rekeys", func(c *call, m *grammar.Match) { c.gmPubkey() }),
		ex(gdoi+"gm identifier [w:detail]", "Sender IDs", func(c *call, m *grammar.Match) { c.gmIdentifier(m.Has("w")) }),
		ex(gdoi+"ks rekey", "KEK and rekeys", func(c *call, m *grammar.Match) { c.ksRekey() }),
		ex(gdoi+"ks replay", "Pseudotime", func(c *call, m *grammar.Match) { c.ksReplay() }),
		ex(gdoi+"ks identifier [w:detail]", "Sender IDs", func(c *call, m *grammar.Match) { c.ksIdentifier(m.Has("w")) }),
		ex(gdoi+"rekey sa [w:detail]", "Rekey SAs", func(c *call, m *grammar.Match) { c.rekeySA(m.Has("w")) }),
		ex(gdoi+"ks [detail]", "This key server", func(c *call, m *grammar.Match) { c.ks() }),
		ex(gdoi+"ks acl", "What is protected", func(c *call, m *grammar.Match) { c.ksACL() }),
		ex(gdoi+"ks members [a:A.B.C.D]", "Registered members", func(c *call, m *grammar.Match) { c.ksMembers(m.Get("a")) }),
		ex(gdoi+"ks members summary", "Members, a line each", func(c *call, m *grammar.Match) { c.ksSummary() }),
		ex(gdoi+"ks policy", "Keys in force", func(c *call, m *grammar.Match) { c.ksPolicy() }),
		ex(gdoi+"ks coop [w:detail]", "Cooperative key servers", func(c *call, m *grammar.Match) { c.ksCoop(m.Has("w")) }),
		ex(gdoi+"ks coop version", "Version of announcements", func(c *call, m *grammar.Match) { c.ksCoopVersion() }),
		ex(gdoi+"ks coop identifier [w:detail]", "Who gives out which Sender IDs", func(c *call, m *grammar.Match) { c.ksCoopIdentifier(m.Has("w")) }),
		ex(gdoi+"ipsec sa", "What is protected by which SA", func(c *call, m *grammar.Match) { c.gdoiSA() }),
		ex("show crypto isakmp sa", "IKE SAs", func(c *call, m *grammar.Match) { c.isakmpSA(false) }),
		ex("show crypto isakmp sa detail", "IKE SAs in detail", func(c *call, m *grammar.Match) { c.isakmpSA(true) }),
		ex("show crypto ipsec sa", "IPsec SAs with their counters", func(c *call, m *grammar.Match) { c.ipsecSA() }),
		ex("show crypto drops", "What was refused, by reason", func(c *call, m *grammar.Match) { c.drops() }),
		text("show crypto map gdoi fail-close [m:WORD]", "What passes before registration", func(c *call, m *grammar.Match) { c.failClose(m.Get("m")) }),
		text("show running-config", "The configuration in force", func(c *call, m *grammar.Match) { c.runningConfig() }),
		text("show version", "Software version", func(c *call, m *grammar.Match) { c.version() }),
		text("show clock", "Time", func(c *call, m *grammar.Match) {
			c.line("%s", c.now.UTC().Format("15:04:05.000 MST Mon Jan 2 2006"))
		}),
		text("show privilege", "Level", func(c *call, m *grammar.Match) { c.line("Current privilege level is 15") }),
		{Mode: execMode, Pattern: "terminal {length|width} <0-512>", Help: "Nothing is paged here", Do: func(*call, *grammar.Match) error { return nil }},
	}
}

// runningConfig prints the configuration with the device's heading.
func (c *call) runningConfig() {
	body := config.Render(c.c)
	c.line("Building configuration...\n")
	c.line("Current configuration : %d bytes\n!", len(body))
	c.b.WriteString(body)
}

func (c *call) version() {
	c.line("getvpn, Group Encrypted Transport VPN for Linux, Version %s\n", version())
	up := c.now.Sub(c.s.Boot)
	c.line("%s uptime is %d days, %d hours, %d minutes", c.s.Hostname, int(up.Hours())/24, int(up.Hours())%24, int(up.Minutes())%60)
}
