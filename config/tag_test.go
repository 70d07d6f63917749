package config

import (
	"strings"
	"testing"
)

// The mask is any 1 to 16 bits in a row, in hexadecimal; the default isn't printed.
func TestTagMask(t *testing.T) {
	for text, want := range map[string]uint32{
		"":                                       0,
		"crypto gdoi tag mark mask 0xFF0000\n":   0xff0000,
		"crypto gkm tag mark mask ffff0000\n":    0xffff0000,
		"crypto gdoi tag mark mask 0x80000000\n": 1 << 31,
		"crypto gdoi tag mark mask 0xffff\n":     0,
		"crypto gdoi tag mark mask 0xff\nno crypto gdoi tag mark mask\n":       0,
		"crypto gdoi tag mark mask 0xff\nno crypto gdoi tag mark mask 0xff\n":  0,
		"crypto gdoi tag mark mask 0xff\ncrypto gdoi tag mark mask 0xffff00\n": 0xffff00,
	} {
		c, _, err := Parse("f", []byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		out := Render(c)
		if c.TagMask != want || strings.Contains(out, "tag mark mask") != (want != 0) {
			t.Errorf("%q: mask %#x\n%s", text, c.TagMask, out)
		}
		back, _, err := Parse("f", []byte(out))
		if err != nil || !Equal(back, c) {
			t.Errorf("%q: not read back: %v", text, err)
		}
	}
	for _, mask := range []string{"", "0", "0x0", "0x1ffff", "0xf0f", "0xffffffff", "0x1ffffffff", "red", "-1"} {
		if _, _, err := Parse("f", []byte("crypto gdoi tag mark mask "+mask+"\n")); err == nil {
			t.Errorf("mask %q is taken", mask)
		}
	}
}
