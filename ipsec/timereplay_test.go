package ipsec

// Anti-replay at the window's edges, for both methods and families: packets that are
// copied, late, early, reordered, forged or without what they need, each with the
// verdict that is counted.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"getvpn/internal/clock"
)

// families are a packet of each.
func families(n int) map[string][]byte { return map[string][]byte{"IPv4": ip4(n), "IPv6": ip6(n)} }

// forge flips a bit of the last octet, which is the ICV's.
func forge(p []byte) []byte {
	p = bytes.Clone(p)
	p[len(p)-1] ^= 1
	return p
}

func TestTimeWindowEdges(t *testing.T) {
	const now, w = Stamp(1_000_000), Stamp(5000)
	for _, tr := range []Transform{{Cipher: CipherAESGCM, KeyBits: 128}, {Cipher: CipherAESCBC, KeyBits: 256, Auth: AuthSHA256}, {Cipher: CipherNull, Auth: AuthSHA1, Mode: Transport}} {
		for fam, clear := range families(100) {
			t.Run(fmt.Sprintf("%v/%s", trName(tr), fam), func(t *testing.T) {
				tek := timeTEK(tr, 1, 5, MetadataShort, false)
				tagOnly := testTEK(tr, 1) // the same keys, metadata without a stamp
				tagOnly.Metadata = Metadata{Header: MetadataLong, SGT: true}
				plain := testTEK(tr, 1)
				sender, noStamp, noMeta := mustSealer(t, mustSA(t, tek)), mustSealer(t, mustSA(t, tagOnly)), mustSealer(t, mustSA(t, plain))
				sa := mustSA(t, tek)
				o := mustOpener(t, sa)
				at := func(stamp Stamp) []byte {
					sender.Stamp = stamp
					return sealOne(t, sender, clear)
				}
				first, second := at(now), at(now)
				last := at(now - w)
				for _, c := range []struct {
					name string
					pkt  []byte
					now  Stamp
					want DropReason
				}{
					{"now", first, now, DropNone},
					{"replayed within the window", first, now, DropNone},
					{"replayed at the last moment", first, now + w, DropNone},
					{"replayed when the window is over", first, now + w + 1, DropReplayOld},
					{"replayed a minute later", first, now + 60000, DropReplayOld},
					{"replayed a year later", first, now + 365*86400*1000, DropReplayOld},
					{"reordered: behind one sent later", at(now - 1), now, DropNone},
					{"reordered: numbers out of order", second, now, DropNone},
					{"delayed to the edge", last, now, DropNone},
					{"delayed beyond the edge", last, now + 1, DropReplayOld},
					{"sender's clock ahead, at the edge", at(now + w), now, DropNone},
					{"sender's clock ahead, beyond", at(now + w + 1), now, DropReplayNew},
					{"far ahead", at(maxStamp), now, DropReplayNew},
					{"stamp 0", at(0), now, DropReplayOld},
					{"stamp 0 when the group is young", at(0), w, DropNone},
					{"young group, early", at(w + 4), 3, DropReplayNew},
					{"forged", forge(at(now)), now, DropICV},
					{"forged and old", forge(first), now + 60000, DropICV},
					{"metadata without a stamp", sealOne(t, noStamp, clear), now, DropMetadataMissing},
					{"no metadata", sealOne(t, noMeta, clear), now, DropMetadataMissing},
					{"receiver without a clock", at(now), NoStamp, DropNoPseudotime},
				} {
					before := sa.Counters()
					o.Now = c.now
					got, why := o.Open(bytes.Clone(c.pkt))
					if why != c.want || why == DropNone && !bytes.Equal(got[headerLen(IPv4):], clear[headerLen(IPv4):]) {
						t.Errorf("%s: %v, want %v", c.name, why, c.want)
					}
					after, want := sa.Counters(), before
					after.Time.MaxLate, after.Time.MaxEarly = 0, 0
					want.Time.MaxLate, want.Time.MaxEarly = 0, 0
					switch c.want {
					case DropNone:
						want.DecapPackets++
						want.DecapOctets += uint64(len(clear))
						want.Time.Accepted++
					case DropReplayOld:
						want.ReplayDrops++
						want.Time.TooOld++
					case DropReplayNew:
						want.ReplayDrops++
						want.Time.TooNew++
					case DropICV:
						want.ICVDrops++
					case DropMetadataMissing:
						want.OtherDrops++
						want.Time.Missing++
					default:
						want.OtherDrops++
					}
					if after != want {
						t.Errorf("%s: counted\n%+v, want\n%+v", c.name, after, want)
					}
				}
				c := sa.Counters()
				if c.Time.MaxLate != 5*time.Second || c.Time.MaxEarly != 5*time.Second {
					t.Errorf("largest lateness %v, earliness %v", c.Time.MaxLate, c.Time.MaxEarly)
				}
				src := netip.MustParseAddr("10.1.1.10")
				if fam == "IPv6" {
					src = netip.MustParseAddr("2001:db8:1::10")
				}
				if f := sa.LastTimeFailure(); f != (TimeFailure{src, 3 * time.Millisecond, 5004 * time.Millisecond, 5 * time.Second, c.Time.TooOld + c.Time.TooNew}) {
					t.Errorf("last failure %+v", f)
				}
				if len(sa.recv.m) != 0 {
					t.Error("time-based anti-replay keeps state for senders")
				}
			})
		}
	}
}

