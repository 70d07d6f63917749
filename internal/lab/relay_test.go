package lab

import (
	"regexp"
	"strconv"
	"testing"
	"time"
)

// The relay does to frames what it was told, and counts it.
func TestRelay(t *testing.T) {
	l := newLab(t, Options{Members: 2})
	isICMP := func(f []byte) bool { p, ok := Frame{Data: f}.IP(); return ok && p.Proto == 1 }
	r, err := l.Relay(1, Impairment{Seed: 7, Delay: 10 * time.Millisecond, Loss: 0.1, Duplicate: 0.1, Reorder: 0.1, Hold: 120 * time.Millisecond, Only: isICMP})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out, _ := l.Run("h1", "ping", "-n", "-c", "60", "-i", "0.05", "-W", "1", Host(2))
	m := regexp.MustCompile(`60 packets transmitted, (\d+) received`).FindStringSubmatch(out)
	if m == nil {
		t.Fatal(out)
	}
	got, _ := strconv.Atoi(m[1])
	if lost := int(r.Lost.Load()); got == 0 || got+lost < 60 || lost == 0 || got == 60 {
		t.Errorf("%d answers with %d frames lost\n%s", got, lost, out)
	}
	if r.Duplicated.Load() == 0 || r.Held.Load() == 0 {
		t.Errorf("%d duplicated, %d held", r.Duplicated.Load(), r.Held.Load())
	}
	rtt := regexp.MustCompile(`rtt min/avg/max/mdev = ([\d.]+)/[\d.]+/([\d.]+)`).FindStringSubmatch(out)
	if rtt == nil {
		t.Fatal(out)
	}
	least, _ := strconv.ParseFloat(rtt[1], 64)
	most, _ := strconv.ParseFloat(rtt[2], 64)
	if least < 20 || most < 120 {
		t.Errorf("round trips of %v to %v ms, want 20 and 120 at least", least, most)
	}
}
