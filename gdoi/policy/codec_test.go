package policy

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"getvpn/gdoi"
	"getvpn/internal/secret"
	"getvpn/ipsec"

	"pgregory.net/rapid"
)

func genMatch(t *rapid.T, v6 bool, name string) ipsec.AddrMatch {
	n := 4
	if v6 {
		n = 16
	}
	if rapid.Bool().Draw(t, name+"any") {
		return ipsec.AddrMatch{}
	}
	a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, name))
	if !v6 && rapid.Bool().Draw(t, name+"wild") {
		w, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, name+"w"))
		if w != netip.MustParseAddr("255.255.255.255") {
			return ipsec.MatchWildcard(a, w)
		}
	}
	return ipsec.MatchPrefix(netip.PrefixFrom(a, rapid.IntRange(1, n*8).Draw(t, name+"len")))
}

func genPort(t *rapid.T, permit bool, name string) ipsec.PortMatch {
	max := int(ipsec.PortRange)
	if permit {
		max--
	}
	p := ipsec.PortMatch{Op: ipsec.PortOp(rapid.IntRange(0, max).Draw(t, name))}
	if p.Op != ipsec.PortAny {
		p.Lo = rapid.Uint16().Draw(t, name+"lo")
	}
	if p.Op == ipsec.PortRange {
		p.Hi = p.Lo | rapid.Uint16().Draw(t, name+"hi")
	}
	return p
}

func genACE(t *rapid.T) ipsec.ACE {
	v6 := rapid.Bool().Draw(t, "v6")
	e := ipsec.ACE{Family: ipsec.IPv4, Action: ipsec.Action(rapid.IntRange(0, 1).Draw(t, "action")),
		Proto: rapid.SampledFrom([]uint8{0, 1, 6, 17, 47, 89}).Draw(t, "proto")}
	if v6 {
		e.Family = ipsec.IPv6
	}
	e.Src, e.Dst = genMatch(t, v6, "src"), genMatch(t, v6, "dst")
	switch e.Proto {
	case 6, 17:
		e.SrcPort, e.DstPort = genPort(t, e.Action == ipsec.Permit, "sport"), genPort(t, e.Action == ipsec.Permit, "dport")
	case 1:
		if e.HasICMPType = rapid.Bool().Draw(t, "hasType"); e.HasICMPType {
			e.ICMPType = rapid.Uint8().Draw(t, "type")
		}
	}
	return e
}

var transforms = []ipsec.Transform{
	{Cipher: ipsec.CipherNull, Auth: ipsec.AuthSHA256}, {Cipher: ipsec.Cipher3DES, Auth: ipsec.AuthSHA1},
	{Cipher: ipsec.CipherAESCBC, KeyBits: 128, Auth: ipsec.AuthSHA1}, {Cipher: ipsec.CipherAESCBC, KeyBits: 192, Auth: ipsec.AuthSHA384},
	{Cipher: ipsec.CipherAESCBC, KeyBits: 256, Auth: ipsec.AuthSHA512, Mode: ipsec.Transport},
	{Cipher: ipsec.CipherAESGCM, KeyBits: 128, ICVLen: 8}, {Cipher: ipsec.CipherAESGCM, KeyBits: 192, ICVLen: 12},
	{Cipher: ipsec.CipherAESGCM, KeyBits: 256, ICVLen: 16}, {Cipher: ipsec.CipherAESGMAC, KeyBits: 128},
}

