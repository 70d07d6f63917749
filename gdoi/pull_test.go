package gdoi

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"testing"

	"getvpn/gdoi/isakmp"
)

// fakeExchange protects messages as phase 1 does: HMAC-SHA-256, AES-128-CBC with a
// chain of IVs, a header with cookies and a message ID.
type fakeExchange struct {
	ci, cr  isakmp.Cookie
	mid     uint32
	auth    []byte
	block   cipher.Block
	iv      []byte
	pending []byte
}

func newFakes(mid uint32) (gm, ks *fakeExchange) {
	make1 := func() *fakeExchange {
		b, _ := aes.NewCipher(bytes.Repeat([]byte{9}, 16))
		iv := sha256.Sum256(binary.BigEndian.AppendUint32([]byte("iv"), mid))
		return &fakeExchange{ci: isakmp.Cookie{1}, cr: isakmp.Cookie{2}, mid: mid, auth: []byte("skeyid_a"), block: b, iv: iv[:16]}
	}
	return make1(), make1()
}

func (f *fakeExchange) Hash(parts ...[]byte) []byte {
	h := hmac.New(sha256.New, f.auth)
	h.Write(binary.BigEndian.AppendUint32(nil, f.mid))
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func (f *fakeExchange) Encrypt(ex isakmp.ExchangeType, ps []isakmp.Payload) ([]byte, error) {
	chain, err := isakmp.AppendChain(nil, ps)
	if err != nil {
		return nil, err
	}
	for len(chain)%16 != 0 {
		chain = append(chain, 0)
	}
	h := isakmp.Header{ICookie: f.ci, RCookie: f.cr, NextPayload: isakmp.FirstType(ps), Version: isakmp.Version10, Exchange: ex, Flags: isakmp.FlagEncrypted, MessageID: f.mid, Length: uint32(28 + len(chain))}
	cipher.NewCBCEncrypter(f.block, f.iv).CryptBlocks(chain, chain)
	f.iv, f.pending = bytes.Clone(chain[len(chain)-16:]), nil
	return append(h.AppendTo(nil), chain...), nil
}

func (f *fakeExchange) Decrypt(d []byte) ([]isakmp.Payload, []byte, error) {
	h, err := isakmp.ParseHeader(d)
	if err != nil {
		return nil, nil, err
	}
	body := bytes.Clone(d[28:])
	if h.ICookie != f.ci || h.RCookie != f.cr || h.MessageID != f.mid || len(body)%16 != 0 || len(body) == 0 {
		return nil, nil, errors.New("not ours")
	}
	cipher.NewCBCDecrypter(f.block, f.iv).CryptBlocks(body, body)
	f.pending = bytes.Clone(d[len(d)-16:])
	ps, rest, err := isakmp.ParseChain(h.NextPayload, body)
	if err != nil {
		return nil, nil, err
	}
	if rest >= 16 {
		return nil, nil, errors.New("more than padding")
	}
	return ps, isakmp.RawAfterFirst(ps, body), nil
}

func (f *fakeExchange) Accept() { f.iv = f.pending }

// pullRun is one exchange, step by step. at(n) is called with message n before the
// receiver gets it.
type pullRun struct {
	gm  *PullInitiator
	ks  *PullResponder
	req Request
	d   [5][]byte // messages 1 to 4
}

func startPull(t testing.TB, mid uint32, opts PullOptions) *pullRun {
	t.Helper()
	return startPullWith(t, mid, opts, rand.Reader)
}

func startPullWith(t testing.TB, mid uint32, opts PullOptions, rand io.Reader) *pullRun {
	t.Helper()
	xg, xk := newFakes(mid)
	gm, d, err := NewPullInitiator(xg, GroupNumber(1234), rand, opts)
	if err != nil {
		t.Fatal(err)
	}
	r := &pullRun{gm: gm, ks: NewPullResponder(xk, rand, opts), req: Request{SIDs: 2, Capability: ptr(OurCapability())}}
	r.d[1] = d
	return r
}

// run goes to the end; spoil, if not nil, sees every message and the function that
// would receive it, before that happens.
func (r *pullRun) run(t testing.TB, sa *SA, kd *KD, seq uint32, spoil func(n int, d []byte, receive func([]byte) error)) *Download {
	t.Helper()
	pass := func(n int, receive func([]byte) error) {
		t.Helper()
		if spoil != nil {
			spoil(n, r.d[n], receive)
		}
		if err := receive(r.d[n]); err != nil {
			t.Fatalf("genuine message %d: %v", n, err)
		}
	}
	var err error
	var group isakmp.ID
	pass(1, func(d []byte) (err error) { group, err = r.ks.HandleFirst(d); return })
	if GroupKey(group) != GroupKey(GroupNumber(1234)) {
		t.Fatalf("group %+v", group)
	}
	if r.d[2], err = r.ks.Answer(sa); err != nil {
		t.Fatal(err)
	}
	var offer *SA
	pass(2, func(d []byte) error {
		s, err := r.gm.Handle(d)
		if err == nil {
			offer = s.Offer
		}
		return err
	})
	if !reflect.DeepEqual(offer, sa) {
		t.Fatalf("offer %+v", offer)
	}
	if r.d[3], err = r.gm.Accept(r.req); err != nil {
		t.Fatal(err)
	}
	var gap *GAP
	pass(3, func(d []byte) (err error) { gap, err = r.ks.HandleThird(d); return })
	if r.req.SIDs > 1 && (gap == nil || gap.SIDRequest != r.req.SIDs) {
		t.Fatalf("request %+v", gap)
	}
	if r.d[4], err = r.ks.Finish(seq, kd); err != nil {
		t.Fatal(err)
	}
	var out *Download
	pass(4, func(d []byte) error {
		s, err := r.gm.Handle(d)
		if err == nil {
			out = s.Download
		}
		return err
	})
	return out
}

func TestPull(t *testing.T) {
	sa, kd := sample()
	out := startPull(t, 7, PullOptions{}).run(t, sa, kd, 42, nil)
	if !reflect.DeepEqual(out.SA, sa) || !reflect.DeepEqual(out.KD, kd) || out.Seq != 42 || !out.HasSeq {
		t.Errorf("%+v", out)
	}
	sa.SAK, kd.KEK = nil, nil
	sa.StripPrivate()
	r := startPull(t, 8, PullOptions{RFCOnly: true})
	r.req = Request{Capability: ptr(OurCapability())}
	if out := r.run(t, sa, kd, 42, nil); out.HasSeq || out.SA.SAK != nil {
		t.Errorf("%+v", out)
	}
}

// The octets that HASH(n) covers, written again from RFC 6407 §3.2.
func TestPullHashes(t *testing.T) {
	sa, kd := sample()
	r := startPull(t, 7, PullOptions{})
	r.run(t, sa, kd, 1, nil)
	x, _ := newFakes(7)
	open := func(n int) []isakmp.Payload {
		ps, _, err := x.Decrypt(r.d[n])
		if err != nil {
			t.Fatal(err)
		}
		x.Accept()
		return ps
	}
	whole := func(ps []isakmp.Payload) []byte { b, _ := isakmp.AppendChain(nil, ps); return b }
	m1, m2, m3, m4 := open(1), open(2), open(3), open(4)
	ni, nr := m1[1].Body, m2[1].Body
	for n, c := range [][2][]byte{
		{m1[0].Body, x.Hash(whole(m1[1:]))},
		{m2[0].Body, x.Hash(ni, whole(m2[1:]))},
		{m3[0].Body, x.Hash(ni, nr, whole(m3[1:]))},
		{m4[0].Body, x.Hash(ni, nr, whole(m4[1:]))},
	} {
		if !bytes.Equal(c[0], c[1]) {
			t.Errorf("HASH(%d)", n+1)
		}
	}
	if len(ni) != 32 || len(nr) != 32 || bytes.Equal(ni, nr) {
		t.Errorf("nonces % x % x", ni, nr)
	}
}

// Every single flipped bit and every truncation of every message is refused with a
// reason, moves nothing, and the genuine message still works.
func TestPullDamagedMessages(t *testing.T) {
	sa, kd := sample()
	reasons := map[string]int{}
	r := startPull(t, 7, PullOptions{})
	r.run(t, sa, kd, 1, func(n int, d []byte, receive func([]byte) error) {
		refused := func(what string, bad []byte) {
			err := receive(bad)
			switch {
			case err == nil:
				t.Fatalf("message %d: %s accepted", n, what)
			case IsFatal(err):
				t.Fatalf("message %d: %s is fatal: %v", n, what, err)
			case ReasonOf(err) == "internal":
				t.Fatalf("message %d: %s: %v has no reason", n, what, err)
			}
			reasons[ReasonOf(err)]++
		}
		for i := range len(d) * 8 {
			bad := bytes.Clone(d)
			bad[i/8] ^= 0x80 >> (i % 8)
			refused("flipped bit", bad)
		}
		for l := range d {
			refused("prefix", d[:l])
			if l > isakmp.HeaderLen {
				bad := bytes.Clone(d[:l])
				binary.BigEndian.PutUint32(bad[24:], uint32(l))
				refused("prefix with a length to match", bad)
			}
		}
		refused("appended octets", append(bytes.Clone(d), 0))
		block := append(bytes.Clone(d), d[len(d)-16:]...)
		binary.BigEndian.PutUint32(block[24:], uint32(len(block)))
		refused("appended block", block)
	})
	if reasons["bad-hash"] == 0 || reasons["decrypt-failed"] == 0 || reasons["short-datagram"] == 0 {
		t.Errorf("reasons %v", reasons)
	}
}

// Copies: of the last accepted message, to be answered again; of older ones; and of
// whole exchanges.
func TestPullReplays(t *testing.T) {
	sa, kd := sample()
	r := startPull(t, 7, PullOptions{})
	r.run(t, sa, kd, 1, func(n int, d []byte, receive func([]byte) error) {
		for old := 1; old < n; old++ {
			want := map[[2]int]Reason{{2, 1}: DecryptFailed, {3, 1}: Duplicate, {3, 2}: DecryptFailed, {4, 1}: DecryptFailed, {4, 2}: Duplicate, {4, 3}: DecryptFailed}[[2]int{n, old}]
			err := receive(r.d[old])
			// A party's own message, sent back, is decrypted with another IV: what
			// comes out is wrong in one way or another.
			if got := reasonOf(err); got != want && (want != DecryptFailed || err == nil || IsFatal(err)) {
				t.Errorf("message %d in place of %d: %v, want %v", old, n, err, want)
			}
		}
	})
	if _, err := r.ks.HandleFirst(r.d[1]); reasonOf(err) != Replayed {
		t.Errorf("message 1 after 3: %v", err)
	}
	if _, err := r.ks.HandleThird(r.d[3]); reasonOf(err) != Duplicate || !bytes.Equal(r.ks.Reply(), r.d[4]) {
		t.Errorf("message 3 again: %v", err)
	}
	if _, err := r.gm.Handle(r.d[4]); reasonOf(err) != Duplicate {
		t.Errorf("message 4 again: %v", err)
	}
	if _, err := r.gm.Handle(r.d[2]); reasonOf(err) != Replayed {
		t.Errorf("message 2 after 4: %v", err)
	}
	if !r.gm.Over() || !r.ks.Over() {
		t.Error("not over")
	}
	fresh := startPull(t, 7, PullOptions{})
	if _, err := r.gm.Handle(fresh.d[1]); reasonOf(err) != Finished {
		t.Errorf("news after the end: %v", err)
	}

	// The recorded exchange against a key server that would even take the M-ID again:
	// message 1 is taken, message 3 fails on the fresh nonce.
	_, xk := newFakes(7)
	ks := NewPullResponder(xk, rand.Reader, PullOptions{})
	if _, err := ks.HandleFirst(r.d[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := ks.Answer(sa); err != nil {
		t.Fatal(err)
	}
	if _, err := ks.HandleThird(r.d[3]); err == nil || IsFatal(err) {
		t.Errorf("recorded message 3: %v", err)
	}
	xk.iv = bytes.Clone(r.d[2][len(r.d[2])-16:]) // even with the recorded IV
	if _, err := ks.HandleThird(r.d[3]); reasonOf(err) != BadHash {
		t.Errorf("recorded message 3 with its IV: %v", err)
	}
	// The recorded answer against a new member.
	next := startPull(t, 7, PullOptions{})
	next.gm.x.(*fakeExchange).iv = bytes.Clone(r.d[1][len(r.d[1])-16:])
	if _, err := next.gm.Handle(r.d[2]); reasonOf(err) != BadHash {
		t.Errorf("recorded message 2: %v", err)
	}
}

// Calls in the wrong order move nothing.
func TestPullOrder(t *testing.T) {
	sa, kd := sample()
	r := startPull(t, 7, PullOptions{})
	if _, err := r.ks.Answer(sa); reasonOf(err) != OutOfState {
		t.Error(err)
	}
	if _, err := r.ks.HandleThird(r.d[1]); reasonOf(err) != OutOfState {
		t.Error(err)
	}
	if _, err := r.ks.Finish(0, kd); reasonOf(err) != OutOfState {
		t.Error(err)
	}
	if _, err := r.gm.Accept(Request{}); reasonOf(err) != OutOfState {
		t.Error(err)
	}
	if _, err := r.gm.Finish(r.d[1]); reasonOf(err) != OutOfState {
		t.Error(err)
	}
	r.run(t, sa, kd, 1, nil)
}

// A key server refuses to send what doesn't fit together, and can try again.
func TestPullServerChecksItself(t *testing.T) {
	sa, kd := sample()
	r := startPull(t, 7, PullOptions{RFCOnly: true})
	if _, err := r.ks.HandleFirst(r.d[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ks.Answer(sa); reasonOf(err) != InconsistentSA {
		t.Errorf("private attributes: %v", err)
	}
	sa.StripPrivate()
	d, err := r.ks.Answer(sa)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.gm.Offer(d); err != nil {
		t.Fatal(err)
	}
	d, err = r.gm.Accept(Request{})
	if err != nil {
		t.Fatal(err)
	}
	if gap, err := r.ks.HandleThird(d); err != nil || gap != nil {
		t.Fatal(gap, err)
	}
	if _, err := r.ks.Finish(1, &KD{}); reasonOf(err) != SPIWithoutKey {
		t.Error(err)
	}
	if d, err = r.ks.Finish(1, kd); err != nil {
		t.Fatal(err)
	}
	if _, err := r.gm.Finish(d); err != nil {
		t.Fatal(err)
	}
}

// evil is a key server that authenticates and sends what it likes.
func evil(t *testing.T, second func(nr isakmp.Payload) []isakmp.Payload, fourth []isakmp.Payload) error {
	t.Helper()
	r := startPull(t, 7, PullOptions{})
	if _, err := r.ks.HandleFirst(r.d[1]); err != nil {
		t.Fatal(err)
	}
	r.ks.nr = bytes.Repeat([]byte{5}, 16)
	d, err := r.ks.seal(second(isakmp.NoncePayload(r.ks.nr)), r.ks.ni)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.gm.Handle(d); err != nil {
		if _, again := r.gm.Handle(r.d[1]); IsFatal(err) && reasonOf(again) != Finished {
			t.Errorf("after a fatal error: %v", again)
		}
		return err
	}
	d, err = r.gm.Accept(Request{})
	if err != nil {
		t.Fatal(err)
	}
	r.ks.state = wantThird
	if _, err := r.ks.HandleThird(d); err != nil {
		t.Fatal(err)
	}
	if d, err = r.ks.seal(fourth, r.ks.ni, r.ks.nr); err != nil {
		t.Fatal(err)
	}
	_, err = r.gm.Handle(d)
	return err
}

func TestPullAuthenticButUnacceptable(t *testing.T) {
	sa, kd := sample()
	good, _ := sa.Payload(Dialect{})
	with := func(p isakmp.Payload) func(isakmp.Payload) []isakmp.Payload {
		return func(nr isakmp.Payload) []isakmp.Payload { return []isakmp.Payload{nr, p} }
	}
	overrun := append(bytes.Clone((&SAT{Protocol: ProtoESP, Src: subnet("10.0.0.0/8"), Dst: subnet("10.0.0.0/8"), Transform: ESPAESCBC, SPI: 999}).body(Dialect{})), 0, 5, 0xff, 0xff)
	wire01 := []byte{0, 0, 0, 2, 0, 0, 0, 0, 0, 16, 0, 0}
	wire01, _ = isakmp.AppendChain(wire01, []isakmp.Payload{{Type: isakmp.PayloadSAT, Body: overrun}})
	short := *kd
	short.TEKs = kd.TEKs[:1]
	cases := []struct {
		name   string
		second func(isakmp.Payload) []isakmp.Payload
		fourth []isakmp.Payload
		fatal  bool
		want   string
	}{
		{"attribute overrun", with(isakmp.Payload{Type: isakmp.PayloadSA, Body: wire01}), nil, true, "attribute-overrun"},
		{"nonce of 7", func(isakmp.Payload) []isakmp.Payload {
			return []isakmp.Payload{isakmp.NoncePayload(make([]byte, 7)), good}
		}, nil, true, "bad-nonce-length"},
		{"nonce of 129", func(isakmp.Payload) []isakmp.Payload {
			return []isakmp.Payload{isakmp.NoncePayload(make([]byte, 129)), good}
		}, nil, true, "bad-nonce-length"},
		{"no SA", func(nr isakmp.Payload) []isakmp.Payload { return []isakmp.Payload{nr} }, nil, false, "payload-missing"},
		{"no SEQ", with(good), []isakmp.Payload{kd.Payload()}, true, "seq-missing"},
		{"short SEQ", with(good), []isakmp.Payload{{Type: isakmp.PayloadSEQ, Body: []byte{1}}, kd.Payload()}, true, "short-body"},
		{"key missing", with(good), []isakmp.Payload{SEQPayload(1), short.Payload()}, true, "spi-without-key"},
		{"no KD", with(good), []isakmp.Payload{SEQPayload(1)}, false, "payload-missing"},
		{"good", with(good), []isakmp.Payload{SEQPayload(1), kd.Payload()}, false, ""},
	}
	for _, c := range cases {
		err := evil(t, c.second, c.fourth)
		if ReasonOf(err) != c.want || IsFatal(err) != c.fatal {
			t.Errorf("%s: %v (fatal %v), want %s", c.name, err, IsFatal(err), c.want)
		}
	}
}

func TestPullGroupIdentity(t *testing.T) {
	for name, id := range map[string]isakmp.ID{
		"protocol": {Type: isakmp.IDKeyID, Protocol: 17, Data: []byte{0, 0, 0, 1}},
		"port":     {Type: isakmp.IDKeyID, Port: 848, Data: []byte{0, 0, 0, 1}},
		"empty":    {Type: isakmp.IDKeyID},
	} {
		xg, xk := newFakes(3)
		_, d, err := NewPullInitiator(xg, id, rand.Reader, PullOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewPullResponder(xk, rand.Reader, PullOptions{}).HandleFirst(d); !IsFatal(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPullWithoutRandomness(t *testing.T) {
	xg, _ := newFakes(3)
	if _, _, err := NewPullInitiator(xg, GroupNumber(1), bytes.NewReader(make([]byte, 31)), PullOptions{}); err == nil {
		t.Error("a nonce from 31 octets")
	}
}
