package cli

// KSSIDs: the leading bits of Sender IDs, which name the key server that gave them out.

import (
	"fmt"
	"slices"
	"strings"

	"getvpn/config"
	"getvpn/model"
)

// kssids are a group's, as words: "none" where there are none, as in small groups and
// for SAs that need no Sender IDs.
type kssids struct {
	shift                                    int  // bits of a Sender ID behind its KSSID
	known                                    bool // the group has KSSIDs
	current, assigned, used, available, last string
	old                                      string
}

// counting reports whether a group has TEKs whose members need Sender IDs.
func counting(g *model.KSGroup) bool {
	return slices.ContainsFunc(g.Policies, func(p model.KSPolicy) bool {
		return slices.ContainsFunc(p.TEKs, func(t model.TEK) bool { return counterMode(t.Transform) })
	})
}

// kssidsOf is the state of a group with cooperative key servers. Sender IDs are given
// out in ascending order, SIDsUsed of them so far.
func kssidsOf(g *model.KSGroup) kssids {
	n := config.KSSIDBits(g.SIDBits)
	k := kssids{shift: g.SIDBits - n, known: n > 0 && counting(g), current: "none", used: "none", available: "none", last: "none", old: "none", assigned: "none"}
	if !k.known {
		return k
	}
	k.assigned, k.old = k.text(g.Coop.SIDs), k.text(g.Coop.OldSIDs)
	var given, left []model.SIDRange
	rest := g.SIDsUsed
	for _, r := range g.Coop.SIDs {
		size := uint64(r.High-r.Low) + 1
		switch n := min(rest, size); {
		case n == size:
			given = append(given, r)
		default:
			if n > 0 {
				given = append(given, model.SIDRange{Low: r.Low, High: r.Low + uint32(n-1)})
			}
			left = append(left, model.SIDRange{Low: r.Low + uint32(n), High: r.High})
		}
		rest -= min(rest, size)
	}
	k.used = k.text(given)
	if n := len(given); n > 0 {
		last := given[n-1].High
		k.current, k.last = fmt.Sprint(last>>k.shift), fmt.Sprint(last&(1<<k.shift-1))
	}
	// The next KSSID is in use as soon as it is the next to be given out.
	if len(left) > 0 {
		next := left[0].Low >> k.shift
		k.current = fmt.Sprint(next)
		if left[0].Low = (next + 1) << k.shift; next == left[0].High>>k.shift {
			left = left[1:]
		}
	}
	k.available = k.text(left)
	return k
}

// text is "0-9, 127", ranges that follow each other as one.
func (k *kssids) text(ranges []model.SIDRange) string {
	if !k.known || len(ranges) == 0 {
		return "none"
	}
	var out []model.SIDRange
	for _, r := range ranges {
		r.Low, r.High = r.Low>>k.shift, r.High>>k.shift
		if n := len(out); n > 0 && r.Low <= out[n-1].High+1 {
			out[n-1].High = r.High
			continue
		}
		out = append(out, r)
	}
	var words []string
	for _, r := range out {
		if r.Low == r.High {
			words = append(words, fmt.Sprint(r.Low))
			continue
		}
		words = append(words, fmt.Sprintf("%d-%d", r.Low, r.High))
	}
	return strings.Join(words, ", ")
}
