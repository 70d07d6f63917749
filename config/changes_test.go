package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// changeBase is what the cases of the table start from: the guide's sample (l.995) with
// a second list, profile and key to change over to.
const changeBase = `hostname KS
crypto isakmp policy 10
 encr aes
 authentication pre-share
 group 14
crypto isakmp key k1 address 10.0.0.2
crypto ipsec transform-set gdoi esp-aes esp-sha-hmac
crypto ipsec transform-set other esp-gcm
crypto ipsec profile gdoi-p
 set security-association lifetime seconds 900
 set transform-set gdoi
crypto ipsec profile gdoi-q
 set security-association lifetime seconds 900
 set transform-set gdoi
crypto gdoi group diffint
 identity number 3333
 server local
  rekey algorithm aes 128
  rekey address ipv4 121
  rekey lifetime seconds 3600
  no rekey retransmit
  rekey authentication mypubkey rsa mykeys
  sa ipsec 1
   profile gdoi-p
   match address ipv4 120
   replay counter window-size 64
  address ipv4 10.0.0.1
crypto gdoi group joined
 identity number 4444
 server address ipv4 10.9.9.9
crypto map M 10 gdoi
 set group joined
 match address 130
interface eth0
 crypto map M
access-list 120 permit ip 10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255
access-list 121 permit udp host 10.0.0.1 eq 848 host 239.1.1.1 eq 848
access-list 122 permit udp host 10.0.0.1 eq 848 host 239.1.1.2 eq 848
access-list 123 permit ip 10.3.0.0 0.0.255.255 10.4.0.0 0.0.255.255
access-list 130 deny tcp any any eq 22
`

const (
	inGroup = "crypto gdoi group diffint\n"
	inLocal = inGroup + " server local\n  "
	inSA    = inLocal + "sa ipsec 1\n   "
	inMine  = "crypto gdoi group joined\n "
	gcm     = "crypto ipsec profile gdoi-p\n set transform-set other\n"
	coop    = inLocal + "redundancy\n   local priority 10\n   peer address ipv4 10.0.0.3\n"
)

