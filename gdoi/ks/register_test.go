package ks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/ike"
	"getvpn/gdoi/isakmp"
	"getvpn/gdoi/policy"
	"getvpn/ipsec"
	"getvpn/model"
	"getvpn/model/event"
)

// wire is an exchange without secrecy: HASHes are real, nothing is encrypted.
type wire struct {
	mid    uint32
	peer   ike.Peer
	sent   chan []byte
	notes  chan isakmp.NotifyType
	closed atomic.Bool
	gone   atomic.Bool // abandoned
}

var ourVID = [][]byte{gdoi.OurCapability().VendorID()}

func newWire(mid uint32, a netip.Addr, vid [][]byte) *wire {
	return &wire{mid: mid, sent: make(chan []byte, 8), notes: make(chan isakmp.NotifyType, 8),
		peer: ike.Peer{Remote: netip.AddrPortFrom(a, 848), VendorIDs: vid, Identity: ike.AddrIdentity(a)}}
}

func (w *wire) Hash(parts ...[]byte) []byte {
	h := hmac.New(sha256.New, []byte("skeyid_a"))
	h.Write(binary.BigEndian.AppendUint32(nil, w.mid))
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func (w *wire) Encrypt(ex isakmp.ExchangeType, ps []isakmp.Payload) ([]byte, error) {
	chain, err := isakmp.AppendChain(nil, ps)
	if err != nil {
		return nil, err
	}
	h := isakmp.Header{ICookie: isakmp.Cookie{1}, RCookie: isakmp.Cookie{2}, NextPayload: isakmp.FirstType(ps), Version: isakmp.Version10,
		Exchange: ex, Flags: isakmp.FlagEncrypted, MessageID: w.mid, Length: uint32(28 + len(chain))}
	return append(h.AppendTo(nil), chain...), nil
}

func (w *wire) Decrypt(d []byte) ([]isakmp.Payload, []byte, error) {
	h, err := isakmp.ParseHeader(d)
	if err != nil {
		return nil, nil, err
	}
	body := bytes.Clone(d[28:])
	ps, _, err := isakmp.ParseChain(h.NextPayload, body)
	if err != nil {
		return nil, nil, err
	}
	return ps, isakmp.RawAfterFirst(ps, body), nil
}

func (w *wire) Accept()                          {}
func (w *wire) Peer() ike.Peer                   { return w.peer }
func (w *wire) Send(d []byte) error              { w.sent <- bytes.Clone(d); return nil }
func (w *wire) Close()                           { w.closed.Store(true) }
func (w *wire) Abandon()                         { w.gone.Store(true) }
func (w *wire) Notify(t isakmp.NotifyType) error { w.notes <- t; return nil }

type bench struct {
	s     *Server
	g     *Group
	disk  *memFiles
	store *model.Store
	full  atomic.Bool
	mid   uint32
	natt  bool // members come through a NAT
}

func newBench(t testing.TB, bits int) *bench {
	t.Helper()
	b := &bench{store: model.NewStore(model.Snapshot{})}
	b.disk = &memFiles{crash: func(string) error {
		if b.full.Load() {
			return errors.New("disk full")
		}
		return nil
	}}
	b.s = NewServer(Options{Store: b.store, Events: event.NewBus(), Rand: rand.Reader, Files: b.disk, Dir: "d", Machine: "m"})
	g, err := b.s.Add(&Setup{
		Group:   config.Group{Name: "g", HasNumber: true, Number: 1, Local: &config.LocalServer{Address: netip.MustParseAddr("192.0.2.1")}},
		SIDBits: bits,
		Entries: []SetupEntry{{Seq: 1, Transform: gcm128, Lifetime: time.Hour, ACEs: permit(3), Replay: ipsec.Replay{}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.g = g
	ctx, cancel := context.WithCancel(context.Background())
	go g.Run(ctx)
	t.Cleanup(func() { cancel(); <-g.done })
	return b
}

// upToThree runs a registration to message 3 and returns it unsent.
func (b *bench) upToThree(t testing.TB, a netip.Addr, vid [][]byte, r gdoi.Request) (*wire, *gdoi.PullInitiator, []byte) {
	t.Helper()
	b.mid++
	w := newWire(b.mid, a, vid)
	w.peer.NATT = b.natt
	m, d, err := gdoi.NewPullInitiator(w, policy.GroupID(model.GroupID{Number: 1}), rand.Reader, gdoi.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.s.handle(w, d)
	if _, err := m.Offer(<-w.sent); err != nil {
		t.Fatal(err)
	}
	three, err := m.Accept(r)
	if err != nil {
		t.Fatal(err)
	}
	return w, m, three
}

func (b *bench) register(t testing.TB, a netip.Addr, r gdoi.Request) *gdoi.Download {
	t.Helper()
	w, m, three := b.upToThree(t, a, ourVID, r)
	b.s.handle(w, three)
	d, err := m.Finish(<-w.sent)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func ours() gdoi.Request {
	c := gdoi.OurCapability()
	return gdoi.Request{Capability: &c}
}

// settle waits until the actor has handled all that was posted.
func (b *bench) settle() model.KSGroup {
	for empty := false; !empty; {
		b.g.do(func() { empty = len(b.g.box) == 0 })
	}
	return b.store.Load().KeyServers[0]
}

var gm1 = netip.MustParseAddr("198.51.100.1")

func TestNoSenderIDWithoutADisk(t *testing.T) {
	b := newBench(t, 24)
	b.register(t, gm1, ours())
	w, _, three := b.upToThree(t, gm1, ourVID, ours())
	b.full.Store(true)
	b.g.do(func() { b.g.ledger.upTo = b.g.ledger.next }) // the block is used up
	b.s.handle(w, three)
	g := b.settle()
	if g.Rejected["sender-id-ledger"] != 1 || len(w.sent) != 0 || g.Members.At(0).Registrations != 1 || !w.closed.Load() {
		t.Errorf("%+v", g)
	}
	b.full.Store(false)
	b.register(t, gm1, ours())
}

// Keys that were offered before a clean slate are never delivered after it.
func TestStaleOffer(t *testing.T) {
	b := newBench(t, 24)
	b.register(t, gm1, ours())
	w, _, three := b.upToThree(t, gm1, ourVID, ours())
	b.g.do(func() { b.g.reinit(time.Now()) })
	b.s.handle(w, three)
	if g := b.settle(); g.Rejected["stale-offer"] != 1 || len(w.sent) != 0 || g.SIDsUsed != 0 {
		t.Errorf("%+v", g)
	}
}

// Somebody between the two took our vendor ID's word away, or added one.
func TestCapabilityMustBeRepeated(t *testing.T) {
	b := newBench(t, 24)
	w, _, three := b.upToThree(t, gm1, ourVID, gdoi.Request{})
	b.s.handle(w, three)
	if g := b.settle(); g.Rejected["capability-mismatch"] != 1 || len(w.sent) != 0 || g.Members.Len() != 0 {
		t.Errorf("%+v", g.Rejected)
	}
	b.mid++
	w = newWire(b.mid, gm1, nil)
	_, d, _ := gdoi.NewPullInitiator(w, policy.GroupID(model.GroupID{Number: 1}), rand.Reader, gdoi.PullOptions{})
	b.s.handle(w, d)
	if g := b.settle(); g.Rejected["capability-missing"] != 1 || len(w.sent) != 0 || <-w.notes != isakmp.NotifyNoProposalChosen {
		t.Errorf("%+v", g.Rejected)
	}
}

func TestSenderIDRequestsAreBounded(t *testing.T) {
	b := newBench(t, 12)
	seen := map[uint32]bool{}
	for _, n := range []uint16{0, 1, 5, 65535} {
		r := ours()
		r.SIDs = n
		got := b.register(t, gm1, r).KD.SIDs
		if want := min(max(1, int(n)), 64); len(got.Values) != want || got.Bits != 12 {
			t.Errorf("asked for %d, got %d of %d bits", n, len(got.Values), got.Bits)
		}
		for _, s := range got.Values {
			if seen[s] {
				t.Fatalf("Sender ID %d twice", s)
			}
			seen[s] = true
		}
	}
}

func TestMembersAreSortedAndUpdated(t *testing.T) {
	b := newBench(t, 24)
	for _, i := range []byte{7, 3, 9, 3} {
		b.register(t, netip.AddrFrom4([4]byte{198, 51, 100, i}), ours())
	}
	var got []byte
	g := b.settle()
	for m := range g.Members.All() {
		got = append(got, m.Addr.As4()[3])
	}
	if !slices.Equal(got, []byte{3, 7, 9}) || g.Members.At(0).Registrations != 2 || g.Counters.PullsCompleted != 4 {
		t.Errorf("%v, %+v", got, g)
	}
	old := g
	b.g.ClearMembers(true)
	if b.settle().Members.Len() != 0 || old.Members.Len() != 3 {
		t.Error("a snapshot changed, or nothing was cleared")
	}
}

// Registrations in a group of 10,000 members that come in crowds of 200, the key
// server's part without phase 1 and ciphers.
func BenchmarkRegistration(b *testing.B) {
	x := newBench(b, 24)
	const crowd = 200
	b.ReportAllocs()
	for i := 0; i < b.N; i += crowd {
		var ws []*wire
		var ms []*gdoi.PullInitiator
		var threes [][]byte
		for j := range crowd {
			k := (i + j) % 10000
			w, m, three := x.upToThree(b, netip.AddrFrom4([4]byte{10, 0, byte(k >> 8), byte(k)}), ourVID, ours())
			ws, ms, threes = append(ws, w), append(ms, m), append(threes, three)
		}
		for j := range crowd {
			x.s.handle(ws[j], threes[j])
		}
		for j := range crowd {
			if _, err := ms[j].Finish(<-ws[j].sent); err != nil {
				b.Fatal(err)
			}
		}
	}
}
