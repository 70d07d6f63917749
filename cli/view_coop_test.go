package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"getvpn/model"
)

// coopFixture is a key server that is primary of one group, secondary of another and
// alone in a third.
func coopFixture(t *testing.T) *fake {
	f := fixture(t)
	f.snap.Members = nil
	three := f.snap.KeyServers[0]
	primary, secondary := three, three
	primary.Name, primary.Identity.Number = "bw600-IPV6_eft", 6600
	secondary.Name, secondary.Identity.Number = "bw-suiteB-v6", 6601
	primary.Coop = &model.Coop{Local: a("15.15.15.1"), Priority: 245, Role: model.CoopPrimary, Version: [3]uint8{1, 0, 27}, Protocol: [3]uint8{1, 0, 8},
		Refresh: 20 * time.Second, Periodic: 30 * time.Second, Next: at(11), Sequence: 124,
		Peers: []model.CoopPeer{{Addr: a("16.16.16.1"), Role: model.CoopSecondary, Status: model.CoopAlive, Priority: 200, Version: [3]uint8{1, 0, 27}, Protocol: [3]uint8{1, 0, 8},
			Sequence: 5, IKE: true, Registered: 3, Counters: model.CoopCounters{AnnSent: 122, AnnSentAsking: 1, AnnRcvd: 4, AnnRcvdAsking: 1, SentDrops: 1, OctetsSent: 104495, OctetsRcvd: 2130}},
			{Addr: a("17.17.17.1"), Status: model.CoopDead, Priority: 7, Optimize: true}, {Addr: a("18.18.18.1")}}}
	secondary.Coop = &model.Coop{Local: a("16.16.16.1"), Priority: 200, Role: model.CoopSecondary, Version: [3]uint8{1, 0, 27}, Protocol: [3]uint8{1, 0, 8},
		Refresh: 20 * time.Second, Periodic: 30 * time.Second, Next: at(15), Sequence: 110,
		Peers: []model.CoopPeer{{Addr: a("15.15.15.1"), Role: model.CoopPrimary, Status: model.CoopAlive, Priority: 245, Version: [3]uint8{1, 0, 27}, Protocol: [3]uint8{1, 0, 8},
			Sequence: 395, IKE: true, Counters: model.CoopCounters{AnnSent: 108, AnnSentAsking: 1, AnnRcvd: 394, AnnRcvdAsking: 1, SentDrops: 1, OctetsSent: 109221, OctetsRcvd: 363381}}}}
	e := primary.Members.Edit()
	far := *primary.Members.Find(a("54.54.54.1"))
	far.KeyServer = a("16.16.16.1")
	e.Put(far)
	primary.Members = e.Table()
	f.snap.KeyServers = []model.KSGroup{primary, secondary, three}
	return f
}

// counterGroup makes a group one whose members need Sender IDs.
func counterGroup(g *model.KSGroup, bits int, used uint64, ranges ...model.SIDRange) {
	p := g.Policies[0]
	p.TEKs = append([]model.TEK(nil), p.TEKs...)
	p.TEKs[0].Transform = "esp-gcm "
	g.Policies = []model.KSPolicy{p}
	g.SIDBits, g.SIDsUsed, g.SIDsMax, g.Coop.SIDs = bits, used, 0, ranges
	for _, r := range ranges {
		g.SIDsMax += uint64(r.High-r.Low) + 1
	}
}

// The device's layouts with the values of published outputs, blanks included.
func TestCoopViewsMatchTheirGoldenFiles(t *testing.T) {
	for _, line := range []string{"show crypto gdoi ks coop", "show crypto gdoi ks coop detail", "show crypto gdoi ks coop version",
		"show crypto gdoi ks coop identifier", "show crypto gdoi ks coop identifier detail", "show crypto gdoi group bw600-IPV6_eft ks", "show crypto gdoi group bw-suiteB-v6",
		"show crypto gdoi group bw600-IPV6_eft ks members", "show crypto gdoi group bw600-IPV6_eft ks members summary"} {
		golden(t, coopFixture(t), line)
	}
}

// A group's handles are the same in every view, whether others are shown or not.
func TestHandlesStay(t *testing.T) {
	f := coopFixture(t)
	for line, want := range map[string]string{
		"show crypto gdoi ks coop":                      "Group handle: 1073741827, Local Key Server handle: 1073741827",
		"show crypto gdoi group bw-suiteB-v6 ks coop":   "Group handle: 1073741827, Local Key Server handle: 1073741827",
		"show crypto gdoi group bw-suiteB-v6 ks policy": "For group bw-suiteB-v6 (handle: 0x40000003) server",
	} {
		if out := run(t, f, line); !strings.Contains(out, want) {
			t.Errorf("%s: no %q in\n%s", line, want, out)
		}
	}
	all, one := run(t, f, "show crypto gdoi ks coop"), run(t, f, "show crypto gdoi group bw-suiteB-v6 ks coop")
	if !strings.Contains(all, one) {
		t.Errorf("\n%s\nisn't in\n%s", one, all)
	}
}