// What the key server says is what the member reads: list order, denies, selectors,
// transforms, lifetimes, keys, Sender IDs, through the octets on the wire.
func TestWhatIsOfferedIsWhatArrives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := &Offer{}
		if rapid.Bool().Draw(t, "clock") {
			o.Clock = &Clock{Pseudotime: time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "pseudotime")) * time.Millisecond,
				Tick: time.Duration(rapid.IntRange(1, 65535).Draw(t, "tick")) * time.Millisecond, Header: rapid.SampledFrom([]int{12, 16}).Draw(t, "header")}
		}
		modes := []ipsec.Replay{{}, {Mode: ipsec.ReplayCounter, Window: 64}}
		if o.Clock != nil {
			modes = append(modes, ipsec.Replay{Mode: ipsec.ReplayTime, Window: 100})
		}
		n := rapid.IntRange(1, 4).Draw(t, "teks")
		for i := range n {
			tr := rapid.SampledFrom(transforms).Draw(t, "transform")
			o.TEKs = append(o.TEKs, TEK{SPI: uint32(256 + i), Transform: tr, Lifetime: time.Duration(rapid.IntRange(1, 1<<31).Draw(t, "life")) * time.Second,
				Age: time.Duration(rapid.IntRange(0, 1<<31).Draw(t, "age")) * time.Second, HasAge: true,
				Replay: rapid.SampledFrom(modes).Draw(t, "replay"), Tag: rapid.Bool().Draw(t, "tag"),
				Key: make(secret.Bytes, tr.CipherKeyLen()), AuthKey: make(secret.Bytes, tr.AuthKeyLen())})
			last := &o.TEKs[i]
			last.Header = last.header(o.Clock)
		}
		seen := map[ipsec.ACE]bool{}
		used := map[uint32]bool{}
		for range rapid.IntRange(1, 12).Draw(t, "entries") {
			e := genACE(t)
			if seen[e] {
				continue
			}
			seen[e] = true
			x := Entry{ACE: e}
			if e.Action == ipsec.Permit {
				spi := uint32(256 + rapid.IntRange(0, n-1).Draw(t, "spi"))
				x.SPIs = append(x.SPIs, spi)
				used[spi] = true
			}
			o.Entries = append(o.Entries, x)
		}
		if len(used) != n {
			t.Skip("a TEK without an entry has no SAT")
		}
		sa, err := o.SA(false)
		if err != nil {
			t.Fatal(err)
		}
		p, err := sa.Payload(gdoi.Dialect{})
		if err != nil {
			t.Fatal(err)
		}
		back, err := gdoi.ParseSA(p.Body, gdoi.Dialect{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(back)
		if err != nil {
			t.Fatal(err)
		}
		kd := o.KD(Keys{SIDBits: 24, SIDs: []uint32{5, 6}})
		if err := gdoi.Match(back, kd, true); err != nil {
			t.Fatal(err)
		}
		keys := got.AddKeys(kd, 0)
		if !reflect.DeepEqual(keys, Keys{SIDBits: 24, SIDs: []uint32{5, 6}}) {
			t.Errorf("Sender IDs %v", keys)
		}
		if !reflect.DeepEqual(got.Clock, o.Clock) {
			t.Errorf("clock %v, want %v", got.Clock, o.Clock)
		}
		for i := range got.Entries {
			got.Entries[i].ACE.Seq = 0
		}
		if !reflect.DeepEqual(got.Entries, o.Entries) {
			t.Errorf("entries\n%v\n%v", got.Entries, o.Entries)
		}
		for _, want := range o.TEKs {
			ok := false
			for _, x := range got.TEKs {
				if len(x.Key) == 0 {
					x.Key = secret.Bytes{}
				}
				if len(x.AuthKey) == 0 {
					x.AuthKey = secret.Bytes{}
				}
				ok = ok || reflect.DeepEqual(x, want)
			}
			if !ok {
				t.Errorf("TEK %#x: got %+v, want %+v", want.SPI, got.TEKs, want)
			}
		}
	})
}

func TestInteropSendsNothingPrivate(t *testing.T) {
	any := ipsec.ACE{Action: ipsec.Permit, Family: ipsec.IPv4}
	deny := ipsec.ACE{Action: ipsec.Deny, Family: ipsec.IPv4, Proto: 6, DstPort: ipsec.PortMatch{Op: ipsec.PortEq, Lo: 22}}
	o := &Offer{Entries: []Entry{{ACE: deny}, {ACE: any, SPIs: []uint32{300}}},
		TEKs: []TEK{{SPI: 300, Transform: transforms[0], Lifetime: time.Hour, HasAge: true, Replay: ipsec.Replay{Mode: ipsec.ReplayCounter, Window: 64}}}}
	sa, err := o.SA(true)
	if err != nil {
		t.Fatal(err)
	}
	if err := sa.OnlyRFC(); err != nil {
		t.Error(err)
	}
	got, err := Decode(sa)
	if err != nil || len(got.Entries) != 1 || got.TEKs[0].Replay.Mode != ipsec.ReplayNone {
		t.Error(got, err)
	}
	for _, e := range []ipsec.ACE{
		{Action: ipsec.Permit, Family: ipsec.IPv4, Proto: 6, DstPort: ipsec.PortMatch{Op: ipsec.PortGt, Lo: 1023}},
		{Action: ipsec.Permit, Family: ipsec.IPv4, Src: ipsec.MatchWildcard(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("0.255.0.0"))},
		{Action: ipsec.Permit, Family: ipsec.IPv4, Proto: 1, HasICMPType: true, ICMPType: 8},
	} {
		if CheckACE(e, true) == nil {
			t.Errorf("%s goes to a peer that can't read it", e)
		}
		if err := CheckACE(e, false); err != nil {
			t.Errorf("%s: %v", e, err)
		}
	}
	r := ipsec.ACE{Action: ipsec.Permit, Family: ipsec.IPv4, Proto: 6, DstPort: ipsec.PortMatch{Op: ipsec.PortRange, Lo: 1, Hi: 2}}
	if err := CheckACE(r, false); !errors.Is(err, ErrPortRange) {
		t.Errorf("port range: %v", err)
	}
}

