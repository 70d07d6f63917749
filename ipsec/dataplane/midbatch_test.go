package dataplane

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"getvpn/ipsec"
)

// A batch lasts as long as frames come, and a policy may be installed meanwhile: what comes
// after it, in the same batch, is judged by it.
func TestInstalledInTheMiddleOfABatch(t *testing.T) {
	g := newRig(t, 64, timed(ipsec.MetadataShort, false))
	p := g.out.p
	g.out.begin()
	g.in.t, g.in.boot = p.table.Load(), p.d.clock.Boot()
	g.out.frame(g.frame, 0) // waits in a slot, for the SA of the first table
	policy := p.groups["g"]
	next := policy.TEKs[0]
	next.SPI, next.Key = 4097, bytes.Repeat([]byte{7}, 20)
	policy.TEKs = append(policy.TEKs[:1:1], next)
	policy.Entries = []ipsec.Entry{policy.Entries[0]}
	policy.Entries[0].SPI = next.SPI
	p.groups["g"] = policy
	if _, _, err := p.newTable(); err != nil {
		t.Fatal(err)
	}
	late := newOutWorker(p, 0, &ring{fd: -1}, -1, 1500, g.out.send, p.out[0])
	late.begin()
	late.frame(g.frame, 0)
	late.flush()
	g.out.flush()
	var spis []uint32
	buf := make([]byte, 2000)
	for {
		n, e := rawRead(g.wire, buf)
		if e == unix.EAGAIN {
			break
		}
		esp, why := ipsec.LocateESP(buf[etherLen:n])
		if why != ipsec.DropNone {
			t.Fatal(why)
		}
		spis = append(spis, esp.SPI)
		g.in.packet(buf[:etherLen], bytes.Clone(buf[etherLen:n]))
	}
	if len(spis) != 2 || spis[0] != 4097 || spis[1] != 4096 {
		t.Fatalf("SPIs %d", spis)
	}
	if d := dropsOf(p.in[0]); len(d) > 0 || g.in.c.packets.Load() != 2 {
		t.Errorf("%d opened, drops %v", g.in.c.packets.Load(), d)
	}
}
