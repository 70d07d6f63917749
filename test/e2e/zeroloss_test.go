package e2e

// Zero loss: a group's keys roll under constant two-way traffic over a control network
// that loses, doubles and reorders. daemon/life_zeroloss_test.go is the same in fake
// time; here daemons, kernels and packets are real.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"getvpn/internal/lab"
)

// 200 rekeys that replace the keys at once, 2 s apart, with 20 changes of the KEK among
// them, then 5 by the timers: every packet arrives, once. The short form has 8 and 2.
func TestKeysRollUnderLoadLosingNothing(t *testing.T) {
	t.Parallel()
	retransmit := "rekey retransmit 10 number 2"
	for _, c := range []struct {
		name, transform string
		rekey           []string
	}{
		{"unicast", "esp-gcm 128", []string{"rekey authentication mypubkey rsa SIGN", "rekey transport unicast", retransmit}},
		{"multicast", "esp-aes 256 esp-sha256-hmac", []string{"rekey authentication mypubkey rsa SIGN", multicastRekey, retransmit}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRolling(t, (*rolling).rough, policy{lifetime: 120, transform: c.transform, replay: "replay counter window-size 64",
				rekey: append(c.rekey, "rekey lifetime seconds 300")}, c.name == "multicast")
			r.byCommand(pick(6, 200), pick(3, 10))
			if soak() {
				r.byTimer(5)
			}
			r.judge(pick(6, 205), pick(2, 20))
		})
	}
}

// rolling is a group under load whose keys roll.
type rolling struct {
	*world
	relay    *lab.Relay
	captures []*lab.Capture
	next     time.Time // of the next look or command
	streams  []*lab.Stream
	pours    []*lab.Pour
	sent     map[string]map[uint32]int // by member and SPI: packets, by the member's count
	live     int                       // SAs of a member at once
}

// rough makes the control path one that loses, doubles and reorders.
func (r *rolling) rough() {
	r.Helper()
	udp := func(f []byte) bool { p, ok := lab.Frame{Data: f}.IP(); return ok && p.Proto == 17 } // all of it is control there
	var err error
	r.relay, err = r.RelayKeyServer(lab.Impairment{Seed: 11, Delay: time.Millisecond, Jitter: 3 * time.Millisecond,
		Loss: 0.01, Duplicate: 0.02, Reorder: 0.05, Hold: 30 * time.Millisecond, Only: udp})
	r.must(err)
	r.Cleanup(r.relay.Close)
	// Behind the relay each member loses on its own, also of what is multicast.
	r.drop("lossy", "udp dport { 848, 4500 } numgen random mod 100 < 1")
}

// drop makes the core drop what a rule matches.
func (r *rolling) drop(table string, rules ...string) {
	r.Helper()
	_, err := r.Input("core", fmt.Sprintf("table ip %s { chain c { type filter hook forward priority 0; policy accept;\n%s counter drop\n}\n}\n",
		table, strings.Join(rules, " counter drop\n")), "nft", "-f", "-")
	r.must(err)
}

func newRolling(t *testing.T, control func(*rolling), p policy, multicast bool) *rolling {
	r := &rolling{world: newWorld(t, lab.Options{}), sent: map[string]map[uint32]int{}}
	control(r)
	if multicast {
		r.must(r.RouteMulticast())
	}
	for n := 1; n <= 3; n++ {
		c, err := r.Capture(fmt.Sprintf("from-gm%d", n), "core", lab.Core(n), 64, fmt.Sprintf("src net 10.1.%d.0/24", n))
		r.must(err)
		r.captures = append(r.captures, c)
	}
	r.groupOf(p, 3, member{mss: 1360}) // a segment that is too big would be a drop, too
	for a := 1; a <= 3; a++ {
		for b := 1; b <= 3; b++ {
			if a == b {
				continue
			}
			s, err := r.Stream(fmt.Sprintf("h%d", a), fmt.Sprintf("h%d", b), lab.Host(b), 50, 200)
			r.must(err)
			r.streams = append(r.streams, s)
		}
		b := a%3 + 1
		p, err := r.Pour(fmt.Sprintf("h%d", a), fmt.Sprintf("h%d", b), lab.Host(b), 50_000)
		r.must(err)
		r.pours = append(r.pours, p)
	}
	return r
}

