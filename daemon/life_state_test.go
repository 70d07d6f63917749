package daemon

// A key server's daemon that ends and starts again under traffic: in order, and as after
// a crash.

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"getvpn/model/event"
)

// files are the state directory's content.
func (n *simNode) files() map[string][]byte {
	n.l.t.Helper()
	return readAll(n.l.t, n.options().StateDir)
}

func readAll(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, f := range found {
		if f.Type().IsRegular() {
			if out[f.Name()], err = os.ReadFile(filepath.Join(dir, f.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

// putBack makes dir what it was.
func putBack(t *testing.T, dir string, was map[string][]byte) {
	t.Helper()
	for name := range readAll(t, dir) {
		os.Remove(filepath.Join(dir, name))
	}
	for name, b := range was {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// crash ends the daemon so that its orderly end leaves nothing behind.
func (n *simNode) crash() {
	n.l.t.Helper()
	state, run := n.files(), readAll(n.l.t, n.run())
	n.stop()
	putBack(n.l.t, n.options().StateDir, state)
	putBack(n.l.t, n.run(), run)
}

const cbcSet = "transform-set T esp-aes 128 esp-sha256-hmac"

// Restarted and upgraded: same KEK, next number, nobody registers again, no packet is
// lost, with Sender IDs and without, by unicast and by multicast; after a crash the same
// where there are no Sender IDs.
func TestKeyServerRestartsUnderTraffic(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		conf      string
		transport string
		crash     bool
	}{
		"counter mode, unicast":   {lifeKS, unicast, false},
		"counter mode, multicast": {lifeKS, multicast, false},
		"CBC, unicast":            {edit(t, lifeKS, "transform-set T esp-gcm 128", cbcSet), unicast, false},
		"CBC, unicast, crash":     {edit(t, lifeKS, "transform-set T esp-gcm 128", cbcSet), unicast, true},
		"CBC, multicast, crash":   {edit(t, lifeKS, "transform-set T esp-gcm 128", cbcSet), multicast, true},
	} {
		t.Run(name, func(t *testing.T) {
			lively(t, 51, calm, func(l *life) {
				ks := l.ks("ks", "192.0.2.1", pushed(t, c.conf, c.transport))
				gms := l.members(3, lifeGM)
				l.registered()
				l.flow(100 * time.Millisecond)
				l.run(time.Minute)
				ks.command("crypto gdoi ks rekey")
				l.run(time.Minute)
				before, begin := ks.served(), time.Now()
				for range 3 {
					if c.crash {
						ks.crash()
					} else {
						ks.stop()
					}
					l.run(20 * time.Second)
					ks.start()
					l.run(time.Minute)
				}
				is := ks.served()
				if is.KEK == nil || is.KEK.SPI != before.KEK.SPI || is.KEK.Seq < before.KEK.Seq || !c.crash && is.KEK.Seq != before.KEK.Seq || is.Members.Len() != 3 {
					t.Fatalf("%+v\nwas %+v", is, before)
				}
				for range 3 {
					ks.command("crypto gdoi ks rekey replace-now")
					l.run(time.Minute)
				}
				l.flawless()
				l.flow(time.Second)
				l.run(3 * time.Hour)
				for _, g := range gms {
					if n := len(told[event.GMRegistrationComplete](g, begin)); n != 0 {
						t.Errorf("%s registered %d times", g.name, n)
					}
				}
				l.flawless()
			})
		})
	}
}

// After a crash, or a reboot, under a counter mode it isn't sure which Sender IDs were
// given out: the members are told at once, come back within a minute, lose no packet
// meanwhile, and no IV repeats.
func TestKeyServerCrashUnderCounterMode(t *testing.T) {
	lively(t, 52, calm, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", pushed(t, lifeKS, unicast))
		gms := l.members(3, lifeGM)
		l.registered()
		l.flow(100 * time.Millisecond)
		l.run(time.Minute)
		for range 3 {
			ks.crash()
			l.run(20 * time.Second)
			begin := time.Now()
			ks.start()
			l.run(5 * time.Minute)
			if n := len(told[event.KSStateUnclean](ks, begin)); n != 1 {
				t.Errorf("%d events", n)
			}
			for _, g := range gms {
				if n := len(told[event.GMRegistrationComplete](g, begin)); n != 1 {
					t.Errorf("%s registered %d times", g.name, n)
				}
			}
		}
		l.run(2 * time.Hour)
		l.flawless()
	})
}

// "crypto gdoi state off" leaves nothing; on again, what there is is kept.
func TestStateIsSwitchedOff(t *testing.T) {
	lively(t, 53, calm, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", pushed(t, lifeKS, unicast))
		l.members(2, lifeGM)
		l.registered()
		l.run(5 * time.Second)
		const file = "group%20G.sealed"
		if ks.files()[file] == nil {
			t.Fatal("nothing is kept")
		}
		ks.configure("crypto gdoi state off")
		if ks.files()[file] != nil {
			t.Error("state off, and the file is there")
		}
		ks.command("crypto gdoi ks rekey")
		l.run(5 * time.Second)
		if ks.files()[file] != nil {
			t.Error("state off, and something is kept")
		}
		ks.configure("no crypto gdoi state off")
		if ks.files()[file] == nil {
			t.Error("on again, and nothing is kept")
		}
		ks.configure("no crypto gdoi group G")
		if ks.files()[file] != nil {
			t.Error("the group is gone, its state isn't")
		}
	})
}

// The keys that sign rekeys are sealed: made sealed, taken over from PEM, in PEM again
// while state is off; all the time the same key, so that no member registers again.
func TestSigningKeysAreSealed(t *testing.T) {
	lively(t, 55, calm, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", pushed(t, lifeKS, unicast))
		gms := l.members(2, lifeGM)
		l.registered()
		begin := time.Now()
		forms := func() (pem, sealed []byte) {
			for name, b := range ks.files() {
				switch {
				case strings.HasSuffix(name, ".pem"):
					pem = b
				case strings.HasPrefix(name, "key%20") && strings.HasSuffix(name, ".sealed"):
					sealed = b
				}
			}
			return pem, sealed
		}
		want := func(what string, inPEM bool) {
			t.Helper()
			if pem, sealed := forms(); (pem != nil) != inPEM || (sealed != nil) == inPEM {
				t.Errorf("%s: PEM %v, sealed %v", what, pem != nil, sealed != nil)
			}
		}
		want("new", false)
		ks.configure("crypto gdoi state off")
		want("state off", true)
		ks.command("crypto gdoi ks rekey")
		l.run(time.Minute)
		ks.configure("no crypto gdoi state off")
		want("on again", false)
		ks.configure("crypto gdoi state off")
		pem, _ := forms()
		ks.configure("no crypto gdoi state off")
		// As an earlier version left it: PEM alone.
		ks.stop()
		for name := range ks.files() {
			if strings.HasPrefix(name, "key%20") {
				os.Remove(filepath.Join(ks.options().StateDir, name))
			}
		}
		if err := os.WriteFile(filepath.Join(ks.options().StateDir, "ecdsa-K.pem"), pem, 0o600); err != nil {
			t.Fatal(err)
		}
		l.run(5 * time.Second)
		ks.start()
		want("taken over", false)
		ks.command("crypto gdoi ks rekey")
		l.run(time.Minute)
		for _, g := range gms {
			if n := len(told[event.GMRegistrationComplete](g, begin)); n != 0 {
				t.Errorf("%s registered %d times", g.name, n)
			}
			if n := len(told[event.GMRecvRekey](g, begin)); n < 2 {
				t.Errorf("%s had %d rekeys", g.name, n)
			}
		}
	})
}
