package config

// Reading a file: lines, banners, the stack of modes, and which mode a line belongs
// to. A sub-mode ends by exit, by a lone "!", by end, by a command of an outer mode or
// by indentation; what none of the modes knows is an error and nothing is applied.

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"getvpn/cli/grammar"
)

// maxErrors is how many bad lines are told of at once.
const maxErrors = 20

// MaxSize is the largest file that Parse reads, in octets.
const MaxSize = 4 << 20

// builder is the configuration while it is read, with the objects that sub-mode
// commands work on. Indices, since appending moves the objects.
type builder struct {
	c        *Config
	file     string
	line     int
	warnings []Warning

	policy, set, profile, group, sa, cmap, entry, iface, acl int
}

func (b *builder) warn(format string, args ...any) {
	b.warnings = append(b.warnings, Warning{b.file, b.line, fmt.Sprintf(format, args...)})
}

func (b *builder) mark(object string) {
	if _, ok := b.c.Source[object]; !ok {
		b.c.Source[object] = b.line
	}
}

// badValue is a handler's complaint about one argument.
type badValue struct {
	col int
	why string
}

func (e *badValue) Error() string { return e.why }

func bad(m *grammar.Match, arg, format string, args ...any) error {
	return &badValue{m.Col(arg), fmt.Sprintf(format, args...)}
}

// frame is an open mode. indent is that of the line that opened it, body that of its
// first line (-1 before it).
type frame struct {
	mode         string
	indent, body int
}

type reader struct {
	b      *builder
	g      *grammar.Grammar[*builder]
	stack  []frame
	errs   Errors
	keep   *[]string // body of a kept block, nil outside
	keepIn int       // indentation of the kept block's head
}

// New returns the configuration of an empty file: defaults.
func New() *Config {
	return &Config{Hostname: "Router", ISAKMPIdentity: "address", Logging: Logging{Console: true}, Source: map[string]int{}}
}

// Parse reads IOS-syntax text. name is the file's for messages. When the error isn't
// nil (it is Errors) there is no configuration: nothing of a bad file is applied.
func Parse(name string, text []byte) (*Config, []Warning, error) {
	if len(text) > MaxSize {
		return nil, nil, fmt.Errorf("%s: larger than %d octets", name, MaxSize)
	}
	g, err := fileGrammar()
	if err != nil {
		return nil, nil, err
	}
	r := newReader(g, New(), name)
	lines := strings.Split(string(text), "\n")
	for i := 0; i < len(lines) && len(r.errs) < maxErrors; i++ {
		r.b.line = i + 1
		if used := r.banner(lines[i:]); used > 0 {
			i += used - 1
			continue
		}
		r.read(strings.TrimRight(lines[i], "\r"))
	}
	if len(r.errs) > 0 {
		return nil, r.b.warnings, r.errs
	}
	r.b.finish()
	return r.b.c, append(r.b.warnings, Warnings(name, r.b.c)...), nil
}

func newReader(g *grammar.Grammar[*builder], c *Config, name string) *reader {
	return &reader{b: &builder{c: c, file: name}, g: g, stack: []frame{{mode: modeGlobal, indent: -1, body: 0}}}
}

// banner takes a "banner KIND <delimiter>" block whole; it returns the lines used, 0
// when lines[0] opens none.
func (r *reader) banner(lines []string) int {
	toks := grammar.Split(lines[0])
	if len(toks) < 3 || toks[0].Text != "banner" {
		return 0
	}
	rest := lines[0][toks[2].Col:]
	delim := "^C"
	if !strings.HasPrefix(rest, delim) {
		_, n := utf8.DecodeRuneInString(rest)
		delim = rest[:n]
	}
	k := KeptLine{Line: r.b.line, Text: lines[0]}
	used := 1
	if !strings.Contains(rest[len(delim):], delim) {
		for ; ; used++ {
			if used == len(lines) {
				r.fail(toks[2].Col, lines[0], fmt.Sprintf("The banner has no end: no %q follows.", delim), nil, nil)
				return used
			}
			k.Body = append(k.Body, lines[used])
			if strings.Contains(lines[used], delim) {
				used++
				break
			}
		}
	}
	r.stack, r.keep = r.stack[:1], nil
	r.b.c.Kept = append(r.b.c.Kept, k)
	return used
}

func indentOf(line string) int { return len(line) - len(strings.TrimLeft(line, " \t")) }