// byCommand replaces the keys n times, and the KEK with them after each few of these.
func (r *rolling) byCommand(n, few int) {
	r.Helper()
	command := func(c string) {
		_, err := r.ks.Show(c)
		r.must(err)
		r.observe()
	}
	for i := range n {
		command("crypto gdoi ks rekey replace-now")
		if i%few == few-1 {
			command("clear crypto gdoi ks policy")
		}
	}
	r.forgotten(func(t tek) bool { return t.Replaced })
}

// forgotten waits until no member has an SA like that, and all send with the newest:
// what was replaced is received with for a while.
func (r *rolling) forgotten(old func(tek) bool) {
	r.Helper()
	r.until(3*time.Minute, func() error {
		r.observe()
		for _, d := range r.gms {
			if teks := r.snapshot(d).Members[0].TEKs; slices.ContainsFunc(teks, old) || !slices.ContainsFunc(teks, func(t tek) bool { return t.Sending }) {
				return fmt.Errorf("%s has the SAs %+v", d.Node, teks)
			}
		}
		return nil
	})
}

// A member that the key server can't reach while the keys change, for less than their
// life, loses nothing. Short form: the keys are replaced meanwhile, and the second
// transmission reaches it. Long form: they roll by the timers, it hears nothing of
// that for three quarters of their life, and registers again.
func TestMemberCutOffLosesNothing(t *testing.T) {
	t.Parallel()
	r := newRolling(t, func(*rolling) {}, policy{lifetime: 120, replay: "replay counter window-size 64",
		rekey: []string{"rekey authentication mypubkey rsa SIGN", "rekey transport unicast", "rekey retransmit 15 number 2"}}, false)
	before := r.spis()
	old := r.snapshot(r.gms[2]).Members[0].TEKs[0]
	r.drop("cut", fmt.Sprintf("ip saddr %s udp sport { 848, 4500 }", lab.WAN(2)), fmt.Sprintf("ip daddr %s udp dport { 848, 4500 }", lab.WAN(2)))
	if !soak() {
		_, err := r.ks.Show("crypto gdoi ks rekey replace-now")
		r.must(err)
	}
	r.until(2*time.Minute, func() error {
		now := r.spis()
		if now["gm2"] != before["gm2"] {
			return lab.Final(errors.New("the member that is cut off has a new SA"))
		}
		if now["gm1"] == before["gm1"] || now["gm3"] == before["gm3"] {
			return errors.New("no new SA")
		}
		if left := time.Until(old.Expires); soak() && left > 30*time.Second {
			return fmt.Errorf("%v left", left)
		}
		return nil
	})
	_, err := r.Lab.Run("core", "nft", "delete", "table", "ip", "cut")
	r.must(err)
	r.forgotten(func(t tek) bool { return t.SPI == old.SPI })
	r.judge(1, 0)
	if got := r.spis(); got["gm1"] != got["gm2"] || got["gm2"] == before["gm2"] {
		t.Errorf("the members have %#x, before %#x", got, before)
	}
	if n := r.snapshot(r.gms[2]).Members[0].Succeeded; n != pick(1, 2) {
		t.Errorf("it registered %d times", n)
	}
}

// byTimer waits until each member has sent with n more SAs.
func (r *rolling) byTimer(n int) {
	r.Helper()
	begin := map[string]int{}
	for node := range r.sent {
		begin[node] = len(r.sent[node])
	}
	r.until(time.Duration(n+3)*time.Minute, func() error {
		r.observe()
		for node := range r.sent {
			if k := len(r.sent[node]) - begin[node]; k < n {
				return fmt.Errorf("%s has changed its SA %d times by the timers", node, k)
			}
		}
		return nil
	})
}

