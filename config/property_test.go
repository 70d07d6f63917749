package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"getvpn/internal/secret"
	"getvpn/ipsec"
)

var genName = rapid.StringMatching(`[A-Za-z][A-Za-z0-9_.-]{0,12}`)

func genAddr4(t *rapid.T) netip.Addr {
	n := rapid.Uint32Range(1, 1<<32-1).Draw(t, "addr")
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func genMatch(t *rapid.T, f ipsec.Family) ipsec.AddrMatch {
	switch rapid.IntRange(0, 2).Draw(t, "match") {
	case 0:
		return ipsec.AddrMatch{}
	case 1:
		if f == ipsec.IPv6 {
			b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6")
			b[0] = 0x20
			a, _ := netip.AddrFromSlice(b)
			return ipsec.MatchPrefix(netip.PrefixFrom(a, rapid.IntRange(1, 128).Draw(t, "len")))
		}
		return ipsec.MatchPrefix(netip.PrefixFrom(genAddr4(t), rapid.IntRange(1, 32).Draw(t, "len")))
	}
	if f == ipsec.IPv6 {
		return ipsec.AddrMatch{}
	}
	m := ipsec.MatchWildcard(genAddr4(t), genAddr4(t))
	if p, ok := m.Prefix(); ok && p.Bits() == 0 {
		return ipsec.AddrMatch{}
	}
	return m
}

func genPort(t *rapid.T) ipsec.PortMatch {
	p := ipsec.PortMatch{Op: ipsec.PortOp(rapid.IntRange(0, 5).Draw(t, "op"))}
	if p.Op != ipsec.PortAny {
		p.Lo = rapid.Uint16().Draw(t, "lo")
	}
	if p.Op == ipsec.PortRange {
		p.Hi = rapid.Uint16Range(p.Lo, 65535).Draw(t, "hi")
	}
	return p
}

func genACL(t *rapid.T, i int) ACL {
	a := ACL{Name: fmt.Sprintf("L%d", i), Kind: rapid.SampledFrom([]string{"standard", "extended", "ipv6"}).Draw(t, "kind")}
	if a.Kind == "extended" && rapid.Bool().Draw(t, "numbered") {
		a.Name = fmt.Sprint(100 + i)
	}
	f := ipsec.IPv4
	if a.Kind == "ipv6" {
		f = ipsec.IPv6
	}
	seq := 0
	seen := map[ipsec.ACE]bool{}
	for range rapid.IntRange(1, 5).Draw(t, "entries") {
		e := ipsec.ACE{Family: f, Action: ipsec.Action(rapid.IntRange(0, 1).Draw(t, "action")), Src: genMatch(t, f)}
		if a.Kind != "standard" {
			e.Dst = genMatch(t, f)
			switch e.Proto = uint8(rapid.IntRange(0, 255).Draw(t, "proto")); {
			case e.Proto == 6 || e.Proto == 17 || e.Proto > 200:
				e.Proto = uint8(rapid.SampledFrom([]int{6, 17}).Draw(t, "tcpudp"))
				e.SrcPort, e.DstPort = genPort(t), genPort(t)
			case e.Proto == ipsec.ICMPProtocol(f) || e.Proto > 180:
				e.Proto = ipsec.ICMPProtocol(f)
				if e.HasICMPType = rapid.Bool().Draw(t, "typed"); e.HasICMPType {
					e.ICMPType = rapid.Byte().Draw(t, "type")
				}
			}
		}
		if seen[e] {
			continue
		}
		seen[e] = true
		seq += 10
		if rapid.IntRange(0, 4).Draw(t, "gap") == 0 {
			seq += rapid.IntRange(1, 9).Draw(t, "by")
		}
		e.Seq = seq
		if rapid.IntRange(0, 3).Draw(t, "remark") == 0 {
			a.Remarks = append(a.Remarks, Remark{len(a.Entries), "a comment, of some words"})
		}
		a.Entries = append(a.Entries, e)
	}
	return a
}

func genConfig(t *rapid.T) *Config {
	c := New()
	c.Hostname = genName.Draw(t, "host")
	c.DFBit = DFBit(rapid.IntRange(0, 2).Draw(t, "df"))
	c.StateOff = rapid.Bool().Draw(t, "stateoff")
	c.TagMask = rapid.SampledFrom([]uint32{0, 0xff, 0xff0000, 0xffff0000, 1 << 31}).Draw(t, "tagmask")
	c.Logging.Console = rapid.Bool().Draw(t, "console")
	if rapid.Bool().Draw(t, "loghost") {
		c.Logging.Hosts = []LogHost{{genAddr4(t), rapid.Uint16Range(1, 65535).Draw(t, "port")}}
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "policies") {
		p := newPolicy(10 * (i + 1))
		p.Encr = rapid.SampledFrom([]Encryption{EncrAES, Encr3DES, EncrDES}).Draw(t, "encr")
		if p.Encr == EncrAES {
			p.KeyBits = rapid.SampledFrom([]int{128, 192, 256}).Draw(t, "bits")
		}
		p.Hash = rapid.SampledFrom([]string{"sha", "md5", "sha256", "sha384", "sha512"}).Draw(t, "hash")
		p.Auth = rapid.SampledFrom([]string{"pre-share", "rsa-sig", "ecdsa-sig"}).Draw(t, "auth")
		p.DHGroup = rapid.SampledFrom([]int{1, 2, 5, 14, 15, 16, 19, 20, 21, 24, 31}).Draw(t, "group")
		p.Lifetime = seconds(rapid.IntRange(60, 86400).Draw(t, "life"))
		c.ISAKMPPolicies = append(c.ISAKMPPolicies, p)
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "keys") {
		k := ISAKMPKey{Key: secret.Bytes(rapid.StringMatching(`[!-~]{1,20}`).Draw(t, "key")),
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), rapid.IntRange(16, 32).Draw(t, "len"))}
		c.Keys = append(c.Keys, k)
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "sets") {
		tr := ipsec.Transform{Cipher: ipsec.Cipher(rapid.IntRange(1, 5).Draw(t, "cipher")), Mode: ipsec.Mode(rapid.IntRange(0, 1).Draw(t, "mode"))}
		if tr.Cipher != ipsec.CipherNull && tr.Cipher != ipsec.Cipher3DES {
			tr.KeyBits = rapid.SampledFrom([]int{128, 192, 256}).Draw(t, "bits")
		}
		if !tr.Combined() {
			tr.Auth = ipsec.Auth(rapid.IntRange(1, 4).Draw(t, "auth"))
		}
		if tr.Cipher == ipsec.CipherAESGCM {
			tr.ICVLen = rapid.SampledFrom([]int{0, 8, 12}).Draw(t, "icv")
		}
		c.TransformSets = append(c.TransformSets, TransformSet{fmt.Sprintf("T%d", i), tr})
		c.Profiles = append(c.Profiles, Profile{fmt.Sprintf("P%d", i), []string{fmt.Sprintf("T%d", i)}, seconds(rapid.IntRange(120, 2592000).Draw(t, "life"))})
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "groups") {
		c.Groups = append(c.Groups, genGroup(t, i))
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "maps") {
		m := CryptoMap{Name: fmt.Sprintf("M%d", i), IPv6: rapid.Bool().Draw(t, "v6"), Entries: []MapEntry{{Seq: rapid.IntRange(1, 65535).Draw(t, "seq"), Group: "G0", ACL: "L0"}}}
		if rapid.Bool().Draw(t, "fail-close") {
			m.FailClose = &FailClose{"L1", rapid.Bool().Draw(t, "active")}
		}
		c.CryptoMaps = append(c.CryptoMaps, m)
		c.Interfaces = append(c.Interfaces, Interface{Name: fmt.Sprintf("eth%d", i), CryptoMap: m.Name, AdjustMSS: 1360 * i,
			Joins: genJoins(t), FragAfter: rapid.Bool().Draw(t, "after"), Shutdown: rapid.Bool().Draw(t, "down"), Kept: []string{"ip address 10.0.0.1 255.0.0.0"}})
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "lists") {
		c.ACLs = append(c.ACLs, genACL(t, i))
	}
	return c
}