// rowCases: before and change are lines entered after the base.
var rowCases = []struct {
	row, before, change string
	group               string // "" for diffint
	also                []string
	found               []string // all rows, where the row isn't the first
	verdict             string
	when                When
	effect              Effects
}{
	{row: "tek-lifetime", change: "crypto ipsec profile gdoi-p\n set security-association lifetime seconds 7200\n", verdict: "at next rekey", when: AtNextRekey, effect: Effects{NextRekey: true}},
	{row: "tek-transform", change: "crypto ipsec profile gdoi-p\n set transform-set other\n", verdict: "rekey now", when: OldSAsEnd, effect: Effects{Rekey: true, NewTEKs: []int{1}}},
	{row: "tek-profile", change: inSA + "profile gdoi-q\n", verdict: "rekey now", when: OldSAsEnd, effect: Effects{Rekey: true, NewTEKs: []int{1}}},
	{row: "tek-acl", change: "access-list 120 permit ip any 10.5.0.0 0.0.255.255\n", verdict: "rekey now", when: AtOnce, effect: Effects{Rekey: true, ACL: true}},
	{row: "tek-match", change: inSA + "match address ipv4 123\n", verdict: "rekey now", when: AtOnce, effect: Effects{Rekey: true, ACL: true}},
	{row: "tek-acl-removed", change: "no access-list 120\n", verdict: "no effect on members", when: AtOnce},
	{row: "sa-added", change: inLocal + "sa ipsec 2\n   profile gdoi-p\n   match address ipv4 123\n", verdict: "rekey now", when: AfterRekey, effect: Effects{Rekey: true, ACL: true, NewTEKs: []int{2}}},
	{row: "sa-removed", before: inLocal + "sa ipsec 2\n   profile gdoi-p\n   match address ipv4 123\n", change: inLocal + "no sa ipsec 2\n", verdict: "rekey now", when: AfterRekey, effect: Effects{Rekey: true, ACL: true}},
	{row: "replay-counter-on", before: inSA + "no replay\n", change: inSA + "replay counter window-size 64\n", verdict: "rekey now", when: OldSAsEnd, effect: Effects{Rekey: true, NewTEKs: []int{1}}},
	{row: "replay-counter-window", change: inSA + "replay counter window-size 512\n", verdict: "at next rekey", when: AtNextRekey, effect: Effects{NextRekey: true}},
	{row: "replay-counter-off", change: inSA + "no replay counter window-size\n", verdict: "rekey now", when: OldSAsEnd, effect: Effects{Rekey: true, NewTEKs: []int{1}}},
	{row: "replay-time-on", change: inSA + "replay time window-size 10\n", verdict: "rekey now", when: OldSAsEnd, effect: Effects{Rekey: true, NewTEKs: []int{1}}},
	{row: "replay-time-window", before: inSA + "replay time window-size 10\n", change: inSA + "replay time window-size 20\n", verdict: "members must re-register", when: AfterClear, effect: Effects{AfterClear: true}},
	{row: "replay-time-off", before: inSA + "replay time window-size 10\n", change: inSA + "no replay time window-size\n", verdict: "rekey now", when: OldSAsEnd, effect: Effects{Rekey: true, NewTEKs: []int{1}}},
	{row: "tag", change: inSA + "tag cts sgt\n", verdict: "rekey now", when: OldSAsEnd, effect: Effects{Rekey: true, NewTEKs: []int{1}}},
	{row: "receive-only-on", change: inLocal + "sa receive-only\n", verdict: "rekey now", when: AfterRekey, effect: Effects{Rekey: true}},
	{row: "receive-only-off", before: inLocal + "sa receive-only\n", change: inLocal + "no sa receive-only\n", verdict: "rekey now", when: AfterRekey, effect: Effects{Rekey: true}},
	{row: "kek-lifetime", change: inLocal + "rekey lifetime seconds 7200\n", verdict: "at next rekey", when: AtNextRekey, effect: Effects{NextRekey: true}},
	{row: "kek-cipher", change: inLocal + "rekey algorithm aes 256\n", verdict: "rekey now", when: AtOnce, effect: Effects{Rekey: true, NewKEK: true}},
	{row: "kek-key", change: inLocal + "rekey authentication mypubkey ecdsa newkeys\n", verdict: "rekey now", when: AfterRekey, effect: Effects{Rekey: true, NewKEK: true}},
	{row: "kek-on", before: inLocal + "no rekey authentication\n", change: inLocal + "rekey authentication mypubkey rsa mykeys\n", verdict: "members must re-register", when: AtRegistration, effect: Effects{Rekey: true, NewKEK: true, Unreached: true}},
	{row: "kek-off", change: inLocal + "no rekey authentication\n", verdict: "no effect on members", when: AtOnce},
	{row: "kek-hash", change: inLocal + "rekey sig-hash algorithm sha512\n", verdict: "rekey now", when: AfterRekey, effect: Effects{Rekey: true, NewKEK: true}},
	{row: "transport-multicast", before: inLocal + "rekey transport unicast\n", change: inLocal + "no rekey transport unicast\n", verdict: "rekey now", when: AfterRekey, effect: Effects{Rekey: true, NewKEK: true}},
	{row: "transport-unicast", change: inLocal + "rekey transport unicast\n", verdict: "rekey now", when: AfterRekey, effect: Effects{Rekey: true, NewKEK: true}},
	{row: "rekey-address", change: inLocal + "rekey address ipv4 122\n", verdict: "rekey now", when: AfterRekey, effect: Effects{Rekey: true, NewKEK: true}},
	{row: "rekey-address-acl", change: "no access-list 121\naccess-list 121 permit udp host 10.0.0.1 eq 848 host 239.9.9.9 eq 848\n", verdict: "no effect on members", when: AtOnce},
	{row: "rekey-retransmit", change: inLocal + "rekey retransmit 10 number 3\n", verdict: "at next rekey", when: AtNextRekey, effect: Effects{NextRekey: true}},
	{row: "rekey-ack", change: inLocal + "rekey acknowledgement any\n", verdict: "at next rekey", when: AtNextRekey, effect: Effects{NextRekey: true}},
	{row: "identity", change: inGroup + " identity number 3334\n", verdict: "members must re-register", when: AtRegistration, effect: Effects{Restart: true}},
	{row: "interop", change: inGroup + " interop rfc6407\n", verdict: "members must re-register", when: AtRegistration, effect: Effects{Restart: true}},
	{row: "group-size", change: inLocal + "group size small 16\n", verdict: "members must re-register", when: AtRegistration, effect: Effects{Reregister: true}},
	{row: "group-added", change: "crypto gdoi group fresh\n identity number 5\n server local\n  sa ipsec 1\n   profile gdoi-p\n   match address ipv4 123\n", group: "fresh", verdict: "no effect on members", when: AtRegistration},
	{row: "group-removed", change: "no crypto gdoi group diffint\n", verdict: "members must re-register", when: AtRegistration, effect: Effects{Restart: true}},
	{row: "authorization", change: inLocal + "authorization address ipv4 130\n", verdict: "no effect on members", when: AtRegistration},
	{row: "ks-address", change: inLocal + "address ipv4 10.0.0.7\n", verdict: "no effect on members", when: AtOnce},
	{row: "coop-on", change: coop, also: []string{"coop-priority", "coop-peer"}, verdict: "no effect on members", when: AtOnce},
	{row: "coop-priority", before: coop, change: inLocal + "redundancy\n   no local priority 10\n   local priority 20\n", verdict: "no effect on members", when: AtOnce},
	{row: "coop-peer", before: coop, change: inLocal + "redundancy\n   peer address ipv4 10.0.0.4\n", verdict: "no effect on members", when: AtOnce},
	{row: "coop-peer", before: coop, change: inLocal + "redundancy\n   protocol version optimize\n   protocol timeout refresh 10\n   protocol timeout periodic 40\n   protocol retransmit 5\n", verdict: "no effect on members", when: AtOnce},
	{row: "coop-address", before: coop, change: inLocal + "redundancy\n   local address 10.0.0.9\n", verdict: "no effect on members", when: AtOnce},
	{row: "sender-ids", before: gcm + coop + inLocal + "identifier\n   range 0 - 5\n", change: inLocal + "identifier\n   no range 0 - 5\n   range 6 - 9\n", verdict: "no effect on members", when: AtRegistration},
	{row: "sender-ids-shared", before: gcm + coop + inLocal + "identifier\n   range 0 - 5\n", change: inLocal + "identifier\n   no range 0 - 5\n   range 5 - 9\n", verdict: "members must re-register", when: AtRegistration, effect: Effects{Reregister: true}},
	{row: "sender-ids-shared", before: gcm + coop, change: inLocal + "redundancy\n   peer address ipv4 10.0.0.4\n", found: []string{"coop-peer", "sender-ids-shared"}, verdict: "members must re-register", when: AtRegistration, effect: Effects{Reregister: true}},
	{row: "coop-off", before: inLocal + "redundancy\n", change: inLocal + "no redundancy\n", verdict: "no effect on members", when: AtOnce},
	{row: "member-servers", change: inMine + "server address ipv4 10.9.9.8\n", group: "joined", verdict: "no effect on members", when: AtRegistration},
	{row: "member-map", change: "access-list 130 deny tcp any any eq 23\n", group: "joined", verdict: "no effect on members", when: AtOnce},
	{row: "member-source", change: inMine + "client registration interface lo0\n", group: "joined", verdict: "members must re-register", when: AtOnce, effect: Effects{Reregister: true}},
	{row: "member-passive", change: inMine + "passive\n", group: "joined", verdict: "no effect on members", when: AtOnce},
	{row: "member-client", change: inMine + "client rekey hash sha256\n", group: "joined", verdict: "no effect on members", when: AtOnce},
	{row: "psk-member", change: "crypto isakmp key k2 address 10.0.0.2\n", group: "-", also: []string{"psk"}, verdict: "no effect on members", when: AtRegistration},
	{row: "psk", change: "no crypto gdoi group joined\ncrypto isakmp key k2 address 10.0.0.2\n", before: "no crypto gdoi group joined\n", group: "-", verdict: "no effect on members", when: AtOnce},
	{row: "profile-added", change: "crypto ipsec profile third\n set transform-set other\n", group: "-", verdict: "no effect on members", when: AtOnce},
	{row: "isakmp-policy", change: "crypto isakmp policy 20\n encr aes 256\n", group: "-", verdict: "no effect on members", when: AtOnce},
}

