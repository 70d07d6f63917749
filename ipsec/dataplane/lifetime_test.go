package dataplane

import (
	"bytes"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"getvpn/internal/clock"
	"getvpn/ipsec"
	"getvpn/ipsec/dataplane/steer"
)

// sealed returns the frame that the rig's wire has next.
func (g *rig) sealed(t *testing.T) []byte {
	t.Helper()
	g.out.begin()
	g.out.frame(g.frame, 0)
	g.out.flush()
	buf := make([]byte, 2000)
	n, e := rawRead(g.wire, buf)
	if e != 0 {
		t.Fatalf("nothing was sent: %v; drops %v", e, dropsOf(g.out.c))
	}
	return buf[:n]
}

// open gives a frame to the inbound worker as a batch of its own would.
func (g *rig) open(frame []byte) {
	b := bytes.Clone(frame)
	g.in.t, g.in.boot = g.in.p.table.Load(), g.in.p.d.clock.Boot()
	g.in.packet(b[:etherLen], b[etherLen:])
}

// setClock gives the rig's dataplane a clock that can be suspended.
func (g *rig) setClock(t *testing.T) *clock.Fake {
	t.Helper()
	d, c := g.out.p.d, clock.NewFake()
	d.clock, d.line = c, clock.NewTimeline(c)
	for name, x := range g.out.p.groups {
		g.out.p.groups[name] = d.timed(x)
	}
	if _, _, err := g.out.p.newTable(); err != nil {
		t.Fatal(err)
	}
	return c
}

// Case esp-09: the machine sleeps through the end of a TEK. No timer has run when it wakes,
// and all the same neither direction uses the key for one packet more. A wall clock that
// somebody sets changes nothing.
func Test_esp_09_TEK_that_ended_while_suspended(t *testing.T) {
	g := newRig(t, 64, nil) // a TEK of one hour
	c := g.setClock(t)
	before := g.sealed(t)
	c.Step(10 * 365 * 24 * time.Hour)
	c.Suspend(50 * time.Minute)
	g.open(g.sealed(t))
	c.Step(-20 * 365 * 24 * time.Hour)
	g.open(g.sealed(t))
	if n, d := g.in.c.packets.Load(), dropsOf(g.in.c); n != 2 || len(d) > 0 {
		t.Fatalf("before its end: %d opened, drops %v", n, d)
	}
	sent := g.out.p.sas[4096].Counters().EncapPackets
	c.Suspend(10 * time.Minute)
	for range 3 {
		g.open(before)
		g.out.begin()
		g.out.frame(g.frame, 0)
		g.out.flush()
	}
	if n, d := g.in.c.packets.Load(), dropsOf(g.in.c); n != 2 || d["sa-expired"] != 3 {
		t.Errorf("%d opened in all, drops %v", n, d)
	}
	if n := g.out.p.sas[4096].Counters().EncapPackets; n != sent || dropsOf(g.out.c)["sa-expired"] != 3 {
		t.Errorf("%d sealed after the end, drops %v", n-sent, dropsOf(g.out.c))
	}
	if n, e := rawRead(g.wire, make([]byte, 2000)); e != unix.EAGAIN {
		t.Errorf("%d octets left: %v", n, e)
	}
	// Nor does installing the same policy again bring it back.
	if _, _, err := g.out.p.newTable(); err != nil || len(g.out.p.sas)+len(g.out.p.leaving) != 0 {
		t.Errorf("%d SAs, %d leaving, %v", len(g.out.p.sas), len(g.out.p.leaving), err)
	}
}