func genGroup(t *rapid.T, i int) Group {
	g := Group{Name: fmt.Sprintf("G%d", i), IPv6: rapid.Bool().Draw(t, "v6"), HasNumber: true, Number: rapid.Uint32().Draw(t, "number"), Interop: rapid.Bool().Draw(t, "interop")}
	if rapid.Bool().Draw(t, "member") {
		g.Passive = rapid.Bool().Draw(t, "passive")
		g.Servers = []netip.Addr{genAddr4(t)}
		g.Client = genClient(t)
		return g
	}
	l := newLocal()
	l.Address = genAddr4(t)
	if rapid.Bool().Draw(t, "aes") {
		l.RekeyEncr, l.RekeyKeyBits = EncrAES, rapid.SampledFrom([]int{128, 192, 256}).Draw(t, "bits")
	}
	l.RekeySigHash = rapid.SampledFrom([]string{"sha", "sha256", "sha384", "sha512"}).Draw(t, "sig")
	l.RekeyLifetime = seconds(rapid.IntRange(300, 2592000).Draw(t, "kek"))
	l.RekeyUnicast, l.ReceiveOnly = rapid.Bool().Draw(t, "unicast"), rapid.Bool().Draw(t, "receive-only")
	l.RekeyRetransmit, l.RekeyNumber = seconds(rapid.IntRange(10, 60).Draw(t, "every")), rapid.IntRange(1, 10).Draw(t, "times")
	switch name := genName.Draw(t, "key"); rapid.IntRange(0, 2).Draw(t, "signed") {
	case 1:
		l.RekeyAuthRSA = name
	case 2:
		l.RekeyAuthECDSA = name
	}
	l.RekeyAck = rapid.SampledFrom([]Ack{AckCisco, AckInteroperable, AckAny}).Draw(t, "ack")
	if rapid.IntRange(0, 3).Draw(t, "reminders") == 0 {
		l.RekeyNumber, l.RekeyPeriodic = 0, true
	}
	if rapid.Bool().Draw(t, "rekey address") {
		l.RekeyAddress, l.RekeyAddressV6 = "L1", rapid.Bool().Draw(t, "v6")
	}
	l.SIDBits = rapid.SampledFrom([]int{8, 12, 16, 24, 32}).Draw(t, "sid")
	l.KSSIDs, l.Redundancy = genKSSIDs(t), genRedundancy(t)
	l.AuthAddress = rapid.SampledFrom([]string{"", "L0"}).Draw(t, "authorization")
	for n := range rapid.IntRange(1, 3).Draw(t, "sas") {
		l.SAs = append(l.SAs, SAIPsec{Seq: n + 1, Profile: "P0", ACL: "L0", IPv6: rapid.Bool().Draw(t, "v6"), Tag: rapid.Bool().Draw(t, "tag"), Replay: rapid.SampledFrom([]ipsec.Replay{{},
			{Mode: ipsec.ReplayCounter, Window: 64}, {Mode: ipsec.ReplayCounter, Window: 1024}, {Mode: ipsec.ReplayTime, Window: 5}}).Draw(t, "replay")})
	}
	g.Local = l
	return g
}

