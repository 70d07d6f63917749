package daemon

// Zero loss: the keys of a group roll under constant traffic, over a control network
// that loses, doubles and reorders.

import (
	"testing"
	"time"

	"getvpn/model/event"
)

// transports are both ways of rekeys.
var transports = map[string]string{"unicast": unicast, "multicast": multicast}

// rolled wants no fault in any packet, at least n changes of the sending SA on each
// member and at most live SAs, and that nobody had to register again.
func (l *life) rolled(since time.Time, n, live int) {
	l.t.Helper()
	r := l.flawless()
	for _, g := range l.nodes {
		if g.site == nil {
			continue
		}
		if r.Switches[g.name] < n || r.LiveSAs[g.name] > live {
			l.t.Errorf("%s: %d changes of the sending SA, %d SAs at once", g.name, r.Switches[g.name], r.LiveSAs[g.name])
		}
		if k := len(told[event.GMRegistrationComplete](g, since)); k > 0 {
			l.t.Errorf("%s registered %d times meanwhile", g.name, k)
		}
	}
	l.t.Logf("%d packets, %d changes of the sending SA, at most %d SAs", r.Sent, r.Switches["gm1"], r.LiveSAs["gm1"])
}

// 200 rekeys that replace the keys at once, every 2 s: each member changes the SA that
// it sends with at each of them.
func TestTwoHundredReplacedKeysLoseNothing(t *testing.T) {
	t.Parallel()
	for name, lines := range transports {
		t.Run(name, func(t *testing.T) {
			lively(t, 11, rough, func(l *life) {
				ks := l.ks("ks", "192.0.2.1", pushed(t, lifeKS, lines, "  rekey retransmit 10 number 2"))
				l.members(3, lifeGM)
				l.registered()
				l.flow(100 * time.Millisecond)
				begin := time.Now()
				for range 200 {
					ks.command("crypto gdoi ks rekey replace-now")
					l.run(2 * time.Second)
				}
				l.run(20 * time.Second) // the last ones are sent with and without
				l.rolled(begin, 200, 10)
			})
		})
	}
}

// Keys roll by their own timers: five lives of TEKs, five hours.
func TestFiveRekeysByTimerLoseNothing(t *testing.T) {
	t.Parallel()
	for name, lines := range transports {
		t.Run(name, func(t *testing.T) {
			lively(t, 12, rough, func(l *life) {
				l.ks("ks", "192.0.2.1", pushed(t, lifeKS, lines, "  rekey retransmit 10 number 2"))
				l.members(3, lifeGM)
				l.registered()
				l.flow(2 * time.Second)
				begin := time.Now()
				l.run(5 * time.Hour)
				l.rolled(begin, 5, 2)
			})
		})
	}
}

// Twenty KEKs follow each other, and TEKs with them.
func TestTwentyKEKRolloversLoseNothing(t *testing.T) {
	t.Parallel()
	for name, lines := range transports {
		t.Run(name, func(t *testing.T) {
			lively(t, 13, rough, func(l *life) {
				ks := l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, lines, "  rekey retransmit 10 number 2", "  rekey lifetime seconds 900"),
					"lifetime seconds 3600", "lifetime seconds 300"))
				l.members(3, lifeGM)
				l.registered()
				keks := map[[16]byte]bool{}
				l.flow(2 * time.Second)
				begin := time.Now()
				for len(keks) < 21 && time.Since(begin) < 6*time.Hour {
					l.run(time.Minute)
					keks[ks.served().KEK.SPI] = true
				}
				if len(keks) < 21 {
					t.Errorf("%d KEKs in %v", len(keks), time.Since(begin))
				}
				l.rolled(begin, 40, 2)
			})
		})
	}
}