// observe waits for the next look, and notes which SAs members have and sent with.
func (r *rolling) observe() {
	r.Helper()
	// Every 2 s; a machine that is late doesn't hurry, else an SA would hardly be used.
	if r.next = r.next.Add(2 * time.Second); time.Until(r.next) < time.Second {
		r.next = time.Now().Add(time.Second)
	}
	<-time.After(time.Until(r.next))
	for _, d := range r.gms {
		teks := r.snapshot(d).Members[0].TEKs
		r.live = max(r.live, len(teks))
		if r.sent[d.Node] == nil {
			r.sent[d.Node] = map[uint32]int{}
		}
		for _, tek := range teks {
			if tek.SA.EncapPackets > 0 {
				r.sent[d.Node][tek.SPI] = tek.SA.EncapPackets
			}
		}
	}
}

// judge stops the load and counts.
func (r *rolling) judge(changes, keks int) {
	r.Helper()
	r.flows()
	r.observe()
	var encap, decap int
	for n, d := range r.gms {
		m := r.snapshot(d)
		if sum(m.Dataplane.Drops) != 0 {
			r.Errorf("%s dropped: %v", d.Node, m.Dataplane.Drops)
		}
		for _, i := range m.Dataplane.Interfaces {
			encap, decap = encap+i.EncapPackets, decap+i.DecapPackets
		}
		updated := strings.Count(d.Output(), "%GDOI-5-SA_KEK_UPDATED")
		if updated < keks {
			r.Errorf("%s heard of %d new KEKs, not %d", d.Node, updated, keks)
		}
		spis := r.judgeCapture(n)
		if spis < changes {
			r.Errorf("%s changed its SA %d times, not %d", d.Node, spis, changes)
		}
		r.Logf("%s: %d changes of its sending SA by the capture, %d as its counters were looked at, %d of the KEK, registered %d times",
			d.Node, spis, len(r.sent[d.Node])-1, updated, m.Members[0].Succeeded)
	}
	if encap != decap || encap == 0 {
		r.Errorf("%d packets encrypted, %d decrypted", encap, decap)
	}
	// Replaced keys live for 17 s, and there is one each 2 s: 9. A stall brings some more.
	if r.live > 20 {
		r.Errorf("%d SAs at once", r.live)
	}
	r.Logf("%d packets encrypted, %d decrypted, at most %d SAs at once", encap, decap, r.live)
	if r.relay != nil {
		r.Logf("the relay lost %d, doubled %d, held back %d of %d frames", r.relay.Lost.Load(), r.relay.Duplicated.Load(), r.relay.Held.Load(), r.relay.Passed.Load())
	}
	r.noneInClear()
}

// flows stops the load: everything arrived, and once.
func (r *rolling) flows() {
	r.Helper()
	datagrams, octets := 0, int64(0)
	for i, s := range r.streams {
		sent, got := s.Stop()
		refused, copies, damaged := s.Faults()
		if datagrams += sent; sent != got || refused+copies+damaged != 0 {
			r.Errorf("UDP stream %d: %d of %d lost, %d refused, %d copies, %d damaged", i, sent-got, sent, refused, copies, damaged)
		}
	}
	for i, p := range r.pours {
		sent, got, err := p.Stop()
		if octets += sent; sent != got || err != nil {
			r.Errorf("TCP stream %d: %d of %d octets: %v", i, got, sent, err)
		}
	}
	r.Logf("%d datagrams, %d octets by TCP", datagrams, octets)
}

// judgeCapture counts with how many further SAs member n sent, as the core saw it.
func (r *rolling) judgeCapture(n int) int {
	r.Helper()
	frames, err := r.captures[n-1].Stop()
	r.must(err)
	spis := map[uint32]int{}
	for _, f := range frames {
		p, ok := f.IP()
		switch {
		case !ok, !p.Dst.Is4() || p.Dst.As4()[0] != 10:
		case p.Proto != lab.ESP:
			r.Errorf("in clear: %v to %v, protocol %d", p.Src, p.Dst, p.Proto)
		case p.FragOffset == 0:
			spis[p.SPI]++
		}
	}
	for spi, count := range r.sent[fmt.Sprintf("gm%d", n)] {
		if spis[spi] < count {
			r.Errorf("gm%d sent %d packets with %#x, the core saw %d", n, count, spi, spis[spi])
		}
	}
	if len(spis) == 0 {
		r.Fatalf("the capture behind gm%d is empty", n)
	}
	return len(spis) - 1
}
