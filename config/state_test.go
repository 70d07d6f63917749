package config

import (
	"strings"
	"testing"
)

// State is sealed unless one line says off; the default isn't printed.
func TestStateLine(t *testing.T) {
	for text, off := range map[string]bool{
		"":                           false,
		"crypto gdoi state sealed\n": false,
		"crypto gdoi state off\n":    true,
		"crypto gkm state off\n":     true,
		"crypto gdoi state off\nno crypto gdoi state off\n": false,
		"crypto gdoi state off\nno crypto gdoi state\n":     false,
		"no crypto gdoi state sealed\n":                     true,
	} {
		c, _, err := Parse("f", []byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		out := Render(c)
		if c.StateOff != off || strings.Contains(out, "crypto gdoi state off") != off || strings.Contains(out, "sealed") {
			t.Errorf("%q: off %v\n%s", text, c.StateOff, out)
		}
		back, _, err := Parse("f", []byte(out))
		if err != nil || !Equal(back, c) {
			t.Errorf("%q: not read back: %v", text, err)
		}
	}
	if _, _, err := Parse("f", []byte("crypto gdoi state clear\n")); err == nil {
		t.Error("another value is taken")
	}
}
