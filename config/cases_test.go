package config

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"getvpn/ipsec"
)

func mustParse(t *testing.T, text string) (*Config, []Warning) {
	t.Helper()
	c, w, err := Parse("t.conf", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c, w
}

func parseErrors(t *testing.T, text string) Errors {
	t.Helper()
	c, _, err := Parse("t.conf", []byte(text))
	var e Errors
	if !errors.As(err, &e) || c != nil {
		t.Fatalf("config %v, error %v, want Errors and no configuration", c, err)
	}
	return e
}

// config-01: a bad line names file, line, column, with a caret and a suggestion; nothing
// is applied.
func Test_config_01_BadLine(t *testing.T) {
	var b strings.Builder
	for i := 1; i <= 120; i++ {
		switch i {
		case 57:
			b.WriteString("crypto ipsec transfrom-set T esp-aes esp-sha-hmac\n")
		default:
			fmt.Fprintf(&b, "access-list 101 permit ip host 10.0.0.%d any\n", i)
		}
	}
	e := parseErrors(t, b.String())
	if len(e) != 1 || e[0].File != "t.conf" || e[0].Line != 57 || e[0].Col != 14 || e[0].Suggestion != "transform-set" {
		t.Errorf("%+v", e[0])
	}
	want := "  crypto ipsec transfrom-set T esp-aes esp-sha-hmac\n               ^"
	if e[0].Caret != want {
		t.Errorf("caret\n%s\nwant\n%s", e[0].Caret, want)
	}
	for text, col := range map[string]int{"interface\n": 10, "interface x\n ip adress 1.2.3.4 255.0.0.0\n": 5,
		"crypto isakmp policy 99999\n": 22, "access-list 101 permit tcp any eq nowhere any\n": 35, "crypto gdoi group g\n identity number x\n": 18} {
		if e := parseErrors(t, text); e[0].Col != col {
			t.Errorf("%q: column %d, want %d", text, e[0].Col, col)
		}
	}
}

// config-02: shortened lines mean the same, and the canonical form is printed.
func Test_config_02_Abbreviated(t *testing.T) {
	long, _ := mustParse(t, "crypto isakmp policy 1\n encr 3des\n authentication pre-share\ncrypto gdoi group G1\n identity number 3333\n server address ipv4 10.0.0.1\n")
	short, _ := mustParse(t, "cry isak pol 1\n enc 3des\n auth pre-share\ncry gdoi gr G1\n id num 3333\n ser addr ipv4 10.0.0.1\n")
	gkm, _ := mustParse(t, "CRYPTO ISAKMP POLICY 1\n encryption 3des\n auth pre\ncrypto gkm group G1\n identity number 3333\n server address ipv4 10.0.0.1\n")
	if !Equal(long, short) || !Equal(long, gkm) {
		t.Errorf("differ:\n%s\n%s\n%s", Render(long), Render(short), Render(gkm))
	}
	// Pushing the same lines twice changes nothing.
	twice, _ := mustParse(t, Render(long)+Render(long))
	if !Equal(long, twice) {
		t.Errorf("twice:\n%s", Render(twice))
	}
}

// config-03: banners with both delimiters, byte for byte, and what follows is read.
func Test_config_03_Banner(t *testing.T) {
	for _, delim := range []string{"^C", "\x03", "#"} {
		body := "\n!  not a comment  \n\n   /\\_/\\ \t\nhostname wrong\nend of it " + delim + "\n"
		text := "hostname a\nbanner motd " + delim + body + "hostname b\n"
		c, _ := mustParse(t, text)
		if c.Hostname != "b" {
			t.Errorf("%q: hostname %q", delim, c.Hostname)
		}
		out := Render(c)
		if !strings.Contains(out, "banner motd "+delim+body) {
			t.Errorf("%q: banner changed:\n%q", delim, out)
		}
		if d, _ := mustParse(t, out); Render(d) != out {
			t.Errorf("%q: second round differs", delim)
		}
	}
	if e := parseErrors(t, "banner motd ^C\nnever ends\n"); e[0].Line != 1 {
		t.Errorf("%v", e)
	}
}

// config-04: accepted, with one warning each that says what happens and what to set.
func Test_config_04_Warnings(t *testing.T) {
	c, w := mustParse(t, `crypto isakmp policy 1
 encr aes 256
 hash sha256
 authentication pre-share
 group 19
crypto ipsec transform-set T esp-aes esp-sha256-hmac
crypto ipsec profile P
 set transform-set T
crypto gdoi group G
 identity number 1
 server local
  address ipv4 10.0.0.1
  rekey lifetime seconds 300
  sa ipsec 1
   profile P
   match address ipv4 101
   replay time window-size 5
crypto gdoi group M
 identity number 2
 server address ipv4 10.0.0.2
access-list 101 permit ip any any
`)
	for line, want := range map[int]string{9: "set rekey lifetime seconds 10800", 14: "replay counter window-size 64", 21: "deny udp any eq 848", 1: "1200 s"} {
		n := 0
		for _, x := range w {
			if x.Line == line && strings.Contains(x.Text, want) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("line %d: %d warnings with %q in %v", line, n, want, w)
		}
	}
	if len(w) != 4 {
		t.Errorf("%d warnings: %v", len(w), w)
	}
	if g := c.GroupByName("G").Local; secs(g.RekeyLifetime) != 300 || g.SAs[0].Replay != (ipsec.Replay{Mode: ipsec.ReplayTime, Window: 5}) {
		t.Errorf("changed: %+v", g)
	}
}

// config-05: five ways to end a sub-mode give one configuration.
func Test_config_05_EndsOfModes(t *testing.T) {
	blocks := []string{"crypto isakmp policy 1\n encr aes\n group 14\n", "crypto gdoi group G\n identity number 7\n server local\n  sa ipsec 1\n   profile P\n   no replay\n  address ipv4 10.0.0.1\n",
		"interface eth0\n ip address 10.0.0.1 255.0.0.0\n", "ip access-list extended A\n permit ip any any\n", "crypto gdoi group H\n identity number 8\n server address ipv4 10.0.0.9\n"}
	flat := func(s string) string {
		var out []string
		for _, l := range strings.Split(s, "\n") {
			out = append(out, strings.TrimSpace(l))
		}
		return strings.Join(out, "\n")
	}
	want, _ := mustParse(t, strings.Join(blocks, ""))
	for name, text := range map[string]string{
		"!":           flat(strings.Join(blocks, "!\n")),
		"end":         flat(strings.Join(blocks, "end\n")),
		"command":     flat(strings.Join(blocks, "")),
		"indentation": strings.Join(blocks, ""),
		"tabs":        strings.ReplaceAll(strings.Join(blocks, ""), "\n ", "\n\t"),
		"CRLF":        strings.ReplaceAll(strings.Join(blocks, ""), "\n", "\r\n"),
		"exit":        flat(blocks[0] + "exit\n" + strings.Replace(blocks[1], "  address", "exit\naddress", 1) + "exit\nexit\n" + blocks[2] + "exit\n" + blocks[3] + "exit\n" + blocks[4] + "exit\n"),
	} {
		if c, _ := mustParse(t, text); !Equal(c, want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, Render(c), Render(want))
		}
	}
	if len(want.Groups) != 2 || len(want.Kept) != 0 || want.Groups[0].Local.SAs[0].Replay.Mode != ipsec.ReplayNone {
		t.Errorf("%s", Render(want))
	}
}

