package config

// Editing line by line, as configuration mode does: a copy of a configuration, the mode
// that the last lines led into, and what a line means there.

import (
	"fmt"
	"slices"
	"strings"

	"getvpn/cli/grammar"
)

// Editor is a configuration under edit. It isn't safe for concurrent use.
type Editor struct {
	r      *reader
	banner []string // lines of a banner whose end hasn't come
	head   string   // of the kept block that lines go into, "" for none
}

// Clone is a copy that shares nothing with c. Source lines are those of Render.
func Clone(c *Config) (*Config, error) {
	out, _, err := Parse("running-config", []byte(Render(c)))
	if err != nil {
		return nil, fmt.Errorf("config: copy: %w", err)
	}
	return out, nil
}

// Edit begins to edit a copy of c.
func Edit(c *Config) (*Editor, error) {
	g, err := fileGrammar()
	if err != nil {
		return nil, err
	}
	next, err := Clone(c)
	if err != nil {
		return nil, err
	}
	return &Editor{r: newReader(g, next, "configuration")}, nil
}

// Config is the configuration as it is now. It changes with further lines.
func (e *Editor) Config() *Config { return e.r.b.c }

// Prompt is what stands in brackets in the prompt: "config", "config-if", …
func (e *Editor) Prompt() string { return e.r.g.Prompt(e.r.top().mode) }

// Exit leaves the mode; true when it was the outermost one.
func (e *Editor) Exit() bool {
	kept := e.head != ""
	e.head, e.r.keep = "", nil
	switch {
	case kept:
		return false
	case len(e.r.stack) == 1:
		return true
	}
	e.r.stack = e.r.stack[:len(e.r.stack)-1]
	return false
}

// maxLines bounds what kept lines and banners of one edit may hold.
const maxLines = 100_000

// Line reads one line. A line that is wrong changes nothing; the error is a
// *ParseError. Warnings are what is to be said about the line.
func (e *Editor) Line(line string) ([]Warning, error) {
	r := e.r
	if r.b.line++; r.b.line > maxLines {
		return nil, fmt.Errorf("config: more than %d lines in one edit", maxLines)
	}
	if len(e.banner) > 0 || strings.HasPrefix(strings.TrimSpace(line), "banner ") {
		return nil, e.bannerLine(line)
	}
	if e.bodyLine(line) {
		return nil, nil
	}
	e.head = ""
	r.errs, r.b.warnings = nil, nil
	before := len(r.b.c.Kept)
	r.read(strings.TrimRight(line, " \t\r"))
	if len(r.errs) > 0 {
		return nil, r.errs[0]
	}
	if k := r.b.c.Kept; r.keep != nil && len(k) > before {
		e.head = grammar.Split(k[len(k)-1].Text)[0].Text
	}
	return r.b.warnings, nil
}

// maxBanner is how many lines a banner has at most.
const maxBanner = 200

// bannerLine gathers a banner up to its delimiter.
func (e *Editor) bannerLine(line string) error {
	r := e.r
	if len(e.banner) == maxBanner {
		e.banner = nil
		return fmt.Errorf("config: a banner of more than %d lines", maxBanner)
	}
	e.banner = append(e.banner, line)
	r.errs = nil
	used := r.banner(e.banner)
	switch {
	case used == 0: // not a banner after all
		e.banner = nil
		r.read(line)
	case len(r.errs) == 0:
		e.banner = nil
	default: // its end is still to come
		r.errs = nil
	}
	if len(r.errs) > 0 {
		return r.errs[0]
	}
	return nil
}

// InBanner reports whether lines are taken as a banner's text.
func (e *Editor) InBanner() bool { return len(e.banner) > 0 }

// lineWords begin lines that belong to a block "line …" although they could stand
// alone.
var lineWords = []string{"login", "password", "privilege", "exec", "logging", "terminal", "monitor", "history"}

// bodyLine takes a line into the kept block that was opened last, whose own commands
// nobody here knows: everything does that isn't a command elsewhere.
func (e *Editor) bodyLine(line string) bool {
	r, toks := e.r, grammar.Split(line)
	if e.head == "" || r.keep == nil || len(toks) == 0 || toks[0].Text[0] == '!' {
		return false
	}
	w := strings.ToLower(toks[0].Text)
	if w == "no" && len(toks) > 1 {
		w = strings.ToLower(toks[1].Text)
	}
	if w == "exit" || w == "end" {
		return false
	}
	own := e.head == "line" && slices.Contains(lineWords, w)
	if _, _, err := r.g.Match(modeGlobal, strings.TrimSpace(line)); err == nil && !own && indentOf(line) == 0 {
		return false
	}
	*r.keep = append(*r.keep, " "+strings.TrimSpace(line))
	return true
}

// Help lists what may follow line in the present mode.
func (e *Editor) Help(line string) []grammar.Choice { return e.r.g.Help(e.r.top().mode, line) }

// Complete is the word that the last one of line begins, "" when there are several.
func (e *Editor) Complete(line string) string { return e.r.g.Complete(e.r.top().mode, line) }
