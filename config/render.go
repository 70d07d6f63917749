package config

// show running-config: the canonical long form, in the device's order. Defaults are not
// printed; a key is printed as it was typed.

import (
	"fmt"
	"strings"
	"time"

	"getvpn/ipsec"
)

// printer collects the blocks of each slot.
type printer struct {
	slots [numSlots][]string // blocks; a block ends without a new line
}

func (p *printer) add(slot int, lines ...string) {
	if len(lines) > 0 {
		p.slots[slot] = append(p.slots[slot], strings.Join(lines, "\n"))
	}
}

// Render is the text of show running-config without its heading: what Parse reads back.
func Render(c *Config) string {
	p := &printer{}
	p.kept(c)
	p.add(slotHostname, "hostname "+c.Hostname)
	p.logging(&c.Logging)
	p.isakmp(c)
	p.ipsec(c)
	p.state(c)
	p.tagMask(c)
	for i := range c.Groups {
		p.group(&c.Groups[i])
	}
	for i := range c.CryptoMaps {
		p.cryptoMap(&c.CryptoMaps[i])
	}
	for i := range c.Interfaces {
		p.iface(&c.Interfaces[i])
	}
	for i := range c.ACLs {
		p.acl(&c.ACLs[i])
	}
	var b strings.Builder
	for slot, blocks := range p.slots {
		for i, t := range blocks {
			// Blocks that open a mode stand apart; lines of one kind stand together.
			if apart := slot == slotGroups || slot == slotMaps || slot == slotInterfaces || slot == slotRouting; apart && i > 0 {
				b.WriteString("!\n")
			}
			b.WriteString(t + "\n")
		}
		if len(blocks) > 0 {
			b.WriteString("!\n")
		}
	}
	return b.String() + "end\n"
}

// Equal reports whether two configurations say the same, keys included. Where they came
// from doesn't count, nor how kept lines of different kinds were mixed.
func Equal(a, b *Config) bool { return Render(a) == Render(b) }

func (p *printer) kept(c *Config) {
	for _, k := range c.Kept {
		p.add(slotOf(k.Text), append([]string{k.Text}, k.Body...)...)
	}
}

// slotOf finds where a kept line is printed.
func slotOf(text string) int {
	g, err := fileGrammar()
	if err != nil || strings.HasPrefix(text, "banner ") {
		return slotLine
	}
	cmd, _, err := g.Match(modeGlobal, text)
	if err != nil {
		return slotLine
	}
	for _, k := range keptLines {
		if k.pattern == cmd.Pattern {
			return k.slot
		}
	}
	return slotLine
}

func (p *printer) logging(l *Logging) {
	switch {
	case !l.Console:
		p.add(slotLogging, "no logging console")
	case l.ConsoleLevel != "":
		p.add(slotLogging, "logging console "+l.ConsoleLevel)
	}
	for _, h := range l.Hosts {
		s := "logging host " + h.Addr.String()
		if h.Port != 514 {
			s += fmt.Sprintf(" transport udp port %d", h.Port)
		}
		p.add(slotLogging, s)
	}
}

func secs(d time.Duration) int { return int(d / time.Second) }

// on adds the line when the condition holds.
func on(lines []string, cond bool, format string, args ...any) []string {
	if cond {
		return append(lines, fmt.Sprintf(format, args...))
	}
	return lines
}