// A pre-shared key is never in a message, wherever the mistake is.
func TestKeysNeverAppearInMessages(t *testing.T) {
	for _, l := range []string{"crypto isakmp key hunter2 adress 1.2.3.4", "crypto isakmp kye hunter2 address 1.2.3.4", "crypto isakmp hunter2 address 1.2.3.4",
		"crypto isakmp key hunter2", "crypto isakmp key 6 hunter2 address 1.2.3.4", "crypto isakmp key 7 hunter2 address 1.2.3.4", "crypto isakmp key 0 hunter2 address 1.2.3.4 255.0.255.0",
		"cry is key hunter2 address 1.2.3", "crypto isakmp key my hunter2 address 1.2.3.4", "crypto isakmpp key hunter2 address 1.2.3.4", "crypto key hunter2", "usename x password hunter2", "crypto isakmp policy hunter2"} {
		c, w, err := Parse("t", []byte(l+"\n"))
		if s := fmt.Sprintf("%v %v %+v", w, err, c); strings.Contains(s, "hunter2") && !strings.Contains(l, "crypto key") {
			t.Errorf("%s: %s", l, s)
		}
		if s := fmt.Sprint(w, err); strings.Contains(s, "hunter2") {
			t.Errorf("%s: %s", l, s)
		}
	}
	c, _ := mustParse(t, "crypto isakmp key 7 0822455D0A16 address 10.9.9.9\n")
	if string(c.Keys[0].Key) != "cisco" || decodeFails("0822455D0A1") || decodeFails("9922455D0A16") {
		t.Errorf("type 7 key %q", string(c.Keys[0].Key))
	}
}

func decodeFails(s string) bool { _, err := decode7(s); return err == nil }