func TestCounterWindowEdges(t *testing.T) {
	const top, w = 5000, 64
	for _, tr := range []Transform{{Cipher: CipherAESGCM, KeyBits: 128}, {Cipher: CipherAESCBC, KeyBits: 256, Auth: AuthSHA256}} {
		for fam, clear := range families(100) {
			t.Run(fmt.Sprintf("%v/%s", trName(tr), fam), func(t *testing.T) {
				tek := testTEK(tr, 1)
				s := mustSealer(t, mustSA(t, tek))
				pkts := make([][]byte, top+200)
				for n := 1; n < len(pkts); n++ {
					pkts[n] = sealOne(t, s, clear)
				}
				sa := mustSA(t, tek)
				o := mustOpener(t, sa)
				for _, c := range []struct {
					name string
					pkt  []byte
					want DropReason
				}{
					{"first of the sender", pkts[top-100], DropNone},
					{"next by a jump", pkts[top], DropNone},
					{"replayed", pkts[top], DropReplay},
					{"reordered by one", pkts[top-1], DropNone},
					{"reordered by one, replayed", pkts[top-1], DropReplay},
					{"delayed to the edge", pkts[top-w+1], DropNone},
					{"delayed beyond the edge", pkts[top-w], DropReplay},
					{"replayed from long ago", pkts[1], DropReplay},
					{"forged, new", forge(pkts[top+1]), DropICV},
					{"genuine after the forged one", pkts[top+1], DropNone},
					{"forged copy: refused before any cipher", forge(pkts[top]), DropReplay},
					{"jump that forgets all", pkts[top+199], DropNone},
					{"left behind by the jump", pkts[top+2], DropReplay},
				} {
					before := sa.Counters()
					_, why := o.Open(bytes.Clone(c.pkt))
					after := sa.Counters()
					if why != c.want {
						t.Errorf("%s: %v, want %v", c.name, why, c.want)
					}
					if d := [3]uint64{after.DecapPackets - before.DecapPackets, after.ReplayDrops - before.ReplayDrops, after.ICVDrops - before.ICVDrops}; d !=
						map[DropReason][3]uint64{DropNone: {1, 0, 0}, DropReplay: {0, 1, 0}, DropICV: {0, 0, 1}}[c.want] {
						t.Errorf("%s: counted %v", c.name, d)
					}
				}
				if c := sa.Counters(); c.MaxLate != top-1 {
					t.Errorf("largest lateness %d, want %d", c.MaxLate, top-1)
				}
				if c := sa.Counters(); c.Time != (TimeCounters{}) {
					t.Errorf("time counted: %+v", c.Time)
				}
			})
		}
	}
}

