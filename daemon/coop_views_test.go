package daemon

// What show commands print of cooperative key servers while these live, line by line
// beside the device's layout. Blanks at the ends of lines are the device's.

import (
	"strings"
	"testing"
	"time"
)

// looksLike compares what a command prints with lines in which <n> stands for a number.
func (n *simNode) looksLike(command, want string) {
	n.l.t.Helper()
	got := strings.Split(strings.TrimRight(n.command(command), "\n"), "\n")
	lines := strings.Split(strings.TrimRight(want, "\n"), "\n")
	for i := range max(len(got), len(lines)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(lines) {
			w = lines[i]
		}
		if i >= len(got) || i >= len(lines) || !pattern(w).MatchString(g) {
			n.l.t.Errorf("%s: %s: line %d is\n%q, want\n%q in\n%s", n.name, command, i+1, g, w, strings.Join(got, "\n"))
			return
		}
	}
}

// coopBlock is the layout of show crypto gdoi ks coop [detail] with one peer.
func coopBlock(local, priority, role, timers, peer, peerPriority, peerRole string, detail bool) string {
	s := `Crypto Gdoi Group Name :G 
        Group handle: <n>, Local Key Server handle: <n>

        Local Address: ` + local + ` 
        Local Priority: ` + priority + `
        Local KS Role: ` + role + `, Local KS Status: Alive     
VERSIONS` + timers + `PERUSER                Antireplay Sequence Number: <n>
SHORT        Peer Sessions:
        Session 1:
                Server handle: <n>
                Peer Address: ` + peer + `
PEERVERSIONS                Peer Priority: ` + peerPriority + `
                Peer KS Role: ` + peerRole + `, Peer KS Status: Alive     
                Antireplay Sequence Number: <n>

                IKE status: Established
                Counters:
                    Ann msgs sent: <n>
                    Ann msgs sent with reply request: <n>
                    Ann msgs recv: <n> 
                    Ann msgs recv with reply request: <n>
                    Packet sent drops: <n> 
                    Packet Recv drops: <n> 
                    Total bytes sent: <n> 
                    Total bytes recv: <n>
`
	for mark, text := range map[string][2]string{
		"PEERVERSIONS": {"", "                Peer Version: 1.0.0\n                Peer COOP version: 1.0.0 \n                COOP Protocol: base\n"},
		"PERUSER":      {"", "                Per-user timer remaining time: 0\n"},
		"SHORT":        {"\n", ""},
		"\nVERSIONS":   {"\n", "\n        Local KS version: 1.0.0\n        Local COOP version: 1.0.0 \n"},
	} {
		if detail {
			s = strings.Replace(s, mark, text[1], 1)
		} else {
			s = strings.Replace(s, mark, text[0], 1)
		}
	}
	return s
}

func sidBlock(current, assigned string) string {
	return `        Next SID Client Operation    : NOTIFY
        Re-initializing              : No
        KSSID Overlap                : No
        SID Length (Group Size) Cfg  : 24 bits (MEDIUM)
        SID Length (Group Size) Used : 24 bits (MEDIUM)
        Current KSSID In-Use         : ` + current + `
        KSSID(s) Assigned            : ` + assigned + `
        KSSID(s) Used                : ` + current + `
        Old KSSID(s) Used            : none
`
}