// Vendor lines that mean nothing here are kept with their blocks and told once.
func TestVendorLinesAreKept(t *testing.T) {
	text := "version 15.7\nservice timestamps debug datetime msec\nno service password-encryption\nrouter bgp 65001\n bgp log-neighbor-changes\n neighbor 10.0.0.2 remote-as 65000\n" +
		" !\n address-family ipv4\n  network 10.0.0.0\n exit-address-family\nip route 0.0.0.0 0.0.0.0 10.0.0.1\nsnmp-server community hunter2 RO\nline vty 0 4\n login local\n transport input ssh\n!\nend\n"
	c, w := mustParse(t, text)
	out := Render(c)
	for _, l := range strings.Split(text, "\n") {
		if !strings.Contains(out, l+"\n") {
			t.Errorf("lost %q in\n%s", l, out)
		}
	}
	if len(w) != 1 || strings.Contains(w[0].Text, "hunter2") || !strings.Contains(w[0].Text, "router") {
		t.Errorf("warnings %v", w)
	}
}

func TestValidateNamesWhatIsMissing(t *testing.T) {
	c, _ := mustParse(t, `crypto ipsec profile P
 set transform-set NONE
crypto gdoi group G
 server local
  authorization address ipv4 77
  sa ipsec 1
   profile P2
   match address ipv4 101
crypto gdoi group M
 identity number 1
crypto map X 10 gdoi
 set group NOBODY
interface eth0
 crypto map Y
access-list 101 permit tcp any gt 1023 any
`)
	var got []string
	for _, e := range Validate(c) {
		got = append(got, e.Error())
	}
	for _, want := range []string{"line 1: profile P: there is no transform set NONE", "line 3: group G has no identity", "line 3: group G: authorization address: there is no access list 77",
		"line 6: group G: sa ipsec 1: there is no profile P2", "line 15: access list 101, entry 10", "line 9: group M has no key server", "line 11: crypto map X 10: there is no group NOBODY", "line 13: interface eth0: there is no crypto map Y"} {
		found := false
		for _, g := range got {
			found = found || strings.HasPrefix(g, want)
		}
		if !found {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if len(got) != 8 {
		t.Errorf("%d errors: %q", len(got), got)
	}
	for _, f := range []string{"testdata/keyserver.conf", "../examples/demo/ks.conf", "../examples/demo/gm1.conf"} {
		text, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		ok, _ := mustParse(t, string(text))
		if errs := Validate(ok); len(errs) > 0 {
			t.Errorf("%s: %v", f, errs)
		}
	}
}

// "no" takes back what it names, and never more.
func TestNoForms(t *testing.T) {
	base := "hostname a\ncrypto isakmp policy 1\n group 14\ncrypto gdoi group g\n identity number 1\n server local\n  sa ipsec 1\n   profile x\n   match address ipv4 101\naccess-list 101 permit ip any any\n"
	c, _ := mustParse(t, base+"no hostname\ncrypto gdoi group g\n server local\n  no rekey retransmit\n  sa ipsec 1\n   no match address ipv4\n   no replay counter window-size\nno access-list 101\nno ip access-list extended NOPE\nno crypto isakmp policy 1\ninterface e0\n no shutdown\n")
	l := c.Groups[0].Local
	if c.Hostname != "Router" || l.RekeyRetransmit != 0 || l.SAs[0].ACL != "" || l.SAs[0].Replay.Mode != ipsec.ReplayNone || len(c.ACLs) != 0 || len(c.ISAKMPPolicies) != 0 {
		t.Errorf("%s", Render(c))
	}
	if d, _ := mustParse(t, Render(c)); !Equal(c, d) {
		t.Errorf("%s\n%s", Render(c), Render(d))
	}
	for _, line := range []string{"no crypto", "no crypto isakmp", "no ip", "no access-list 101 permit"} {
		if _, _, err := Parse("t", []byte(base+line+"\n")); err == nil {
			t.Errorf("%s was accepted", line)
		}
	}
}

// Aggressive mode is answered only where a line says so, and that line warns.
func TestAggressiveMode(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "crypto isakmp aggressive-mode disable\n": false,
		"crypto isakmp aggressive-mode enable\n":                                          true,
		"crypto isakmp aggressive-mode enable\nno crypto isakmp aggressive-mode enable\n": false,
	} {
		c, warnings, err := Parse("f", []byte(text))
		if err != nil || c.Aggressive != want {
			t.Errorf("%q: %v, %v", text, c, err)
			continue
		}
		if got := len(warnings) == 1 && warnings[0].Line == 1; got != want {
			t.Errorf("%q: warnings %v", text, warnings)
		}
		if again, _, err := Parse("f", []byte(Render(c))); err != nil || again.Aggressive != want {
			t.Errorf("%q: rendered as %q", text, Render(c))
		}
	}
}
