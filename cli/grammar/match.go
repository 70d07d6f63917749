package grammar

// Matching a line: all commands of a mode run side by side, so that a word is judged
// against everything that may stand at its place.

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Arg is what the user typed for a named element. Keywords are given in full.
type Arg struct {
	Name, Text string
	Col        int // octets in front of it
}

// Match is a line that fits a command.
type Match struct {
	Line string
	No   bool
	Args []Arg
	// Secret marks the octets [from, to) that must not be shown.
	Secret [][2]int
}

// Get returns the first argument of that name, "" when it was left out.
func (m *Match) Get(name string) string {
	for _, a := range m.Args {
		if a.Name == name {
			return a.Text
		}
	}
	return ""
}

// Has reports whether an argument of that name was given.
func (m *Match) Has(name string) bool {
	return slices.ContainsFunc(m.Args, func(a Arg) bool { return a.Name == name })
}

// All returns every argument of that name in order.
func (m *Match) All(name string) []string {
	var out []string
	for _, a := range m.Args {
		if a.Name == name {
			out = append(out, a.Text)
		}
	}
	return out
}

// Col is where the argument stands (octets in front of it), 0 when it is missing.
func (m *Match) Col(name string) int {
	for _, a := range m.Args {
		if a.Name == name {
			return a.Col
		}
	}
	return 0
}

// Token is a word of a line and the octets in front of it.
type Token struct {
	Text string
	Col  int
}

// Split cuts a line into words.
func Split(line string) []Token {
	var out []Token
	start := -1
	for i := 0; i <= len(line); i++ {
		space := i == len(line) || line[i] == ' ' || line[i] == '\t'
		switch {
		case space && start >= 0:
			out = append(out, Token{line[start:i], start})
			start = -1
		case !space && start < 0:
			start = i
		}
	}
	return out
}

// thread is one way to read the words so far.
type thread[C any] struct {
	cmd  *compiled[C]
	nfa  *automaton
	pos  int // -1 before the first word
	rank []kind
	args []Arg
	sec  [][2]int
	done bool // LINE took the rest
}

func (t *thread[C]) next() []int {
	if t.pos < 0 {
		return t.nfa.first
	}
	return t.nfa.follow[t.pos]
}

func (t *thread[C]) complete() bool { return t.done || t.pos >= 0 && t.nfa.last[t.pos] }

// Match finds the command of mode that line is. The error is an *Error.
func (g *Grammar[C]) Match(modeName, line string) (Command[C], *Match, error) {
	toks := Split(line)
	no := len(toks) > 0 && strings.EqualFold(toks[0].Text, "no")
	if no {
		toks = toks[1:]
	}
	threads, err := g.run(modeName, line, toks, no)
	if err != nil {
		return Command[C]{}, nil, err
	}
	var best *thread[C]
	for i := range threads {
		t := &threads[i]
		if t.complete() && (best == nil || slices.Compare(t.rank, best.rank) < 0) {
			best = t
		}
	}
	if best == nil {
		return Command[C]{}, nil, &Error{Kind: Incomplete, Line: line, Col: len(strings.TrimRight(line, " \t")), Secret: secrets(threads)}
	}
	return best.cmd.Command, &Match{Line: line, No: no, Args: best.args, Secret: best.sec}, nil
}

// run reads all words; what comes back fitted up to the end.
func (g *Grammar[C]) run(modeName, line string, toks []Token, no bool) ([]thread[C], error) {
	threads := g.start(modeName, no)
	for _, tok := range toks {
		next, err := step(threads, line, tok)
		if err != nil {
			return nil, err
		}
		threads = next
	}
	return threads, nil
}

func (g *Grammar[C]) start(modeName string, no bool) []thread[C] {
	var out []thread[C]
	if m := g.modes[modeName]; m != nil {
		for _, c := range m.cmds {
			switch {
			case !no:
				out = append(out, thread[C]{cmd: c, nfa: &c.nfa, pos: -1})
			case c.No:
				out = append(out, thread[C]{cmd: c, nfa: &c.neg, pos: -1})
			}
		}
	}
	return out
}

type candidate[C any] struct {
	from *thread[C]
	pos  int
	sym  *symbol
}

// step moves all threads over one word.
func step[C any](threads []thread[C], line string, tok Token) ([]thread[C], error) {
	var full, short, params []candidate[C]
	var out []thread[C]
	for i := range threads {
		t := &threads[i]
		if t.done {
			out = append(out, *t)
			continue
		}
		for _, p := range t.next() {
			s := &t.nfa.syms[p]
			ok, exact := s.accepts(tok.Text)
			switch {
			case !ok || s.kind == keyword && !exact && t.cmd.Full:
			case s.kind != keyword:
				params = append(params, candidate[C]{t, p, s})
			case exact:
				full = append(full, candidate[C]{t, p, s})
			default:
				short = append(short, candidate[C]{t, p, s})
			}
		}
	}
	words := full
	if len(full) == 0 {
		words = short
		if slices.ContainsFunc(short, func(c candidate[C]) bool { return c.sym.text != short[0].sym.text }) {
			if len(params) == 0 && len(out) == 0 {
				return nil, &Error{Kind: Ambiguous, Line: line, Col: tok.Col, Word: tok.Text, Expected: texts(short), Secret: secrets(threads)}
			}
			words = nil
		}
	}
	for _, c := range append(words, params...) {
		out = append(out, c.take(line, tok))
	}
	if len(out) == 0 {
		exp := expected(threads)
		return nil, &Error{Kind: Invalid, Line: line, Col: tok.Col, Word: tok.Text, Expected: exp,
			Suggestion: nearest(tok.Text, exp), Secret: secrets(threads)}
	}
	return out, nil
}

func (c candidate[C]) take(typed string, tok Token) thread[C] {
	t := *c.from
	t.pos = c.pos
	t.rank = append(slices.Clone(t.rank), c.sym.kind)
	text := tok.Text
	switch c.sym.kind {
	case keyword:
		text = c.sym.text
	case secret:
		t.sec = append(slices.Clone(t.sec), [2]int{tok.Col, tok.Col + len(tok.Text)})
	case line:
		text = strings.TrimRight(typed[tok.Col:], " \t")
		t.done = true
	}
	if c.sym.name != "" {
		t.args = append(slices.Clone(t.args), Arg{c.sym.name, text, tok.Col})
	}
	return t
}

func secrets[C any](threads []thread[C]) [][2]int {
	var out [][2]int
	for i := range threads {
		out = append(out, threads[i].sec...)
	}
	slices.SortFunc(out, func(a, b [2]int) int { return cmp.Compare(a[0], b[0]) })
	return slices.Compact(out)
}

func texts[C any](cs []candidate[C]) []string {
	var out []string
	for _, c := range cs {
		out = append(out, c.sym.text)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// expected lists what might stand next.
func expected[C any](threads []thread[C]) []string {
	var out []string
	for i := range threads {
		if t := &threads[i]; !t.done {
			for _, p := range t.next() {
				out = append(out, t.nfa.syms[p].text)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// column counts characters, not octets.
func column(line string, octets int) int {
	return utf8.RuneCountInString(line[:min(octets, len(line))])
}
