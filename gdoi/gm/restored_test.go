package gm

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/internal/secret"
	"getvpn/ipsec"
)

func sids(p ipsec.GroupPolicy) (out []uint32) {
	for _, t := range p.TEKs {
		out = append(out, t.SIDs...)
	}
	return out
}

// From the notice on nothing is sent under a counter mode; receiving goes on; the next
// download's Sender ID, and no other, is sent with.
func TestRestoredMachineSendsOnlyWithANewSenderID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan *PullResult, 1)
		r := newRig(pullFunc(func(ctx context.Context, _ PullRequest) (*PullResult, error) {
			select {
			case a := <-answer:
				a.Asked, a.At = time.Now(), time.Now()
				return a, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}))
		answer <- offer(tekOf(300, time.Hour), tekOf(301, time.Hour))
		r.run(t)
		synctest.Wait()
		if r.plane.sending() == 0 {
			t.Fatal("not registered")
		}
		time.Sleep(time.Minute)
		r.events()

		r.m.Restored("vmgenid")
		synctest.Wait()
		if spi := r.plane.sending(); spi != 0 {
			t.Errorf("still sends with %d", spi)
		}
		if got := sids(r.plane.policy()); len(got) != 0 {
			t.Errorf("still has the Sender IDs %v", got)
		}
		if got := r.plane.receives(); !slices.Equal(got, []uint32{300, 301}) {
			t.Errorf("receives %v, want both as before", got)
		}
		if got := r.events(); !slices.Equal(got, []string{"GMMachineRestored", "GMReRegister", "GMRegister"}) {
			t.Errorf("events %v", got)
		}

		// 301 isn't part of the new download: it stays for receiving only.
		again := offer(tekOf(300, time.Hour))
		again.Keys.SIDs = []uint32{8}
		answer <- again
		synctest.Wait()
		if spi := r.plane.sending(); spi != 300 {
			t.Errorf("sends with %d", spi)
		}
		if got := sids(r.plane.policy()); !slices.Equal(got, []uint32{8}) {
			t.Errorf("Sender IDs %v, want the new one alone", got)
		}
	})
}

// A download that began before the restore may bring what the former self got as well.
func TestDownloadFromBeforeTheRestoreIsDiscarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pulls := 0
		r := newRig(pullFunc(func(ctx context.Context, _ PullRequest) (*PullResult, error) {
			pulls++
			if pulls == 1 {
				<-ctx.Done() // message 4 arrives nevertheless
				return offer(tekOf(300, time.Hour)), nil
			}
			time.Sleep(time.Second)
			got := offer(tekOf(300, time.Hour))
			got.Keys.SIDs = []uint32{9}
			return got, nil
		}))
		r.run(t)
		synctest.Wait()
		r.m.Restored("vmgenid")
		synctest.Wait()
		if r.plane.count() != 0 {
			t.Fatalf("installed %+v", r.plane.policy())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := sids(r.plane.policy()); pulls != 2 || !slices.Equal(got, []uint32{9}) {
			t.Errorf("%d downloads, Sender IDs %v", pulls, got)
		}
	})
}

// A dataplane that can't be told to stop is told again; a mode without counters goes on.
func TestRestoreIsToldToTheDataplaneUntilItTakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		r := newRig(pullFunc(func(ctx context.Context, _ PullRequest) (*PullResult, error) {
			if !first {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			first = false
			cbc := tekOf(400, time.Hour)
			cbc.Transform = ipsec.Transform{Cipher: ipsec.CipherAESCBC, KeyBits: 128, Auth: ipsec.AuthSHA256}
			cbc.Key, cbc.AuthKey = make(secret.Bytes, 16), make(secret.Bytes, 32)
			got := offer(tekOf(300, time.Hour), cbc)
			got.Offer.Entries[1].SPIs = []uint32{300}
			plain := got.Offer.Entries[1]
			plain.ACE.Proto, plain.SPIs = 17, []uint32{400}
			got.Offer.Entries = append(got.Offer.Entries, plain)
			return got, nil
		}))
		r.run(t)
		synctest.Wait()
		r.plane.mu.Lock()
		r.plane.fail = errors.New("busy")
		r.plane.mu.Unlock()
		r.m.Restored("rtc")
		time.Sleep(10 * time.Second)
		r.plane.mu.Lock()
		r.plane.fail = nil
		r.plane.mu.Unlock()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		p := r.plane.policy()
		if len(p.Entries) != 3 || p.Entries[1].SPI != 0 || p.Entries[2].SPI != 400 {
			t.Errorf("entries %+v", p.Entries)
		}
	})
}

// A rekey between the notice and the registration brings keys for receiving.
func TestRekeyAfterARestoreHasNoSenderID(t *testing.T) {
	now := time.Now()
	var h holdings
	got := offer(tekOf(300, time.Hour))
	h.apply(&got.Offer, got.Keys, now, now, now)
	h.surrender()
	rekey := offer(tekOf(300, time.Hour), tekOf(301, time.Hour))
	h.take(&rekey.Offer, nil, now, now, now, 0)
	if len(h.teks) != 2 {
		t.Fatalf("%d TEKs", len(h.teks))
	}
	for _, x := range h.teks {
		if x.sends() || len(x.tek.SIDs) != 0 {
			t.Errorf("SPI %d has the Sender IDs %v", x.tek.SPI, x.tek.SIDs)
		}
	}
	if x := h.pick(permit, now); x != nil {
		t.Errorf("sends with %d", x.tek.SPI)
	}
	again := offer(tekOf(301, time.Hour))
	again.Keys.SIDs = []uint32{9}
	h.apply(&again.Offer, again.Keys, now, now, now)
	if x := h.pick(permit, now); x == nil || x.tek.SPI != 301 || !slices.Equal(x.tek.SIDs, []uint32{9}) {
		t.Errorf("after the registration: %+v", x)
	}
}

// A member that waits for its first registration of this process: keys that one before
// it may have left in the dataplane go, what fail-close holds stays as it is.
func TestRestoreBeforeTheFirstRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, closed := range []bool{false, true} {
			r := newRig(silent(), Attachment{Interface: "eth0", MapName: "MAP", MapSeq: 10, FailClose: ipsec.FailClose{Active: closed}})
			r.m.o.Memory = &notebook{list: []ipsec.ACE{ssh, permit}}
			r.m.Prepare()
			r.run(t)
			synctest.Wait()
			r.m.Restored("vmgenid")
			synctest.Wait()
			p := r.plane.policy()
			want := ipsec.Registered
			if closed {
				want = ipsec.Unregistered
			}
			if r.plane.count() != 1 || p.State != want || len(p.TEKs) != 0 || p.FailClose.Active != closed {
				t.Errorf("fail-close %v: installed %+v", closed, p)
			}
		}
	})
}
