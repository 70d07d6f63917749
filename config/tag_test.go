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

// Of "cts manual" the port's own tag counts, and whether frames keep theirs.
func TestCTSManual(t *testing.T) {
	for text, want := range map[string]struct {
		c  CTSManual
		ok bool
	}{
		"":                                       {},
		" description cts manual\n":              {},
		" cts manual\n":                          {ok: true},
		" cts manual\n  policy static sgt 100\n": {CTSManual{Static: 100}, true},
		" cts manual\n  policy static sgt 65519 trusted\n  no propagate sgt\n":      {CTSManual{Static: 65519, Trusted: true}, true},
		" cts manual\n  policy static sgt 70000 trusted\n":                          {ok: true},
		" cts manual\n  policy dynamic identity peer\n mtu 1600\n":                  {ok: true},
		" cts manual\n  policy static sgt 7 trusted\n no cts manual\n":              {},
		" mtu 1600\n cts manual\n  policy static sgt 7 trusted\n ip address dhcp\n": {CTSManual{Static: 7, Trusted: true}, true},
	} {
		c, _, err := Parse("f", []byte("interface eth1\n"+text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		for range 2 { // and once more from what is printed
			if got, ok := c.Interfaces[0].CTS(); got != want.c || ok != want.ok {
				t.Errorf("%q: %+v %v; kept %q", text, got, ok, c.Interfaces[0].Kept)
			}
			if c, _, err = Parse("f", []byte(Render(c))); err != nil {
				t.Fatal(err)
			}
		}
	}
}
