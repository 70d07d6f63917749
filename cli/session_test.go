package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"getvpn/config"
)

// sessionConfig is a key server that can be changed and applied.
const sessionConfig = `hostname KS1
crypto isakmp key hunter2 address 10.0.0.2
crypto ipsec transform-set T esp-aes 256 esp-sha256-hmac
crypto ipsec transform-set N esp-gcm 256
crypto ipsec profile P
 set transform-set T
crypto gdoi group ks1
 identity number 1223
 server local
  rekey authentication mypubkey rsa K
  rekey transport unicast
  sa ipsec 1
   profile P
   match address ipv4 acl1
  address ipv4 1.1.1.1
ip access-list extended acl1
 permit ip 10.1.0.0 0.0.255.255 any
`

func sessions(t *testing.T) (*fake, *Exec) {
	t.Helper()
	f := fixture(t)
	c, _, err := config.Parse("s", []byte(sessionConfig))
	if err != nil {
		t.Fatal(err)
	}
	f.conf, f.snap.Hostname = c, "KS1"
	return f, &Exec{Control: f, Now: func() time.Time { return now }}
}

// talk plays a session: what a person sees with the lines typed behind the prompts.
func talk(s *Session, lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(s.Prompt() + l + "\n")
		if head, ok := strings.CutSuffix(l, "?"); ok {
			b.WriteString(s.Help(head))
			continue
		}
		out, err := s.Run(l, Options{})
		b.WriteString(out)
		if err != nil {
			b.WriteString(err.Error())
		}
	}
	return b.String() + s.Prompt()
}

