package lab

import (
	"testing"
	"time"
)

// A split network: what reaches whom, and that only what matches is dropped.
func TestSplitAndHeal(t *testing.T) {
	l := newLab(t, Options{KeyServers: 2, Members: 2})
	reaches := func(from, to string, want bool) {
		t.Helper()
		out, err := l.Ping(from, to, 1, "-W", "1")
		if want && err != nil || !want && err == nil {
			t.Errorf("%s to %s: %v\n%s", from, to, err, out)
		}
	}
	udp, err := l.Stream("h1", "h2", Host(2), 200, 64)
	if err != nil {
		t.Fatal(err)
	}
	sides := [][]string{{"ks", "gm1"}, {"ks2", "gm2"}}
	if err := l.Split("", sides...); err != nil {
		t.Fatal(err)
	}
	reaches("h1", KSAddr(1), true)
	reaches("h2", KSAddr(2), true)
	reaches("ks", KSAddr(2), false)
	reaches("h1", Host(2), false)
	if err := l.Split("udp dport 848", sides...); err != nil {
		t.Fatal(err)
	}
	reaches("ks", KSAddr(2), true)
	reaches("h2", Host(1), true)
	if err := l.Heal(); err != nil {
		t.Fatal(err)
	}
	healed := udp.Mark()
	if err := Until(30*time.Second, func() error {
		if udp.Mark() < healed+50 {
			return errTooFew
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	sent, got := udp.Stop()
	if lost := udp.Lost(0, sent); len(lost) != 1 || lost[0] != sent-got || lost[0] == 0 {
		t.Errorf("%d of %d arrived, %v lost", got, sent, lost)
	}
	if lost := udp.Lost(healed, sent); lost[0] != 0 {
		t.Errorf("%v lost since the network is whole", lost)
	}
	if err := l.Split("", []string{"ksx"}, nil); err == nil {
		t.Error("a node that isn't there is on a side")
	}
}
