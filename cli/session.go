package cli

// A session: what is remembered between commands, which is configuration mode. Changes
// are gathered in a candidate and applied when the mode is left, as the device does
// for groups; until then nothing is touched. What can't be applied stays in the
// candidate, to be mended or dropped by abort.

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"getvpn/cli/grammar"
	"getvpn/config"
)

// Session is one user's. Its methods may be called from several goroutines.
type Session struct {
	x  *Exec
	by Caller

	mu   sync.Mutex
	base *config.Config // in force when configuration mode was entered
	ed   *config.Editor // nil outside configuration mode
}

// NewSession begins a session.
func (x *Exec) NewSession(by Caller) *Session { return &Session{x: x, by: by} }

// Options of one command.
type Options struct {
	JSON      bool
	Asks      bool // a person answers questions: a *Confirm may be returned
	Confirmed bool // the question was answered with yes
	Script    bool // lines aren't seen by anybody: errors quote them
}

// Configuring reports whether the session is in configuration mode.
func (s *Session) Configuring() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ed != nil
}

// Prompt is "HOST#", "HOST(config)#", …
func (s *Session) Prompt() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.prompt()
}

func (s *Session) prompt() string {
	host := s.x.Control.Snapshot().Hostname
	switch {
	case s.ed == nil:
		return host + "#"
	case s.ed.InBanner():
		return ""
	}
	// The device shows a candidate's host name at once.
	return fmt.Sprintf("%s(%s)#", s.ed.Config().Hostname, s.ed.Prompt())
}

// Run executes a line. The error is a *Failed, or a *Confirm. After a failure out may
// still be something to show.
func (s *Session) Run(line string, o Options) (out string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ed == nil {
		return s.exec(line, o)
	}
	return s.configLine(line, o)
}

// exec runs an exec command; the caller holds the lock.
func (s *Session) exec(line string, o Options) (string, error) {
	c := s.x.call(s.by)
	c.session, c.asks = s, o.Asks && !o.Confirmed
	return s.x.run(c, line, o.JSON)
}

// configure enters configuration mode; it runs inside exec.
func (s *Session) configure(c *call) error {
	if s.ed != nil {
		return refuse("Already in configuration mode.")
	}
	base := s.x.Control.RunningConfig()
	ed, err := config.Edit(base)
	if err != nil {
		return err
	}
	s.base, s.ed = base, ed
	c.line("Enter configuration commands, one per line.  End with CNTL/Z.")
	return nil
}

// sessionWords are commands of configuration mode itself.
var sessionWords = []grammar.Choice{{Word: "abort", Help: "Leave configuration mode and drop the changes"}, {Word: "default", Help: "Set a command to its default"},
	{Word: "do", Help: "Run an exec command"}, {Word: "end", Help: "Apply the changes and leave configuration mode"},
	{Word: "exit", Help: "Leave this mode; from the outermost one apply the changes"}, {Word: "no", Help: "Negate a command"}, {Word: "show", Help: "Show configuration {consequences|diff}, and all exec views"}}

func (s *Session) configLine(line string, o Options) (string, error) {
	if s.ed.InBanner() {
		return s.edit(line, o)
	}
	text := strings.TrimSpace(line)
	word, rest, _ := strings.Cut(text, " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToLower(word) {
	case "":
		return "", nil
	case "end", "\x1a":
		return s.leave()
	case "exit":
		if !s.ed.Exit() {
			return "", nil
		}
		return s.leave()
	case "abort":
		s.ed, s.base = nil, nil
		return "", nil
	case "do":
		return s.exec(rest, o)
	case "default":
		if rest != "" && !strings.HasPrefix(rest, "interface ") {
			return s.edit("no "+rest, o)
		}
	case "show", "sho", "sh":
		if out, ok := s.showConfiguration(rest); ok {
			return out, nil
		}
		if rest != "" { // alone it may be short for shutdown
			return s.exec(text, o)
		}
	}
	return s.edit(line, o)
}

func (s *Session) edit(line string, o Options) (string, error) {
	prompt := s.prompt()
	warnings, err := s.ed.Line(line)
	var p *config.ParseError
	switch {
	case errors.As(err, &p) && o.Script:
		msg := p.Msg
		if p.Input != nil {
			msg = strings.TrimPrefix(p.Input.Error(), "% ")
		}
		return "", refuse("%s\n%s", msg, p.Caret)
	case errors.As(err, &p) && p.Input != nil:
		c := s.x.call(s.by)
		c.prompt = prompt
		return "", &Failed{c.explain(p.Input)}
	case errors.As(err, &p):
		return "", refuse("%s", p.Msg)
	case err != nil:
		return "", failed(err)
	}
	var b strings.Builder
	for _, w := range warnings {
		fmt.Fprintf(&b, "%% %s\n", w.Text)
	}
	return b.String(), nil
}

// leave applies the candidate and ends configuration mode. If that fails the session
// stays in it.
func (s *Session) leave() (string, error) {
	next, err := config.Clone(s.ed.Config())
	if err != nil {
		return "", failed(err)
	}
	if !config.Equal(s.base, next) {
		if err := s.x.Control.Apply(s.base, next, s.by); err != nil {
			return "", refuse("%s\n%% Nothing was applied. Go on with the changes, or drop them by abort.", strings.TrimRight(err.Error(), "\n"))
		}
	}
	out := news(s.base, next)
	s.ed, s.base = nil, nil
	return out, nil
}

// Help answers "?" behind line.
func (s *Session) Help(line string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ed == nil {
		return s.x.Help(line)
	}
	word, rest, more := strings.Cut(strings.TrimLeft(line, " "), " ")
	switch strings.ToLower(word) {
	case "do":
		if more {
			return s.x.Help(rest)
		}
	case "show":
		if strings.TrimSpace(rest) == "configuration" {
			return "  consequences  What applying the changes will cause\n  diff          The changed lines\n"
		}
		return s.x.Help(line)
	case "default":
		line = "no " + rest
	}
	choices := s.ed.Help(line)
	if !more {
		for _, c := range sessionWords {
			if strings.HasPrefix(c.Word, strings.ToLower(word)) {
				choices = append(choices, c)
			}
		}
		choices = sorted(choices)
	}
	return helpText(choices, line)
}

// Complete is the keyword that the last word of line begins, "" when it isn't one.
func (s *Session) Complete(line string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := execGrammar()
	if err != nil {
		return ""
	}
	if s.ed == nil {
		return g.Complete(execMode, line)
	}
	if rest, ok := strings.CutPrefix(strings.TrimLeft(line, " "), "do "); ok {
		return g.Complete(execMode, rest)
	}
	return s.ed.Complete(line)
}