// While it elects, or its announcements are stale, a key server says that it takes no new
// members; and what becomes of its peers.
func TestCoopInTrouble(t *testing.T) {
	f := coopFixture(t)
	c := f.snap.KeyServers[1].Coop
	blocked := map[model.CoopGate]string{model.CoopOpen: "No", model.CoopGateElection: "Yes", model.CoopGateStale: "Yes", model.CoopGateSIDs: "No"}
	for gate, want := range blocked {
		c.Gate = gate
		if out := run(t, f, "show crypto gdoi group bw-suiteB-v6 ks coop"); !strings.Contains(out, "New GM Temporary Blocking Enforced?: "+want+"\n") {
			t.Errorf("%s:\n%s", gate, out)
		}
	}
	c.Role, c.Next, c.Retries, c.Invalid = model.CoopElecting, time.Time{}, 3, 2
	c.Peers[0].Status, c.Peers[0].Role, c.Peers[0].IKE = model.CoopDead, model.CoopElecting, false
	out := run(t, f, "show crypto gdoi group bw-suiteB-v6 ks coop")
	for _, want := range []string{"Local KS Role: Unknown   , Local KS Status: Alive     \n", "Remaining Time: 0, Retries: 3\n", "Invalid ANN PST recvd: 2\n",
		"Peer KS Role: Unknown   , Peer KS Status: Dead      \n", "IKE status: Failed\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// KSSIDs of a group with counter-mode keys, as identifier lines name them.
func TestKSSIDs(t *testing.T) {
	for _, x := range []struct {
		bits                           int
		ranges                         []model.SIDRange
		used                           uint64
		current, assigned, given, left string
		last                           string
		peer                           []model.SIDRange
		peerText                       string
	}{
		{bits: 32, ranges: []model.SIDRange{{Low: 0, High: 1<<31 - 1}}, used: 0, current: "0", assigned: "0-255", given: "none", left: "1-255", last: "none",
			peer: []model.SIDRange{{Low: 1 << 31, High: 1<<32 - 1}}, peerText: "256-511"},
		{bits: 32, ranges: []model.SIDRange{{Low: 1 << 31, High: 1<<32 - 1}}, used: 1<<23 + 5, current: "257", assigned: "256-511", given: "256-257", left: "258-511", last: "4", peerText: "none"},
		{bits: 24, ranges: []model.SIDRange{{Low: 0, High: 1<<17 - 1}, {Low: 3 << 17, High: 4<<17 - 1}}, used: 1 << 17, current: "3", assigned: "0, 3", given: "0", left: "none", last: "131071", peerText: "none"},
		{bits: 24, ranges: []model.SIDRange{{Low: 0, High: 1<<17 - 1}}, used: 1 << 17, current: "0", assigned: "0", given: "0", left: "none", last: "131071", peerText: "none"},
		{bits: 16, ranges: []model.SIDRange{{Low: 0, High: 1<<15 - 1}}, used: 7, current: "none", assigned: "none", given: "none", left: "none", last: "none",
			peer: []model.SIDRange{{Low: 1 << 15, High: 1<<16 - 1}}, peerText: "none"},
	} {
		f := coopFixture(t)
		g := &f.snap.KeyServers[0]
		counterGroup(g, x.bits, x.used, x.ranges...)
		g.Coop.Peers[0].SIDs, g.Coop.Peers[0].Overlap, g.Coop.Reinit = x.peer, true, true
		out := run(t, f, "show crypto gdoi group bw600-IPV6_eft ks identifier detail")
		for _, want := range []string{"Re-initializing          : Yes", "Current KSSID In-Use     : " + x.current, "Last GMSID Used          : " + x.last, "KSSID(s) Assigned        : " + x.assigned,
			"KSSID(s) Used            : " + x.given, "Available KSSID(s)       : " + x.left, fmt.Sprintf("REMAINING SIDs: %d of %d", g.SIDsMax-x.used, g.SIDsMax)} {
			if !strings.Contains(out, "    "+want+"\n") {
				t.Errorf("%d bits: no %q in\n%s", x.bits, want, out)
			}
		}
		out = run(t, f, "show crypto gdoi group bw600-IPV6_eft ks coop identifier detail")
		mine, its, _ := strings.Cut(out, "Peer KS Role")
		for _, want := range []string{"Re-initializing              : Yes", "KSSID Overlap                : Yes", "Current KSSID In-Use         : " + x.current, "KSSID(s) Assigned            : " + x.assigned} {
			if !strings.Contains(mine, want+"\n") {
				t.Errorf("%d bits: no %q in\n%s", x.bits, want, out)
			}
		}
		if !strings.Contains(its, "KSSID Overlap                : Yes\n") || !strings.Contains(its, "KSSID(s) Assigned            : "+x.peerText+"\n") {
			t.Errorf("%d bits: the peer in\n%s", x.bits, out)
		}
	}
}

// clear … ks coop reaches the daemon where a group has redundancy; elsewhere it is told.
func TestClearCoop(t *testing.T) {
	f := coopFixture(t)
	x := &Exec{Control: f}
	for _, l := range []string{"clear crypto gdoi ks coop role", "clear crypto gdoi group bw-suiteB-v6 ks coop role", "clear crypto gkm group bw-suiteB-v6 ks coop counters"} {
		if out, err := x.Run(l, false); err != nil || out != "" {
			t.Errorf("%s: %q, %v", l, out, err)
		}
	}
	want := []Action{{Verb: ActClearCoopRole}, {Verb: ActClearCoopRole, Group: "bw-suiteB-v6"}, {Verb: ActClearCoopCounters, Group: "bw-suiteB-v6"}}
	if fmt.Sprint(f.acted) != fmt.Sprint(want) {
		t.Errorf("%+v", f.acted)
	}
	for l, text := range map[string]string{"clear crypto gdoi group ks1 ks coop role": "% Group ks1 has no redundancy configured.\n", "clear crypto gdoi group nobody ks coop counters": "% Group nobody is not configured.\n"} {
		_, err := x.Run(l, false)
		var got *Failed
		if !errors.As(err, &got) || got.Text != text {
			t.Errorf("%s: %v", l, err)
		}
	}
	f = fixture(t)
	if _, err := (&Exec{Control: f}).Run("clear crypto gdoi ks coop role", false); err == nil || err.Error() != "% No group has redundancy configured.\n" || len(f.acted) != 0 {
		t.Errorf("%v, %v", err, f.acted)
	}
}