func genClient(t *rapid.T) Client {
	c := Client{Revert: rapid.Bool().Draw(t, "revert"), Track: rapid.IntRange(0, 1000).Draw(t, "track"), Bypass: rapid.Bool().Draw(t, "bypass")}
	if rapid.Bool().Draw(t, "recovery") {
		c.Recovery = seconds(rapid.IntRange(100, 1000).Draw(t, "recovery"))
	}
	for range rapid.IntRange(0, 5).Draw(t, "ciphers") {
		c.RekeyCiphers = append(c.RekeyCiphers, rapid.SampledFrom(rekeyCiphers).Draw(t, "cipher"))
	}
	c.RekeyCiphers = dedup(c.RekeyCiphers)
	for range rapid.IntRange(0, 4).Draw(t, "hashes") {
		c.RekeyHashes = append(c.RekeyHashes, rapid.SampledFrom([]string{"sha", "sha256", "sha384", "sha512"}).Draw(t, "hash"))
	}
	c.RekeyHashes = dedup(c.RekeyHashes)
	for i := range rapid.IntRange(0, 6).Draw(t, "accepted") {
		c.TransformSets = append(c.TransformSets, fmt.Sprintf("T%d", i))
	}
	return c
}

func genJoins(t *rapid.T) []Join {
	var out []Join
	for i := range rapid.IntRange(0, 3).Draw(t, "joins") {
		j := Join{Group: netip.AddrFrom4([4]byte{239, 1, 1, byte(i)})}
		if rapid.Bool().Draw(t, "six") {
			j.Group = netip.MustParseAddr(fmt.Sprintf("ff3e::%x", i+1))
		}
		if rapid.Bool().Draw(t, "source") {
			if j.Source = genAddr4(t); j.Group.Is6() {
				j.Source = netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1))
			}
		}
		out = append(out, j)
	}
	return out
}

// Parse(Render(c)) is c, field by field, whatever c is.
func TestParseRenderIsIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := genConfig(t)
		text := Render(c)
		d, _, err := Parse("t", []byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		d.Source, c.Source = nil, nil
		if !reflect.DeepEqual(c, d) {
			t.Fatalf("\n%+v\n%+v\n%s\n%s", c, d, text, Render(d))
		}
	})
}

// No text makes the parser panic; what it accepts is printed in a form that it reads
// back to the same; messages never show a pre-shared key.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.conf")
	demo, _ := filepath.Glob("../examples/*/*.conf")
	for _, name := range append(files, demo...) {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("banner motd \x03a\n\x03\n!\nend\n"))
	f.Add([]byte("crypto isakmp key hunter2 adress 1.2.3.4\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, w, err := Parse("f", text)
		if err != nil {
			var e Errors
			if !errors.As(err, &e) {
				t.Fatal(err)
			}
			if c != nil {
				t.Fatal("a configuration and an error")
			}
			return
		}
		_ = Validate(c)
		out := Render(c)
		d, _, err := Parse("r", []byte(out))
		if err != nil {
			t.Fatalf("%v\n%q\n%q", err, text, out)
		}
		if got := Render(d); got != out {
			t.Fatalf("%q\nrendered\n%q\nthen\n%q", text, out, got)
		}
		if slices.ContainsFunc(w, func(x Warning) bool { return strings.Contains(x.Text, "hunter2") }) {
			t.Fatal("a key in a warning")
		}
	})
}