func TestDecodeRefusesWhatWeCant(t *testing.T) {
	good := func() gdoi.SAT {
		return gdoi.SAT{Protocol: gdoi.ProtoESP, Src: gdoi.AddrIdentity(netip.MustParseAddr("10.0.0.1"), 0), Dst: gdoi.AddrIdentity(netip.MustParseAddr("10.0.0.2"), 0),
			Transform: gdoi.ESPAESCBC, KeyBits: 128, Auth: gdoi.AuthHMACSHA256, SPI: 300, Seconds: 60}
	}
	if _, err := Decode(&gdoi.SA{SATs: []gdoi.SAT{good()}}); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*gdoi.SAT){
		"AH":          func(s *gdoi.SAT) { s.Protocol = gdoi.ProtoAH },
		"ESN":         func(s *gdoi.SAT) { s.ESN = true },
		"kilobytes":   func(s *gdoi.SAT) { s.Kilobytes = 1 },
		"CTR":         func(s *gdoi.SAT) { s.Transform = gdoi.ESPAESCTR },
		"MD5":         func(s *gdoi.SAT) { s.Auth = gdoi.AuthHMACMD5 },
		"no auth":     func(s *gdoi.SAT) { s.Auth = 0 },
		"key":         func(s *gdoi.SAT) { s.KeyBits = 64 },
		"UDP":         func(s *gdoi.SAT) { s.Encap = gdoi.EncapUDPTunnel },
		"no addrs":    func(s *gdoi.SAT) { s.Preservation = gdoi.PreserveNone },
		"sender only": func(s *gdoi.SAT) { s.Direction = gdoi.SenderOnly },
		"families":    func(s *gdoi.SAT) { s.Dst = gdoi.AddrIdentity(netip.MustParseAddr("2001:db8::1"), 0) },
		"port of IP":  func(s *gdoi.SAT) { s.Dst.Port = 5 },
	} {
		s := good()
		edit(&s)
		_, err := Decode(&gdoi.SA{SATs: []gdoi.SAT{s}})
		var r *RejectError
		if !errors.As(err, &r) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a, b := good(), good()
	b.Seconds = 61
	if _, err := Decode(&gdoi.SA{SATs: []gdoi.SAT{a, b}}); err == nil {
		t.Error("two lifetimes for one SPI")
	}
	if _, err := Decode(&gdoi.SA{}); err == nil {
		t.Error("a policy without data SA")
	}
}

func TestSAKRoundTrip(t *testing.T) {
	k := &KEK{SPI: [16]byte{1, 15: 2}, Src: netip.MustParseAddrPort("192.0.2.1:848"), Dst: netip.MustParseAddrPort("239.1.1.1:848"),
		Cipher: gdoi.KEKAESCBC, KeyBits: 256, Lifetime: time.Hour, SigHash: gdoi.SigHashSHA256, SigAlg: gdoi.SigRSA, SigBits: 2048,
		IV: make(secret.Bytes, 16), Key: make(secret.Bytes, 32), Public: []byte{1}, Seq: 7, Ack: gdoi.AckKEKSHA512}
	permit := ipsec.ACE{Action: ipsec.Permit, Family: ipsec.IPv4}
	o := &Offer{KEK: k, Entries: []Entry{{ACE: permit, SPIs: []uint32{300}}}, TEKs: []TEK{{SPI: 300, Transform: transforms[5], Lifetime: time.Hour, Key: make(secret.Bytes, 20)}}}
	sa, err := o.SA(false)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(sa)
	if err != nil {
		t.Fatal(err)
	}
	got.AddKeys(o.KD(Keys{SIDBits: 8, SIDs: []uint32{1}}), 7)
	if !reflect.DeepEqual(got.KEK, k) {
		t.Errorf("got %+v", got.KEK)
	}
}

// FuzzDecode: whatever the codec lets through, Decode answers without panic.
func FuzzDecode(f *testing.F) {
	permit := ipsec.ACE{Action: ipsec.Permit, Family: ipsec.IPv4, Proto: 17, DstPort: ipsec.PortMatch{Op: ipsec.PortEq, Lo: 53}}
	o := &Offer{Entries: []Entry{{ACE: ipsec.ACE{Family: ipsec.IPv6}}, {ACE: permit, SPIs: []uint32{300, 301}}},
		TEKs: []TEK{{SPI: 300, Transform: transforms[5], Lifetime: time.Hour}, {SPI: 301, Transform: transforms[2], Lifetime: time.Hour}}}
	for _, interop := range []bool{false, true} {
		sa, _ := o.SA(interop)
		p, _ := sa.Payload(gdoi.Dialect{})
		f.Add(p.Body)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sa, err := gdoi.ParseSA(b, gdoi.Dialect{})
		if err != nil {
			return
		}
		o, err := Decode(sa)
		if err != nil {
			return
		}
		for _, e := range o.Entries {
			if e.ACE.Action == ipsec.Permit && len(e.SPIs) == 0 {
				t.Fatal("a permit without SPI")
			}
		}
	})
}