// An SA that is replaced before its end receives a moment longer, however many tables come
// and go while its packets are on their way, and sends no more.
func TestReplacedSAStillReceivesForAMoment(t *testing.T) {
	g := newRig(t, 64, nil)
	c := g.setClock(t)
	p := g.out.p
	old := g.sealed(t)
	replace := func(spi uint32) {
		t.Helper()
		x := p.groups["g"]
		next := x.TEKs[0]
		next.SPI, next.Key = spi, bytes.Repeat([]byte{byte(spi)}, 20)
		x.TEKs = []ipsec.TEK{next}
		x.Entries = []ipsec.Entry{x.Entries[0]}
		x.Entries[0].SPI = spi
		p.groups["g"] = x
		if _, _, err := p.newTable(); err != nil {
			t.Fatal(err)
		}
	}
	for spi := uint32(4097); spi < 4117; spi++ {
		replace(spi)
	}
	if len(p.sas) != 1 || len(p.leaving) != 20 || len(p.spis()) != 21 {
		t.Errorf("%d SAs, %d leaving, %d SPIs in the kernel", len(p.sas), len(p.leaving), len(p.spis()))
	}
	g.open(old)
	if n := g.in.c.packets.Load(); n != 1 {
		t.Errorf("a packet of the SA before was dropped: %v", dropsOf(g.in.c))
	}
	if e, why := ipsec.LocateESP(g.sealed(t)[etherLen:]); why != ipsec.DropNone || e.SPI != 4116 {
		t.Errorf("sent with SPI %d", e.SPI)
	}
	c.Suspend(lingers)
	g.open(old)
	if n, d := g.in.c.packets.Load(), dropsOf(g.in.c); n != 1 || d["sa-expired"] != 1 {
		t.Errorf("%d opened in all, drops %v", n, d)
	}
	replace(4200)
	if len(p.leaving) != 1 { // 4116
		t.Errorf("%d leaving", len(p.leaving))
	}
	replace(4116) // and it comes back
	if len(p.sas) != 1 || len(p.leaving) != 1 || p.leaving[4116].portSA != nil {
		t.Errorf("%d SAs, leaving %v", len(p.sas), p.leaving)
	}
	// Who has no policy any more receives nothing.
	x := p.groups["g"]
	x.State, x.TEKs, x.Entries = ipsec.Unregistered, nil, nil
	p.groups["g"] = x
	if _, _, err := p.newTable(); err != nil || len(p.spis()) != 0 {
		t.Errorf("unregistered, with SPIs %v, %v", p.spis(), err)
	}
}

// The kernel's map of SPIs follows: an SPI stays as long as its SA receives, and what ended
// while the machine slept is taken out without a timer.
func TestSPIsLeaveTheKernelWithTheirSAs(t *testing.T) {
	if !ownProcess(t) {
		return
	}
	device(t, "wan")
	dir := filepath.Join(t.TempDir(), "bpf")
	if err := steer.EnsureBPFFS(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, 0) })
	c := clock.NewFake()
	told := make(chan Notice, 100)
	d, err := Open(Options{BPFDir: dir, Clock: c, Notify: func(n Notice) { told <- n }})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(false)
	install := func(spi uint32) {
		t.Helper()
		tek := ipsec.TEK{SPI: spi, Transform: ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: 128}, Key: bytes.Repeat([]byte{byte(spi)}, 20),
			Expires: time.Now().Add(time.Hour), SIDBits: 24, SIDs: []uint32{7}}
		if err := d.Install(ipsec.GroupPolicy{Group: "G", Interface: "wan", State: ipsec.Registered,
			Entries: []ipsec.Entry{{ACE: protects(), SPI: spi}}, TEKs: []ipsec.TEK{tek}}); err != nil {
			t.Fatal(err)
		}
	}
	known := func() map[uint32]bool {
		d.steering.mu.Lock()
		defer d.steering.mu.Unlock()
		return maps.Clone(d.steering.known)
	}
	wait := func(what string, spis ...uint32) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			k := known()
			ok := len(k) == len(spis)
			for _, spi := range spis {
				ok = ok && k[spi]
			}
			if ok {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: SPIs in the kernel %v, want %v", what, k, spis)
			}
		}
	}
	install(300)
	install(301)
	if k := known(); !k[301] {
		t.Errorf("SPIs in the kernel %v", k)
	}
	wait("the first has left", 301)
	c.Suspend(2 * time.Hour)
	wait("both have ended")
	for n := range told {
		if n.Kind == SAExpired {
			if n.SPI != 301 {
				t.Errorf("%+v", n)
			}
			break
		}
	}
}
