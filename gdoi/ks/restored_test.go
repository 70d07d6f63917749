package ks

import (
	"slices"
	"testing"

	"getvpn/internal/secret"
)

// A key server that was put back gives no Sender ID out twice under one key, and no key
// that it had offered before.
func Test_esp_10_RestoredKeyServerStartsWithNewKeys(t *testing.T) {
	b := newBench(t, 24)
	b.register(t, gm1, ours())
	var old []secret.Bytes
	b.g.do(func() {
		for _, k := range b.g.ring.teks[0] {
			old = append(old, k.key)
		}
	})
	w, _, three := b.upToThree(t, gm1, ourVID, ours())

	b.s.Restored("vmgenid")
	b.s.handle(w, three)
	if g := b.settle(); g.Rejected["stale-offer"] != 1 || len(w.sent) != 0 || g.SIDsUsed != 0 {
		t.Errorf("an offer of before: %+v", g)
	}
	b.register(t, gm1, ours())
	b.g.do(func() {
		for _, k := range b.g.ring.teks[0] {
			if slices.ContainsFunc(old, k.key.Equal) {
				t.Error("an old key is in force")
			}
		}
	})
}

// Keys that were offered to the first member may be in force at the former self.
func TestRestoreForgetsPendingKeys(t *testing.T) {
	b := newBench(t, 24)
	w, _, three := b.upToThree(t, gm1, ourVID, ours())
	b.s.Restored("vmgenid")
	b.s.handle(w, three)
	if g := b.settle(); g.Rejected["stale-offer"] != 1 || len(w.sent) != 0 {
		t.Errorf("%+v", g)
	}
	b.register(t, gm1, ours())
}

// Without a disk there is no clean slate, and so there are no keys until there is one.
func TestRestoreWithoutADisk(t *testing.T) {
	b := newBench(t, 24)
	b.register(t, gm1, ours())
	b.full.Store(true)
	b.s.Restored("vmgenid")
	w, _, three := b.upToThree(t, gm1, ourVID, ours())
	b.s.handle(w, three)
	if g := b.settle(); g.Rejected["sender-id-ledger"] != 1 || len(w.sent) != 0 {
		t.Errorf("%+v", g.Rejected)
	}
	b.full.Store(false)
	b.register(t, gm1, ours())
	if g := b.settle(); g.SIDsUsed != 1 {
		t.Errorf("%d Sender IDs used", g.SIDsUsed)
	}
}
