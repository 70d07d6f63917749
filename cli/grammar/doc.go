// Package grammar is the command language: one declaration per command, from which
// come parsing with abbreviations, errors with a caret, help and completion. The same
// declarations serve configuration files and shells.
//
// A pattern is a line of elements:
//
//	crypto isakmp policy n:<1-10000>
//	encryption alg:{des|3des|aes [bits:{128|192|256}]}
//
// A lower-case word is a keyword, which may be shortened while it is unique; {a|b}
// is a choice, [x] may be left out. WORD, SECRET, A.B.C.D, X:X:X:X::X, LINE and
// <lo-hi> stand for what the user fills in, as do the types that a grammar adds.
// NAME: in front of an element keeps what was typed under that name; in front of a
// choice it keeps the keyword chosen.
package grammar

// Command declares one command of one mode. C is what handlers work on.
type Command[C any] struct {
	Mode    string // mode it lives in
	Pattern string
	Help    string // what it does, one line
	Enter   string // mode that it opens, "" for none
	No      bool   // may stand behind "no"; Match.No tells
	Full    bool   // keywords can't be shortened
	Do      func(C, *Match) error
}

// Mode is a level of the configuration. Parent is "" for the outermost one.
type Mode struct {
	Name   string
	Parent string
	Prompt string // what stands in brackets behind "config" in the prompt
}

// Type is a kind of parameter that a grammar adds: its name is written in patterns in
// capitals, Check says whether a word is one.
type Type struct {
	Name  string
	Help  string
	Check func(word string) bool
}

// Grammar is a compiled set of commands.
type Grammar[C any] struct {
	modes    map[string]*mode[C]
	keywords map[string]string
}

type mode[C any] struct {
	Mode
	cmds []*compiled[C]
}

type compiled[C any] struct {
	Command[C]
	nfa automaton
	neg automaton // the same with everything behind the keywords optional
}

// New compiles the declarations. words explains keywords for help. An error names the
// pattern that is wrong.
func New[C any](modes []Mode, types []Type, words map[string]string, cmds []Command[C]) (*Grammar[C], error) {
	g := &Grammar[C]{modes: map[string]*mode[C]{}, keywords: words}
	for _, m := range modes {
		g.modes[m.Name] = &mode[C]{Mode: m}
	}
	for _, c := range cmds {
		m := g.modes[c.Mode]
		if m == nil {
			return nil, &PatternError{c.Pattern, "unknown mode " + c.Mode}
		}
		if c.Enter != "" && g.modes[c.Enter] == nil {
			return nil, &PatternError{c.Pattern, "unknown mode " + c.Enter}
		}
		x := &compiled[C]{Command: c}
		var err error
		if x.nfa, err = compile(c.Pattern, types); err != nil {
			return nil, err
		}
		if c.No {
			x.neg = x.nfa.shortened()
		}
		m.cmds = append(m.cmds, x)
	}
	return g, nil
}

// Prompt is the text in brackets of a mode's prompt.
func (g *Grammar[C]) Prompt(mode string) string {
	if m := g.modes[mode]; m != nil {
		return m.Prompt
	}
	return ""
}

// Parent is the mode around mode, "" for the outermost.
func (g *Grammar[C]) Parent(mode string) string {
	if m := g.modes[mode]; m != nil {
		return m.Parent
	}
	return ""
}
