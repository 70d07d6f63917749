package config

// "crypto gdoi state": whether a key server keeps its groups over restarts.

import "getvpn/cli/grammar"

func stateCommands() []command {
	return []command{
		{Mode: modeGlobal, Pattern: "crypto {gdoi|gkm} state s:{sealed|off}", Help: "What a key server keeps over restarts", No: true, Do: func(b *builder, m *grammar.Match) error {
			// "no" with a value is the other value, "no" alone the default.
			b.c.StateOff = (m.Get("s") == "off" && !m.No) || (m.Get("s") == "sealed" && m.No)
			return nil
		}},
	}
}

func (p *printer) state(c *Config) {
	if c.StateOff {
		p.add(slotPKI, "crypto gdoi state off")
	}
}
