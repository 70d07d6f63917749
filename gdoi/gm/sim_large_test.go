package gm_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/ks"
	"getvpn/internal/memnet"
	"getvpn/ipsec"
	"getvpn/model/event"
)

// A group's policy is larger than the MTU (message 2 of a list of 100 entries; message 4
// of sixty SAs' keys), and the way to one member loses every IP fragment but the first:
// the key server tells of it, others register, and the member too once the way, or the
// policy, is mended.
func Test_ike_04_PolicyLargerThanTheMTU(t *testing.T) {
	const mtu = 1500 - 28 // of ISAKMP
	list := func(entries int) *ks.Setup {
		s := setup("red", 1, time.Hour)
		s.Entries[0].ACEs = nil
		for i := range entries {
			s.Entries[0].ACEs = append(s.Entries[0].ACEs, ace(ipsec.Permit, fmt.Sprintf("10.%d.0.0/16", i), "10.0.0.0/8"))
		}
		return s
	}
	many := func() *ks.Setup {
		s := setup("red", 1, time.Hour)
		for i := range 60 {
			e := s.Entries[0]
			e.Seq, e.ACEs = i+1, []ipsec.ACE{ace(ipsec.Permit, fmt.Sprintf("10.%d.0.0/16", i), "10.0.0.0/8")}
			s.Entries = append(s.Entries[:i], e)
		}
		return s
	}
	for name, c := range map[string]struct {
		group  *ks.Setup
		first  bool // the answer to message 1 is dropped, else only the one to message 3
		octets int  // at least
	}{
		"message 2": {list(100), true, 4000},
		"message 4": {many(), false, 2000},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 41, func(t *testing.T, n *memnet.Network, dir string) {
				k := startKS(t, n, ks1, "secret", dir, c.group)
				defer k.stop()
				var seen atomic.Int64 // the largest
				answers := map[string]int{}
				n.SetTap(func(_, to netip.AddrPort, b []byte) []byte {
					if to.Addr() != gmAddr(1) || !pull(b) {
						return b
					}
					if _, ok := answers[string(b)]; !ok { // each exchange has two
						answers[string(b)] = len(answers) % 2
					}
					if len(b) > mtu && (c.first || answers[string(b)] == 1) {
						seen.Store(max(seen.Load(), int64(len(b))))
						return nil
					}
					return b
				})
				bad := startGM(t, n, gmAddr(1), "secret", join{"red", 1, []netip.Addr{ks1}, false})
				defer bad.stop()
				good := startGM(t, n, gmAddr(2), "secret", join{"red", 1, []netip.Addr{ks1}, false})
				defer good.stop()
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if good.sending("red") == 0 {
					t.Errorf("the other member isn't registered: %v", good.model("red").LastError)
				}
				time.Sleep(30 * time.Second)
				synctest.Wait()
				largest := int(seen.Load())
				if bad.sending("red") != 0 || bad.model("red").FailuresByReason["no-answer"] != 1 || largest < c.octets {
					t.Errorf("%d octets; registered %v, failures %v", largest, bad.sending("red") != 0, bad.model("red").FailuresByReason)
				}
				ev := events[event.IKELargeUnanswered](k.node)
				if len(ev) != 1 || ev[0].Peer != gmAddr(1) || ev[0].Octets != largest || ev[0].Tries != 5 {
					t.Errorf("told %+v of %d octets", ev, largest)
				}
				time.Sleep(3 * time.Minute)
				synctest.Wait()
				more := events[event.IKELargeUnanswered](k.node)
				if d := k.ep.Drops()["large-message-unanswered"]; int(d) != len(more)+1 || d < 3 {
					t.Errorf("counted %d, told %d times", d, len(more)+1)
				}
				for _, e := range more {
					if e.Peer != gmAddr(1) {
						t.Errorf("told of %v", e.Peer)
					}
				}
				served(t, n, 1, "red", 3)
				n.SetTap(nil)
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if bad.sending("red") == 0 {
					t.Errorf("not registered on a good way: %v", bad.model("red").LastError)
				}
			})
		})
	}
	line := event.IKELargeUnanswered{}.Row().Format
	if !strings.Contains(line, "message of <octets> octets") || !strings.Contains(line, "got no answer") || !strings.Contains(line, "fragments may be filtered") {
		t.Error(line)
	}
}
