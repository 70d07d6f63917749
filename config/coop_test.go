package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func genRedundancy(t *rapid.T) *Redundancy {
	if !rapid.Bool().Draw(t, "redundancy") {
		return nil
	}
	r := newRedundancy()
	r.Priority = rapid.IntRange(1, 255).Draw(t, "priority")
	for i := range rapid.IntRange(0, MaxPeers+1).Draw(t, "peers") {
		r.Peers = append(r.Peers, netip.AddrFrom4([4]byte{10, 9, 9, byte(9 - i)}))
	}
	if rapid.Bool().Draw(t, "own address") {
		r.Address = netip.AddrFrom4([4]byte{10, 9, 9, 1})
	}
	r.Optimize = rapid.Bool().Draw(t, "optimize")
	r.Refresh, r.Periodic, r.Retransmit = seconds(rapid.IntRange(5, 600).Draw(t, "refresh")), seconds(rapid.IntRange(10, 1800).Draw(t, "periodic")), seconds(rapid.IntRange(2, 300).Draw(t, "retransmit"))
	return r
}

func genKSSIDs(t *rapid.T) (out []SIDRange) {
	at := uint32(0)
	for range rapid.IntRange(0, 4).Draw(t, "ranges") {
		low := at + rapid.Uint32Range(0, 40).Draw(t, "gap")
		at = low + rapid.Uint32Range(0, 60).Draw(t, "length")
		out = append(out, SIDRange{low, at})
		at++
	}
	return out
}

