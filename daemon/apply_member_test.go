package daemon

import (
	"slices"
	"testing"
	"time"

	"getvpn/model/event"
)

// A running member's setup is changed line by line under traffic: no packet is lost, keys
// and registration stay, rekeys still reach it; the next registration asks the new list
// of key servers. Only another source makes it register again.
func TestMemberChangesUnderTraffic(t *testing.T) {
	t.Parallel()
	lively(t, 61, calm, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", pushed(t, lifeKS, unicast))
		gms := l.members(3, lifeGM)
		m := gms[0]
		l.registered()
		l.flow(200 * time.Millisecond)
		l.run(time.Minute)
		begin, run := time.Now(), m.d.members["G"].member
		for _, lines := range []string{
			"crypto gdoi group G\n client transform-sets T\ncrypto ipsec transform-set T esp-gcm 128",
			"crypto gdoi group G\n client rekey encryption aes 128\n client rekey hash sha256",
			"crypto gdoi group G\n client recovery-check interval 300",
			"crypto gdoi group G\n client status active-sa track 7",
			"crypto gdoi group G\n client fail-close revert",
			"crypto gdoi group G\n passive",
			"crypto gdoi group G\n no passive",
			"ip access-list extended L\n deny tcp any any eq 23\ncrypto map M 10 gdoi\n match address L",
			"ip access-list extended F\n permit tcp any any eq 22\ncrypto map M gdoi fail-close\n match address F\n activate",
			"crypto gdoi group G\n no server address ipv4 192.0.2.1\n server address ipv4 192.0.2.9\n server address ipv4 192.0.2.1",
		} {
			m.configure(lines)
			l.run(3 * time.Second)
		}
		g := m.member()
		if m.d.members["G"].member != run || len(told[event.GMRegister](m, begin)) != 0 || g.Attempted != 1 || !g.FailClose || !g.Revert ||
			g.LocalACL != "L" || g.Track.ID != 7 || !g.Track.Up || len(g.AcceptTransforms) != 1 {
			t.Errorf("%+v", g)
		}
		ks.command("crypto gdoi ks rekey")
		l.run(time.Minute)
		if g := m.member(); g.RekeysReceived != 1 || m.spi() != gms[1].spi() {
			t.Errorf("rekeyed: %+v", g)
		}
		// The list counts at the next registration, which the first of it doesn't answer.
		begin = time.Now()
		m.configure("crypto isakmp policy 5\n encr aes 256\n hash sha256\n authentication pre-share\n group 14\ncrypto gdoi group G\n client registration interface lo0")
		l.run(2 * time.Minute)
		var asked []string
		for _, e := range told[event.GMRegister](m, begin) {
			asked = append(asked, e.KS.String())
		}
		if !slices.Equal(asked, []string{"192.0.2.9", "192.0.2.1"}) || m.member().Succeeded != 2 {
			t.Errorf("asked %v", asked)
		}
		l.run(2 * time.Hour)
		l.flawless()
	})
}
