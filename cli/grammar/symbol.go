package grammar

// The elements of a pattern: what one typed word may be.

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

type kind uint8

const (
	keyword kind = iota
	number
	ipv4
	ipv6
	ipv6Prefix
	custom
	word
	secret
	line
)

// symbol is one position of a pattern.
type symbol struct {
	kind   kind
	text   string // keyword, or how help shows a parameter
	name   string // kept under this name, "" for not
	lo, hi int64
	check  func(string) bool
	help   string
}

// accepts says whether w fits, and for keywords whether it is written in full.
func (s *symbol) accepts(w string) (ok, exact bool) {
	switch s.kind {
	case keyword:
		if strings.EqualFold(w, s.text) {
			return true, true
		}
		// A number is never an abbreviation of a longer one.
		if s.text[0] >= '0' && s.text[0] <= '9' && allDigits(s.text) {
			return false, false
		}
		return len(w) < len(s.text) && strings.EqualFold(w, s.text[:len(w)]), false
	case number:
		n, err := strconv.ParseInt(w, 10, 64)
		return err == nil && w[0] != '+' && n >= s.lo && n <= s.hi, false
	case ipv4:
		a, err := netip.ParseAddr(w)
		return err == nil && a.Is4(), false
	case ipv6:
		a, err := netip.ParseAddr(w)
		return err == nil && a.Is6() && a.Zone() == "" && !a.Is4In6(), false
	case ipv6Prefix:
		p, err := netip.ParsePrefix(w)
		return err == nil && p.Addr().Is6() && !p.Addr().Is4In6(), false
	case custom:
		return s.check(w), false
	}
	return true, false
}

func allDigits(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// parameter makes the symbol of a type name, false when it is none.
func parameter(text string, types []Type) (symbol, bool, error) {
	switch text {
	case "WORD":
		return symbol{kind: word, text: text, help: "a name"}, true, nil
	case "SECRET":
		return symbol{kind: secret, text: "WORD", help: "a key, never shown again"}, true, nil
	case "LINE":
		return symbol{kind: line, text: text, help: "text up to the end of the line"}, true, nil
	case "A.B.C.D":
		return symbol{kind: ipv4, text: text, help: "IPv4 address"}, true, nil
	case "X:X:X:X::X":
		return symbol{kind: ipv6, text: text, help: "IPv6 address"}, true, nil
	case "X:X:X:X::X/<0-128>":
		return symbol{kind: ipv6Prefix, text: text, help: "IPv6 prefix"}, true, nil
	}
	if strings.HasPrefix(text, "<") {
		lo, hi, ok := strings.Cut(strings.Trim(text, "<>"), "-")
		a, err1 := strconv.ParseInt(lo, 10, 64)
		b, err2 := strconv.ParseInt(hi, 10, 64)
		if !ok || err1 != nil || err2 != nil || a > b {
			return symbol{}, false, fmt.Errorf("range %s", text)
		}
		return symbol{kind: number, text: text, lo: a, hi: b, help: "a number"}, true, nil
	}
	for _, t := range types {
		if t.Name == text {
			return symbol{kind: custom, text: text, check: t.Check, help: t.Help}, true, nil
		}
	}
	if text == strings.ToUpper(text) && !allDigits(text) && strings.ToLower(text) != text {
		return symbol{}, false, fmt.Errorf("type %s isn't declared", text)
	}
	return symbol{}, false, nil
}