// The guide's form (l.2217), and every line that there is, as values.
func TestRedundancyIsRead(t *testing.T) {
	c := parsed(t, changeBase+inLocal+"group size large\n  identifier\n   range 256 - 300\n   value 7\n   range 0 - 5\n  redundancy\n   local priority 10\n   local address ipv4 10.0.0.6\n"+
		"   peer address ipv4 10.0.0.3\n   peer address ipv4 10.0.0.1\n   peer address ipv4 10.0.0.3\n   protocol version optimize\n"+
		"   protocol timeout refresh 15\n   protocol timeout periodic 45\n   protocol retransmit 5\n")
	l := c.Groups[0].Local
	want := &Redundancy{Priority: 10, Address: netip.MustParseAddr("10.0.0.6"), Peers: []netip.Addr{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.1")},
		Optimize: true, Refresh: seconds(15), Periodic: seconds(45), Retransmit: seconds(5)}
	if fmt.Sprintf("%+v", *l.Redundancy) != fmt.Sprintf("%+v", *want) || len(l.Kept) != 0 {
		t.Errorf("%+v, kept %q", *l.Redundancy, l.Kept)
	}
	if got := fmt.Sprint(l.KSSIDs); got != "[0 - 5 7 256 - 300]" {
		t.Errorf("identifier %s", got)
	}
	if got := fmt.Sprint(l.CoopAddress(), l.CoopPeers()); got != "10.0.0.6 [10.0.0.3 10.0.0.1]" {
		t.Errorf("own address and peers: %s", got)
	}
	if out := Render(c); !strings.Contains(out, "  identifier\n   range 0 - 5\n   value 7\n   range 256 - 300\n") ||
		!strings.Contains(out, "  redundancy\n   local priority 10\n   local address 10.0.0.6\n   peer address ipv4 10.0.0.3\n   peer address ipv4 10.0.0.1\n"+
			"   protocol version optimize\n   protocol timeout refresh 15\n   protocol timeout periodic 45\n   protocol retransmit 5\n") {
		t.Errorf("%s", out)
	}
	if errs := Validate(c); len(errs) != 0 {
		t.Error(errs)
	}
}

// Each "no" takes back what it names, and "no redundancy" all of it.
func TestRedundancyIsTakenBack(t *testing.T) {
	all := inLocal + "group size large\n  identifier\n   range 256 - 300\n   value 7\n   value 9\n   range 0 - 5\n  redundancy\n   local priority 10\n   local address 10.0.0.6\n   peer address ipv4 10.0.0.3\n   peer address ipv4 10.0.0.4\n" +
		"   protocol version optimize\n   protocol timeout refresh 15\n   protocol timeout periodic 45\n   protocol retransmit 5\n"
	for _, x := range []struct{ no, want string }{
		{"  redundancy\n   no local priority\n   no local address\n   no peer address ipv4 10.0.0.3\n   no protocol version\n   no protocol timeout refresh\n   no protocol timeout periodic\n   no protocol retransmit\n  identifier\n   no range 256 - 300\n   no value 7\n",
			"  group size large\n  identifier\n   range 0 - 5\n   value 9\n"},
		{"  identifier\n   no value\n   no range 0\n  redundancy\n   no peer address ipv4\n   no protocol version\n", "  identifier\n   range 256 - 300\n"},
		{"  no redundancy\n  no identifier\n", ""},
	} {
		c := parsed(t, changeBase+all+x.no)
		if out := Render(c); !strings.Contains(out, x.want) || x.want == "" && (strings.Contains(out, "redundancy") || strings.Contains(out, "identifier")) {
			t.Errorf("after %q:\n%s", x.no, out)
		}
		if d := parsed(t, Render(c)); !Equal(c, d) {
			t.Errorf("%s\n%s", Render(c), Render(d))
		}
	}
	c := parsed(t, changeBase+all+"  redundancy\n   no local priority\n   no local address\n   no peer address ipv4\n   no protocol version\n   no protocol timeout refresh\n   no protocol timeout periodic\n   no protocol retransmit\n")
	if got := fmt.Sprintf("%+v", *c.Groups[0].Local.Redundancy); got != fmt.Sprintf("%+v", *newRedundancy()) {
		t.Errorf("not the defaults: %s", got)
	}
}

// A bad line names its place; nothing of the file counts.
func TestRedundancyErrorsShowThePlace(t *testing.T) {
	head := inLocal
	nine := ""
	for i := range MaxPeers + 2 {
		nine += fmt.Sprintf("   peer address ipv4 10.1.1.%d\n", i+1)
	}
	for _, x := range []struct {
		lines string
		col   int
		msg   string
	}{
		{"redundancy\n   local priority 0\n", 19, ""},
		{"redundancy\n   local priority 256\n", 19, ""},
		{"redundancy\n   peer address ipv4 224.0.0.1\n", 22, "isn't the address of a key server"},
		{"redundancy\n   peer address ipv6 ::1\n", 17, ""},
		{"redundancy\n   protocol version new\n", 21, ""},
		{"redundancy\n   protocol timeout refresh 1\n", 29, ""},
		{"redundancy\n" + nine, 22, "at most 7 key servers"},
		{"identifier\n   range 9 - 3\n", 14, "ends where it begins"},
		{"identifier\n   range 0 - 512\n", 14, ""},
		{"identifier\n   range 0 to 5\n", 12, ""},
		{"identifier\n   value 512\n", 10, ""},
	} {
		_, _, err := Parse("f", []byte(head+x.lines))
		var e Errors
		if !errors.As(err, &e) || len(e) != 1 || e[0].Col != x.col || !strings.Contains(e[0].Msg, x.msg) {
			t.Errorf("%q: %v, want column %d, %q", x.lines, err, x.col, x.msg)
		}
	}
}

// What can't work is refused with its place, what will disappoint is told.
func TestRedundancyIsJudged(t *testing.T) {
	peers := func(n int) (s string) {
		for i := range n {
			s += fmt.Sprintf("   peer address ipv4 10.1.1.%d\n", i+1)
		}
		return s
	}
	for what, x := range map[string]struct{ lines, bad, warned string }{
		"in order":                  {lines: coop},
		"own address is among them": {lines: inLocal + "redundancy\n" + peers(7) + "   peer address ipv4 10.0.0.1\n"},
		"eight peers":               {lines: inLocal + "redundancy\n" + peers(8), bad: "8 peers, at most 7"},
		"no address":                {lines: coop + inLocal + "no address ipv4\n", bad: "has no address for the others"},
		"its own address":           {lines: coop + "   local address 10.0.0.8\n" + inLocal + "no address ipv4\n"},
		"impatient":                 {lines: coop + "   protocol timeout refresh 30\n", bad: "periodic must be longer"},
		"alone":                     {lines: inLocal + "redundancy\n", warned: "names no other key server"},
		"no rekeys":                 {lines: coop + inLocal + "no rekey authentication\n", warned: "redundancy without rekeys"},
		"alone with KSSIDs":         {lines: inLocal + "identifier\n   range 0 - 127\n", warned: "without redundancy it has no effect"},
		"medium":                    {lines: coop + inLocal + "identifier\n   range 0 - 127\n"},
		"beyond medium":             {lines: coop + inLocal + "identifier\n   range 100 - 128\n", bad: "identifier 100 - 128: with Sender IDs of 24 bits KSSIDs are 0 to 127"},
		"large":                     {lines: coop + inLocal + "group size large\n  identifier\n   range 0 - 511\n"},
		"small":                     {lines: coop + inLocal + "group size small 16\n  identifier\n   value 1\n", bad: "Sender IDs of 16 bits name no key server"},
		"overlap":                   {lines: coop + inLocal + "identifier\n   range 0 - 9\n   range 9 - 20\n", bad: "0 - 9 and 9 - 20 overlap"},
		// coop-04: key server 1 has 0-255, key server 2 255-511.
		"half of large":      {lines: gcm + coop + inLocal + "group size large\n  identifier\n   range 0 - 255\n"},
		"more than its half": {lines: gcm + coop + inLocal + "group size large\n  identifier\n   range 255 - 511\n", warned: "names 257 of 512 KSSIDs, more than the 256 that each of 2 key servers can have"},
		"no counter mode":    {lines: coop + inLocal + "group size large\n  identifier\n   range 255 - 511\n"},
	} {
		text := changeBase + x.lines
		c, all := mustParse(t, text)
		var warned []string
		for _, w := range all {
			if w.Line > strings.Count(changeBase, "\n") && !strings.Contains(w.Text, "KEK lifetime") {
				warned = append(warned, w.Text)
			}
		}
		var bad []string
		for _, e := range Validate(c) {
			var v *ValidationError
			if !errors.As(e, &v) || v.Line <= strings.Count(changeBase, "\n") {
				t.Errorf("%s: %v names no line of its own", what, e)
			}
			bad = append(bad, e.Error())
		}
		for _, y := range []struct {
			got  []string
			want string
		}{{bad, x.bad}, {warned, x.warned}} {
			if y.want == "" && len(y.got) > 0 || y.want != "" && (len(y.got) != 1 || !strings.Contains(y.got[0], y.want)) {
				t.Errorf("%s: %q, want %q", what, y.got, y.want)
			}
		}
	}
}

// One configuration for all key servers of a group, whatever their number, order and
// width, gives them ranges that share no Sender ID and lie within the width.
func TestSIDRangesAreDisjoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.SampledFrom([]int{8, 12, 16, 24, 32}).Draw(t, "width")
		n := rapid.IntRange(1, MaxPeers+1).Draw(t, "servers")
		addrs := rapid.SliceOfNDistinct(rapid.Custom(genAddr4), n, n, rapid.ID).Draw(t, "addresses")
		shared := rapid.Bool().Draw(t, "own address in the list")
		lines := KSSIDBits(width) > 0 && rapid.Bool().Draw(t, "identifier")
		var all []SIDRange
		for i, a := range addrs {
			l := newLocal()
			l.Address, l.SIDBits, l.Redundancy = a, width, newRedundancy()
			l.Redundancy.Peers = slices.Clone(addrs)
			if !shared {
				l.Redundancy.Peers = slices.Delete(l.Redundancy.Peers, i, i+1)
			}
			if rapid.Bool().Draw(t, "own towards peers") {
				l.Address, l.Redundancy.Address = netip.MustParseAddr("10.0.0.1"), a
			}
			// Each has some of what is its own by agreement.
			share := uint32(1) << KSSIDBits(width) / uint32(n)
			for next := uint32(i) * share; lines && next < uint32(i+1)*share && (len(l.KSSIDs) == 0 || rapid.Bool().Draw(t, "more")); {
				last := min(uint32(i+1)*share-1, next+rapid.Uint32Range(0, 40).Draw(t, "length"))
				l.KSSIDs = append(l.KSSIDs, SIDRange{next, last})
				next = last + 1 + rapid.Uint32Range(0, 1).Draw(t, "gap")
			}
			got := l.SIDRanges()
			if len(got) == 0 {
				t.Fatalf("%s has none", a)
			}
			all = append(all, got...)
		}
		for i, r := range all {
			if r.Low > r.High || uint64(r.High) >= 1<<width {
				t.Fatalf("%v isn't in %d bits", r, width)
			}
			for _, o := range all[:i] {
				if r.Low <= o.High && o.Low <= r.High {
					t.Fatalf("%v and %v overlap", r, o)
				}
			}
		}
	})
}

