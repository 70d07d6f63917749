package cli

// What configuration mode shows of changes that aren't applied yet: their lines, and
// what they will cause.

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"getvpn/cli/grammar"
	"getvpn/config"
)

func sorted(l []grammar.Choice) []grammar.Choice {
	slices.SortStableFunc(l, func(a, b grammar.Choice) int { return strings.Compare(a.Word, b.Word) })
	return slices.CompactFunc(l, func(a, b grammar.Choice) bool { return a.Word == b.Word })
}

// showConfiguration answers show configuration; false when the words are another show
// command's. They may be shortened.
func (s *Session) showConfiguration(words string) (string, bool) {
	f := strings.Fields(strings.ToLower(words))
	if len(f) != 2 || len(f[0]) < 4 || !strings.HasPrefix("configuration", f[0]) {
		return "", false
	}
	switch {
	case strings.HasPrefix("consequences", f[1]):
		return consequences(s.base, s.ed.Config()), true
	case strings.HasPrefix("diff", f[1]):
		return diff(config.Render(s.base), config.Render(s.ed.Config())), true
	}
	return "", false
}

// consequences lists by group what applying next in place of old will cause, with the
// row of the table of changes that says so.
func consequences(old, next *config.Config) string {
	var b strings.Builder
	group := "\x00"
	for _, c := range config.Consequences(old, next) {
		if c.Group != group {
			group = c.Group
			if group == "" {
				b.WriteString("All groups:\n")
			} else {
				fmt.Fprintf(&b, "Group %s:\n", group)
			}
		}
		fmt.Fprintf(&b, "  %-24s %s\n", c.Verdict(), c.What)
		fmt.Fprintf(&b, "  %-24s %s\n", "", c.Text)
		source := c.Row
		if c.Guide != "" {
			source += ": guide, " + c.Guide
		}
		fmt.Fprintf(&b, "  %-24s [%s]\n", "", source)
	}
	switch {
	case b.Len() > 0:
	case config.Equal(old, next):
		return "No changes.\n"
	default:
		b.WriteString("No group is affected.\n")
	}
	b.WriteString(octets(old, next))
	for _, err := range config.Validate(next) {
		text := err.Error()
		var v *config.ValidationError
		if errors.As(err, &v) {
			text = v.Text
		}
		fmt.Fprintf(&b, "%% Can't be applied: %s\n", text)
	}
	return b.String()
}

// octets tells the length of rekeys that change.
func octets(old, next *config.Config) string {
	var b strings.Builder
	for i := range next.Groups {
		g := &next.Groups[i]
		n, was := config.RekeyOctets(next, g), 0
		if o := old.GroupByName(g.Name); o != nil {
			was = config.RekeyOctets(old, o)
		}
		if n != 0 && n != was {
			fmt.Fprintf(&b, "%% Group %s: a rekey message has about %d octets.\n", g.Name, n)
		}
	}
	return b.String()
}

// news is what there is to say of a configuration that was applied: advice that the
// one before didn't need.
func news(old, next *config.Config) string {
	var b strings.Builder
	had := map[string]bool{}
	for _, w := range config.Warnings("", old) {
		had[w.Text] = true
	}
	for _, w := range config.Warnings("", next) {
		if !had[w.Text] {
			fmt.Fprintf(&b, "%% %s\n", w.Text)
		}
	}
	return b.String() + octets(old, next)
}

// diff shows changed lines with "+" and "-", each below the lines that its block opens
// with.
func diff(old, next string) string {
	a, c := strings.Split(strings.TrimSuffix(old, "\n"), "\n"), strings.Split(strings.TrimSuffix(next, "\n"), "\n")
	// What is equal at both ends needs no thought.
	head := 0
	for head < len(a) && head < len(c) && a[head] == c[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(c)-head && a[len(a)-1-tail] == c[len(c)-1-tail] {
		tail++
	}
	x, y := a[head:len(a)-tail], c[head:len(c)-tail]
	var b strings.Builder
	var path []string // the line printed last, below what its block opens with
	emit := func(text []string, i int, mark string) {
		if text[i] == "!" {
			return
		}
		var open []string
		in := indent(text[i])
		for j := i - 1; j >= 0 && in > 0; j-- {
			if n := indent(text[j]); n < in && text[j] != "!" {
				open, in = append(open, text[j]), n
			}
		}
		slices.Reverse(open)
		same := 0
		for same < len(open) && same < len(path) && open[same] == path[same] {
			same++
		}
		for _, o := range open[same:] {
			b.WriteString("  " + o + "\n")
		}
		path = append(open, text[i])
		b.WriteString(mark + " " + text[i] + "\n")
	}
	l := longest(x, y)
	i, j := 0, 0
	for i < len(x) || j < len(y) {
		switch {
		case i < len(x) && j < len(y) && x[i] == y[j]:
			i, j = i+1, j+1
		case i < len(x) && (j == len(y) || l[i+1][j] >= l[i][j+1]):
			emit(a, head+i, "-")
			i++
		default:
			emit(c, head+j, "+")
			j++
		}
	}
	if b.Len() == 0 {
		return "No changes.\n"
	}
	return b.String()
}

func indent(s string) int { return len(s) - len(strings.TrimLeft(s, " ")) }

// longest is the table of common subsequences: l[i][j] is that of x[i:] and y[j:].
// Very long changes aren't compared line by line.
func longest(x, y []string) [][]int {
	l := make([][]int, len(x)+1)
	for i := range l {
		l[i] = make([]int, len(y)+1)
	}
	if len(x)*len(y) > 4<<20 {
		return l
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				l[i][j] = l[i+1][j+1] + 1
			} else {
				l[i][j] = max(l[i+1][j], l[i][j+1])
			}
		}
	}
	return l
}
