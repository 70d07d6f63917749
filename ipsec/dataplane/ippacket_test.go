package dataplane

import (
	"bytes"
	"encoding/binary"
	"testing"

	"getvpn/ipsec"
)

// The parser here and ipsec.ParseFlow, which were written apart, see the same in every
// packet; and the flow cache's key holds all that the flow does.
func FuzzParse(f *testing.F) {
	f.Add(build(false, protoTCP, 1, 2, 0x10, []byte("x")), build(false, protoTCP, 1, 2, 0x10, []byte("y")))
	f.Add(build(true, protoUDP, 1, 2, 0, []byte("x")), build(false, protoUDP, 1, 2, 0, []byte("x")))
	f.Add([]byte{0x60, 0, 0, 0, 0, 16, 44, 1, 40: 0, 41: 8, 55: 0}, []byte{0x45, 0, 0, 20, 19: 1})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var flows [2]ipsec.Flow
		var keys [2]flowKey
		for i, ip := range [][]byte{a, b} {
			var p packet
			ok := p.parse(ip)
			want, l4, why := ipsec.ParseFlow(ip)
			if ok != (why == ipsec.DropNone) {
				t.Fatalf("parse says %v, ParseFlow %v: %x", ok, why, ip)
			}
			if !ok {
				return
			}
			got := p.flow(ip)
			if got != want || p.l4 != l4 {
				t.Fatalf("flow %+v at %d, want %+v at %d: %x", got, p.l4, want, l4, ip)
			}
			flows[i] = got
			keyOf(&keys[i], ip, &p)
		}
		if (flows[0] == flows[1]) != (keys[0] == keys[1]) {
			t.Fatalf("flows %+v %+v, keys %+v %+v", flows[0], flows[1], keys[0], keys[1])
		}
	})
}

// synWith is a SYN with these options, padded to words.
func synWith(opts ...byte) []byte {
	for len(opts)%4 != 0 {
		opts = append(opts, 0)
	}
	ip := build(false, protoTCP, 1, 2, 0x02, nil)[:40]
	ip = append(ip, opts...)
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[32] = byte((20+len(opts))/4) << 4
	putIPSum(ip[:20])
	ip[36], ip[37] = 0, 0
	binary.BigEndian.PutUint16(ip[36:], ^slowSum(slowPseudo(ip, 20, protoTCP), ip[20:]))
	return ip
}

func TestClampMSS(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte
		at   int // of the MSS value, 0: unchanged
	}{
		{"plain", synWith(2, 4, 0x05, 0xb4), 42},
		{"behind a NOP, at an odd offset", synWith(1, 2, 4, 0x05, 0xb4), 43},
		{"behind another option", synWith(4, 2, 2, 4, 0x05, 0xb4), 44},
		{"small already", synWith(2, 4, 0x02, 0x00), 0},
		{"wrong length", synWith(2, 3, 0x05, 0xb4), 0},
		{"length zero", synWith(3, 0, 2, 4, 0x05, 0xb4), 0},
		{"none", synWith(), 0},
	} {
		for _, fix := range []bool{true, false} {
			got := bytes.Clone(c.in)
			var p packet
			if !p.parse(got) {
				t.Fatal(c.name)
			}
			clampMSS(got, &p, 1360, fix)
			want := bytes.Clone(c.in)
			if c.at > 0 {
				binary.BigEndian.PutUint16(want[c.at:], 1360)
				if fix {
					checkPacket(t, got)
					copy(want[36:38], got[36:38])
				}
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s, fix %v:\n got %x\nwant %x", c.name, fix, got, want)
			}
		}
	}
}
