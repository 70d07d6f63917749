package grammar

// What is wrong with a line, in the words that scripts search for.

import (
	"strings"
)

// Kind of an error.
type Kind uint8

const (
	Invalid Kind = iota
	Incomplete
	Ambiguous
)

// Error says which word of a line doesn't fit. Col counts the octets in front of it.
type Error struct {
	Kind       Kind
	Line       string
	Col        int
	Word       string
	Suggestion string   // the nearest keyword, "" for none
	Expected   []string // what might stand there
	Secret     [][2]int // parts of Line that must not be shown
}

// Error is the message without the line, which may hold a key.
func (e *Error) Error() string {
	switch e.Kind {
	case Incomplete:
		return "% Incomplete command."
	case Ambiguous:
		return `% Ambiguous command:  "` + Mask(e.Line[:e.Col], e.Secret) + e.Word + `"`
	}
	return "% Invalid input detected at '^' marker."
}

// Caret shows the line with a caret under the bad word; secrets are starred. indent is
// put in front of both lines.
func (e *Error) Caret(indent string) string { return Caret(e.Line, e.Col, e.Secret, indent) }

// Caret shows line with a caret under the octet col.
func Caret(line string, col int, hide [][2]int, indent string) string {
	col = min(col, len(line))
	head := Mask(line[:col], hide)
	tail := Mask(line, hide)[len(head):]
	return indent + head + tail + "\n" + indent + strings.Repeat(" ", column(head, len(head))) + "^"
}

// Mask replaces the parts [from, to) of line by stars, as many as they have octets.
func Mask(line string, parts [][2]int) string {
	b := []byte(line)
	for _, p := range parts {
		for i := p[0]; i < p[1] && i < len(b); i++ {
			b[i] = '*'
		}
	}
	return string(b)
}

// nearest is the keyword with the least typing errors, within a third of its length.
func nearest(w string, words []string) string {
	best, dist := "", 3
	for _, k := range words {
		if k == "" || strings.ToLower(k) != k || strings.ContainsAny(k, "<") {
			continue
		}
		// The word may be a shortened one with a slip in it.
		for n := min(len(w), len(k)); ; n = len(k) {
			if d := distance(strings.ToLower(w), k[:n]); d < dist && d <= max(1, len(w)/3) {
				best, dist = k, d
			}
			if n == len(k) {
				break
			}
		}
	}
	return best
}

// distance counts insertions, deletions, replacements and swaps of neighbours. Long
// words are far from everything.
func distance(a, b string) int {
	if len(a) > 40 || len(b) > 40 {
		return 100
	}
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

// Message is a sentence for a person who reads about a file.
func (e *Error) Message() string {
	switch e.Kind {
	case Incomplete:
		return "Incomplete command."
	case Ambiguous:
		return "Ambiguous command: may be " + strings.Join(e.Expected, ", ") + "."
	}
	if e.Col == len(e.Line)-len(strings.TrimLeft(e.Line, " \t")) {
		return "Unknown command."
	}
	return "Invalid input."
}
