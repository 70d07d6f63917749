package coop

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// sample is a message of each kind.
func sample() [][]byte {
	a, b := netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("fd00::2")
	id := KeysID{a, 7 << 16, 3}
	num := number{SPI{1}, 9, 8, []netip.Addr{a, b}, Lease{}, false}
	bodies := map[kind]func(*cryptobyte.Builder){
		kindAnn: (&announcement{role: Primary, priority: 100, software: [3]uint8{1, 2, 3}, primary: a, running: true, pseudotime: 12345, signing: [32]byte{9},
			items: []Item{{"ACL", [16]byte{1}}, {"TBAR", [16]byte{2}}}, sids: []SIDRange{{0, 255}}, held: id, ancestors: []KeysID{{b, 1, 1}}, numbers: []number{num},
			tables:  []progress{{tableID{a, 5}, 17, []span{{20, 30}}}},
			missing: fragments{id, []uint16{0, 2}}, registered: 12}).encode,
		kindKeys:  (&keysPart{id: id, ancestors: []KeysID{{b, 1, 1}}, keks: []SPI{{1}}, numbers: []number{num}, length: 700, index: 1, size: 400, octets: make([]byte, 300)}).encode,
		kindRows:  (&rowsPart{table: tableID{a, 5}, span: span{3, 9}, top: 12, rows: []row{{4, Member{b, 99, false, []byte("x")}}, {9, Member{a, 98, true, nil}}}}).encode,
		kindRelay: (&relay{[]byte("datagram"), []netip.Addr{a, b}}).encode,
		kindAcks:  (&acks{SPI{1}, 9, []netip.Addr{a, b}}).encode,
	}
	var out [][]byte
	for k := kindAnn; k <= kindAcks; k++ {
		out = append(out, newMessage(header{minor: Minor, kind: k, flags: wantAnswer, group: []byte("G"), incarnation: 42, seq: 1}, bodies[k]))
	}
	return out
}

func newMessage(h header, body func(*cryptobyte.Builder)) []byte {
	b := cryptobyte.NewBuilder(nil)
	h.encode(b)
	body(b)
	return b.BytesOrPanic()
}

// reencode decodes a message and encodes it again.
func reencode(data []byte) ([]byte, error) {
	h, body, err := decodeHeader(data)
	if err != nil {
		return nil, err
	}
	w := cryptobyte.NewBuilder(nil)
	h.encode(w)
	switch h.kind {
	case kindAnn:
		a, err := decodeAnnouncement(body)
		if err != nil {
			return nil, err
		}
		a.encode(w)
	case kindKeys:
		k, err := decodeKeysPart(body)
		if err != nil {
			return nil, err
		}
		k.encode(w)
	case kindRows:
		r, err := decodeRowsPart(body)
		if err != nil {
			return nil, err
		}
		r.encode(w)
	case kindRelay:
		r, err := decodeRelay(body)
		if err != nil {
			return nil, err
		}
		r.encode(w)
	case kindAcks:
		a, err := decodeAcks(body)
		if err != nil {
			return nil, err
		}
		a.encode(w)
	}
	return w.Bytes()
}

func TestRoundTrip(t *testing.T) {
	for i, d := range sample() {
		got, err := reencode(d)
		if err != nil || !reflect.DeepEqual(got, d) {
			t.Errorf("kind %d: %v\n%x\n%x", i+1, err, d, got)
		}
		for n := range d {
			if _, err := reencode(d[:n]); err == nil && !boundary(d, n) {
				t.Errorf("kind %d: %d of %d octets parse", i+1, n, len(d))
			}
		}
	}
}

// boundary reports whether an announcement may be cut after n octets: between sections.
func boundary(d []byte, n int) bool {
	h, body, err := decodeHeader(d)
	if err != nil || h.kind != kindAnn {
		return false
	}
	at := len(d) - len(body)
	for at < n {
		at += 3 + int(d[at+1])<<8 + int(d[at+2])
	}
	return at == n
}

