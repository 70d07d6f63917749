package cli

// Views of Sender IDs: gm identifier, ks identifier.

import (
	"fmt"
	"slices"
	"strings"

	"getvpn/model"
)

// counterMode reports whether a transform needs Sender IDs.
func counterMode(transform string) bool {
	return strings.Contains(transform, "gcm") || strings.Contains(transform, "gmac")
}

func modeText(counter bool) string {
	if counter {
		return "Counter (Suite-B)"
	}
	return "Non-Counter (Non-Suite-B)"
}

// sizeText is a width of Sender IDs as the device names it.
func sizeText(bits int) string {
	switch bits {
	case 24:
		return "24 bits (MEDIUM)"
	case 32:
		return "32 bits (LARGE)"
	}
	return fmt.Sprintf("%d bits (SMALL)", bits)
}

func (v *view) gmIdentifier(detail bool) {
	for i, g := range v.members() {
		if i > 0 {
			v.line("\n")
		}
		counter := slices.ContainsFunc(g.TEKs, func(t model.TEK) bool { return counterMode(t.Transform) })
		var ids []string
		life := 0
		for j := range g.TEKs {
			life = max(life, v.left(g.TEKs[j].Expires))
			for _, s := range g.TEKs[j].SIDs {
				if t := fmt.Sprintf("0x%X", s); !slices.Contains(ids, t) {
					ids = append(ids, t)
				}
			}
		}
		v.line("GM Sender ID (SID) Information for Group %s:\n", g.Name)
		v.line("  Group Member: %-16s vrf: None", ip(g.Local.Addr()))
		v.line("    Transform Mode                  : %s", modeText(counter))
		v.line("    # of SIDs Last Requested        : %d\n", len(ids))
		if len(ids) == 0 {
			ids = []string{"None"}
		}
		v.line("    CURRENT SIDs: %s", strings.Join(ids, ", "))
		if detail {
			v.line("\n    NEXT SID REQUEST:")
			v.line("      TEK Lifetime                  : %d sec", life)
			v.line("      SID Length (Group Size)       : %s", sizeText(v.sidBits(g)))
		}
	}
}

// sidBits is the width of a member's Sender IDs; the device's default while it has none.
func (v *view) sidBits(g *model.GMGroup) int {
	for i := range g.TEKs {
		if n := g.TEKs[i].SIDBits; n > 0 {
			return n
		}
	}
	return 24
}

func (v *view) ksIdentifier(detail bool) {
	for i, g := range v.servers() {
		if i > 0 {
			v.line("\n")
		}
		counter := counting(g)
		k := kssids{current: "none", assigned: "none", used: "none", old: "none", available: "none", last: "none"}
		switch {
		case g.Coop != nil:
			k = kssidsOf(g)
		case counter:
			k.current, k.assigned, k.used = "0", "0", "0" // the only one: nobody shares the numbers
			if g.SIDsUsed > 0 {
				k.last = fmt.Sprint(g.SIDsUsed - 1)
			}
		}
		v.line("KS Sender ID (KSSID) Information for Group %s:\n", g.Name)
		v.line("    Transform Mode           : %s", modeText(counter))
		v.line("    Re-initializing          : %s", yesNo(g.Coop != nil && g.Coop.Reinit))
		v.line("    SID Length (Group Size)  : %s", sizeText(g.SIDBits))
		v.line("    Current KSSID In-Use     : %s", k.current)
		v.line("    Last GMSID Used          : %s", k.last)
		if !detail {
			continue
		}
		remaining := "none"
		if counter {
			remaining = fmt.Sprintf("%d of %d", g.SIDsMax-min(g.SIDsMax, g.SIDsUsed), g.SIDsMax)
		}
		v.line("\n    KSSID(s) Assigned        : %s", k.assigned)
		v.line("    KSSID(s) Used            : %s", k.used)
		v.line("    KSSID(s) Used (Old)      : %s", k.old)
		v.line("    Available KSSID(s)       : %s\n", k.available)
		v.line("    REMAINING SIDs: %s", remaining)
	}
}
