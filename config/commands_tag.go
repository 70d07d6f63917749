package config

// "crypto gdoi tag mark mask": where a packet's firewall mark has its security group tag,
// in groups that carry tags. One setting for the machine, since marks are the machine's:
// the rules that set and match them see every interface.

import (
	"fmt"
	"strconv"
	"strings"

	"getvpn/cli/grammar"
	"getvpn/ipsec"
)

func tagCommands() []command {
	return []command{
		{Mode: modeGlobal, Pattern: "crypto {gdoi|gkm} tag mark mask [x:WORD]", Help: "Bits of the packet mark that carry the security group tag", No: true, Do: func(b *builder, m *grammar.Match) error {
			if m.No {
				b.c.TagMask = 0
				return nil
			}
			if !m.Has("x") {
				return &badValue{0, "A mask is missing: hexadecimal, up to 16 bits in a row, such as 0xffff."}
			}
			text := strings.TrimPrefix(strings.ToLower(m.Get("x")), "0x")
			mask, err := strconv.ParseUint(text, 16, 32)
			if err != nil {
				return bad(m, "x", "A mask is a hexadecimal number of up to 32 bits, such as 0xff0000.")
			}
			if _, _, ok := ipsec.TagBits(uint32(mask)); !ok {
				return bad(m, "x", "A mask has 1 to 16 bits in a row, such as 0xffff or 0xff0000.")
			}
			if b.c.TagMask = uint32(mask); mask == ipsec.DefaultTagMask {
				b.c.TagMask = 0
			}
			return nil
		}},
	}
}

func (p *printer) tagMask(c *Config) {
	if c.TagMask != 0 {
		p.add(slotPKI, fmt.Sprintf("crypto gdoi tag mark mask 0x%x", c.TagMask))
	}
}
