package ike

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"getvpn/gdoi/isakmp"
)

var (
	gmAddr = netip.MustParseAddrPort("172.16.1.2:848")
	ksAddr = netip.MustParseAddrPort("172.16.8.2:848")
)

func pskConfig(psk string, policies ...Policy) *Config {
	if len(policies) == 0 {
		policies = []Policy{{Priority: 1, Encr: EncrAES, KeyBits: 128, Hash: HashSHA256, Group: 19}}
	}
	return &Config{Policies: policies, Keys: []Key{{Prefix: netip.MustParsePrefix("172.16.0.0/16"), PSK: []byte(psk)}}}
}

// run drives both sides to the end and returns all messages.
func run(t testing.TB, pi, pr Params) (i, r *Outcome, msgs [][]byte, err error) {
	t.Helper()
	mi, msg, err := NewInitiator(pi, rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	msgs = append(msgs, msg)
	mr, res, err := NewResponder(pr, msg, rand.Reader)
	if err != nil {
		return nil, nil, msgs, err
	}
	for n := 0; n < 6 && res.Reply != nil; n++ {
		msgs = append(msgs, res.Reply)
		to := mi
		if n%2 == 1 {
			to = mr
		}
		if res, err = to.Handle(res.Reply); err != nil {
			return i, r, msgs, err
		}
		if res.Outcome != nil {
			if to == mi {
				i = res.Outcome
			} else {
				r = res.Outcome
			}
		}
	}
	return i, r, msgs, nil
}

func params(c *Config, natt, aggressive bool) (pi, pr Params) {
	cc := *c
	cc.Aggressive = true
	pi = Params{Config: &cc, Local: gmAddr, Remote: ksAddr, NATT: natt, Aggressive: aggressive, VendorIDs: [][]byte{[]byte("initiator capability")}}
	pr = Params{Config: &cc, Local: ksAddr, Remote: gmAddr, NATT: natt, VendorIDs: [][]byte{[]byte("responder capability")}}
	return pi, pr
}

func checkPair(t *testing.T, i, r *Outcome) {
	t.Helper()
	if i == nil || r == nil {
		t.Fatal("phase 1 isn't complete")
	}
	if !i.prot.km.Key.Equal(r.prot.km.Key) || !i.prot.km.A.Equal(r.prot.km.A) || !i.prot.km.D.Equal(r.prot.km.D) {
		t.Error("the sides have different keys")
	}
	if !bytes.Equal(i.prot.lastBlock, r.prot.lastBlock) || len(i.prot.lastBlock) != i.policy.Encr.Block() {
		t.Errorf("last blocks %x and %x", i.prot.lastBlock, r.prot.lastBlock)
	}
	if i.identity.Addr() != ksAddr.Addr() || r.identity.Addr() != gmAddr.Addr() {
		t.Errorf("identities %v and %v", i.identity, r.identity)
	}
	if !i.dpd || !r.dpd {
		t.Error("DPD isn't known")
	}
	if n := len(r.vendorIDs); n == 0 || string(r.vendorIDs[n-1]) != "initiator capability" {
		t.Errorf("vendor IDs %q", r.vendorIDs)
	}
}

func TestPhase1AllCombinations(t *testing.T) {
	ciphers := []Policy{{Encr: Encr3DES}, {Encr: EncrAES, KeyBits: 128}, {Encr: EncrAES, KeyBits: 192}, {Encr: EncrAES, KeyBits: 256}}
	for _, g := range allGroups {
		for _, c := range ciphers {
			for _, h := range []HashAlg{HashSHA1, HashSHA256, HashSHA384, HashSHA512} {
				for _, aggressive := range []bool{false, true} {
					c.Hash, c.Group, c.Lifetime = h, g, time.Hour
					pi, pr := params(pskConfig("s3cret", c), h != HashSHA1, aggressive)
					i, r, msgs, err := run(t, pi, pr)
					if err != nil {
						t.Fatalf("%v %v group %d aggressive %v: %v", c.Encr, h, g, aggressive, err)
					}
					checkPair(t, i, r)
					if want := map[bool]int{false: 6, true: 3}[aggressive]; len(msgs) != want {
						t.Errorf("%d messages, want %d", len(msgs), want)
					}
					if i.natt || r.natt {
						t.Error("a NAT was found where there is none")
					}
				}
			}
		}
	}
}

func TestPolicyMatching(t *testing.T) {
	p := func(prio int, e Encryption, bits int, h HashAlg, g int, life time.Duration) Policy {
		return Policy{Priority: prio, Encr: e, KeyBits: bits, Hash: h, Group: g, Lifetime: life}
	}
	pi, _ := params(pskConfig("k", p(10, EncrAES, 256, HashSHA1, 14, time.Hour), p(20, EncrAES, 128, HashSHA256, 19, 2*time.Hour)), false, false)
	_, pr := params(pskConfig("k", p(5, EncrAES, 128, HashSHA256, 19, 90*time.Minute), p(7, EncrAES, 256, HashSHA1, 14, 0)), false, false)
	i, r, _, err := run(t, pi, pr)
	if err != nil {
		t.Fatal(err)
	}
	if r.policy.Group != 19 || r.policy.Lifetime != 90*time.Minute || i.policy.Group != 19 || i.policy.Lifetime != 2*time.Hour {
		t.Errorf("responder %+v, initiator %+v", r.policy, i.policy)
	}
	_, pr = params(pskConfig("k", p(1, EncrAES, 192, HashSHA1, 14, time.Hour)), false, false)
	if _, _, _, err := run(t, pi, pr); Reason(err) != DropProposal {
		t.Errorf("no common policy: %v", err)
	}
}

// The answer mirrors the DOI and situation received and returns the transform's
// attributes octet for octet; DOI 2 with situation 0 is sent.
func TestSAPayloadForms(t *testing.T) {
	pi, pr := params(pskConfig("k"), false, false)
	_, _, msgs, err := run(t, pi, pr)
	if err != nil {
		t.Fatal(err)
	}
	_, ps, err := isakmp.ParseClear(msgs[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := ps[0].Body[:8]; !bytes.Equal(got, []byte{0, 0, 0, 2, 0, 0, 0, 0}) {
		t.Errorf("DOI and situation % x", got)
	}
	for _, doi := range []uint32{isakmp.DOIIPsec, isakmp.DOIGDOI} {
		sa, _ := isakmp.ParseSA1(ps[0].Body)
		sa.DOI, sa.Situation = doi, 1
		tr := &sa.Proposals[0].Transforms[0]
		tr.Number = 9
		for k := range tr.Attrs { // every integer as TLV of 4 octets
			if v, _ := tr.Attrs[k].Uint(); tr.Attrs[k].Basic {
				tr.Attrs[k] = isakmp.VarAttr32(tr.Attrs[k].Type, uint32(v))
			}
		}
		m, err := isakmp.AppendClear(nil, isakmp.Header{ICookie: isakmp.Cookie{1}, Exchange: isakmp.MainMode}, []isakmp.Payload{sa.Payload()})
		if err != nil {
			t.Fatal(err)
		}
		_, res, err := NewResponder(pr, m, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		_, rs, err := isakmp.ParseClear(res.Reply)
		if err != nil || !bytes.Equal(rs[0].Body, sa.Payload().Body) {
			t.Errorf("DOI %d: answer %x to %x (%v)", doi, rs[0].Body, sa.Payload().Body, err)
		}
	}
}

func TestPSKLookup(t *testing.T) {
	c := &Config{Keys: []Key{
		{Prefix: netip.MustParsePrefix("0.0.0.0/0"), PSK: []byte("any")},
		{Prefix: netip.MustParsePrefix("10.1.0.0/16"), PSK: []byte("net")},
		{Prefix: netip.MustParsePrefix("10.1.1.1/32"), PSK: []byte("host")},
		{Hostname: "gm1.example", PSK: []byte("name")},
	}}
	for _, v := range []struct {
		addr, host, want string
		wild             bool
	}{
		{"10.1.1.1", "", "host", false}, {"::ffff:10.1.1.1", "", "host", false}, {"10.1.2.1", "", "net", false},
		{"192.0.2.1", "", "any", true}, {"192.0.2.1", "gm1.example", "name", false}, {"10.1.2.1", "gm2.example", "net", false},
	} {
		id := Identity{}
		if v.host != "" {
			id = Identity{isakmp.IDFQDN, v.host}
		}
		k, wild, ok := c.psk(netip.MustParseAddr(v.addr), id)
		if !ok || string(k) != v.want || wild != v.wild {
			t.Errorf("%s %s: %q %v", v.addr, v.host, []byte(k), wild)
		}
	}
	if _, _, ok := c.psk(netip.MustParseAddr("2001:db8::1"), Identity{}); ok {
		t.Error("an IPv4 default key fits an IPv6 peer")
	}
}

func TestAggressiveIsRefusedWithAWildcardKey(t *testing.T) {
	c := pskConfig("k")
	c.Keys[0].Prefix = netip.MustParsePrefix("0.0.0.0/0")
	pi, pr := params(c, false, true)
	if _, _, _, err := run(t, pi, pr); !errors.Is(err, AggressiveRefused) {
		t.Errorf("initiator: %v", err)
	}
	spi, _ := params(pskConfig("k"), false, true)
	if _, _, _, err := run(t, spi, pr); !errors.Is(err, AggressiveRefused) || Reason(err) != DropAggressive {
		t.Errorf("responder with a wildcard key: %v", err)
	}
	_, pr = params(pskConfig("k"), false, true)
	off := *pr.Config
	off.Aggressive = false
	pr.Config = &off
	if _, _, _, err := run(t, spi, pr); Reason(err) != DropAggressive {
		t.Errorf("responder with aggressive mode off: %v", err)
	}
}

func TestWrongPSKIsReportedAsSuch(t *testing.T) {
	for _, aggressive := range []bool{false, true} {
		pi, _ := params(pskConfig("s3cret-1"), false, aggressive)
		_, pr := params(pskConfig("s3cret-2"), false, aggressive)
		i, r, msgs, err := run(t, pi, pr)
		if !errors.Is(err, AuthFailed) || i != nil || r != nil {
			t.Errorf("aggressive %v: %v", aggressive, err)
		}
		if want := map[bool]int{false: 5, true: 2}[aggressive]; len(msgs) != want {
			t.Errorf("aggressive %v: refused after %d messages, want %d", aggressive, len(msgs), want)
		}
		if bytes.Contains([]byte(fmt.Sprint(err)), []byte("s3cret")) {
			t.Errorf("the error prints the key: %v", err)
		}
	}
}

func TestNATDetection(t *testing.T) {
	for _, aggressive := range []bool{false, true} {
		pi, pr := params(pskConfig("k"), true, aggressive)
		pr.Remote = netip.MustParseAddrPort("172.16.77.1:41000") // translated
		i, r, _, err := run(t, pi, pr)
		if err != nil {
			t.Fatal(err)
		}
		if !i.natt || !i.natHere || !r.natt || r.natHere {
			t.Errorf("aggressive %v: initiator %v %v, responder %v %v", aggressive, i.natt, i.natHere, r.natt, r.natHere)
		}
	}
}

// Every bit flip and truncation of every message, given just before the genuine one,
// leaves both sides able to finish with the genuine one.
func TestPhase1SurvivesDamage(t *testing.T) {
	for _, aggressive := range []bool{false, true} {
		pi, pr := params(pskConfig("k"), true, aggressive)
		_, _, msgs, err := run(t, pi, pr)
		if err != nil {
			t.Fatal(err)
		}
		for n := range msgs {
			total := len(msgs[n]) * 8
			for bit := 0; bit < total; bit += 1 + total/400 {
				surviveOne(t, pi, pr, n, func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b })
			}
			for cut := 0; cut < len(msgs[n]); cut += 1 + len(msgs[n])/40 {
				surviveOne(t, pi, pr, n, func(b []byte) []byte { return b[:min(cut, len(b))] })
			}
		}
	}
}

func surviveOne(t *testing.T, pi, pr Params, at int, damage func([]byte) []byte) {
	t.Helper()
	mi, msg, err := NewInitiator(pi, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if at == 0 {
		if _, _, err := NewResponder(pr, damage(bytes.Clone(msg)), rand.Reader); err != nil && Reason(err) == "" {
			t.Fatal("refused without a reason")
		}
	}
	mr, res, err := NewResponder(pr, msg, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var i, r *Outcome
	for n := 1; n < 7 && res.Reply != nil; n++ {
		to, keep := mi, &i
		if n%2 == 0 {
			to, keep = mr, &r
		}
		cur := res.Reply
		if n == at {
			if dres, err := to.Handle(damage(bytes.Clone(cur))); err == nil && dres.Outcome != nil {
				*keep = dres.Outcome // damage that isn't covered by anything, as in a vendor ID
			}
		}
		if res, err = to.Handle(cur); err != nil {
			if *keep != nil {
				return
			}
			t.Fatalf("genuine message %d after damage: %v", n+1, err)
		}
		if res.Outcome != nil {
			*keep = res.Outcome
		}
		// A copy gets the same answer and moves nothing.
		if dup, err := to.Handle(cur); err != nil || !dup.Duplicate || !bytes.Equal(dup.Reply, res.Reply) {
			t.Fatalf("copy of message %d: %v", n+1, err)
		}
	}
	if i == nil || r == nil || !i.prot.km.Key.Equal(r.prot.km.Key) {
		t.Fatalf("no agreement after damage to message %d", at+1)
	}
}

func FuzzPhase1Responder(f *testing.F) {
	for _, aggressive := range []bool{false, true} {
		pi, pr := params(pskConfig("k"), true, aggressive)
		_, _, msgs, err := run(f, pi, pr)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(msgs[0], msgs[len(msgs)/2*2-1+len(msgs)%2])
		f.Add(msgs[0], msgs[1])
	}
	_, pr := params(pskConfig("k"), true, false)
	f.Fuzz(func(t *testing.T, first, second []byte) {
		m, res, err := NewResponder(pr, first, rand.Reader)
		if err != nil {
			if Reason(err) == "" {
				t.Error("refused without a reason")
			}
			return
		}
		if _, _, err := isakmp.ParseClear(res.Reply); err != nil {
			t.Errorf("our own answer: %v", err)
		}
		if r, err := m.Handle(second); err == nil && r.Outcome != nil {
			t.Error("completed without the key")
		}
	})
}

func FuzzPhase1Initiator(f *testing.F) {
	pi, pr := params(pskConfig("k"), true, false)
	_, _, msgs, err := run(f, pi, pr)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msgs[1], msgs[3])
	f.Fuzz(func(t *testing.T, second, fourth []byte) {
		m, msg, err := NewInitiator(pi, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{second, fourth} {
			if len(b) >= 8 {
				b = append(bytes.Clone(msg[:8]), b[8:]...)
			}
			if r, err := m.Handle(b); err == nil && r.Outcome != nil {
				t.Error("completed without the key")
			}
		}
	})
}

func BenchmarkPhase1(b *testing.B) {
	for _, g := range []int{14, 19} {
		b.Run(fmt.Sprint("group", g), func(b *testing.B) {
			pi, pr := params(pskConfig("k", Policy{Encr: EncrAES, KeyBits: 256, Hash: HashSHA256, Group: g}), false, false)
			for b.Loop() {
				if _, _, _, err := run(b, pi, pr); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Before message 3 a main mode responder draws its cookie and nothing else: no
// Diffie-Hellman for a peer that hasn't shown that it receives at its address.
func TestResponderDoesNoArithmeticBeforeMessage3(t *testing.T) {
	pi, pr := params(pskConfig("k"), true, false)
	mi, msg, err := NewInitiator(pi, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mr, res, err := NewResponder(pr, msg, bytes.NewReader([]byte("8 octets")))
	if err != nil {
		t.Fatal(err)
	}
	if res, err = mi.Handle(res.Reply); err != nil {
		t.Fatal(err)
	}
	before := mr.Stage()
	if _, err := mr.Handle(res.Reply); err == nil { // there are no random octets left for its exponent
		t.Error("message 3 cost no random octets")
	}
	if mr.Stage() != before {
		t.Error("an error moved the state")
	}
}

// Forged messages 3 cost a bounded number of steps, and a few don't keep the genuine
// one out.
func TestForgedMessage3(t *testing.T) {
	pi, pr := params(pskConfig("k"), false, false)
	mi, msg, err := NewInitiator(pi, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mr, res, err := NewResponder(pr, msg, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m3, err := mi.Handle(res.Reply)
	if err != nil {
		t.Fatal(err)
	}
	forge := func(n byte) []byte { // another nonce
		b := bytes.Clone(m3.Reply)
		b[len(b)-1] += n
		return b
	}
	for n := range byte(3) {
		if _, err := mr.Handle(forge(n + 1)); err != nil {
			t.Fatal(err)
		}
	}
	m4, err := mr.Handle(m3.Reply)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mr.Handle(forge(9)); err != nil { // and one behind it
		t.Fatal(err)
	}
	m5, err := mi.Handle(m4.Reply)
	if err != nil {
		t.Fatal(err)
	}
	m6, err := mr.Handle(m5.Reply)
	if err != nil || m6.Outcome == nil {
		t.Fatalf("genuine message 5: %v", err)
	}
	if fin, err := mi.Handle(m6.Reply); err != nil || fin.Outcome == nil {
		t.Fatalf("message 6: %v", err)
	}
	mr, _, err = NewResponder(pr, msg, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	steps := 0
	for n := range byte(100) {
		b := forge(n + 1)
		_, cr := mr.Cookies()
		copy(b[8:], cr[:])
		if _, err := mr.Handle(b); err == nil {
			steps++
		} else if Reason(err) != DropOverload {
			t.Fatal(err)
		}
	}
	if steps != maxSteps || len(mr.states) > maxStates {
		t.Errorf("%d steps, %d states", steps, len(mr.states))
	}
}