// TestMetadataJudged gives authentic packets of a misbehaving member.
func TestMetadataJudged(t *testing.T) {
	tek := timeTEK(Transform{Cipher: CipherNull, Auth: AuthSHA256}, 6, 5, MetadataShort, true)
	sa := mustSA(t, tek)
	o := mustOpener(t, sa)
	o.Now = 1000
	in := ip4(62)
	head := func(m metadata, n int) []byte {
		b := make([]byte, n)
		m.put(b)
		return b
	}
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	ok := head(metadata{next: protoIPIP, stamp: 900, sgt: 5, tagged: true}, 12)
	set := func(p []byte, at int, v byte) []byte { p = bytes.Clone(p); p[at] = v; return p }
	for i, c := range []struct {
		name  string
		plain []byte
		want  DropReason
	}{
		{"good", cat(ok, in, []byte{0, 99}), DropNone},
		{"long form", cat(head(metadata{next: protoIPIP, stamp: 900}, 16), in, []byte{0, 99}), DropNone},
		{"version", cat(set(ok, 0, 2), in, []byte{0, 99}), DropMetadata},
		{"size", cat(set(ok, 2, 13), in, []byte{0, 99}), DropMetadata},
		{"cut off", []byte{1, 4, 12, 0xd, 0, 0, 0, 0, 1, 0, 0, 99}, DropMetadata},
		{"nothing behind it", cat(ok, []byte{1, 2, 2, 99}), DropMalformed},
		{"dummy inside", cat(set(ok, 1, protoNoNext), in, []byte{0, 99}), DropDummy},
		{"metadata inside metadata", cat(set(ok, 1, 99), ok, in, []byte{0, 99}), DropMalformed},
		{"real next header IPv6", cat(set(ok, 1, protoIPv6), in, []byte{0, 99}), DropMalformed},
		{"inner source", cat(ok, set(in, 15, 11), []byte{0, 99}), DropInnerMismatch},
		{"inner destination, and old", cat(head(metadata{next: 4, stamp: 0}, 12), set(in, 19, 11), []byte{0, 99}), DropInnerMismatch},
	} {
		if _, why := o.Open(espBody(sa, in[:20], uint32(i+1), c.plain)); why != c.want {
			t.Errorf("%s: %v, want %v", c.name, why, c.want)
		}
	}
}

// TestSealNeedsClock: without a pseudotime nothing leaves, and no number is used.
func TestSealNeedsClock(t *testing.T) {
	sa := mustSA(t, timeTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 7, 5, 0, false))
	s := mustSealer(t, sa)
	if _, _, why := s.Seal(roomFor(ip4(100)), Headroom, 100); why != DropNoPseudotime || sa.Counters().SeqHigh != 0 {
		t.Errorf("%v, last number %d", why, sa.Counters().SeqHigh)
	}
	s.Stamp = 0
	a, b := sealOne(t, s, ip4(100)), sealOne(t, s, ip4(100))
	// The sequence number counts on, although nobody looks at it.
	if binary.BigEndian.Uint32(a[24:]) != 1 || binary.BigEndian.Uint32(b[24:]) != 2 {
		t.Error("sequence numbers don't count")
	}
	if sa.Metadata().Header != MetadataShort {
		t.Errorf("header of %d octets", sa.Metadata().Header)
	}
}

// TestTicks: packets of one tick carry the same stamp, and rounding never makes a
// packet younger.
func TestTicks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tick := time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(rt, "tick"))
		p := &Pseudotime{Boot: time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(rt, "boot")),
			Value: time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(rt, "value")), Tick: tick}
		at := time.Duration(rapid.Int64Range(0, int64(3*time.Hour)).Draw(rt, "at"))
		now, stamp := p.Now(at), p.Stamp(at)
		step := max(Stamp(tick/StampUnit), 1)
		if stamp > now || now-stamp >= step || stamp%step != 0 || now < 0 {
			rt.Fatalf("%+v at %v: now %d, stamp %d", p, at, now, stamp)
		}
		if later := p.Stamp(at + StampUnit); later < stamp {
			rt.Fatalf("a stamp goes back: %d, %d", stamp, later)
		}
	})
	var none *Pseudotime
	if none.Now(5) != NoStamp || none.Stamp(5) != NoStamp {
		t.Error("a clock that isn't there tells time")
	}
}

