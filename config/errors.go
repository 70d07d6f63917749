package config

// Messages about a file: each names file, line and column, and shows the place.

import (
	"fmt"
	"strings"

	"getvpn/cli/grammar"
)

// ParseError is a line that can't be read. Text and Caret never show a key.
type ParseError struct {
	File       string
	Line, Col  int // from 1; Col counts characters
	Msg        string
	Caret      string // the line and below it the caret
	Suggestion string
	Input      *grammar.Error // what the grammar says; nil when a value was refused
}

// Error is the whole message, several lines.
func (e *ParseError) Error() string {
	s := fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg)
	if e.Suggestion != "" {
		s += fmt.Sprintf(" Did you mean %q?", e.Suggestion)
	}
	return s + "\n" + e.Caret
}

// Errors are all bad lines of a file, at most 20.
type Errors []*ParseError

func (e Errors) Error() string {
	var b strings.Builder
	for i, x := range e {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(x.Error())
	}
	return b.String()
}

// Warning is advice about a line that was accepted. Line is 0 when the whole
// configuration is meant.
type Warning struct {
	File string
	Line int
	Text string
}

func (w Warning) String() string {
	if w.Line == 0 {
		return w.File + ": " + w.Text
	}
	return fmt.Sprintf("%s:%d: %s", w.File, w.Line, w.Text)
}

// ValidationError is a reference that leads nowhere or a value that can't work. Line is
// 0 when the object wasn't read from a file.
type ValidationError struct {
	Line int
	Text string
}

func (e *ValidationError) Error() string {
	if e.Line == 0 {
		return e.Text
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Text)
}
