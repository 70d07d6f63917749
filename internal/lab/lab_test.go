package lab

import (
	"os"
	"strings"
	"testing"
	"time"
)

// The plain topology, before any daemon: what the hosts need to reach each other is
// there, and counters, captures, streams and receivers count what passes.
func TestTopologyForwards(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	l, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat("/run/netns/" + l.NS("core")); err == nil {
			t.Error("a namespace is left")
		}
	}()
	if err := l.Count("core", map[string]string{"udp": "ip saddr " + Host(1) + " udp length > 8", "tcp": "ip protocol tcp"}); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{Host(2), DeniedHost(3), Host6(3), KeyServer} {
		if out, err := l.Ping("h1", addr, 3); err != nil {
			t.Fatal(err, out)
		}
	}
	c, err := l.Capture("c2", "core", Core(2), 128, "udp port 5001")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.RouteMulticast(); err != nil {
		t.Fatal(err)
	}
	const n = 500
	r2, err := l.JoinMulticast("h2", n)
	if err != nil {
		t.Fatal(err)
	}
	defer r2.Close()
	r3, err := l.JoinMulticast("h3", n)
	if err != nil {
		t.Fatal(err)
	}
	defer r3.Close()
	if err := l.SendMulticast("h1", n, 200, 5000); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*Receiver{r2, r3} {
		if err := r.Await(n, 2*time.Second); err != nil || r.Duplicates+r.Damaged != 0 {
			t.Error(err, r.Duplicates, r.Damaged)
		}
	}
	frames, err := c.Stop()
	if err != nil || len(frames) != n {
		t.Fatalf("%d frames of %d: %v", len(frames), n, err)
	}
	if p, ok := frames[0].IP(); !ok || p.Src.String() != Host(1) || p.Dst.String() != DataGroup || p.DstPort != 5001 {
		t.Errorf("first frame %+v", p)
	}
	tr, err := l.Transfer("h1", "h2", Host(2), 20<<20, 20*time.Second)
	if err != nil || tr.Sent != tr.Received {
		t.Error(err)
	}
	s, err := l.Stream("h1", "h3", Host(3), 1000, 100)
	if err != nil {
		t.Fatal(err)
	}
	Until(5*time.Second, func() error {
		if sent, _ := s.Counts(); sent < 300 {
			return os.ErrDeadlineExceeded
		}
		return nil
	})
	sent, got := s.Stop()
	if sent < 300 || sent != got {
		t.Errorf("%d of %d arrived", got, sent)
	}
	counts, err := l.Counted("core")
	if err != nil || counts["udp"] != n+sent || counts["tcp"] == 0 {
		t.Errorf("counters %v, want udp %d: %v", counts, n+sent, err)
	}
}

func TestUntilGivesUp(t *testing.T) {
	err := Until(time.Millisecond, func() error { return os.ErrNotExist })
	if err == nil || !strings.Contains(err.Error(), "after 1ms") {
		t.Error(err)
	}
	calls := 0
	Until(time.Hour, func() error { calls++; return Final(os.ErrNotExist) })
	if calls != 1 {
		t.Error("a final error was tried again")
	}
}