// FuzzReceive: no message makes a machine panic, grow without bound or send for ever,
// and a refused one leaves its view as it was but for counters.
func FuzzReceive(f *testing.F) {
	for _, d := range sample() {
		f.Add(d, uint8(0))
		f.Add(d, uint8(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, role uint8) {
		now := time.Unix(1e9, 0)
		peer := netip.MustParseAddr("172.16.0.1")
		m, _, err := New(Config{Group: []byte("G"), Self: netip.MustParseAddr("172.16.0.9"), Priority: 1, Peers: []netip.Addr{peer}, Skew: 10 * time.Second}, noise{rand.New(rand.NewPCG(1, 1))}, now)
		if err != nil {
			t.Fatal(err)
		}
		m.Session(peer, 1, true, now)
		if role&1 == 1 {
			now = now.Add(time.Minute)
			m.Tick(now)
		}
		was := m.View()
		_, err = m.Receive(peer, 1, data, now)
		if err != nil {
			got := m.View()
			for _, v := range []*View{&was, &got} {
				v.Sequence = 0
				for i := range v.Peers {
					v.Peers[i].Counters, v.Peers[i].Sequence = PeerCounters{}, 0
				}
			}
			if e := err.(*Error); e.Reason != Replayed && !reflect.DeepEqual(was, got) {
				t.Errorf("%v changed %+v to %+v", err, was, got)
			}
		}
		for range 100 {
			w := m.Wake()
			if w.IsZero() || !w.After(now) {
				t.Fatalf("wakes at %v, it is %v", w, now)
			}
			now = w
			m.Tick(now)
		}
		if again, err := reencode(data); err == nil {
			twice, err := reencode(again)
			if err != nil || !reflect.DeepEqual(again, twice) {
				t.Errorf("%v: %x, %x", err, again, twice)
			}
		}
	})
}

// FuzzConversation: messages of a configured peer in any order, each of a kind, flags, a
// pause and a body, to a machine that has keys, members and a role: nothing panics, what is
// held stays bounded, and no number comes twice.
func FuzzConversation(f *testing.F) {
	one := func(k kind, fl flag, pause byte, body []byte) []byte {
		return append([]byte{byte(k), byte(fl), pause, byte(len(body) >> 8), byte(len(body))}, body...)
	}
	var all []byte
	for i, d := range sample() {
		_, body, err := decodeHeader(d)
		if err != nil {
			f.Fatal(err)
		}
		for p := range byte(3) {
			f.Add(one(kind(i+1), wantAnswer<<p, p*40, body))
		}
		all = append(all, one(kind(i+1), 0, byte(i), body)...)
	}
	f.Add(append(all, all...))
	f.Fuzz(func(t *testing.T, data []byte) {
		x := newInsider(t, 700)
		x.note(x.m.PutMembers([]Member{member(1, 1), member(2, 1)}, x.now))
		used := uint32(0)
		for range 50 {
			if len(data) < 5 {
				break
			}
			n := min(int(data[3])<<8|int(data[4]), len(data)-5)
			body := data[5 : 5+n]
			_ = x.say(kind(data[0]), flag(data[1]), func(b *cryptobyte.Builder) { b.AddBytes(body) })
			x.later(time.Duration(data[2]) * 100 * time.Millisecond)
			data = data[5+n:]
			if l := x.m.Lease(SPI{1}); l.Left() > 0 {
				if l.From <= used {
					t.Fatalf("lease %+v, %d was used", l, used)
				}
				used = l.From
				x.note(x.m.Used(SPI{1}, used, x.now))
			}
		}
		x.later(2 * time.Minute)
		rows := 0
		for _, tab := range x.m.tables {
			rows += len(tab.rows)
		}
		if rows > maxRows || len(x.m.tables) > maxTables || len(x.m.ancestors) > maxAncestors || len(x.m.View().Peers) != 1 {
			t.Errorf("%d rows in %d tables, %d ancestors", rows, len(x.m.tables), len(x.m.ancestors))
		}
		x.m.Numbers()
	})
}