// cli-03 in configuration mode: prompts, the caret under the word as it was typed behind
// the prompt, help in the middle of a word, incomplete and ambiguous commands; nothing
// else before the next prompt.
func TestCLI03ConfigurationMode(t *testing.T) {
	_, x := sessions(t)
	got := talk(x.NewSession(Caller{"ann", "vty0"}), "conf t", "crypto gdoi group ks1", "server local", "rekey algoritm aes 256", "rekey algorithm", "rekey a 1",
		"rekey algorithm des-cbc", "rekey l?", "sa ipsec 1", "exit", "exit", "exit", "end")
	want := `KS1#conf t
Enter configuration commands, one per line.  End with CNTL/Z.
KS1(config)#crypto gdoi group ks1
KS1(config-gkm-group)#server local
KS1(gkm-local-server)#rekey algoritm aes 256
                            ^
% Invalid input detected at '^' marker.

KS1(gkm-local-server)#rekey algorithm
% Incomplete command.

KS1(gkm-local-server)#rekey a 1
% Ambiguous command:  "rekey a"

KS1(gkm-local-server)#rekey algorithm des-cbc
% des-cbc isn't supported: use aes 256.
KS1(gkm-local-server)#rekey l?
lifetime
KS1(gkm-local-server)#sa ipsec 1
KS1(gkm-sa-ipsec)#exit
KS1(gkm-local-server)#exit
KS1(config-gkm-group)#exit
KS1(config)#end
KS1#`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Changes wait for the end of configuration mode; until then show tells what they will
// do, in groups and lines; do and show run exec commands.
func TestChangesAreShownThenApplied(t *testing.T) {
	f, x := sessions(t)
	s := x.NewSession(Caller{"ann", "vty0"})
	got := talk(s, "configure terminal", "crypto ipsec profile P", "set transform-set N", "set security-association lifetime seconds 7200",
		"ip access-list extended acl1", "permit ip 10.2.0.0 0.0.255.255 any", "crypto gdoi group ks1", "server local", "rekey lifetime days 2",
		"show configuration consequences", "sh config diff", "do show privilege", "show clock")
	want := `KS1(gkm-local-server)#show configuration consequences
Group ks1:
  at next rekey            sa ipsec 1: TEK lifetime (3600 s to 7200 s)
                           TEKs in force keep their end; those of the next rekey have the new lifetime
                           [tek-lifetime: guide, table 1 l.858, table 2 l.1237]
  rekey now                sa ipsec 1: transform set of a profile (esp-aes 256 esp-sha256-hmac to esp-gcm 256)
                           new TEKs are sent; SAs of the old transform set are used to their end
                           [tek-transform: guide, table 1 l.865, table 2 l.1262]
  rekey now                sa ipsec 1: entries of the list that an sa ipsec protects (list acl1: 1 added, 0 removed)
                           members classify by the new list as soon as they have the rekey; old SAs stay
                           [tek-acl: guide, table 1 l.881, table 2 l.1148, l.1020]
  at next rekey            KEK lifetime (86400 s to 172800 s)
                           the KEK in force keeps its end; the next one has the new lifetime (crypto gdoi ks rekey makes one now)
                           [kek-lifetime: guide, table 1 l.925, table 2 l.1406, note l.1054]
% Group ks1: a rekey message has about OCTETS octets.
KS1(gkm-local-server)#sh config diff
  crypto ipsec profile P
- set transform-set T
+ set security-association lifetime seconds 7200
+ set transform-set N
  crypto gdoi group ks1
   server local
+   rekey lifetime seconds 172800
  ip access-list extended acl1
+  permit ip 10.2.0.0 0.0.255.255 any
KS1(gkm-local-server)#do show privilege
Current privilege level is 15
KS1(gkm-local-server)#show clock
10:00:00.000 UTC Tue Jul 28 2026
KS1(gkm-local-server)#`
	n := config.RekeyOctets(s.ed.Config(), s.ed.Config().GroupByName("ks1"))
	want = strings.Replace(want, "OCTETS", fmt.Sprint(n), 1)
	want = strings.NewReplacer("\n- set", "\n-  set", "\n+ set", "\n+  set").Replace(want)
	if i := strings.Index(got, "KS1(gkm-local-server)#show conf"); i < 0 || got[i:] != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if f.applied != 0 || f.conf.ProfileByName("P").TransformSets[0] != "T" {
		t.Error("applied before the end")
	}
	if out := talk(s, "end", "show running-config | include transform-set N", "write memory"); !strings.HasSuffix(out, " set transform-set N\nKS1#write memory\nBuilding configuration...\n[OK]\nKS1#") {
		t.Errorf("%s", out)
	}
	if f.applied != 1 || f.saved != 1 || f.by[0] != (Caller{"ann", "vty0"}) {
		t.Errorf("%d applied, %d saved, %+v", f.applied, f.saved, f.by)
	}
	if out := talk(s, "conf t", "show configuration consequences", "show configuration diff", "end"); strings.Count(out, "No changes.") != 2 || f.applied != 1 {
		t.Errorf("%s", out)
	}
}

// What can't be applied leaves the running configuration, and the changes to be mended
// or dropped.
func TestAFailedApplyKeepsBoth(t *testing.T) {
	f, x := sessions(t)
	s, running := x.NewSession(Caller{"ann", "vty0"}), f.conf
	out := talk(s, "conf t", "no ip access-list extended acl1", "show configuration consequences", "end")
	if !strings.Contains(out, "% Can't be applied: group ks1: sa ipsec 1: there is no access list acl1") || !strings.Contains(out, "% Nothing was applied.") || !strings.HasSuffix(out, "KS1(config)#") {
		t.Errorf("%s", out)
	}
	if f.conf != running || f.applied != 0 {
		t.Error("the running configuration was touched")
	}
	out = talk(s, "ip access-list extended acl1", "permit ip 10.1.0.0 0.0.255.255 any", "exit", "exit")
	if !strings.HasSuffix(out, "KS1#") || f.applied != 0 { // mended to what it was: nothing to apply
		t.Errorf("%s", out)
	}
	talk(s, "conf t", "hostname other")
	if out := talk(s, "abort"); out != "other(config)#abort\nKS1#" || f.conf != running {
		t.Errorf("%q", out)
	}
	f.refuse = errors.New("the dataplane said no")
	if out := talk(s, "conf t", "hostname other", "\x1a"); !strings.Contains(out, "% the dataplane said no\n") || !s.Configuring() {
		t.Errorf("%q", out)
	}
}

// Two sessions: who leaves second is refused and told who was first; nothing is mixed.
func TestTheSecondOfTwoSessionsIsRefused(t *testing.T) {
	f, x := sessions(t)
	ann, bob := x.NewSession(Caller{"ann", "vty0"}), x.NewSession(Caller{"bob", "vty1"})
	talk(ann, "conf t", "ip cef")
	talk(bob, "conf t", "ip domain name example.net")
	if out := talk(ann, "end"); !strings.HasSuffix(out, "KS1#") {
		t.Fatal(out)
	}
	out := talk(bob, "end")
	if !strings.Contains(out, "was changed by ann on vty0 at 10:00:00") || !bob.Configuring() || f.applied != 1 {
		t.Errorf("%s", out)
	}
	if text := config.Render(f.conf); !strings.Contains(text, "ip cef") || strings.Contains(text, "example.net") {
		t.Errorf("%s", text)
	}
	if out := talk(bob, "abort", "conf t", "ip domain name example.net", "end"); !strings.HasSuffix(out, "KS1#") || f.applied != 2 {
		t.Errorf("%s", out)
	}
}

// What isn't understood of a key never shows; default and no take back; an exec word in
// configuration mode isn't one.
func TestSessionOddsAndEnds(t *testing.T) {
	f, x := sessions(t)
	s := x.NewSession(Caller{"ann", "vty0"})
	out := talk(s, "conf t", "crypto gdoi group ks1", "server local", "default rekey transport unicast", "do conf t", "clear crypto gdoi", "?", "no rekey ?", "show configuration ?")
	for _, want := range []string{"% Already in configuration mode.", "% Invalid input detected", "\n  abort ", "\n  do ", "  algorithm        Cipher", "  sig-hash         Hash", "  consequences "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if s.ed.Config().GroupByName("ks1").Local.RekeyUnicast || len(f.acted) != 0 {
		t.Error("default, or a clear that isn't there")
	}
	if _, err := s.Run("crypto isakmp key s3cret adress 1.2.3.4", Options{Script: true}); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("%v", err)
	}
	if out := talk(s, "crypto isakmp key s3cret adress 1.2.3.4"); strings.Count(out, "s3cret") != 1 { // as typed
		t.Errorf("%s", out)
	}
	if _, err := x.Run("configure terminal", false); err == nil {
		t.Error("configuration mode without a session")
	}
}

// A person is asked before keys are destroyed, a script isn't; each command reaches the
// daemon with its words.
func TestActions(t *testing.T) {
	f, x := sessions(t)
	s := x.NewSession(Caller{"ann", "vty0"})
	for line, want := range map[string]Action{
		"crypto gdoi ks rekey":                                        {Verb: ActRekey},
		"crypto gdoi ks rekey group ks1 replace-now":                  {Verb: ActRekey, Group: "ks1", Now: true},
		"crypto gkm gm ipsec direction both":                          {Verb: ActDirection, Direction: "both"},
		"crypto gdoi gm group getvpn1 ipsec direction inbound option": {Verb: ActDirection, Group: "getvpn1", Direction: "inbound optional"},
		"crypto gdoi gm ipsec direction inbound only":                 {Verb: ActDirection, Direction: "inbound only"},
		"clear crypto gdoi":                                           {Verb: ActClearGroup},
		"clear crypto gdoi group ks1 ks members now":                  {Verb: ActClearMembers, Group: "ks1", Now: true},
		"clear crypto gdoi ks members":                                {Verb: ActClearMembers},
		"clear crypto gkm ks policy":                                  {Verb: ActClearPolicy},
		"clear crypto gdoi replay counter":                            {Verb: ActClearReplay},
		"clear crypto gdoi group getvpn1 dataplane counters":          {Verb: ActClearCounters, Group: "getvpn1"},
		"clear crypto sa":                                             {Verb: ActClearSA},
		"clear crypto isakmp 1067":                                    {Verb: ActClearISAKMP, Conn: 1067},
		"clear crypto session":                                        {Verb: ActClearISAKMP},
	} {
		f.acted = nil
		if _, err := s.Run(line, Options{}); err != nil || len(f.acted) != 1 || f.acted[0] != want {
			t.Errorf("%s: %+v %v", line, f.acted, err)
		}
	}
	f.acted = nil
	_, err := s.Run("clear crypto gdoi", Options{Asks: true})
	var q *Confirm
	if !errors.As(err, &q) || !strings.HasSuffix(q.Question, "Are you sure you want to proceed ? [yes/no]: ") || len(f.acted) != 0 {
		t.Errorf("%v %+v", err, f.acted)
	}
	if _, err := s.Run("clear crypto gdoi", Options{Asks: true, Confirmed: true}); err != nil || len(f.acted) != 1 {
		t.Errorf("%v %+v", err, f.acted)
	}
	if _, err := s.Run("crypto gdoi ks rekey group nobody", Options{}); err == nil {
		t.Error("a group that isn't there")
	}
}

// config-02: the full configuration pushed again, and abbreviated lines, change nothing.
func Test_config_02_TheSecondPushChangesNothing(t *testing.T) {
	f, x := sessions(t)
	s := x.NewSession(Caller{"ansible", "vty0"})
	push := append([]string{"conf t"}, strings.Split(strings.TrimSpace(sessionConfig), "\n")...)
	if out := talk(s, append(push, "end")...); !strings.HasSuffix(out, "KS1#") || f.applied != 0 {
		t.Errorf("%s", out)
	}
	if out := talk(s, "conf t", "cry gdoi gr ks1", "id num 1223", "serv loc", "addr ipv4 1.1.1.1", "end"); !strings.HasSuffix(out, "KS1#") || f.applied != 0 || strings.Contains(out, "%") {
		t.Errorf("%s", out)
	}
	before := run(t, f, "show running-config")
	if out := talk(s, "conf t", "cry gdoi gr ks1", "id num 3333", "end"); f.applied != 1 {
		t.Errorf("%s", out)
	}
	if after := run(t, f, "show running-config"); after != strings.Replace(before, "identity number 1223", "identity number 3333", 1) {
		t.Errorf("%s\n%s", before, after)
	}
}

// Over the socket a session is found again by its name, is its user's alone, and leaves
// nothing behind when it isn't configuring.
func TestSocketSessions(t *testing.T) {
	f, _ := sessions(t)
	path := serve(t, f)
	ask := func(session, line string) (Answer, string) {
		t.Helper()
		a, text, err := Ask(path, Request{Session: session, Command: line})
		if err != nil {
			t.Fatal(err)
		}
		return a, text
	}
	const one, two = "0123456789abcdef-1", "0123456789abcdef-2"
	ask(one, "conf t")
	if a, _ := ask(one, "interface eth0"); a.Prompt != "KS1(config-if)#" || !a.Config || !a.OK {
		t.Errorf("%+v", a)
	}
	if a, _ := ask(two, "show privilege"); a.Prompt != "KS1#" || a.Config {
		t.Errorf("%+v", a)
	}
	if a, _ := ask("", "interface eth0"); a.OK {
		t.Error("a command without a session was in one's configuration mode")
	}
	if a, text := ask("short", "show privilege"); a.OK || !strings.Contains(text, "16 octets") {
		t.Errorf("%+v %s", a, text)
	}
	if a, text, err := Ask(path, Request{Session: one, Command: "ip tcp adj", Complete: true}); err != nil || text != "adjust-mss" || !a.OK {
		t.Errorf("%q %v", text, err)
	}
	ask(one, "ip tcp adjust-mss 1360")
	if a, text := ask(one, "end"); !a.OK || a.Prompt != "KS1#" {
		t.Errorf("%+v %s", a, text)
	}
	if f.RunningConfig().Interfaces[0].AdjustMSS != 1360 {
		t.Error("not applied")
	}
	if a, q, err := Ask(path, Request{Session: one, Command: "clear crypto gdoi", Asks: true}); err != nil || !a.Confirm || a.OK || !strings.Contains(q, "[yes/no]") {
		t.Errorf("%+v %q %v", a, q, err)
	}
}

// Lines of any kind leave a session that still answers.
func FuzzSession(f *testing.F) {
	f.Add("conf t\ncrypto gdoi group g\nno ?\nshow configuration diff\nend\n")
	f.Add("conf t\nbanner motd x\nhello\nx\nline vty 0\nexit\nexit\n")
	f.Fuzz(func(t *testing.T, text string) {
		_, x := sessions(&testing.T{})
		s := x.NewSession(Caller{"f", "vty0"})
		for i, l := range strings.Split(text, "\n") {
			if i > 50 {
				break
			}
			s.Help(l)
			s.Complete(l)
			s.Run(l, Options{Script: i%2 == 0})
			s.Prompt()
		}
	})
}
