package ks

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"getvpn/config"
	"getvpn/gdoi/coop"
	"getvpn/model/event"
)

// signer makes another key that signs rekeys.
func signer(t *testing.T) *Signer {
	t.Helper()
	s, err := freshSigner()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// signs gives a key server another signing key.
func signs(s *Setup, k *Signer) {
	r := *s.Rekey
	r.Signer = k
	s.Rekey = &r
}

// told are the events of one kind that a key server has emitted since it was asked last,
// whatever kind; the others are lost.
func told[E event.Event](s *server) (out []E) {
	for {
		select {
		case r := <-s.sub.C():
			if e, ok := r.Event.(E); ok {
				out = append(out, e)
			}
		default:
			return out
		}
	}
}

// The key that signs rekeys is another pair under the same label at the second key server.
// Both say so, with both fingerprints; it registers nobody while the first leads; when it
// has to lead it names the members that will drop its rekeys, exactly those.
func Test_coop_02_AnotherSigningKey(t *testing.T) {
	other := signer(t)
	among(t, 2, func(i int, s *Setup) {
		if i == 1 {
			signs(s, other)
		}
	}, func(t *testing.T, l *league) {
		after(10 * time.Second)
		a, b := l.ks[0], l.ks[1]
		one, two := sha256.Sum256(testSigner().Public), sha256.Sum256(other.Public)
		mine, its := hex.EncodeToString(one[:]), hex.EncodeToString(two[:])
		if e := told[event.CoopSigningKeyDiffers](a); len(e) != 1 || e[0].Mine != mine || e[0].Its != its || e[0].Peer != b.addr {
			t.Errorf("the first says %+v", e)
		}
		if e := told[event.CoopSigningKeyDiffers](b); len(e) != 1 || e[0].Mine != its || e[0].Its != mine {
			t.Errorf("the second says %+v", e)
		}
		for i := range 40 {
			l.join(i, a)
		}
		if b.open() {
			t.Error("the second registers members whom it can't rekey")
		}
		if p := a.model().Coop.Peers[0].Priority; p != 0 {
			t.Errorf("the second has priority %d", p)
		}
		if p := b.model().Coop.Priority; p != 90 {
			t.Errorf("the second is shown with priority %d", p)
		}
		after(time.Minute)
		teks, _ := a.ring()
		a.kill()
		after(time.Minute)
		if r := b.role(); r != coop.Primary {
			t.Fatalf("the second is %v", r)
		}
		var names []string
		for _, e := range told[event.CoopRekeysUnheard](b) {
			if e.Mine != its {
				t.Errorf("%+v", e)
			}
			names = append(names, strings.Split(e.Members, ", ")...)
		}
		if len(names) != 40 || names[0] != gmAddr(0).String() || names[39] != gmAddr(39).String() {
			t.Errorf("named: %q", names)
		}
		now, kek := b.ring()
		if !slices.Equal(teks, now) {
			t.Errorf("TEKs %x became %x", teks, now)
		}
		if p := b.model().Coop.Priority; p != 90 {
			t.Errorf("the second is shown with priority %d", p)
		}
		for i := range 3 { // they come again, and have its KEK then
			if m := l.join(i, b); m.kek() != kek {
				t.Error("a member has another KEK")
			}
		}
		if err := b.g.Rekey(false, false); err != nil {
			t.Fatal(err)
		}
		after(30 * time.Second)
		now, _ = b.ring()
		for i := range 3 {
			if m := l.gms[i]; !slices.Equal(m.spis(), now) || len(m.faults()) > 0 {
				t.Errorf("member %d has %x of %x, %v", i, m.spis(), now, m.faults())
			}
		}
		for i, m := range l.gms[3:] {
			if !slices.Equal(m.spis(), teks) {
				t.Errorf("member %d has %x", i+3, m.spis())
			}
		}
	})
}

// Of three key servers the one that can't sign doesn't become primary while another can,
// whatever its priority; given the right key it serves members at once.
func Test_coop_02_WhoCanSignLeads(t *testing.T) {
	other := signer(t)
	among(t, 3, func(i int, s *Setup) {
		if i == 1 {
			signs(s, other)
		}
	}, func(t *testing.T, l *league) {
		after(10 * time.Second)
		for i := range 6 {
			l.join(i, l.ks[i%2*2])
		}
		after(20 * time.Second)
		l.ks[0].kill()
		after(time.Minute)
		b, c := l.ks[1], l.ks[2]
		if b.role() != coop.Secondary || c.role() != coop.Primary {
			t.Fatalf("the second is %v, the third %v", b.role(), c.role())
		}
		after(30 * time.Second)
		teks, kek := c.ring()
		for i, m := range l.gms {
			if !slices.Equal(m.spis(), teks) || m.kek() != kek || len(m.faults()) > 0 {
				t.Errorf("member %d has %x of %x, %v", i, m.spis(), teks, m.faults())
			}
		}
		b.change(config.Effects{}, func(s *Setup) { signs(s, testSigner()) })
		after(2 * time.Second)
		if !b.open() {
			t.Fatal("the second registers nobody, with the right key")
		}
		if m := l.join(6, b); m.kek() != kek {
			t.Error("it gives another KEK")
		}
		c.kill()
		after(time.Minute)
		if b.role() != coop.Primary {
			t.Errorf("the second is %v", b.role())
		}
		if e := told[event.CoopRekeysUnheard](b); len(e) > 0 {
			t.Errorf("%+v", e)
		}
	})
}

// Keys of another form can't be used; the configuration that they need makes them usable
// without waiting for the next.
func TestKeysOfAnotherForm(t *testing.T) {
	among(t, 2, func(i int, s *Setup) { s.Group.IPv6 = i == 1 }, func(t *testing.T, l *league) {
		after(10 * time.Second)
		b := l.ks[1]
		if b.open() || b.role() != coop.Secondary {
			t.Errorf("a %v registers members without keys", b.role())
		}
		if n := b.model().Rejected["coop-keys"]; n == 0 || n > 5 {
			t.Errorf("keys refused %d times", n)
		}
		after(10 * time.Minute)
		b.change(config.Effects{}, func(s *Setup) { s.Group.IPv6 = false })
		if !b.open() {
			t.Fatal("it registers nobody")
		}
		teks, _ := l.ks[0].ring()
		if m := l.join(0, b); !slices.Equal(m.spis(), teks) {
			t.Errorf("%x of %x", m.spis(), teks)
		}
		var end [2]time.Time
		for i, s := range l.ks {
			s.in(func(g *Group) { end[i] = g.ring.teks[0][0].expires })
		}
		if d := end[0].Sub(end[1]).Abs(); d > time.Second {
			t.Errorf("the same TEK ends %v apart", d)
		}
	})
}