func (r *reader) read(line string) {
	text := strings.TrimSpace(line)
	in := indentOf(line)
	switch {
	case text == "":
		return
	case r.keep != nil && in > r.keepIn:
		*r.keep = append(*r.keep, strings.TrimRight(line, " \t"))
		return
	case text[0] == '!':
		if text == "!" && in == 0 {
			r.stack, r.keep = r.stack[:1], nil
		}
		return
	}
	r.keep = nil
	for len(r.stack) > 1 {
		f := r.top()
		if f.body > f.indent && in <= f.indent {
			r.stack = r.stack[:len(r.stack)-1]
			continue
		}
		break
	}
	switch strings.ToLower(text) {
	case "end":
		r.stack = r.stack[:1]
		return
	case "exit", "exit-address-family":
		if len(r.stack) > 1 {
			r.stack = r.stack[:len(r.stack)-1]
		}
		return
	}
	r.dispatch(line, in)
}

func (r *reader) top() *frame { return &r.stack[len(r.stack)-1] }

// dispatch tries the innermost mode, then outwards.
func (r *reader) dispatch(line string, in int) {
	var worst *grammar.Error
	for depth := len(r.stack) - 1; depth >= 0; depth-- {
		cmd, m, err := r.g.Match(r.stack[depth].mode, line)
		if err != nil {
			var ge *grammar.Error
			if errors.As(err, &ge) && (worst == nil || ge.Col > worst.Col) {
				worst = ge
			}
			continue
		}
		// A line indented under a block belongs to it: what is merely kept can't claim it.
		if cmd.Enter == modeKept && depth+1 < len(r.stack) && in > r.stack[depth+1].indent {
			continue
		}
		r.stack = r.stack[:depth+1]
		if f := r.top(); f.body < 0 {
			f.body = in
		}
		r.run(cmd, m, line, in)
		return
	}
	if worst == nil {
		worst = &grammar.Error{Line: line, Col: in}
	}
	r.fail(worst.Col, line, worst.Message(), worst, append(sensitive(line), worst.Secret...))
}

func (r *reader) run(cmd grammar.Command[*builder], m *grammar.Match, line string, in int) {
	if err := cmd.Do(r.b, m); err != nil {
		var bv *badValue
		col := indentOf(line)
		if errors.As(err, &bv) && bv.col > 0 {
			col = bv.col
		}
		r.fail(col, line, err.Error(), nil, append(sensitive(line), m.Secret...))
	}
	switch {
	case cmd.Enter == modeKept:
		if !m.No {
			r.keep, r.keepIn = r.keptBody(), in
		}
	case cmd.Enter != "" && !m.No:
		r.stack = append(r.stack, frame{cmd.Enter, in, -1})
	}
}

// keptBody is where the lines below the line just kept go.
func (r *reader) keptBody() *[]string {
	if len(r.stack) == 1 && len(r.b.c.Kept) > 0 {
		return &r.b.c.Kept[len(r.b.c.Kept)-1].Body
	}
	return new([]string)
}

func (r *reader) fail(col int, line, msg string, input *grammar.Error, hide [][2]int) {
	e := &ParseError{File: r.b.file, Line: r.b.line, Col: utf8.RuneCountInString(line[:min(col, len(line))]) + 1,
		Msg: msg, Input: input, Caret: grammar.Caret(line, col, hide, "  ")}
	if input != nil {
		e.Suggestion = input.Suggestion
	}
	r.errs = append(r.errs, e)
}

// sensitive finds what may be a key in a line that couldn't be read: in a line that
// deals with keys, every word that isn't one of the few that such lines are made of.
func sensitive(line string) [][2]int {
	toks := grammar.Split(line)
	hot := false
	for i, t := range toks {
		w := strings.ToLower(t.Text)
		for _, k := range []string{"key", "pass", "secret", "commun", "pre-shared", "crypto isa"} {
			hot = hot || strings.HasPrefix(w, k)
		}
		hot = hot || i == 1 && strings.HasPrefix(w, "is") && strings.HasPrefix(strings.ToLower(toks[0].Text), "c")
	}
	if !hot {
		return nil
	}
	safe := map[string]bool{}
	for _, w := range strings.Fields("no crypto isakmp key address hostname ipv6 policy identity keepalive dn periodic on-demand 0 6 7 no-xauth profile pre-shared-key authentication pre-share rekey mypubkey pubkey rsa") {
		safe[w] = true
	}
	var out [][2]int
	for _, t := range toks {
		if !safe[strings.ToLower(t.Text)] && !isAddress(t.Text) {
			out = append(out, [2]int{t.Col, t.Col + len(t.Text)})
		}
	}
	return out
}

// seconds makes a duration of a checked decimal.
func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