// The vendor's recommended ranges, and a key server alone.
func TestSIDRangesByHand(t *testing.T) {
	for _, x := range []struct{ lines, want string }{
		{"", "[{0 16777215}]"},
		{"group size large\n", "[{0 4294967295}]"},
		{"group size small 8\n  redundancy\n   peer address ipv4 10.0.0.3\n", "[{0 127}]"},
		{"group size large\n  redundancy\n   peer address ipv4 9.0.0.3\n", "[{2147483648 4294967295}]"},
		{"redundancy\n   peer address ipv4 10.0.0.0\n   peer address ipv4 10.0.0.3\n", "[{4194304 8388607}]"}, // 32 - 63 of 128
		{"identifier\n   range 0 - 9\n   value 10\n   value 127\n", "[{0 1441791} {16646144 16777215}]"},
		{"group size large\n  identifier\n   range 256 - 511\n", "[{2147483648 4294967295}]"},
		{"no address ipv4\n  redundancy\n   peer address ipv4 10.0.0.3\n", "[]"},
	} {
		l := parsed(t, changeBase+inLocal+x.lines).Groups[0].Local
		var got []string
		for _, r := range l.SIDRanges() {
			got = append(got, fmt.Sprintf("{%d %d}", r.Low, r.High))
		}
		if s := "[" + strings.Join(got, " ") + "]"; s != x.want {
			t.Errorf("%q: %s, want %s", x.lines, s, x.want)
		}
	}
}