func (p *printer) isakmp(c *Config) {
	for _, x := range c.ISAKMPPolicies {
		def := newPolicy(x.Priority)
		l := []string{fmt.Sprintf("crypto isakmp policy %d", x.Priority)}
		encr := string(x.Encr)
		if x.Encr == EncrAES && x.KeyBits != 128 {
			encr += fmt.Sprintf(" %d", x.KeyBits)
		}
		l = on(l, x.Encr != def.Encr, " encr %s", encr)
		l = on(l, x.Hash != def.Hash, " hash %s", x.Hash)
		l = on(l, x.Auth != def.Auth, " authentication %s", x.Auth)
		l = on(l, x.DHGroup != def.DHGroup, " group %d", x.DHGroup)
		l = on(l, x.Lifetime != def.Lifetime, " lifetime %d", secs(x.Lifetime))
		p.add(slotISAKMP, l...)
	}
	for _, k := range c.Keys {
		s := "crypto isakmp key " + keyText(&k)
		switch {
		case k.Hostname != "":
			s += " hostname " + k.Hostname
		case k.Prefix.Addr().Is6():
			s += " address ipv6 " + k.Prefix.String()
		case k.Prefix.Bits() == 32:
			s += " address " + k.Prefix.Addr().String()
		default:
			s += " address " + k.Prefix.Addr().String() + " " + ipsec.MatchPrefix(k.Prefix).Mask.String()
		}
		p.add(slotISAKMP, s)
	}
	if c.ISAKMPIdentity != "" && c.ISAKMPIdentity != "address" {
		p.add(slotISAKMP, "crypto isakmp identity "+c.ISAKMPIdentity)
	}
	if c.Aggressive {
		p.add(slotISAKMP, "crypto isakmp aggressive-mode enable")
	}
	if k := c.Keepalive; k.Interval > 0 {
		s := fmt.Sprintf("crypto isakmp keepalive %d", secs(k.Interval))
		if k.Retry != 2*time.Second {
			s += fmt.Sprintf(" %d", secs(k.Retry))
		}
		if k.Periodic {
			s += " periodic"
		}
		p.add(slotISAKMP, s)
	}
}

// keyText is the key as it was typed. A type 0 key that looks like a type needs its 0.
func keyText(k *ISAKMPKey) string {
	switch {
	case k.Type == 7 && len(k.Written) > 0:
		return "7 " + string(k.Written)
	case k.Type == 7:
		return "7 " + encode7(k.Key)
	case len(k.Key) == 1:
		return "0 " + string(k.Key)
	}
	return string(k.Key)
}

func (p *printer) ipsec(c *Config) {
	for _, t := range c.TransformSets {
		l := []string{"crypto ipsec transform-set " + t.Name + " " + transformText(t.Transform), " mode tunnel"}
		if t.Transform.Mode == ipsec.Transport {
			l[1] = " mode transport"
		}
		l = on(l, t.Transform.ICVLen != 0, " icv %d", t.Transform.ICVLen)
		p.add(slotIPsec, l...)
	}
	for _, x := range c.Profiles {
		l := []string{"crypto ipsec profile " + x.Name}
		l = on(l, x.Lifetime != defaultTEK, " set security-association lifetime seconds %d", secs(x.Lifetime))
		l = on(l, len(x.TransformSets) > 0, " set transform-set %s", strings.Join(x.TransformSets, " "))
		p.add(slotIPsec, l...)
	}
	if c.DFBit != DFCopy {
		p.add(slotIPsec, "crypto ipsec df-bit "+map[DFBit]string{DFClear: "clear", DFSet: "set"}[c.DFBit])
	}
}

// transformText is the transform as configuration writes it: key size behind.
func transformText(t ipsec.Transform) string {
	s := map[ipsec.Cipher]string{ipsec.CipherNull: "esp-null", ipsec.Cipher3DES: "esp-3des", ipsec.CipherAESCBC: "esp-aes",
		ipsec.CipherAESGCM: "esp-gcm", ipsec.CipherAESGMAC: "esp-gmac"}[t.Cipher]
	if t.KeyBits > 128 {
		s += fmt.Sprintf(" %d", t.KeyBits)
	}
	if a := map[ipsec.Auth]string{ipsec.AuthSHA1: "esp-sha-hmac", ipsec.AuthSHA256: "esp-sha256-hmac", ipsec.AuthSHA384: "esp-sha384-hmac",
		ipsec.AuthSHA512: "esp-sha512-hmac"}[t.Auth]; a != "" {
		s += " " + a
	}
	return s
}
