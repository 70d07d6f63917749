package grammar

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

type rec struct{ got string }

func testGrammar(t *testing.T, patterns ...string) *Grammar[*rec] {
	t.Helper()
	var cmds []Command[*rec]
	for _, p := range patterns {
		cmds = append(cmds, Command[*rec]{Mode: "m", Pattern: p, Help: "does " + p, No: true, Do: func(r *rec, m *Match) error {
			r.got = fmt.Sprint(p, " ", m.No)
			for _, a := range m.Args {
				r.got += fmt.Sprintf(" %s=%s", a.Name, a.Text)
			}
			return nil
		}})
	}
	g, err := New([]Mode{{Name: "m"}}, []Type{{Name: "HEX", Help: "hexadecimal", Check: func(w string) bool {
		return strings.Trim(w, "0123456789abcdef") == ""
	}}}, map[string]string{"show": "Show things"}, cmds)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestMatching(t *testing.T) {
	g := testGrammar(t, "show version", "show vlan n:<1-4094>", "key {[type:0] key:SECRET|type:7 key:SECRET} address a:A.B.C.D [mask:A.B.C.D]",
		"encryption alg:{des|aes [bits:{128|256}]}", "description text:LINE", "map [six:ipv6] name:WORD seq:<1-9> gdoi", "id h:HEX", "pfx p:X:X:X:X::X/<0-128>", "host a:X:X:X:X::X")
	for line, want := range map[string]string{
		"sh ver":                  "show version false",
		"SHOW VL 7":               "show vlan n:<1-4094> false n=7",
		"no show vlan":            "show vlan n:<1-4094> true",
		"no encryption":           "encryption alg:{des|aes [bits:{128|256}]} true",
		"key 0 address 1.2.3.4":   "", // a key of "0"? no: then "address" would be the address
		"key 7 address 1.2.3.4":   "key {[type:0] key:SECRET|type:7 key:SECRET} address a:A.B.C.D [mask:A.B.C.D] false key=7 a=1.2.3.4",
		"key 7 x address 1.2.3.4": "key {[type:0] key:SECRET|type:7 key:SECRET} address a:A.B.C.D [mask:A.B.C.D] false type=7 key=x a=1.2.3.4",
		"encr aes 256":            "encryption alg:{des|aes [bits:{128|256}]} false alg=aes bits=256",
		"enc a":                   "encryption alg:{des|aes [bits:{128|256}]} false alg=aes",
		"desc  two  words ":       "description text:LINE false text=two  words",
		"map ipv6 x 3 gdoi":       "map [six:ipv6] name:WORD seq:<1-9> gdoi false six=ipv6 name=x seq=3",
		"map ipv6 3 gdoi":         "map [six:ipv6] name:WORD seq:<1-9> gdoi false name=ipv6 seq=3",
		"map ip 3 gdoi":           "map [six:ipv6] name:WORD seq:<1-9> gdoi false name=ip seq=3",
		"id beef":                 "id h:HEX false h=beef",
		"pfx 2001:db8::/32":       "pfx p:X:X:X:X::X/<0-128> false p=2001:db8::/32",
		"host ::1":                "host a:X:X:X:X::X false a=::1",
	} {
		if want == "" {
			want = "key {[type:0] key:SECRET|type:7 key:SECRET} address a:A.B.C.D [mask:A.B.C.D] false key=0 a=1.2.3.4"
		}
		cmd, m, err := g.Match("m", line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		r := &rec{}
		if cmd.Do(r, m); r.got != want {
			t.Errorf("%s:\n%s\nwant\n%s", line, r.got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	g := testGrammar(t, "show version", "show vlan n:<1-4094>", "shut", "key k:SECRET address a:A.B.C.D")
	for line, want := range map[string]string{
		"show vlan 4095":          "0 10 4095 ",
		"show versoin":            "0 5 versoin version",
		"show":                    "1 4  ",
		"show v":                  "2 5 v ",
		"sh version":              "2 0 sh ",
		"show version x":          "0 13 x ",
		"key hunter2 adress 1":    "0 12 adress address",
		"key hunter2 address 1.2": "0 20 1.2 ",
		"no show nothing":         "0 8 nothing ",
	} {
		_, _, err := g.Match("m", line)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got := fmt.Sprint(e.Kind, " ", e.Col, " ", e.Word, " ", e.Suggestion); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
		if s := e.Caret("") + e.Error() + e.Message(); strings.Contains(s, "hunter2") {
			t.Errorf("%s: %s", line, s)
		}
	}
	_, _, err := g.Match("m", "grüße x")
	if e := err.(*Error); e.Caret(" ") != " grüße x\n ^" {
		t.Errorf("%q", e.Caret(" "))
	}
}

func TestFullCommandsAreNotShortened(t *testing.T) {
	g, err := New([]Mode{{Name: "m"}}, nil, nil, []Command[int]{{Mode: "m", Pattern: "identity-policy LINE", Full: true}, {Mode: "m", Pattern: "identity n:<1-9>"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := g.Match("m", "ident x"); err == nil {
		t.Error("a shortened word matched a command that must be in full")
	}
	if c, _, err := g.Match("m", "id 3"); err != nil || c.Full {
		t.Errorf("%v %v", c, err)
	}
}

func TestHelpAndCompletion(t *testing.T) {
	g := testGrammar(t, "show version", "show vlan n:<1-4094>", "show clock [detail]")
	words := func(line string) (out []string) {
		for _, c := range g.Help("m", line) {
			out = append(out, c.Word)
		}
		return out
	}
	for line, want := range map[string][]string{"": {"show"}, "show ": {"clock", "version", "vlan"}, "show v": {"version", "vlan"},
		"show vlan ": {"<1-4094>"}, "show clock ": {"detail", Enter}, "bad ": nil, "no show v": {"version", "vlan"}} {
		if got := words(line); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	if g.Complete("m", "sh") != "show" || g.Complete("m", "show v") != "" || g.Complete("m", "show ve") != "version" {
		t.Error("completion")
	}
	if h := g.Help("m", ""); h[0].Help != "Show things" {
		t.Errorf("%q", h)
	}
}

func TestBadDeclarations(t *testing.T) {
	for _, p := range []string{"", "[a]", "a {b", "a [b", "a } b", "n:", "a <9-1>", "a UNKNOWN"} {
		if _, err := New([]Mode{{Name: "m"}}, nil, nil, []Command[int]{{Mode: "m", Pattern: p}}); err == nil {
			t.Errorf("%q compiled", p)
		}
	}
	if _, err := New[int](nil, nil, nil, []Command[int]{{Mode: "x", Pattern: "a"}}); err == nil {
		t.Error("a mode that isn't there")
	}
}

// No declaration and no line makes the grammar panic.
func FuzzMatch(f *testing.F) {
	f.Add("show {a|b [c:<1-9>]} LINE", "show b 3 x")
	f.Add("k s:SECRET [x]", "no k v")
	f.Fuzz(func(t *testing.T, pattern, line string) {
		if len(pattern) > 200 || len(line) > 200 {
			return
		}
		g, err := New([]Mode{{Name: "m"}}, nil, nil, []Command[int]{{Mode: "m", Pattern: pattern, No: true}, {Mode: "m", Pattern: "show version"}})
		if err != nil {
			return
		}
		if _, _, err := g.Match("m", line); err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatal(err)
			}
			_ = e.Caret("  ") + e.Error() + e.Message()
		}
		g.Help("m", line)
		g.Complete("m", line)
	})
}