func parsed(t *testing.T, text string) *Config {
	t.Helper()
	c, _, err := Parse("t", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

// Each row of the guide's tables 1 and 2, and of the changes that they don't name.
func TestChange(t *testing.T) {
	tested := map[string]bool{}
	for _, x := range rowCases {
		tested[x.row] = true
		t.Run(x.row, func(t *testing.T) {
			old := parsed(t, changeBase+x.before)
			next := parsed(t, changeBase+x.before+x.change)
			var found []string
			for _, c := range Consequences(old, next) {
				found = append(found, c.Row)
				if c.Row != x.row {
					continue
				}
				group := map[string]string{"": "diffint", "-": ""}[x.group]
				if group == "" && x.group != "-" {
					group = x.group
				}
				if c.Group != group || c.Verdict() != x.verdict || c.When != x.when || c.Rekey != (x.verdict == "rekey now") || !reflect.DeepEqual(c.Effect, x.effect) {
					t.Errorf("%+v: verdict %q, want %q %q %+v in group %q", c, c.Verdict(), x.verdict, x.when, x.effect, group)
				}
				if c.Text == "" || c.What == "" {
					t.Error("no words")
				}
			}
			want := append([]string{x.row}, x.also...)
			if x.found != nil {
				want = x.found
			}
			if !slices.Equal(found, want) {
				t.Errorf("found %q, want %q", found, want)
			}
			if back := Consequences(next, next); len(back) != 0 {
				t.Errorf("a configuration differs from itself: %+v", back)
			}
		})
	}
	for _, r := range Rows() {
		if !tested[r.Name] {
			t.Errorf("row %s has no case", r.Name)
		}
		if r.Rekey != r.effects.Rekey {
			t.Errorf("row %s: Rekey and its effects disagree", r.Name)
		}
	}
}

// Without rekeys, before or after, no change can be told: members learn of it when they
// register again.
func TestChangeOfAGroupWithoutRekeys(t *testing.T) {
	const off = inLocal + "no rekey authentication\n"
	const transform = "crypto ipsec profile gdoi-p\n set transform-set other\n"
	for _, x := range []struct{ before, change string }{{off, transform}, {"", transform + off}} {
		for _, c := range Consequences(parsed(t, changeBase+x.before), parsed(t, changeBase+x.before+x.change)) {
			if c.Row != "tek-transform" {
				continue
			}
			if c.Verdict() != "members must re-register" || c.Rekey || c.When != AtRegistration || !c.Effect.Unreached || !slices.Equal(c.Effect.NewTEKs, []int{1}) ||
				!strings.Contains(c.Text, "no KEK") {
				t.Errorf("after %q: %+v", x.change, c)
			}
			if s := Diff(parsed(t, changeBase+x.before), parsed(t, changeBase+x.before+x.change))["diffint"].String(); !strings.Contains(s, "learn of it when they register again") {
				t.Errorf("effects: %s", s)
			}
		}
	}
}

// Where the guide contradicts itself, the row says which text counts.
func TestChangeContradictionsAreDecided(t *testing.T) {
	for _, name := range []string{"kek-cipher", "transport-multicast", "rekey-address", "replay-counter-on", "replay-counter-window", "kek-lifetime", "kek-key", "tek-acl-removed"} {
		i := slices.IndexFunc(changes, func(r Row) bool { return r.Name == name })
		if i < 0 || !strings.Contains(changes[i].Wins, "count") && !strings.Contains(changes[i].Wins, "both") && !strings.Contains(changes[i].Wins, "next one") {
			t.Errorf("%s: %q", name, changes[i].Wins)
		}
	}
}

// Guide, scenario 1 (l.1833): only the list changes. One rekey, at once; the new list is
// in force right after it; the SAs stay.
func TestScenario1TheListChanges(t *testing.T) {
	old := parsed(t, changeBase)
	next := parsed(t, changeBase+"no access-list 120\naccess-list 120 permit ip host 10.1.1.3 host 10.1.1.4\naccess-list 120 permit ip host 10.1.1.4 host 10.1.1.3\n")
	if got, want := fmt.Sprintf("%+v", Diff(old, next)), fmt.Sprintf("%+v", map[string]Effects{"diffint": {Rekey: true, ACL: true}}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	c := Consequences(old, next)
	if len(c) != 1 || c[0].When != AtOnce || c[0].What != "sa ipsec 1: entries of the list that an sa ipsec protects (list 120: 2 added, 1 removed)" {
		t.Errorf("%+v", c)
	}
}

// Guide, scenario 2 (l.1865): transform and time-based replay change. The rekey carries
// old and new SAs; the old ones are used to their end.
func TestScenario2TransformAndReplayChange(t *testing.T) {
	old := parsed(t, strings.Replace(changeBase, "esp-aes esp-sha-hmac", "esp-3des esp-sha-hmac", 1))
	next := parsed(t, changeBase+inSA+"replay time window-size 10\n")
	if got := Diff(old, next)["diffint"]; !reflect.DeepEqual(got, Effects{Rekey: true, NewTEKs: []int{1}}) {
		t.Errorf("%+v", got)
	}
	for _, c := range Consequences(old, next) {
		if c.When != OldSAsEnd || !strings.Contains(c.Text, "used to their end") {
			t.Errorf("%+v", c)
		}
	}
}

// Guide, scenario 3 (l.1887): both. The list counts at once, the new transform as the
// old SA ends; one rekey brings all of it.
func TestScenario3BothChange(t *testing.T) {
	old := parsed(t, strings.Replace(changeBase, "esp-aes esp-sha-hmac", "esp-3des esp-sha-hmac", 1))
	next := parsed(t, changeBase+"no access-list 120\naccess-list 120 permit ip host 10.1.1.3 host 10.1.1.4\n")
	if got := Diff(old, next)["diffint"]; !reflect.DeepEqual(got, Effects{Rekey: true, ACL: true, NewTEKs: []int{1}}) {
		t.Errorf("%+v", got)
	}
	when := map[string]When{}
	for _, c := range Consequences(old, next) {
		when[c.Row] = c.When
	}
	if !reflect.DeepEqual(when, map[string]When{"tek-transform": OldSAsEnd, "tek-acl": AtOnce}) {
		t.Errorf("%v", when)
	}
}

// What has no row concerns no group: host name, logging, kept lines, remarks, numbers of
// entries.
func TestChangesThatConcernNoGroup(t *testing.T) {
	old := parsed(t, changeBase)
	next := parsed(t, strings.Replace(changeBase, "access-list 120 permit", "access-list 120 remark hello\naccess-list 120 permit", 1)+"hostname X\nno logging console\nip cef\n")
	if c := Consequences(old, next); len(c) != 0 {
		t.Errorf("%+v", c)
	}
	if Equal(old, next) {
		t.Error("but the configurations differ")
	}
	if s := (Effects{}).String(); s != "no effect on members" {
		t.Error(s)
	}
	if s := (Effects{Rekey: true, NewTEKs: []int{1, 2}, NextRekey: true}).String(); s != "rekey, new TEKs of sa ipsec [1 2], at next rekey" {
		t.Error(s)
	}
}
