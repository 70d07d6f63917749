package ks

import (
	"crypto/rand"
	"errors"
	"math/bits"
	"testing"
	"testing/iotest"
	"time"

	"getvpn/gdoi"
	"getvpn/gdoi/policy"
	"getvpn/ipsec"
)

var gcm128 = ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: 128, ICVLen: 16}

// At any instant an entry has a TEK that has not ended, and from ReadyBefore on its
// successor; never more than the two.
func TestKeyringRollsOver(t *testing.T) {
	for _, life := range []time.Duration{60, 120, 300, 600, 900, 3600, 7200} {
		life *= time.Second
		k := newKeyring([]keySpec{{transform: gcm128, lifetime: life}, {transform: gcm128, lifetime: 2 * life}}, &kekSpec{cipher: gdoi.KEKAESCBC, keyBits: 128, lifetime: 3 * life}, rand.Reader)
		now := time.Unix(1e9, 0)
		if changed, err := k.advance(now); changed || err != nil || !k.wake().IsZero() {
			t.Fatal("keys before the first registration")
		}
		if err := k.reset(now); err != nil {
			t.Fatal(err)
		}
		seen := map[uint32]string{}
		for end := now.Add(10 * life); now.Before(end); now = k.wake() {
			if _, err := k.advance(now); err != nil {
				t.Fatal(err)
			}
			if !k.wake().After(now) {
				t.Fatalf("life %v: wake %v isn't after now", life, k.wake())
			}
			for i, list := range k.teks {
				if len(list) == 0 || len(list) > 2 {
					t.Fatalf("life %v: %d TEKs", life, len(list))
				}
				if !list[0].expires.After(now) {
					t.Fatal("an ended TEK is kept")
				}
				newest := list[len(list)-1]
				if newest.expires.Sub(now) <= policy.ReadyBefore(k.specs[i].lifetime) {
					t.Fatalf("life %v: %v before the end without a successor", life, newest.expires.Sub(now))
				}
				for _, x := range list {
					if key, ok := seen[x.spi]; ok && key != string(x.key) {
						t.Fatal("an SPI changed its key")
					}
					seen[x.spi] = string(x.key)
				}
			}
			if !k.kek.expires.After(now) {
				t.Fatal("KEK has ended")
			}
		}
	}
}

func TestKeyringResetMakesEverythingNew(t *testing.T) {
	k := newKeyring([]keySpec{{transform: gcm128, lifetime: time.Hour}}, &kekSpec{cipher: gdoi.KEKAESCBC, keyBits: 256, lifetime: time.Hour}, rand.Reader)
	now := time.Unix(1e9, 0)
	k.reset(now)
	old := *k
	if err := k.reset(now); err != nil {
		t.Fatal(err)
	}
	if k.gen == old.gen || k.slate != old.slate+1 || k.teks[0][0].key.Equal(old.teks[0][0].key) || k.kek.spi == old.kek.spi {
		t.Error("something old survived")
	}
	if len(k.kek.key) != 32 || len(k.kek.iv) != 16 || len(k.teks[0][0].key) != 20 {
		t.Error("key lengths")
	}
}

func TestKeyringWithoutRandomnessKeepsItsKeys(t *testing.T) {
	k := newKeyring([]keySpec{{transform: gcm128, lifetime: time.Hour}}, nil, rand.Reader)
	now := time.Unix(1e9, 0)
	k.reset(now)
	spi := k.teks[0][0].spi
	bad := errors.New("no randomness")
	k.rand = iotest.ErrReader(bad)
	if err := k.reset(now); !errors.Is(err, bad) {
		t.Errorf("got %v", err)
	}
	if _, err := k.advance(now.Add(59 * time.Minute)); !errors.Is(err, bad) {
		t.Errorf("got %v", err)
	}
	if len(k.teks[0]) != 1 || k.teks[0][0].spi != spi {
		t.Error("keys changed on an error")
	}
}

func TestOddParity(t *testing.T) {
	k := []byte{0, 1, 2, 3, 0x80, 0xff, 0xfe, 0x55}
	oddParity(k)
	for _, b := range k {
		if bits.OnesCount8(b)%2 != 1 {
			t.Errorf("%#02x has even parity", b)
		}
	}
}
