package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"getvpn/internal/lab"
)

// Issue item 5: SAs that expire each 120 s under load; members register again, and
// nothing is lost or sent in clear. One expiry in the short form, ten minutes in the
// long one.
func TestExpiryUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.group(policy{lifetime: 120}, 3)
	spi := w.snapshot(w.gms[1]).Members[0].TEKs[0].SPI
	var streams []*lab.Stream
	for _, s := range [][3]string{{"h1", "h2", lab.Host(2)}, {"h2", "h1", lab.Host(1)}, {"h3", "h1", lab.Host(1)}} {
		st, err := w.Stream(s[0], s[1], s[2], 300, 200)
		w.must(err)
		streams = append(streams, st)
	}
	begin := time.Now()
	w.until(pick(4*time.Minute, 15*time.Minute), func() error {
		if d := time.Since(begin); d < pick(125*time.Second, 10*time.Minute) {
			return errors.New("too early")
		}
		// Past at least one life: the first SA is gone everywhere.
		for _, d := range w.gms {
			m := w.snapshot(d).Members[0]
			if m.Succeeded < 2 || len(m.TEKs) == 0 {
				return fmt.Errorf("%s: %+v", d.Node, m)
			}
			for _, tek := range m.TEKs {
				if tek.SPI == spi {
					return fmt.Errorf("%s still has SPI %#x", d.Node, spi)
				}
			}
		}
		return nil
	})
	for i, s := range streams {
		sent, got := s.Stop()
		t.Logf("stream %d: %d sent, %d received", i+1, sent, got)
		if sent != got || s.Refused != 0 {
			t.Errorf("stream %d: %d of %d lost, %d refused", i+1, sent-got, sent, s.Refused)
		}
	}
	w.noneInClear()
}

// Issue item 6: without a key server traffic goes on to the end of the TEK, then drops
// with a reason; when it comes back, the members register again unaided.
func TestKeyServerGoneAndBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{Members: 2})
	w.group(policy{lifetime: 120}, 2)
	end := w.snapshot(w.gms[1]).Members[0].TEKs[0].Expires
	w.must(w.ks.Kill())
	// Traffic goes on until shortly before the end …
	w.until(2*time.Minute, func() error {
		if out, err := w.Ping("h1", lab.Host(2), 1); err != nil {
			return lab.Final(fmt.Errorf("%v before the TEK's end: %w\n%s", time.Until(end).Round(time.Second), err, out))
		}
		if time.Until(end) > 15*time.Second {
			return errors.New("too early")
		}
		return nil
	})
	// … and drops with a counted reason after it.
	before := w.snapshot(w.gms[1]).Dataplane.Drops
	w.until(60*time.Second, func() error {
		if _, err := w.Ping("h1", lab.Host(2), 1, "-W", "1"); err == nil {
			return errors.New("pings still pass")
		}
		after := w.snapshot(w.gms[1]).Dataplane.Drops
		for _, why := range []string{"no-sa", "sa-expired", "fail-close"} {
			if after[why] > before[why] {
				t.Logf("dropped as %q", why)
				return nil
			}
		}
		return fmt.Errorf("no drop is counted: %v", after)
	})
	w.startKS(policy{lifetime: 120})
	back := time.Now()
	w.until(120*time.Second, func() error {
		_, err := w.Ping("h1", lab.Host(2), 1, "-W", "1")
		return err
	})
	t.Logf("traffic again %v after the key server's return", time.Since(back).Round(time.Second))
	w.noneInClear()
}
