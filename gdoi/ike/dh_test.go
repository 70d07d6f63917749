package ike

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"testing"
)

var allGroups = []int{2, 5, 14, 15, 16, 19, 20, 21, 24}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The vectors of RFC 5903 §8 and RFC 5114 App. A.
func TestDHKnownAnswers(t *testing.T) {
	raw, err := os.ReadFile("testdata/dh.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []struct {
		Source          string
		Group           int
		I, GI, R, GR, Z string
	}
	if err := json.Unmarshal(raw, &vs); err != nil {
		t.Fatal(err)
	}
	for _, v := range vs {
		t.Run(fmt.Sprint(v.Source), func(t *testing.T) {
			key := func(x string) *DH {
				// The private value is what the random source yields.
				d, err := NewDH(v.Group, bytes.NewReader(unhex(t, x)))
				if err != nil {
					t.Fatal(err)
				}
				return d
			}
			i, r := key(v.I), key(v.R)
			if got := hex.EncodeToString(i.Public()); got != v.GI {
				t.Errorf("g^i = %s, want %s", got, v.GI)
			}
			if got := hex.EncodeToString(r.Public()); got != v.GR {
				t.Errorf("g^r = %s, want %s", got, v.GR)
			}
			z, err := i.Shared(r.Public())
			if err != nil || hex.EncodeToString([]byte(z)) != v.Z {
				t.Errorf("g^ir: %v, %x", err, []byte(z))
			}
			z, err = r.Shared(i.Public())
			if err != nil || hex.EncodeToString([]byte(z)) != v.Z {
				t.Errorf("g^ri: %v, %x", err, []byte(z))
			}
		})
	}
}

// Against math/big, which shares no code with the arithmetic used.
func TestDHAgainstBig(t *testing.T) {
	for g := range modpGroups {
		d, err := NewDH(g, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		prime := map[int]string{2: prime2, 5: prime5, 14: prime14, 15: prime15, 16: prime16, 24: prime24}[g]
		P, _ := new(big.Int).SetString(prime, 16)
		G := big.NewInt(2)
		if g == 24 {
			G.SetString(generator24, 16)
			Q, _ := new(big.Int).SetString(order24, 16)
			if new(big.Int).Exp(G, Q, P).Cmp(big.NewInt(1)) != 0 || !Q.ProbablyPrime(8) {
				t.Error("group 24: g hasn't prime order q")
			}
		} else if !new(big.Int).Rsh(P, 1).ProbablyPrime(2) {
			t.Errorf("group %d isn't a safe prime", g)
		}
		if !P.ProbablyPrime(2) || P.BitLen() != PublicLen(g)*8 {
			t.Errorf("group %d: modulus", g)
		}
		want := new(big.Int).Exp(G, new(big.Int).SetBytes(d.x), P).FillBytes(make([]byte, PublicLen(g)))
		if !bytes.Equal(want, d.Public()) {
			t.Errorf("group %d: public value", g)
		}
		for name, bad := range map[string]*big.Int{"0": big.NewInt(0), "1": big.NewInt(1),
			"p-1": new(big.Int).Sub(P, big.NewInt(1)), "p": P, "p+1": new(big.Int).Add(P, big.NewInt(1))} {
			if _, err := d.Shared(bad.FillBytes(make([]byte, PublicLen(g)))); !errors.Is(err, ErrPublicValue) {
				t.Errorf("group %d accepts %s: %v", g, name, err)
			}
		}
	}
	// 2 isn't in the subgroup of order q of group 24.
	d, _ := NewDH(24, rand.Reader)
	if _, err := d.Shared(leftPad([]byte{2}, 256)); !errors.Is(err, ErrPublicValue) {
		t.Errorf("group 24 accepts an element outside its subgroup: %v", err)
	}
}

func TestDHRefusesBadECP(t *testing.T) {
	for _, g := range []int{19, 20, 21} {
		d, err := NewDH(g, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		n := PublicLen(g)
		for _, bad := range [][]byte{nil, make([]byte, n-1), make([]byte, n), make([]byte, n+1)} {
			if _, err := d.Shared(bad); !errors.Is(err, ErrPublicValue) {
				t.Errorf("group %d accepts %d zero octets: %v", g, len(bad), err)
			}
		}
		off := bytes.Clone(d.Public())
		off[n-1] ^= 1
		if _, err := d.Shared(off); !errors.Is(err, ErrPublicValue) {
			t.Errorf("group %d accepts a point off the curve", g)
		}
	}
	if _, err := NewDH(1, rand.Reader); !errors.Is(err, ErrGroup) {
		t.Errorf("group 1: %v", err)
	}
}

func BenchmarkDHShared(b *testing.B) {
	for _, g := range allGroups {
		d, _ := NewDH(g, rand.Reader)
		e, _ := NewDH(g, rand.Reader)
		b.Run(fmt.Sprint(g), func(b *testing.B) {
			for range b.N {
				if _, err := d.Shared(e.Public()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
