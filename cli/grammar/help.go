package grammar

// Help and completion, from the same declarations.

import (
	"slices"
	"strings"
)

// Choice is what may stand at a place: Word as help shows it, with its meaning.
type Choice struct {
	Word, Help string
}

// Enter is the choice that means: the line may end here.
const Enter = "<cr>"

// Help lists what may follow line, or, when line doesn't end in a space, what its last
// word may become. It returns nil when line has a bad word.
func (g *Grammar[C]) Help(modeName, line string) []Choice {
	toks := Split(line)
	no := len(toks) > 0 && strings.EqualFold(toks[0].Text, "no") && (len(toks) > 1 || strings.HasSuffix(line, " "))
	if no {
		toks = toks[1:]
	}
	part := ""
	if n := len(toks); n > 0 && !strings.HasSuffix(line, " ") {
		part = toks[n-1].Text
		toks = toks[:n-1]
	}
	threads, err := g.run(modeName, line, toks, no)
	if err != nil {
		return nil
	}
	var out []Choice
	for i := range threads {
		t := &threads[i]
		if t.done {
			continue
		}
		for _, p := range t.next() {
			s := &t.nfa.syms[p]
			if s.kind == keyword && !(len(part) <= len(s.text) && strings.EqualFold(part, s.text[:len(part)])) {
				continue
			}
			if ok, _ := s.accepts(part); s.kind != keyword && part != "" && !ok {
				continue
			}
			h := s.help
			if s.kind == keyword {
				h = g.keywords[s.text]
				if h == "" && !slices.ContainsFunc(t.nfa.follow[p], func(q int) bool { return t.nfa.syms[q].kind == keyword }) {
					h = t.cmd.Help
				}
			}
			out = append(out, Choice{s.text, h})
		}
	}
	slices.SortStableFunc(out, func(a, b Choice) int { return strings.Compare(a.Word, b.Word) })
	out = slices.CompactFunc(out, func(a, b Choice) bool { return a.Word == b.Word })
	if part == "" && len(toks) > 0 && slices.ContainsFunc(threads, func(t thread[C]) bool { return t.complete() }) {
		out = append(out, Choice{Enter, ""})
	}
	return out
}

// Complete returns the full word for line's last one when only one keyword is left,
// "" otherwise.
func (g *Grammar[C]) Complete(modeName, line string) string {
	found := ""
	for _, c := range g.Help(modeName, line) {
		if c.Word == Enter || strings.ToLower(c.Word) != c.Word || strings.HasPrefix(c.Word, "<") {
			continue
		}
		if found != "" {
			return ""
		}
		found = c.Word
	}
	return found
}
