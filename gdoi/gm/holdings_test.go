package gm

import (
	"slices"
	"testing"
	"time"

	"getvpn/gdoi/policy"
)

// A key server that restarted has other keys: what is held stays, with the Sender IDs
// it came with, and is used for sending until its change-over.
func Test_esp_10_OldKeysKeepTheirSenderIDs(t *testing.T) {
	now := time.Unix(1e9, 0)
	var h holdings
	a := offer(tekOf(300, 100*time.Second))
	h.apply(&a.Offer, policy.Keys{SIDBits: 24, SIDs: []uint32{41}}, now, now, now)
	now = now.Add(50 * time.Second)
	b := offer(tekOf(900, time.Hour))
	h.apply(&b.Offer, policy.Keys{SIDBits: 24, SIDs: []uint32{0}}, now, now, now)

	entries, teks := h.policy(now)
	if len(teks) != 2 || teks[0].SPI != 300 || !slices.Equal(teks[0].SIDs, []uint32{41}) || !slices.Equal(teks[1].SIDs, []uint32{0}) {
		t.Errorf("holds %v", teks)
	}
	if entries[1].SPI != 300 || entries[0].SPI != 0 {
		t.Errorf("sends with %v", entries)
	}
	// Registered again under the new keys: only the new key's Sender ID is new.
	c := offer(tekOf(900, time.Hour))
	h.apply(&c.Offer, policy.Keys{SIDBits: 24, SIDs: []uint32{5}}, now, now, now)
	if _, teks = h.policy(now); !slices.Equal(teks[0].SIDs, []uint32{41}) || !slices.Equal(teks[1].SIDs, []uint32{5}) {
		t.Errorf("holds %v", teks)
	}
	if entries, _ = h.policy(now.Add(49 * time.Second)); entries[1].SPI != 900 {
		t.Errorf("at the end: sends with %v", entries)
	}
}

func TestATEKWithoutSenderIDIsNotSentWith(t *testing.T) {
	now := time.Unix(1e9, 0)
	var h holdings
	a := offer(tekOf(300, time.Hour))
	h.apply(&a.Offer, policy.Keys{}, now, now, now)
	entries, teks := h.policy(now)
	if entries[1].SPI != 0 || len(teks) != 1 {
		t.Errorf("entries %v, receives %d", entries, len(teks))
	}
}

// A permit that the newest list adds isn't sent with a TEK that never protected it.
func TestOldTEKsProtectWhatTheyCameFor(t *testing.T) {
	now := time.Unix(1e9, 0)
	var h holdings
	a := offer(tekOf(300, time.Hour))
	h.apply(&a.Offer, policy.Keys{SIDs: []uint32{1}}, now, now, now)
	other := permit
	other.Proto = 17
	b := offer(tekOf(301, 2*time.Hour))
	b.Offer.Entries = append(b.Offer.Entries, policy.Entry{ACE: other, SPIs: []uint32{301}})
	h.apply(&b.Offer, policy.Keys{SIDs: []uint32{2}}, now, now, now)
	entries, _ := h.policy(now)
	if entries[1].SPI != 300 || entries[2].SPI != 301 {
		t.Errorf("sends with %v", entries)
	}
}

// A key server without a successor is asked again after a while, not in a loop.
func TestNoSuccessorYet(t *testing.T) {
	now := time.Unix(1e9, 0)
	end := now.Add(2 * time.Minute)
	var h holdings
	n := 0
	for now.Before(end.Add(-time.Second)) {
		a := offer(tekOf(300, end.Sub(now).Truncate(time.Second)))
		h.apply(&a.Offer, policy.Keys{SIDs: []uint32{1}}, now, now, now)
		next := h.reRegister(now, 0.5)
		if !next.After(now) {
			t.Fatalf("registers again at once, %v before the end", end.Sub(now))
		}
		now = next
		n++
	}
	if n > 6 {
		t.Errorf("%d registrations", n)
	}
}

func TestFirstSeqOfAMemberThatJoinsInMidLife(t *testing.T) {
	now := time.Unix(1e9, 0)
	var h holdings
	x := tekOf(300, 30*time.Minute)
	x.Age, x.HasAge = 30*time.Minute, true
	a := offer(x)
	h.apply(&a.Offer, policy.Keys{SIDs: []uint32{1}}, now, now, now)
	_, teks := h.policy(now)
	if s := teks[0].FirstSeq; s < 1<<31-1<<20 || s > 1<<31 {
		t.Errorf("starts at %d", s)
	}
}

// A lost message makes the member ask twice: the key server may have counted the
// remaining life at any moment from the first question to the answer. Sending goes by
// the earliest end, receiving by the latest, and a second download narrows both.
func TestEndsAreEarlyForSendingAndLateForReceiving(t *testing.T) {
	asked := time.Now()
	at := asked.Add(7 * time.Second)
	r := offer(tekOf(300, 60*time.Second))
	var h holdings
	h.apply(&r.Offer, policy.Keys{SIDBits: 24, SIDs: []uint32{1}}, asked, at, at)
	early, late := asked.Add(60*time.Second), at.Add(60*time.Second)
	if x := h.teks[0]; !x.until.Equal(early) || !x.tek.Expires.Equal(late) {
		t.Fatalf("ends in %v for sending, %v for receiving, want 60 s and 67 s", x.until.Sub(asked), x.tek.Expires.Sub(asked))
	}
	between := early.Add(time.Second)
	entries, teks := h.policy(between)
	if entries[1].SPI != 0 || len(teks) != 1 {
		t.Errorf("between both ends: sent with %#x, %d TEKs for receiving, want none and 1", entries[1].SPI, len(teks))
	}
	// Asked again 20 s later, answered at once: the life really ends 62 s after asked.
	asked = asked.Add(20 * time.Second)
	r.Offer.TEKs[0].Lifetime = 42 * time.Second
	h.apply(&r.Offer, policy.Keys{SIDBits: 24, SIDs: []uint32{1}}, asked, asked, asked)
	if x := h.teks[0]; x.until.Sub(asked) != 42*time.Second || x.tek.Expires.Sub(asked) != 42*time.Second {
		t.Errorf("narrowed to %v and %v, want 42 s", x.until.Sub(asked), x.tek.Expires.Sub(asked))
	}
}
