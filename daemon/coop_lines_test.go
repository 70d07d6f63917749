package daemon

// Every line of the log about cooperative key servers, brought about on whole daemons and
// compared with the vendor's form, word by word as the console has it.

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"getvpn/gdoi/coop"
	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
	"getvpn/model"
)

// coopScene is something that happens between key servers, and the lines that stand on
// their consoles then, in this order among others.
type coopScene struct {
	name string
	play func(*life)
	says map[string][]string // by node
}

// steady is a network that keeps the order of datagrams.
var steady = memnet.Link{Delay: 5 * time.Millisecond}

var coopScenes = []coopScene{
	{"the first start, a member that comes too early", func(l *life) {
		conf := pushed(l.t, lifeKS, unicast)
		a, b := l.server(1, cooperative(l.t, conf, 1, 2)), l.server(2, cooperative(l.t, conf, 2, 2))
		l.spread(2, 2)
		l.settled(a, b)
		l.registered()
	}, map[string][]string{
		"ks1": {"%GDOI-5-COOP_KS_ADD: 192.0.2.2 added as COOP Key Server in group G.",
			"%GDOI-5-COOP_KS_ELECTION: KS entering election mode in group G (Previous Primary = NONE)",
			"%GDOI-5-COOP_KS_BLOCK_NEW_GM_REGISTER_ELECTION: This KS temporarily blocks GM with ip-addr 198.51.100.1 from registering in group G as the KS election is underway",
			"%GDOI-5-COOP_KS_TRANS_TO_PRI: KS 192.0.2.1 in group G transitioned to Primary (Previous Primary = NONE)"},
		"ks2": {"%GDOI-5-COOP_KS_ADD: 192.0.2.1 added as COOP Key Server in group G.",
			"%GDOI-5-COOP_KS_ELECTION: KS entering election mode in group G (Previous Primary = NONE)",
			"%GDOI-5-COOP_KS_BLOCK_NEW_GM_REGISTER_ELECTION: This KS temporarily blocks GM with ip-addr 198.51.100.2 from registering in group G as the KS election is underway"},
	}},
	{"a split network", func(l *life) {
		kss := l.servers(2, pushed(l.t, lifeKS, unicast))
		l.apart(kss[:1], kss[1:])
		l.run(2 * time.Minute)
		l.together(kss[:1], kss[1:])
		l.run(time.Minute)
	}, map[string][]string{
		"ks1": {"%GDOI-3-COOP_KS_UNREACH: Cooperative KS 192.0.2.2 Unreachable in group G. IKE SA Status = Failed to establish",
			"%GDOI-5-COOP_KS_REACH: Reachability restored with Cooperative KS 192.0.2.2 in group G."},
		"ks2": {"%GDOI-3-COOP_KS_UNREACH: Cooperative KS 192.0.2.1 Unreachable in group G. IKE SA Status = Failed to establish",
			"%GDOI-5-COOP_KS_ELECTION: KS entering election mode in group G (Previous Primary = 192.0.2.1)",
			"%GDOI-5-COOP_KS_TRANS_TO_PRI: KS 192.0.2.2 in group G transitioned to Primary (Previous Primary = 192.0.2.1)",
			"%GDOI-5-COOP_KS_REACH: Reachability restored with Cooperative KS 192.0.2.1 in group G."},
	}},
	{"members are called while a key server is out of reach", func(l *life) {
		kss := l.servers(2, pushed(l.t, lifeKS, unicast))
		l.spread(2, 2)
		l.registered()
		l.apart(kss[:1], kss[1:])
		l.wait(2*time.Minute, "it is out of reach", func() bool { return kss[0].peer(kss[1]).Status == model.CoopDead })
		kss[0].command("clear crypto gdoi ks members")
		l.run(10 * time.Second)
		l.together(kss[:1], kss[1:])
		l.run(2 * time.Minute)
	}, map[string][]string{
		"ks1": {"%GETVPN-4-COOP_MEMBERS_POSTPONED: Members of group G will be told to register again when all key servers are reachable; waiting for 192.0.2.2. To tell them at once: clear crypto gdoi ks members now.",
			"%GETVPN-5-COOP_MEMBERS_CALLED: All key servers of group G are reachable: members are told to register again, as was ordered before."},
	}},
	{"the primary's role is reset", func(l *life) {
		kss := l.servers(2, pushed(l.t, lifeKS, unicast))
		kss[1].configure("crypto gdoi group G\n server local\n  redundancy\n   local priority 200")
		l.run(30 * time.Second)
		kss[0].command("clear crypto gdoi ks coop role")
		l.run(time.Minute)
	}, map[string][]string{
		"ks1": {"%GDOI-5-COOP_KS_ELECTION: KS entering election mode in group G (Previous Primary = 192.0.2.1)",
			"%GDOI-5-COOP_KS_ADMN_USRP_PRI: Primary role Usurped by KS 192.0.2.2 in group G."},
		"ks2": {"%GDOI-5-COOP_KS_ELECTION: KS entering election mode in group G (Previous Primary = 192.0.2.1)",
			"%GDOI-5-COOP_KS_TRANS_TO_PRI: KS 192.0.2.2 in group G transitioned to Primary (Previous Primary = 192.0.2.1)",
			"%GDOI-5-COOP_KS_ADMN_USRP_PRI: Primary role Usurped by KS 192.0.2.2 in group G."},
	}},
	{"configurations that differ", func(l *life) {
		conf := timed(l.t, 3600, 100)
		l.server(1, cooperative(l.t, conf, 1, 2))
		l.server(2, cooperative(l.t, edit(l.t, conf, "time window-size 100", "time window-size 50", "seconds 3600", "seconds 7200", " deny tcp any any eq 22\n", "",
			"rekey algorithm aes 128", "rekey algorithm aes 256", "transform-set T esp-gcm 128", cbcSet), 2, 2))
		l.run(time.Minute)
	}, both(
		"%GDOI-3-COOP_CONFIG_MISMATCH: WARNING: Group G, ACL configuration between Primary KS and Secondary KS are mismatched",
		"%GDOI-3-COOP_CONFIG_MISMATCH: WARNING: Group G, profile configuration between Primary KS and Secondary KS are mismatched",
		"%GDOI-3-COOP_CONFIG_MISMATCH: WARNING: Group G, lifetime configuration between Primary KS and Secondary KS are mismatched",
		"%GDOI-3-COOP_CONFIG_MISMATCH: WARNING: Group G, TBAR configuration between Primary KS and Secondary KS are mismatched",
		"%GDOI-4-GDOI_ANN_INCONSISTENT_TBAR: COOP_KS ANN received from KS PEER in group G has inconsistent TBAR setting with mine",
		"%GDOI-3-COOP_CONFIG_MISMATCH: WARNING: Group G, rekey configuration between Primary KS and Secondary KS are mismatched",
	)},
	{"a key server that isn't configured", func(l *life) {
		conf := pushed(l.t, lifeKS, unicast)
		l.server(1, cooperative(l.t, conf, 1, 2))
		l.server(2, cooperative(l.t, conf, 2, 2))
		l.server(3, cooperative(l.t, conf, 3, 3))
		l.run(time.Minute)
	}, map[string][]string{
		"ks1": {"%GDOI-3-COOP_KS_UNAUTH: Contact from unauthorized KS 192.0.2.3 in group G at local address 192.0.2.1 (Possible MISCONFIG of peer/local address)"},
		"ks2": {"%GDOI-3-COOP_KS_UNAUTH: Contact from unauthorized KS 192.0.2.3 in group G at local address 192.0.2.2 (Possible MISCONFIG of peer/local address)"},
	}},
	{"a secondary's pseudotime is ahead", func(l *life) {
		kss := l.servers(2, timed(l.t, 86400, 100))
		l.run(10 * time.Minute)
		kss[1].clock.Suspend(50 * time.Second)
		l.run(2 * time.Minute)
		l.gm("gm1", "198.51.100.1", asks(l.t, 2, 2))
		l.run(30 * time.Second)
	}, map[string][]string{
		"ks1": {"%GDOI-4-GDOI_ANN_TIMESTAMP_LARGE_NO_UPDATE: COOP_KS ANN received from KS 192.0.2.2 in group G has PST bigger than myself: my_pst is <n> sec, peer_pst is <n> sec"},
		"ks2": {"%GDOI-4-GDOI_ANN_TIMESTAMP_TOO_OLD: COOP_KS ANN from KS 192.0.2.1 in group G is too old and fail PST check: my_pst is <n> sec, peer_pst is <n> sec, allowable_skew is 30 sec",
			"%GDOI-5-COOP_KS_VALID_ANN_TIMER_EXPIRED: This sec-KS has NOT received an ANN with valid pseudotime for an extended period in group G. It will block new group members registration temporarily until a valid ANN is received",
			"%GDOI-5-COOP_KS_BLOCK_NEW_GM_REGISTER: This key server temporarily blocks group member with ip-addr 198.51.100.1 from registering in group G as it has not received an ANN with valid pseudotime for prolonged period"},
	}},
	{"a primary's pseudotime is ahead", func(l *life) {
		kss := l.servers(2, timed(l.t, 86400, 100))
		l.run(10 * time.Minute)
		kss[0].clock.Suspend(50 * time.Second)
		l.run(time.Minute)
	}, map[string][]string{
		"ks2": {"%GDOI-4-GDOI_ANN_TIMESTAMP_LARGE: COOP_KS ANN received from KS 192.0.2.1 in group G has pseudotime bigger than myself. Adjust to new pseudotime: my_old_pst is <n> sec, peer_pst is <n> sec"},
	}},
	{"the pseudotimes of two primaries", func(l *life) {
		kss := l.servers(2, timed(l.t, 86400, 10))
		l.spread(2, 2)
		l.registered()
		l.apart(kss[:1], kss[1:])
		l.run(5 * time.Minute)
		kss[1].clock.Suspend(50 * time.Second)
		l.run(time.Minute)
		l.together(kss[:1], kss[1:])
		l.run(time.Minute)
	}, map[string][]string{
		"ks1": {"%GDOI-4-GDOI_ANN_TIMESTAMP_LARGE: COOP_KS ANN received from KS 192.0.2.2 in group G has PST bigger than myself. Adjust to new pseudotime: my_old_pst is <n> sec, peer_pst is <n> sec",
			"%GDOI-5-KS_SEND_MCAST_REKEY: Sending Multicast Rekey for group G from address 192.0.2.1 to 239.192.1.190  with seq # <n>"},
	}},
	{"Sender IDs that overlap", func(l *life) {
		conf := pushed(l.t, lifeKS, unicast)
		a := l.server(1, edit(l.t, cooperative(l.t, conf, 1, 2), "  redundancy\n", "  identifier\n   range 0 - 9\n  redundancy\n"))
		b := l.server(2, edit(l.t, cooperative(l.t, conf, 2, 2), "  redundancy\n", "  identifier\n   range 5 - 20\n  redundancy\n"))
		l.run(time.Minute)
		b.configure("crypto gdoi group G\n server local\n  identifier\n   no range 5 - 20\n   range 10 - 20")
		l.settled(a, b)
	}, map[string][]string{
		"ks1": {"%GETVPN-3-COOP_SID_OVERLAP: Sender IDs of group G overlap: 0 - 1310719 here, 655360 - 2752511 at KS 192.0.2.2. No member is registered for counter-mode keys until they don't.",
			"%GETVPN-5-COOP_SID_OVERLAP_CLEARED: Sender IDs of group G don't overlap with those of KS 192.0.2.2 any more: members are registered again."},
		"ks2": {"%GETVPN-3-COOP_SID_OVERLAP: Sender IDs of group G overlap: 655360 - 2752511 here, 0 - 1310719 at KS 192.0.2.1. No member is registered for counter-mode keys until they don't.",
			"%GETVPN-5-COOP_SID_OVERLAP_CLEARED: Sender IDs of group G don't overlap with those of KS 192.0.2.1 any more: members are registered again."},
	}},
	{"another key that signs rekeys", func(l *life) {
		conf := pushed(l.t, lifeKS, unicast)
		l.server(1, cooperative(l.t, conf, 1, 2))
		l.ks("ks2", "192.0.2.2", cooperative(l.t, conf, 2, 2))
		l.spread(2, 1)
		l.run(30 * time.Second)
		l.registered()
		l.wait(time.Minute, "the other one knows both members", func() bool { return len(l.nodes[1].listed()) == 2 })
		l.nodes[0].crash()
		l.run(2 * time.Minute)
	}, map[string][]string{
		"ks1": {"%GETVPN-3-COOP_SIGNING_KEY_DIFFERS: KS 192.0.2.2 signs rekeys of group G with another key (SHA-256 <hex>) than this one (<hex>): members would refuse them after a change of roles. Give both the same key."},
		"ks2": {"%GETVPN-3-COOP_SIGNING_KEY_DIFFERS: KS 192.0.2.1 signs rekeys of group G with another key (SHA-256 <hex>) than this one (<hex>): members would refuse them after a change of roles. Give both the same key.",
			"%GETVPN-2-COOP_REKEYS_UNHEARD: This KS leads group G with another signing key (SHA-256 <hex>) than the last primary: members 198.51.100.1, 198.51.100.2 drop its rekeys until they register again, before their keys end."},
	}},
	{"an announcement that comes late", func(l *life) {
		kss := l.servers(2, pushed(l.t, lifeKS, unicast))
		l.run(time.Minute)
		var from, to netip.AddrPort
		var late []byte
		l.net.SetTap(func(f, t netip.AddrPort, b []byte) []byte {
			if late == nil && f.Addr() == kss[0].addr && t.Addr() == kss[1].addr && isExchange(b, isakmp.Informational) && len(b) > 300 {
				from, to, late = f, t, b
				return nil
			}
			return b
		})
		l.run(45 * time.Second)
		l.net.SetTap(nil)
		before := kss[1].peer(kss[0])
		l.net.Deliver(from, to, late)
		l.run(time.Second)
		after := kss[1].peer(kss[0])
		if after.Sequence != before.Sequence || after.Counters.RcvdDrops != before.Counters.RcvdDrops+1 || kss[1].served().Rejected["coop-replayed"] != 1 {
			l.t.Errorf("taken, or not counted: %+v, before %+v, %v", after, before, kss[1].served().Rejected)
		}
		want := fmt.Sprintf("%%GDOI-3-COOP_ANN_SEQ_FAILURE: COOP Ann msg seq check failed for group G, ann seq# <n>, sess seq# %d", before.Sequence)
		if kss[1].says(0, want) != 1 {
			l.t.Errorf("no %q", want)
		}
	}, map[string][]string{
		"ks2": {"%GDOI-3-COOP_ANN_SEQ_FAILURE: COOP Ann msg seq check failed for group G, ann seq# <n>, sess seq# <n>"},
	}},
	{"another major version of the software", versions([3]uint8{2, 1, 7}), map[string][]string{
		"ks1": {"%GDOI-3-KS_MAJOR_VERSION_MISMATCH: COOP-KS Major Version mismatch in group G. KS 192.0.2.1 with version 1.0.0 is incompatible with KS 192.0.2.3 with version 2.1.7."},
		"ks2": {"%GDOI-3-KS_MAJOR_VERSION_MISMATCH: COOP-KS Major Version mismatch in group G. KS 192.0.2.2 with version 1.0.0 is incompatible with KS 192.0.2.3 with version 2.1.7."},
	}},
	{"another minor version of the software", versions([3]uint8{1, 4, 0}), map[string][]string{
		"ks1": {"%GDOI-4-KS_MINOR_VERSION_MISMATCH: COOP-KS Minor Version mismatch in group G. KS 192.0.2.1 with version 1.0.0 is incompatible with KS 192.0.2.3 with version 1.4.0."},
	}},
	{"another protocol", func(l *life) {
		conf := pushed(l.t, lifeKS, unicast)
		kss := []*simNode{l.server(1, cooperative(l.t, conf, 1, 3)), l.server(2, cooperative(l.t, conf, 2, 3))}
		f := l.foreign("192.0.2.3", kss, nil)
		defer f.close()
		l.settled(kss...)
		f.do(func(time.Time) coop.Output {
			return coop.Output{Send: []coop.Send{{To: kss[0].addr, Data: append([]byte{coop.Major + 1}, "what nobody here knows"...)}}}
		})
		l.run(time.Second)
		if n := kss[0].served().Rejected["coop-version"]; n != 1 {
			l.t.Errorf("counted %d times", n)
		}
	}, map[string][]string{
		"ks1": {"%GDOI-3-COOP_KS_VER_MISMATCH: COOP-KS version mismatch in group G. KS 192.0.2.1 and KS 192.0.2.3 run different versions"},
	}},
	{"an announcement too large for the system", func(l *life) {
		kss := l.servers(2, pushed(l.t, lifeKS, unicast))
		kss[0].most.Store(300)
		l.run(25 * time.Second)
		kss[0].most.Store(0)
		l.run(25 * time.Second)
		l.settled(kss...)
	}, map[string][]string{
		"ks1": {"%GDOI-3-COOP_PACKET_DROPPED: Announcement message dropped due to packet size <n> bytes."},
	}},
	{"key servers come and go", func(l *life) {
		kss := l.servers(2, pushed(l.t, lifeKS, unicast))
		kss[0].configure("crypto gdoi group G\n server local\n  redundancy\n   peer address ipv4 192.0.2.3")
		l.run(30 * time.Second)
		kss[0].configure("crypto gdoi group G\n server local\n  redundancy\n   no peer address ipv4 192.0.2.3")
		l.run(30 * time.Second)
	}, map[string][]string{
		"ks1": {"%GDOI-5-COOP_KS_ADD: 192.0.2.3 added as COOP Key Server in group G.", "%GDOI-5-COOP_KS_REMOVE: 192.0.2.3 removed as COOP Key Server in group G."},
	}},
}