// A key server that wasn't read from a file has the default width.
func TestSIDRangesOfTheZeroValue(t *testing.T) {
	if got := (&LocalServer{}).SIDRanges(); len(got) != 1 || got[0] != (SIDRange{0, 1<<24 - 1}) {
		t.Errorf("%v", got)
	}
}

// A list of peers in another order is no change; what changed is told with its values.
func TestCoopChangesAreTold(t *testing.T) {
	two := coop + "   peer address ipv4 10.0.0.4\n"
	old := parsed(t, changeBase+two)
	if c := Consequences(old, parsed(t, changeBase+inLocal+"redundancy\n   local priority 10\n   peer address ipv4 10.0.0.4\n   peer address ipv4 10.0.0.3\n")); len(c) != 0 {
		t.Errorf("%+v", c)
	}
	for lines, want := range map[string]string{
		"   local priority 20\n":                 "local priority (10 to 20)",
		"   no peer address ipv4 10.0.0.4\n":     "peers, and how key servers speak with them (10.0.0.3 10.0.0.4 to 10.0.0.3)",
		"   protocol timeout periodic 40\n":      "peers, and how key servers speak with them (periodic 30 s to 40 s)",
		"   local address 10.0.0.9\n":            "own address towards other key servers (10.0.0.1 to 10.0.0.9)",
		inLocal + "identifier\n   range 0 - 5\n": "",
	} {
		c := Consequences(old, parsed(t, changeBase+two+lines))
		if want == "" && len(c) > 0 || want != "" && (len(c) != 1 || c[0].What != want) {
			t.Errorf("%q: %+v, want %q", lines, c, want)
		}
	}
}
