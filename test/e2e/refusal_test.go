package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"getvpn/internal/lab"
)

// Issue item 3: who knows the wrong key or asks for an unknown group gets nothing, is
// counted, and the next member is served at once.
func TestRefusedMembers(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.startKS(policy{})
	wrong := w.startGM(2, member{psk: "end-to-enD"})
	unknown := w.startGM(3, member{group: 9999})
	// Both have tried before the good one comes.
	w.until(60*time.Second, func() error {
		if k := w.snapshot(w.ks); k.IKE.Drops["undecryptable"]+k.IKE.Drops["bad-hash"] == 0 || k.KSRejected["unknown-group"] == 0 {
			return fmt.Errorf("the key server has counted %v and %v", k.IKE.Drops, k.KSRejected)
		}
		if m := w.snapshot(unknown).Members; len(m) == 0 || m[0].Attempted == 0 || sum(m[0].FailuresByReason) == 0 {
			return fmt.Errorf("the member of an unknown group: %+v", m)
		}
		return nil
	})
	start := time.Now()
	w.must(w.startGM(1, member{}).Registered(30 * time.Second))
	t.Logf("the good member registered %v after its start", time.Since(start).Round(time.Millisecond))

	ks := w.snapshot(w.ks)
	t.Logf("IKE refusals %v, registrations refused %v", ks.IKE.Drops, ks.KSRejected)
	if n := len(ks.KeyServers[0].Members); n != 1 {
		t.Errorf("%d members", n)
	}
	for name, d := range map[string]*lab.Daemon{"wrong key": wrong, "unknown group": unknown} {
		m := w.snapshot(d).Members
		if len(m) != 1 || m[0].Succeeded != 0 || len(m[0].TEKs) != 0 {
			t.Errorf("%s: %+v", name, m)
		}
	}
	for _, d := range []*lab.Daemon{w.ks, wrong, unknown} {
		if out := d.Output(); strings.Contains(out, "end-to-en") {
			t.Errorf("%s's log holds a key:\n%s", d.Node, out)
		}
	}
	if out, err := w.Ping("h2", lab.Host(1), 1); err == nil {
		t.Errorf("a refused member's host got through:\n%s", out)
	}
	w.noneInClear()
}

// Issue item 3: truncated and bit-flipped copies of real messages, and noise, are
// counted, answer nothing that helps, and hinder nobody.
func TestBrokenMessages(t *testing.T) {
	w := newWorld(t, lab.Options{Members: 2})
	w.startKS(policy{})
	c, err := w.Capture("registration", "core", "k1", 0, "udp port 848")
	w.must(err)
	w.must(w.startGM(1, member{}).Registered(30 * time.Second))
	frames, err := c.Stop()
	w.must(err)
	var real [][]byte
	for _, f := range frames {
		if p, ok := f.IP(); ok && p.Dst.String() == lab.KeyServer && len(p.Payload) > 8 {
			real = append(real, p.Payload[8:])
		}
	}
	if len(real) < 5 {
		t.Fatalf("only %d messages to the key server", len(real))
	}
	before := sum(w.snapshot(w.ks).IKE.Drops)
	rnd := rand.New(rand.NewPCG(1, 2))
	sent := 0
	var conn *net.UDPConn
	w.must(w.In("gm2", func() (err error) {
		conn, err = net.DialUDP("udp", nil, &net.UDPAddr{IP: net.ParseIP(lab.KeyServer), Port: 848})
		return err
	}))
	defer conn.Close()
	send := func(b []byte) {
		if _, err := conn.Write(b); err == nil {
			sent++
		}
	}
	for range pick(20, 2000) {
		for _, m := range real {
			send(m[:rnd.IntN(len(m))])
			flipped := append([]byte(nil), m...)
			flipped[rnd.IntN(len(flipped))] ^= 1 << rnd.IntN(8)
			send(flipped)
		}
		noise := make([]byte, rnd.IntN(400))
		for i := range noise {
			noise[i] = byte(rnd.Uint32())
		}
		send(noise)
		// Not faster than a rate limit would hide.
		time.Sleep(5 * time.Millisecond)
	}
	start := time.Now()
	w.must(w.startGM(2, member{}).Registered(30 * time.Second))
	t.Logf("%d broken datagrams; the next member registered in %v", sent, time.Since(start).Round(time.Millisecond))
	after := w.snapshot(w.ks).IKE.Drops
	t.Logf("counted: %v", after)
	if got := sum(after) - before; got < sent/2 {
		t.Errorf("%d of %d broken datagrams counted", got, sent)
	}
	if n := len(w.snapshot(w.ks).KeyServers[0].Members); n != 2 {
		t.Errorf("%d members, not 2", n)
	}
	if out, err := w.Ping("h1", lab.Host(2), 3); err != nil {
		t.Error(err, out)
	}
}
