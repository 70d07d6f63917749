package gdoi

import (
	"math"
	"testing"
	"time"

	"getvpn/gdoi/isakmp"
)

func largePolicy() *SA {
	sa, _ := sample()
	one := sa.SATs[0]
	sa.SATs = nil
	for range 100 {
		sa.SATs = append(sa.SATs, one)
	}
	return sa
}

// A hundred entries under one SPI, as a key server sends them.
func BenchmarkParseSA100(b *testing.B) {
	body := mustSA(b, largePolicy(), Dialect{})
	b.ReportMetric(float64(len(body)), "octets")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseSA(body, Dialect{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeSA100(b *testing.B) {
	sa := largePolicy()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := sa.Payload(Dialect{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPull(b *testing.B) {
	sa, kd := sample()
	for b.Loop() {
		startPull(b, 7, PullOptions{}).run(b, sa, kd, 1, nil)
	}
}

// The worst that fits a datagram, an SA full of small attributes, costs what its
// octets cost: eight times the length isn't three times as dear by the octet.
func TestLargestSAIsCheap(t *testing.T) {
	s := SAT{Protocol: ProtoESP, Src: subnet("10.0.0.0/8"), Dst: subnet("10.0.0.0/8"), Transform: ESPAESCBC, SPI: 999}
	attrs := s.body(Dialect{})
	for range 1000 {
		attrs = isakmp.AppendBasic(attrs, 32700, 1)
	}
	spoiled := append(attrs, 0) // spoils both readings at the very end
	cost := func(most int) time.Duration {
		b := []byte{0, 0, 0, 2, 0, 0, 0, 0, 0, 16, 0, 0}
		var chain []isakmp.Payload
		for len(b)+(len(chain)+1)*(len(spoiled)+4) < most {
			chain = append(chain, isakmp.Payload{Type: isakmp.PayloadSAT, Body: attrs})
		}
		chain[len(chain)-1].Body = spoiled
		b, err := isakmp.AppendChain(b, chain)
		if err != nil {
			t.Fatal(err)
		}
		least := time.Duration(math.MaxInt64)
		for range 10 {
			start := time.Now()
			if _, err := ParseSA(b, Dialect{}); formOf(err) != isakmp.ShortAttribute {
				t.Fatal(err)
			}
			least = min(least, time.Since(start)*1000/time.Duration(len(b)))
		}
		return least
	}
	small, large := cost(isakmp.MaxBody/8), cost(isakmp.MaxBody)
	t.Logf("1000 octets cost %v in a small one, %v in the largest", small, large)
	if large > 3*small {
		t.Errorf("1000 octets cost %v in a small one, %v in the largest", small, large)
	}
}
