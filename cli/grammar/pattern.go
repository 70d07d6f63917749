package grammar

// Compiling a pattern into an automaton: every element is a position, with the set of
// positions that may follow it (Glushkov's construction).

import (
	"fmt"
	"slices"
	"strings"
)

// PatternError is a mistake in a declaration.
type PatternError struct{ Pattern, Why string }

func (e *PatternError) Error() string {
	return fmt.Sprintf("grammar: pattern %q: %s", e.Pattern, e.Why)
}

// automaton is a compiled pattern. Position numbers index syms.
type automaton struct {
	syms   []symbol
	first  []int
	follow [][]int
	last   []bool // the line may end behind the position
}

// frag is a part of a pattern while it is compiled.
type frag struct {
	nullable    bool
	first, last []int
}

type compiler struct {
	types []Type
	toks  []string
	at    int
	a     automaton
}

func compile(pattern string, types []Type) (automaton, error) {
	c := &compiler{types: types, toks: lex(pattern)}
	f, err := c.seq("")
	if err == nil && c.at != len(c.toks) {
		err = fmt.Errorf("stray %q", c.toks[c.at])
	}
	if err == nil && f.nullable {
		err = fmt.Errorf("matches an empty line")
	}
	if err != nil {
		return automaton{}, &PatternError{pattern, err.Error()}
	}
	c.a.first, c.a.last = f.first, make([]bool, len(c.a.syms))
	for _, p := range f.last {
		c.a.last[p] = true
	}
	return c.a, nil
}

// lex splits a pattern; brackets, bars and "name:" stand alone.
func lex(s string) []string {
	var out []string
	for _, f := range strings.Fields(s) {
		for f != "" {
			i := strings.IndexAny(f, "{}[]|")
			switch {
			case i < 0:
				i = len(f)
			case i == 0:
				i = 1
			}
			t := f[:i]
			f = f[i:]
			// An address form holds colons of its own.
			if n, rest, ok := strings.Cut(t, ":"); ok && n != "" && strings.ToLower(n) == n {
				out = append(out, n+":")
				t = rest
			}
			if t != "" {
				out = append(out, t)
			}
		}
	}
	return out
}

func (c *compiler) peek() string {
	if c.at < len(c.toks) {
		return c.toks[c.at]
	}
	return ""
}

// seq reads elements up to a bar or a closing bracket. name is that of the choice
// around it, which its keywords are kept under.
func (c *compiler) seq(name string) (frag, error) {
	out := frag{nullable: true}
	for {
		t := c.peek()
		if t == "" || t == "|" || t == "}" || t == "]" {
			return out, nil
		}
		f, err := c.element(name)
		if err != nil {
			return frag{}, err
		}
		for _, p := range out.last {
			c.a.follow[p] = append(c.a.follow[p], f.first...)
		}
		if out.nullable {
			out.first = append(slices.Clone(out.first), f.first...)
		}
		if f.nullable {
			out.last = append(slices.Clone(f.last), out.last...)
		} else {
			out.last = f.last
		}
		out.nullable = out.nullable && f.nullable
	}
}

func (c *compiler) element(name string) (frag, error) {
	t := c.peek()
	c.at++
	if n, ok := strings.CutSuffix(t, ":"); ok && n != "" {
		name = n
		t = c.peek()
		c.at++
	}
	switch t {
	case "":
		return frag{}, fmt.Errorf("ends too early")
	case "{":
		return c.choice(name)
	case "[":
		f, err := c.seq(name)
		if err != nil {
			return frag{}, err
		}
		if c.peek() != "]" {
			return frag{}, fmt.Errorf("no ]")
		}
		c.at++
		f.nullable = true
		return f, nil
	}
	sym, ok, err := parameter(t, c.types)
	if err != nil {
		return frag{}, err
	}
	if !ok {
		sym = symbol{kind: keyword, text: t}
	}
	sym.name = name
	p := len(c.a.syms)
	c.a.syms = append(c.a.syms, sym)
	c.a.follow = append(c.a.follow, nil)
	return frag{first: []int{p}, last: []int{p}}, nil
}

func (c *compiler) choice(name string) (frag, error) {
	var out frag
	for {
		f, err := c.seq(name)
		if err != nil {
			return frag{}, err
		}
		out.first, out.last = append(out.first, f.first...), append(out.last, f.last...)
		out.nullable = out.nullable || f.nullable
		t := c.peek()
		c.at++
		switch t {
		case "|":
		case "}":
			return out, nil
		default:
			return frag{}, fmt.Errorf("no }")
		}
	}
}

// shortened is the automaton for "no": the line may end behind a parameter, and behind a
// keyword that no other keyword follows, so that "no crypto" never means everything. A
// named choice of keywords is a value, as a parameter is: "no encryption" needs none.
func (a automaton) shortened() automaton {
	b := a
	b.last = slices.Clone(a.last)
	for i := range b.last {
		more := slices.ContainsFunc(a.follow[i], func(p int) bool { return a.syms[p].kind == keyword })
		values := !slices.ContainsFunc(a.follow[i], func(p int) bool { return a.syms[p].kind != keyword || a.syms[p].name == "" })
		if b.syms[i].kind != keyword || !more || values {
			b.last[i] = true
		}
	}
	return b
}
