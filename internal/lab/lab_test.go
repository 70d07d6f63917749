package lab

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

var errTooFew = errors.New("too few datagrams")

// newLab is a lab that leaves nothing when the test ends.
func newLab(t *testing.T, o Options) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat("/run/netns/" + l.NS("core")); err == nil {
			t.Error("a namespace is left")
		}
	})
	return l
}

// The plain topology, before any daemon: what the hosts need to reach each other is
// there, and counters, captures, streams and receivers count what passes.
func TestTopologyForwards(t *testing.T) {
	l := newLab(t, Options{})
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
		if err := r.Await(n, 30*time.Second); err != nil || r.Duplicates+r.Damaged != 0 {
			t.Error(err, r.Duplicates, r.Damaged)
		}
	}
	first, err := c.More()
	if err != nil {
		t.Fatal(err)
	}
	frames, err := c.Stop()
	rest, err2 := c.More()
	if err2 != nil || len(first)+len(rest) != n {
		t.Errorf("%d frames, then %d: %v", len(first), len(rest), err2)
	}
	if err != nil || len(frames) != n {
		t.Fatalf("%d frames of %d: %v", len(frames), n, err)
	}
	if p, ok := frames[0].IP(); !ok || p.Src.String() != Host(1) || p.Dst.String() != DataGroup || p.DstPort != 5001 {
		t.Errorf("first frame %+v", p)
	}
	tr, err := l.Transfer("h1", "h2", Host(2), 20<<20, time.Minute)
	if err != nil || tr.Sent != tr.Received {
		t.Error(err)
	}
	s, err := l.Stream("h1", "h3", Host(3), 1000, 100)
	if err != nil {
		t.Fatal(err)
	}
	Until(30*time.Second, func() error {
		if sent, _ := s.Counts(); sent < 300 {
			return os.ErrDeadlineExceeded
		}
		return nil
	})
	settled, arrived := s.Settle()
	if len(arrived) != 1 || settled < 300 || arrived[0] != settled {
		t.Errorf("%d of %d arrived while it runs", arrived, settled)
	}
	sent, got := s.Stop()
	if refused, copies, damaged := s.Faults(); refused+copies+damaged != 0 {
		t.Errorf("%d refused, %d copies, %d damaged", refused, copies, damaged)
	}
	if sent < settled || sent != got {
		t.Errorf("%d of %d arrived", got, sent)
	}
	counts, err := l.Counted("core")
	if err != nil || counts["udp"] != n+sent || counts["tcp"] == 0 {
		t.Errorf("counters %v, want udp %d: %v", counts, n+sent, err)
	}
}

// Steady streams to several receivers and over TCP, counted while they run.
func TestSteadyStreams(t *testing.T) {
	l := newLab(t, Options{})
	if err := l.RouteMulticast(); err != nil {
		t.Fatal(err)
	}
	m, err := l.MulticastStream("h3", 500, 200, "h1", "h2")
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.Pour("h1", "h2", Host(2), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := Until(30*time.Second, func() error {
		if sent, _ := m.Counts(); sent < 200 {
			return errTooFew
		}
		if sent, _, err := p.Counts(); err != nil || sent < 100<<10 {
			return errors.Join(errors.New("too few octets"), err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	sent, arrived := m.Settle()
	if len(arrived) != 2 || arrived[0] != sent || arrived[1] != sent {
		t.Errorf("%d of %d arrived", arrived, sent)
	}
	if n, err := p.Settle(10 * time.Second); err != nil || n < 100<<10 {
		t.Error(n, err)
	}
	if sent, got, err := p.Stop(); err != nil || sent != got {
		t.Errorf("TCP: %d of %d octets: %v", got, sent, err)
	}
	// What is lost shows, though later datagrams arrive.
	if err := l.batch("gm2", "link set wan down"); err != nil {
		t.Fatal(err)
	}
	before, _ := m.Counts()
	Until(30*time.Second, func() error {
		if now, _ := m.Counts(); now < before+50 {
			return errTooFew
		}
		return nil
	})
	if err := l.batch("gm2", "link set wan up"); err != nil {
		t.Fatal(err)
	}
	if err := l.WANRoutes(2); err != nil {
		t.Fatal(err)
	}
	from := m.rs[1].count()
	if err := Until(30*time.Second, func() error {
		if m.rs[1].count() < from+100 {
			return errTooFew
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	sent, arrived = m.Settle()
	if arrived[0] != sent || arrived[1] > sent-50 {
		t.Errorf("%d of %d arrived after a broken link", arrived, sent)
	}
	if sent, got := m.Stop(); got >= sent {
		t.Errorf("in the end %d of %d", got, sent)
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
