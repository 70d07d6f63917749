package config

import (
	"fmt"
	"strings"
	"testing"
)

func warned(t *testing.T, text string) string {
	t.Helper()
	_, w, err := Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, x := range w {
		all = append(all, x.String())
	}
	return strings.Join(all, "\n")
}

// Advice about rekeys: each setting that will disappoint is told with its numbers and
// what to set instead; one that is right is not.
func TestRekeyWarnings(t *testing.T) {
	base := changeBase + inLocal + "rekey lifetime days 1\n"
	for what, x := range map[string]struct{ lines, want, not string }{
		"retransmissions":  {inLocal + "rekey retransmit 60 number 10\n", "10 retransmissions every 60 s take 600 s, longer than the 90 s", ""},
		"few":              {inLocal + "rekey retransmit 10 number 3\n", "", "retransmissions"},
		"short TEK":        {"crypto ipsec profile gdoi-p\n set security-association lifetime seconds 300\n", "a TEK lifetime of 300 s makes members rekey all the time; 900 s", ""},
		"short KEK":        {inLocal + "rekey lifetime seconds 1800\n", "set rekey lifetime seconds 2700", ""},
		"ecdsa's own hash": {inLocal + "rekey authentication mypubkey ecdsa k\n  rekey sig-hash algorithm sha512\n", "rekey sig-hash algorithm sha512 has no effect", ""},
		"no address":       {inLocal + "no rekey address\n", "multicast rekeys have no address", ""},
		"no own address":   {inLocal + "rekey transport unicast\n  no address ipv4\n", "add address ipv4 A", ""},
		"in order":         {"", "", "rekeys"},
	} {
		got := warned(t, base+x.lines)
		if x.want != "" && !strings.Contains(got, x.want) {
			t.Errorf("%s: no %q in\n%s", what, x.want, got)
		}
		if x.not != "" && strings.Contains(got, x.not) {
			t.Errorf("%s: %q in\n%s", what, x.not, got)
		}
	}
	long := base + "ip access-list extended 120\n"
	for i := range 40 {
		long += fmt.Sprintf(" permit ip 10.%d.0.0 0.0.255.255 any\n", i+10)
	}
	if got := warned(t, long); !strings.Contains(got, "octets, more than the 1472") {
		t.Errorf("41 entries: %s", got)
	}
}
