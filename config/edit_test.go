package config

import (
	"errors"
	"strings"
	"testing"
)

func edit(t *testing.T, base string, lines ...string) *Editor {
	t.Helper()
	e, err := Edit(parsed(t, base))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		if _, err := e.Line(l); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
	}
	return e
}

// Each mode has the device's prompt; a line of an outer mode leaves the inner one.
func TestEditorPromptsAndFallsBack(t *testing.T) {
	e := edit(t, "")
	for _, x := range []struct{ line, prompt string }{
		{"hostname X", "config"}, {"crypto isakmp policy 10", "config-isakmp"}, {"crypto ipsec transform-set T esp-gcm", "cfg-crypto-trans"},
		{"crypto ipsec profile P", "ipsec-profile"}, {"crypto gdoi group g", "config-gkm-group"}, {"server local", "gkm-local-server"},
		{"sa ipsec 1", "gkm-sa-ipsec"}, {"address ipv4 10.0.0.1", "gkm-local-server"}, {"redundancy", "gdoi-coop-ks-config"}, {"identity number 1", "config-gkm-group"},
		{"crypto map M 10 gdoi", "config-crypto-map"}, {"crypto map M gdoi fail-close", "crypto-map-fail-close"}, {"interface eth0", "config-if"},
		{"ip access-list extended L", "config-ext-nacl"}, {"ip access-list standard S", "config-std-nacl"}, {"ipv6 access-list V", "config-ipv6-acl"},
	} {
		if _, err := e.Line(x.line); err != nil || e.Prompt() != x.prompt {
			t.Errorf("%s: (%s), want (%s); %v", x.line, e.Prompt(), x.prompt, err)
		}
	}
	if e.Exit() || e.Prompt() != "config" || !e.Exit() {
		t.Error("exit doesn't go up a level at a time")
	}
	g := e.Config().GroupByName("g")
	if g == nil || g.Number != 1 || g.Local.Address.String() != "10.0.0.1" {
		t.Errorf("%+v", g)
	}
}

// A line that is wrong leaves everything as it was, mode and all, and says what and where.
func TestEditorRefusesALineAndGoesOn(t *testing.T) {
	base := parsed(t, changeBase)
	e, err := Edit(base)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{"crypto gdoi group diffint", "server local"} {
		if _, err := e.Line(l); err != nil {
			t.Fatal(err)
		}
	}
	before := Render(e.Config())
	for line, kind := range map[string]bool{"rekey algoritm aes 256": true, "rekey": true, "rekey algorithm des-cbc": false, "sa ipsec 70000": true} {
		_, err := e.Line(line)
		var p *ParseError
		if !errors.As(err, &p) || (p.Input != nil) != kind {
			t.Errorf("%s: %v", line, err)
		}
		if Render(e.Config()) != before || e.Prompt() != "gkm-local-server" {
			t.Errorf("%s changed something", line)
		}
	}
	if _, err := e.Line("rekey algorithm aes 256"); err != nil || Equal(e.Config(), base) {
		t.Errorf("%v", err)
	}
	if base.GroupByName("diffint").Local.RekeyKeyBits != 128 {
		t.Error("the edit reached the configuration that it began with")
	}
}

// What drivers send before anything else, and a banner typed line by line.
func TestEditorKeepsForeignBlocks(t *testing.T) {
	e := edit(t, "", "line console 0", "exec-timeout 0", "line vty 0 4", "exec-timeout 0", "login local", "transport input ssh", "no logging console",
		"router bgp 65000", "neighbor 10.0.0.1 remote-as 1", "hostname X", "banner motd ^C", "  hello  ", "^C", "ip cef")
	out := Render(e.Config())
	for _, want := range []string{"line console 0\n exec-timeout 0\nline vty 0 4\n exec-timeout 0\n login local\n transport input ssh\n", "no logging console\n",
		"router bgp 65000\n neighbor 10.0.0.1 remote-as 1\n", "banner motd ^C\n  hello  \n^C\n", "hostname X\n", "ip cef\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	e = edit(t, "", "line vty 0 4", "login local")
	if e.Exit() || !e.Exit() {
		t.Error("exit out of a kept block leaves configuration mode")
	}
}

func TestEditorHelp(t *testing.T) {
	e := edit(t, changeBase, "crypto gdoi group joined")
	var words []string
	for _, c := range e.Help("client ") {
		words = append(words, c.Word)
	}
	if got := strings.Join(words, " "); got != "bypass-policy fail-close protocol recovery-check registration rekey status transform-sets" {
		t.Errorf("%q", got)
	}
	if e.Complete("client reg") != "registration" {
		t.Errorf("%q", e.Complete("client reg"))
	}
}

// Lines in any order leave a configuration that prints to what reads back the same.
func FuzzEdit(f *testing.F) {
	f.Add(changeBase)
	f.Add(lifeConfig)
	f.Add("banner motd x\na\nx\nline vty 0\nlogin\nno banner\n")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Edit(New())
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range strings.Split(text, "\n") {
			before := Render(e.Config())
			if _, err := e.Line(l); err != nil && Render(e.Config()) != before {
				t.Fatalf("%q was refused and changed something:\n%s\n%s", l, before, Render(e.Config()))
			}
		}
		out := Render(e.Config())
		c, _, err := Parse("r", []byte(out))
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if again := Render(c); again != out {
			t.Fatalf("%q\nthen\n%q", out, again)
		}
	})
}
