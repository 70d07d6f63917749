package gdoi

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"getvpn/gdoi/isakmp"
)

func TestACEOctets(t *testing.T) {
	list := []WireACE{{Before: 3, Proto: 17, Src: wireAddr("10.0.5.0", "255.0.255.0"), DstPort: WirePort{PortRange, 1000, 2000}}}
	want := unhex(t, "01 00 0001 0003 04 11 00 05 0a000500 ff00ff00 03e8 07d0")
	if got := AppendACEs(nil, list); !bytes.Equal(got, want) {
		t.Errorf("% x", got)
	}
}

func TestACERoundTrip(t *testing.T) {
	for seed := range uint64(3000) {
		want := newGen(seed).aces(9)
		got, err := ParseACEs(AppendACEs(nil, want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: %v\n%+v\n%+v", seed, err, got, want)
		}
	}
}

func TestACERefusals(t *testing.T) {
	for name, s := range map[string]string{
		"version 2":                "02 00 0000",
		"reserved":                 "01 01 0000",
		"trailing octet":           "01 00 0000 00",
		"too many":                 "01 00 ffff",
		"unknown flag":             "01 00 0001 0000 20 00 00 00",
		"unknown port operator":    "01 00 0001 0000 00 06 06 00 0001 0000",
		"range backwards":          "01 00 0001 0000 00 06 05 00 0002 0001",
		"eq with a second port":    "01 00 0001 0000 00 06 01 00 0002 0001",
		"ports without a protocol": "01 00 0001 0000 00 00 01 00 0002 0000",
		"ICMP type of TCP":         "01 00 0001 0000 10 06 00 00 08",
		"bits outside the mask":    "01 00 0001 0000 04 00 00 00 0a000001 ffffff00",
		"places out of order":      "01 00 0002 0001 00 00 00 00 0000 00 00 00 00",
	} {
		if l, err := ParseACEs(unhex(t, s)); err == nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
	sa, _ := sample()
	sa.GAP.Denies[2].Before = uint16(len(sa.SATs) + 1)
	if _, err := ParseSA(mustSA(t, sa, Dialect{}), Dialect{}); formOf(err) != isakmp.AttributeValue {
		t.Errorf("place behind the end: %v", err)
	}
}

func TestOnlyRFC(t *testing.T) {
	for seed := range uint64(500) {
		sa := newGen(seed).sa()
		sa.StripPrivate()
		if err := sa.OnlyRFC(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got, err := ParseSA(mustSA(t, sa, Dialect{}), Dialect{Strict: true})
		if err != nil {
			// A GAP stays when it holds something; what is left is plain RFC 6407.
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := got.OnlyRFC(); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(*SA){
		"capability": func(s *SA) { s.GAP = &GAP{Capability: ptr(OurCapability())} },
		"denies":     func(s *SA) { s.GAP = &GAP{Denies: make([]WireACE, 1)} },
		"replay":     func(s *SA) { s.SATs[0].Replay = &Replay{Mode: ReplayNone} },
		"age":        func(s *SA) { s.SATs[0].Age = ptr[uint32](0) },
		"exact":      func(s *SA) { s.SATs[0].Exact = &WireACE{} },
		"foreign":    func(s *SA) { s.SAK.Private = []isakmp.Attr{isakmp.BasicAttr(200, 1)} },
	} {
		sa, _ := sample()
		sa.StripPrivate()
		change(sa)
		if sa.OnlyRFC() == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestCapability(t *testing.T) {
	c := OurCapability()
	if got, err := ParseCapability(c.Append(nil)); err != nil || got != c {
		t.Error(got, err)
	}
	if len(c.VendorID()) != 20 || c.Version() != "1.0.1" {
		t.Errorf("% x %s", c.VendorID(), c.Version())
	}
	if got := CapabilityOf([][]byte{{1, 2}, nil, c.VendorID()}); got == nil || *got != c {
		t.Error(got)
	}
	if got := CapabilityOf([][]byte{c.VendorID()[:19], append(c.VendorID(), 0)}); got != nil {
		t.Error(got)
	}
	less := c
	less.Features = FeatureReplay
	gap := func(c Capability) *GAP { return &GAP{Capability: &c} }
	for name, x := range map[string]struct {
		vendor *Capability
		gap    *GAP
		need   Feature
		want   Reason
	}{
		"plain RFC peer in an interop group":  {nil, nil, 0, 0},
		"one of ours in an interop group":     {&c, nil, 0, 0},
		"agreeing":                            {&c, gap(c), FeatureReplay, 0},
		"vendor ID removed on the way":        {nil, gap(c), FeatureReplay, CapabilityMismatch},
		"vendor ID changed on the way":        {&less, gap(c), FeatureReplay, CapabilityMismatch},
		"vendor ID added on the way":          {&c, nil, FeatureReplay, CapabilityMismatch},
		"plain RFC peer":                      {nil, nil, FeatureReplay, CapabilityMissing},
		"lacking a feature":                   {&less, gap(less), FeatureDenyEntries, CapabilityMissing},
		"mismatch also without need":          {&less, gap(c), 0, CapabilityMismatch},
		"GAP without capability, and no need": {&c, &GAP{SIDRequest: 2}, 0, 0},
	} {
		if err := CheckCapability(x.vendor, x.gap, x.need); reasonOf(err) != x.want || x.want == 0 && err != nil {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
	}
}

// The page for other implementers names every number of the registry.
func TestRegistryIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/protocol/private-attributes.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		fmt.Sprintf("| %d | CAPABILITY | V |", GAPCapability),
		fmt.Sprintf("| %d | ACCESS_LIST | V |", GAPAccessList),
		fmt.Sprintf("| %d | PSEUDOTIME | V |", GAPPseudotime),
		fmt.Sprintf("| %d | REPLACED | B |", GAPReplaced),
		fmt.Sprintf("| %d | REPLAY_MODE | B |", SATReplayMode),
		fmt.Sprintf("| %d | REPLAY_WINDOW | B |", SATReplayWindow),
		fmt.Sprintf("| %d | AGE | V |", SATAge),
		fmt.Sprintf("| %d | EXACT_ENTRY | V |", SATExactEntry),
		fmt.Sprintf("| %d | REPLAY_TICK | reserved |", SATReplayTick),
		fmt.Sprintf("| %d | METADATA | B |", SATMetadata),
		fmt.Sprintf("`%x`", vendorPrefix()),
	} {
		if !strings.Contains(string(page), row) {
			t.Errorf("the page lacks %q", row)
		}
	}
}

func TestReasonsAreNamed(t *testing.T) {
	names := map[string]bool{}
	for r := Reason(1); r < NumReasons; r++ {
		s := r.String()
		if s == "" || names[s] {
			t.Errorf("reason %d: name %q", r, s)
		}
		names[s] = true
	}
	for r := isakmp.Reason(1); r < isakmp.NumReasons; r++ {
		if names[r.String()] {
			t.Errorf("%v is a reason twice", r)
		}
	}
}
