package dataplane

import (
	"testing"
	"time"

	"getvpn/ipsec"
)

// The first packet is told at once, a flood once in 30 seconds, and no packet is
// left out of the count.
func TestAlarmsAreRateLimitedAndCountEverything(t *testing.T) {
	a := alarms{}
	k := alarmKey{why: ipsec.DropReplay, where: "g"}
	t0 := time.Now()
	var told, events uint64
	for s := range 100 { // 10 packets a second, from second 5 to second 40
		total := uint64(min(max(s-4, 0), 36) * 10)
		if n := a.due(k, total, t0.Add(time.Duration(s)*time.Second)); n > 0 {
			told += n
			events++
			if events == 1 && (s != 5 || n != 10) {
				t.Errorf("first event in second %d with %d packets", s, n)
			}
		}
	}
	if told != 360 || events != 3 {
		t.Errorf("%d packets in %d events, want 360 in 3", told, events)
	}
	if n := a.due(alarmKey{why: ipsec.DropReplay, where: "h"}, 1, t0); n != 1 {
		t.Error("another group waits for the first one's silence")
	}
	if n := a.due(k, 4, t0.Add(10*time.Minute)); n != 4 {
		t.Errorf("%d after the counter began anew, want 4", n)
	}
	a.sweep(t0.Add(2 * time.Hour))
	if len(a) != 0 {
		t.Errorf("%d subjects are remembered for ever", len(a))
	}
}