// versions plays a third key server with other software.
func versions(v [3]uint8) func(*life) {
	return func(l *life) {
		conf := pushed(l.t, lifeKS, unicast)
		kss := []*simNode{l.server(1, cooperative(l.t, conf, 1, 3)), l.server(2, cooperative(l.t, conf, 2, 3))}
		f := l.foreign("192.0.2.3", kss, func(c *coop.Config) { c.Software = v })
		defer f.close()
		l.settled(kss...)
		l.run(30 * time.Second)
	}
}

// both are lines that ks1 and ks2 say of each other.
func both(lines ...string) map[string][]string {
	out := map[string][]string{}
	for node, peer := range map[string]string{"ks1": "192.0.2.2", "ks2": "192.0.2.1"} {
		for _, x := range lines {
			out[node] = append(out[node], strings.Replace(x, "PEER", peer, 1))
		}
	}
	return out
}

func TestLinesOfCooperativeKeyServers(t *testing.T) {
	t.Parallel()
	for _, x := range coopScenes {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			lively(t, 602, steady, func(l *life) {
				x.play(l)
				for _, n := range l.nodes {
					said := n.said(0)
					for _, want := range x.says[n.name] {
						p, i := pattern(want), 0
						for i < len(said) && !p.MatchString(said[i]) {
							i++
						}
						if i == len(said) {
							t.Errorf("%s doesn't say, or too early,\n%s\nit says\n%s", n.name, want, strings.Join(n.said(0), "\n"))
							break
						}
						said = said[i+1:]
					}
				}
			})
		})
	}
}

