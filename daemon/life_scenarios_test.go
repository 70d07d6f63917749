package daemon

// The guide's three scenarios of a policy change, under traffic.

import (
	"testing"
	"time"

	"getvpn/internal/sim"
	"getvpn/ipsec"
)

// scenario has a flow between two members that the list doesn't cover at first.
func scenario(t *testing.T, f func(l *life, ks *simNode, gms []*simNode, extra int)) {
	lively(t, 51, calm, func(l *life) {
		ks := l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, unicast), "seconds 3600", "seconds 900")+"crypto ipsec transform-set T2 esp-aes 256 esp-sha256-hmac\n")
		gms := l.members(2, lifeGM)
		extra := l.traffic.Add(sim.Flow{From: gms[0].site, To: gms[1].site, Proto: 6, SrcPort: 4000, DstPort: 22})
		l.registered()
		f(l, ks, gms, extra)
	})
}

// Scenario 1: the list changes. Members classify by the new one as soon as they have the
// rekey, with the SA that they have.
func TestScenario1ListChanged(t *testing.T) {
	t.Parallel()
	scenario(t, func(l *life, ks *simNode, gms []*simNode, extra int) {
		old := gms[0].spi()
		// It leaves in clear; the far end sees it by the mirrored list, which protects it.
		if f, ok := l.traffic.Probe(extra); f.SPI != 0 || f.Drop != ipsec.DropNone || ok {
			t.Errorf("what the list denies: %+v %v", f, ok)
		}
		ks.configure("ip access-list extended A\n no deny tcp any any eq 22")
		l.run(time.Second)
		if f, ok := l.traffic.Probe(extra); f.SPI != old || !ok {
			t.Errorf("what the list permits now: %+v %v, want SPI %#x", f, ok, old)
		}
		l.flow(200 * time.Millisecond)
		l.run(30 * time.Minute)
		l.flawless()
	})
}

// Scenario 2: the transform changes. The old SA lives on to its end and is sent with
// until shortly before.
func TestScenario2TransformChanged(t *testing.T) {
	t.Parallel()
	scenario(t, func(l *life, ks *simNode, gms []*simNode, extra int) {
		old := gms[0].spi()
		ks.configure("crypto ipsec profile P\n set transform-set T2")
		l.run(time.Second)
		if f, ok := l.traffic.Probe(0); f.SPI != old || !ok {
			t.Errorf("%+v %v, want SPI %#x", f, ok, old)
		}
		p, _ := gms[0].site.Policy("G")
		if len(p.TEKs) != 2 {
			t.Errorf("TEKs: %+v", p.TEKs)
		}
		l.run(15 * time.Minute)
		p, _ = gms[0].site.Policy("G")
		for _, k := range p.TEKs {
			if k.SPI == old || k.Transform.Cipher != ipsec.CipherAESCBC {
				t.Errorf("a life later: %+v", k)
			}
		}
		if f, ok := l.traffic.Probe(0); f.SPI == old || f.SPI == 0 || !ok {
			t.Errorf("a life later: %+v %v", f, ok)
		}
	})
}

// Scenario 3: both. The new list counts at once, with the old SA; the new SA follows.
func TestScenario3ListAndTransformChanged(t *testing.T) {
	t.Parallel()
	scenario(t, func(l *life, ks *simNode, gms []*simNode, extra int) {
		old := gms[0].spi()
		ks.configure("crypto ipsec profile P\n set transform-set T2\nip access-list extended A\n no deny tcp any any eq 22")
		l.run(time.Second)
		if f, ok := l.traffic.Probe(extra); f.SPI == 0 || !ok {
			t.Errorf("what the list permits now: %+v %v", f, ok)
		}
		if f, ok := l.traffic.Probe(0); f.SPI != old || !ok {
			t.Errorf("what it permitted before: %+v %v, want SPI %#x", f, ok, old)
		}
		l.flow(200 * time.Millisecond)
		l.run(30 * time.Minute)
		l.flawless()
		if f, ok := l.traffic.Probe(extra); f.SPI == old || f.SPI == 0 || !ok {
			t.Errorf("two lives later: %+v %v", f, ok)
		}
	})
}
