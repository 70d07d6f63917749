package daemon

// A key server's past that comes back: its state directory, or its whole machine, as it
// was at an earlier orderly end. What Sender IDs it has given out since it doesn't know.

import (
	"os"
	"testing"
	"time"

	"getvpn/internal/clock"
)

// Sender IDs that were given out after an orderly end are never given out again when the
// machine is put back to that end: no IV repeats, whoever registers next, and members
// lose no packet.
func Test_esp_10_KeyServerPutBackToAnOrderlyEnd(t *testing.T) {
	for name, back := range map[string]func(n *simNode, end end){
		"directory put back, mark in /run gone": func(n *simNode, was end) {
			putBack(n.l.t, n.options().StateDir, was.state)
			os.RemoveAll(n.run())
		},
		"virtual machine put back to while the daemon was stopped": func(n *simNode, was end) {
			putBack(n.l.t, n.options().StateDir, was.state)
			putBack(n.l.t, n.run(), was.run)
			n.clock = clock.NewFakeAt(was.boot, was.wall)
		},
		"the same, and its clock was set right": func(n *simNode, was end) {
			putBack(n.l.t, n.options().StateDir, was.state)
			putBack(n.l.t, n.run(), was.run)
			n.clock = clock.NewFakeAt(was.boot, time.Now())
		},
	} {
		t.Run(name, func(t *testing.T) {
			lively(t, 54, calm, func(l *life) {
				ks := l.ks("ks", "192.0.2.1", pushed(t, lifeKS, unicast))
				gms := l.members(3, lifeGM)
				l.registered()
				l.flow(200 * time.Millisecond)
				l.run(time.Minute)
				ks.stop()
				was := end{state: ks.files(), run: readAll(t, ks.run()), boot: ks.clock.Boot(), wall: ks.clock.Now()}
				l.run(5 * time.Second)
				ks.start()
				if g := ks.served(); g.SIDsUsed != 3 || len(g.Rejected) != 0 {
					t.Fatalf("not gone on after an orderly end: %d Sender IDs, %v", g.SIDsUsed, g.Rejected)
				}
				gms[0].command("clear crypto gdoi") // takes a fourth Sender ID
				l.run(time.Minute)
				ks.stop()
				back(ks, was)
				l.run(5 * time.Second)
				ks.start()
				gms[1].command("clear crypto gdoi") // would get it too
				l.run(3 * time.Minute)
				if r := ks.served().Rejected; r["state-unclean"] != 1 {
					t.Errorf("the state is trusted: %v", r)
				}
				l.run(20 * time.Minute)
				l.flawless()
			})
		})
	}
}

// end is what an orderly end left.
type end struct {
	state, run map[string][]byte
	boot       time.Duration
	wall       time.Time
}