// unsaid are rows of the catalogue that no daemon can be brought to say, and why.
var unsaid = map[string]string{
	"COOP_LIMIT_REACHED":                "the protocol has one limit for all, 65,536 members; there is no older version of it with a lower one",
	"COOP_KS_BLOCK_NEW_GM_REGISTER_ANN": "COOP_KS_BLOCK_NEW_GM_REGISTER in other words; each refusal is told once",
}

// Each row about cooperative key servers is said in a scene, word by word, or stands in
// the list of those that can't be.
func TestEveryLineOfCooperativeKeyServersIsSaid(t *testing.T) {
	source, err := os.ReadFile("../model/event/coop.go")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`return Row\{"(\w+)", (\d), "(\w+)", "(.*)"\}`).FindAllStringSubmatch(string(source), -1)
	if n := strings.Count(string(source), " Row() Row {"); n < 25 || n != len(rows) {
		t.Fatalf("%d rows of %d are read", len(rows), n)
	}
	for _, r := range rows {
		form := regexp.MustCompile("^" + regexp.MustCompile(`<\w+>`).ReplaceAllString(regexp.QuoteMeta(fmt.Sprintf("%%%s-%s-%s: %s", r[1], r[2], r[3], r[4])), "(.+)") + "$")
		said := false
		for _, x := range coopScenes {
			for _, lines := range x.says {
				for _, line := range lines {
					said = said || form.MatchString(line)
				}
			}
		}
		if said == (unsaid[r[3]] != "") {
			t.Errorf("%s: said %v, listed as unsaid %q", r[3], said, unsaid[r[3]])
		}
	}
}