func TestViewsOfCooperativeKeyServers(t *testing.T) {
	t.Parallel()
	lively(t, 605, steady, func(l *life) {
		kss := l.servers(2, pushed(t, lifeKS, unicast))
		gms := l.spread(2, 2)
		l.registered()
		l.run(time.Minute)
		l.wait(time.Minute, "each member at another key server", func() bool {
			return gms[0].member().RegisteredWith != gms[1].member().RegisteredWith && kss[0].served().Members.Len() == 2 && kss[1].served().Members.Len() == 2
		})
		primary := "        Primary Timers: \n                Primary Refresh Policy Time: 20 \n                Remaining Time: <n>\n"
		secondary := "        Secondary Timers: \n                Sec Primary Periodic Time: 30 \n                Remaining Time: <n>, Retries: 0\n" +
			"                Invalid ANN PST recvd: 0\n                New GM Temporary Blocking Enforced?: No\n"
		for suffix, detail := range map[string]bool{"": false, " detail": true} {
			kss[0].looksLike("show crypto gdoi ks coop"+suffix, coopBlock("192.0.2.1", "100      ", "Primary   ", primary, "192.0.2.2", "90              ", "Secondary ", detail))
			kss[1].looksLike("show crypto gdoi group G ks coop"+suffix, coopBlock("192.0.2.2", "90       ", "Secondary ", secondary, "192.0.2.1", "100             ", "Primary   ", detail))
		}
		for _, k := range kss {
			k.looksLike("show crypto gdoi group G ks coop version", "Cooperative key server infra Version : 1.0.0 \nClient : KS_POLICY_CLIENT Version : 1.0.0 \n"+
				"Client : GROUP_MEMBER_CLIENT Version : 1.0.0 \nClient : SID_CLIENT Version : 1.0.0")
		}
		own := "COOP-KS Sender ID (SID) Information for Group G:\n\n    Local KS Role: Primary   , Local KS Status: Alive\n        Local Address                : 192.0.2.1\n" + sidBlock("0", "0-63")
		kss[0].looksLike("show crypto gdoi ks coop identifier", own)
		kss[0].looksLike("show crypto gdoi ks coop identifier detail", own+
			"\n    Peer KS Role:  Secondary , Peer KS Status:  Alive\n        Peer Address                 : 192.0.2.2\n"+sidBlock("none", "64-127"))
		kss[1].looksLike("show crypto gdoi ks coop identifier", "COOP-KS Sender ID (SID) Information for Group G:\n\n    Local KS Role: Secondary , Local KS Status: Alive\n"+
			"        Local Address                : 192.0.2.2\n"+sidBlock("64", "64-127"))
		kss[1].looksLike("show crypto gdoi ks", `Total group members registered to this box: 2

Key Server Information For Group G:
    Group Name               : G
    Re-auth on new CRL       : Disabled
    Group Identity           : 1
    Group Type               : GDOI (ISAKMP)
    Group Members            : 2
    Rekey Acknowledgement Cfg: Cisco
    IPSec SA Direction       : Both
    IP D3P Window            : Disabled
    Split Resiliency Factor  : 0
    CKM status               : Disabled
    ACL Configured: 
        access-list A
    Redundancy               : Configured
        Local Address        : 192.0.2.2
        Local Priority       : 90
        Local KS Status      : Alive
        Local KS Role        : Secondary
        Local KS Version     : 1.0.0
        Local COOP Version   : 1.0.0 
`)
		row := func(gm, ks string) string {
			return "\nGroup Member ID    : " + gm + " GM Version: <n>.<n>.<n>\n Group ID          : 1\n Group Name        : G\n Group Type        : GDOI (ISAKMP)\n GM State          : Registered\n" +
				" Key Server ID     : " + ks + "\n Rekeys sent       : 0\n Rekeys retries    : 0\n Rekey Acks Rcvd   : 0\n Rekey Acks missed : 0\n\n" +
				" Sent seq num : 0     0     0     0     \n Rcvd seq num : 0     0     0     0     \n"
		}
		rows := row("198.51.100.1", "192.0.2.1") + row("198.51.100.2", "192.0.2.2")
		for _, k := range kss { // the same at both
			k.looksLike("show crypto gdoi ks members", "\nNumber of rekeys sent for group G : 0\nNumber of retransmits during the last rekey for group G : 0\nDuration of the last rekey for group G : 0 msec\n"+rows)
		}
		kss[1].looksLike("show crypto gdoi ks members summary", `Group Member Information : 

Group Name: G, ID: 1, Group Members: 2
Key Server ID: 192.0.2.2, GMDB state: LOCAL, Group Members: 1
  Member ID     Version      Rekey sent     Rekey Ack missed
  198.51.100.2 <n>.<n>.<n>          0               0

Key Server ID: 192.0.2.1, GMDB state: REDUNDANT, Group Members: 1
  Member ID     Version      Rekey sent     Rekey Ack missed
  198.51.100.1 <n>.<n>.<n>          0               0
`)
		for i, want := range []string{"        Local KS Role        : Primary\n", "        Local KS Role        : Secondary\n"} {
			out := kss[i].command("show crypto gdoi")
			for _, x := range []string{"    Redundancy               : Configured\n", "        Local KS Status      : Alive\n", "    Group Members            : 2\n", want} {
				if !strings.Contains(out, x) {
					t.Errorf("%s: show crypto gdoi: no %q in\n%s", kss[i].name, x, out)
				}
			}
		}
		for i, m := range gms {
			out := m.command("show crypto gdoi")
			for _, x := range []string{"       Registered with       : " + kss[i].addr.String() + "\n", "       Registration status   : Registered\n",
				"     Group Server list       : " + kss[i].addr.String() + "\n                               " + kss[1-i].addr.String() + "\n"} {
				if !strings.Contains(out, x) {
					t.Errorf("%s: no %q in\n%s", m.name, x, out)
				}
			}
		}
		// After a rekey of the primary the member of the other key server shows who sent it.
		kss[0].command("crypto gdoi ks rekey")
		l.run(30 * time.Second)
		if out := gms[1].command("show crypto gdoi"); !strings.Contains(out, "       Last rekey from       : 192.0.2.1\n") || !strings.Contains(out, "       Last rekey seq num    : 1\n") {
			t.Errorf("after a rekey\n%s", out)
		}
	})
}