// Test_esp_09: 1000 packets a second flow; one member's wall clock is set back a year,
// then forward two years; then its machine sleeps for 90 s. With a window of 20 s nothing is
// lost: the clock runs through the sleep. What was sent before the sleep is too old after it.
func Test_esp_09_clock_steps_and_suspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boot := [2]*clock.Fake{clock.NewFake(), clock.NewFake()}
		pseudo := &Pseudotime{Value: 1000 * time.Second, Tick: 10 * time.Millisecond}
		tek := timeTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1, 20, 0, false)
		var s [2]*Sealer
		var o [2]*Opener
		for i := range s {
			tek.SIDs = []uint32{uint32(i + 1)}
			sa := mustSA(t, tek)
			s[i], o[i] = mustSealer(t, sa), mustOpener(t, sa)
		}
		var captured []byte
		flow := func(what string, n int) {
			t.Helper()
			for range n {
				for from := range 2 {
					s[from].Stamp, o[1-from].Now = pseudo.Stamp(boot[from].Boot()), pseudo.Now(boot[1-from].Boot())
					p := sealOne(t, s[from], ip4(100))
					captured = bytes.Clone(p)
					if _, why := o[1-from].Open(p); why != DropNone {
						t.Fatalf("%s: from member %d: %v", what, from, why)
					}
				}
				time.Sleep(time.Millisecond)
			}
		}
		flow("before", 1000)
		boot[0].Step(-365 * 24 * time.Hour)
		flow("a year back", 1000)
		boot[0].Step(2 * 365 * 24 * time.Hour)
		flow("two years ahead", 1000)
		old := captured
		boot[0].Suspend(90 * time.Second)
		boot[1].Suspend(90 * time.Second) // what the other member lives through meanwhile
		flow("after the sleep", 1000)
		if _, why := o[0].Open(bytes.Clone(old)); why != DropReplayOld {
			t.Errorf("a packet from before the sleep: %v", why)
		}
		// A clock that stands still while the machine sleeps would refuse everything.
		s[1].Stamp, o[0].Now = pseudo.Stamp(boot[1].Boot()), pseudo.Now(boot[0].Boot()-90*time.Second)
		if _, why := o[0].Open(sealOne(t, s[1], ip4(100))); why != DropReplayNew {
			t.Errorf("with a clock that slept: %v", why)
		}
		for i := range o {
			if c := o[i].SA().Counters(); c.Time.MaxLate > 20*time.Millisecond || c.Time.MaxEarly != 0 {
				t.Errorf("member %d: %+v", i, c.Time)
			}
		}
	})
}

// Test_esp_03: a path that delays by 10 ms and reorders a quarter of the packets, mixed
// sizes, window 5 s: no drop. The in-memory form; what arrives late is held back by up to
// 400 packets, which a counter window of 64 can't take.
func Test_esp_03_time_window_under_reordering(t *testing.T) {
	const n, every = 20000, 50 * time.Microsecond // 20000 packets a second
	pseudo := &Pseudotime{Tick: 10 * time.Millisecond}
	for name, tek := range map[string]TEK{
		"time":    timeTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1, 5, 0, false),
		"counter": testTEK(Transform{Cipher: CipherAESGCM, KeyBits: 128}, 1),
	} {
		t.Run(name, func(t *testing.T) {
			sa := mustSA(t, tek)
			s, o := mustSealer(t, sa), mustOpener(t, sa)
			type late struct {
				at int
				p  []byte
			}
			var held []late
			var refused, top, most uint32
			open := func(p []byte, i int) {
				seq := binary.BigEndian.Uint32(p[24:])
				if top = max(top, seq); top-seq >= 64 {
					most = max(most, top-seq)
					refused++
				}
				o.Now = pseudo.Now(time.Duration(i)*every + 10*time.Millisecond)
				if _, why := o.Open(p); why != DropNone && why != DropReplay {
					t.Fatal(why)
				}
			}
			last := false
			for i := range n {
				s.Stamp = pseudo.Stamp(time.Duration(i) * every)
				p := sealOne(t, s, ip4(64+i*37%1300))
				// A quarter, correlated: half of the choices repeat the one before.
				if i*2654435761>>8&1 == 0 {
					last = i*40503>>4&3 == 0
				}
				if last {
					held = append(held, late{i + i*31%400, p})
				} else {
					open(p, i)
				}
				keep := held[:0]
				for _, h := range held {
					if h.at <= i {
						open(h.p, i)
					} else {
						keep = append(keep, h)
					}
				}
				held = keep
			}
			for _, h := range held {
				open(h.p, n)
			}
			c := sa.Counters()
			if c.DecapPackets+c.ReplayDrops != n || refused < 500 {
				t.Fatalf("%+v; %d come 64 or more behind", c, refused)
			}
			if name == "time" {
				if c.ReplayDrops != 0 || c.Time.Accepted != n || c.Time.MaxLate > 60*time.Millisecond || c.Time.MaxLate < 20*time.Millisecond {
					t.Errorf("%+v", c)
				}
				return
			}
			if c.ReplayDrops != uint64(refused) || c.MaxLate != most {
				t.Errorf("%d drops, %d late at most; on the path %d and %d", c.ReplayDrops, c.MaxLate, refused, most)
			}
			for x := range sa.Senders {
				if x.SID != 0x102 || x.Drops != uint64(refused) || x.MaxLate != most {
					t.Errorf("sender %+v", x)
				}
			}
		})
	}
}
