package gdoi

import (
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

// The worst that fits a datagram, an SA full of small attributes, costs little.
func TestLargestSAIsCheap(t *testing.T) {
	s := SAT{Protocol: ProtoESP, Src: subnet("10.0.0.0/8"), Dst: subnet("10.0.0.0/8"), Transform: ESPAESCBC, SPI: 999}
	body := s.body(Dialect{})
	for range 1000 {
		body = isakmp.AppendBasic(body, 32700, 1)
	}
	body = append(body, 0) // spoils both readings at the very end
	b := []byte{0, 0, 0, 2, 0, 0, 0, 0, 0, 16, 0, 0}
	var chain []isakmp.Payload
	for len(b)+(len(chain)+1)*(len(body)+4) < isakmp.MaxBody {
		chain = append(chain, isakmp.Payload{Type: isakmp.PayloadSAT, Body: body[:len(body)-1]})
	}
	chain[len(chain)-1].Body = body
	b, err := isakmp.AppendChain(b, chain)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := ParseSA(b, Dialect{}); formOf(err) != isakmp.ShortAttribute {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 200*time.Millisecond {
		t.Errorf("%v for %d octets", d, len(b))
	}
}
