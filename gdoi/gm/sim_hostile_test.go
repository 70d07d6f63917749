package gm_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/memnet"
)

// wireSAT is a SAT body: 10.0.0.1 to 10.0.0.2, AES-CBC-128 with HMAC-SHA-256, the SPI,
// the life in seconds (0: none named).
func wireSAT(spi, life uint32) []byte {
	b := []byte{1, 0, 1, 0, 0, 4, 10, 0, 0, 1, 1, 0, 0, 4, 10, 0, 0, 2, 12}
	b = binary.BigEndian.AppendUint32(b, spi)
	if life != 0 {
		b = append(b, 0x80, 1, 0, 1, 0, 2, 0, 4)
		b = binary.BigEndian.AppendUint32(b, life)
	}
	return append(b, 0x80, 6, 0, 128, 0x80, 5, 0, 5)
}

func wireSA(sats ...[]byte) []byte {
	b := []byte{0, 0, 0, 2, 0, 0, 0, 0, 0, byte(isakmp.PayloadSAT), 0, 0}
	for i, s := range sats {
		next := byte(isakmp.PayloadSAT)
		if i == len(sats)-1 {
			next = 0
		}
		b = append(b, next, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(4+len(s)))
		b = append(b, s...)
	}
	return b
}

func wireKD(spis ...uint32) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(spis)))
	b = append(b, 0, 0)
	for _, spi := range spis {
		p := binary.BigEndian.AppendUint32([]byte{4}, spi)
		p = append(append(p, 0, 1, 0, 16), make([]byte, 16)...)
		p = append(append(p, 0, 2, 0, 32), make([]byte, 32)...)
		b = append(b, 1, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(4+len(p)))
		b = append(b, p...)
	}
	return b
}

// A key server that is authentic but mad: the member takes what makes sense, refuses
// the rest by name, and is never driven into a loop of registrations.
func TestPoliciesOfAMadKeyServer(t *testing.T) {
	var many [][]byte
	var spis []uint32
	for i := range uint32(isakmp.MaxNested) {
		many = append(many, wireSAT(0x1000+i, 3600))
		spis = append(spis, 0x1000+i)
	}
	for name, c := range map[string]struct {
		sa, kd     []byte
		registered bool
		most       uint64 // attempts in 10 minutes
		reason     string
	}{
		"the longest life":         {sa: wireSA(wireSAT(0x1000, 0xffffffff)), kd: wireKD(0x1000), registered: true, most: 1},
		"no life named":            {sa: wireSA(wireSAT(0x1000, 0)), kd: wireKD(0x1000), registered: true, most: 1},
		"a life of one second":     {sa: wireSA(wireSAT(0x1000, 1)), kd: wireKD(0x1000), registered: true, most: 700},
		"reserved SPI":             {sa: wireSA(wireSAT(255, 3600)), kd: wireKD(255), most: 30, reason: "inconsistent-sa"},
		"SPI 0":                    {sa: wireSA(wireSAT(0, 3600)), kd: wireKD(0), most: 30, reason: "inconsistent-sa"},
		"one SPI with two lives":   {sa: wireSA(wireSAT(0x1000, 3600), wireSAT(0x1000, 1800)), kd: wireKD(0x1000), most: 30, reason: "policy-rejected"},
		"message 4 of another SPI": {sa: wireSA(wireSAT(0x1000, 3600)), kd: wireKD(0x1001), most: 30, reason: "spi-without-key"},
		"a key too many":           {sa: wireSA(wireSAT(0x1000, 3600)), kd: wireKD(0x1000, 0x1001), most: 30, reason: "key-without-spi"},
		"a key twice":              {sa: wireSA(wireSAT(0x1000, 3600)), kd: wireKD(0x1000, 0x1000), most: 30, reason: "payload-repeated"},
		"as many SATs as allowed":  {sa: wireSA(many...), kd: wireKD(spis[:800]...), most: 30, reason: "spi-without-key"},
		"one SAT more":             {sa: wireSA(append(many[:len(many):len(many)], wireSAT(1, 1))...), kd: wireKD(), most: 30, reason: "too-many-payloads"},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 21, func(t *testing.T, n *memnet.Network, _ string) {
				evil := newNode(t, n, ks1, "secret")
				evil.cancel = func() {}
				defer evil.stop()
				evil.ep.HandlePull(hostile(t, c.sa, c.kd))
				m := startGM(t, n, gmAddr(1), "secret", join{"red", 1, []netip.Addr{ks1}, false})
				defer m.stop()
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				g := m.model("red")
				if g.Succeeded > 0 != c.registered || g.Attempted > c.most || g.Attempted == 0 {
					t.Errorf("%d of %d attempts succeeded; %v, %s", g.Succeeded, g.Attempted, g.FailuresByReason, g.LastError)
				}
				if c.reason != "" && g.FailuresByReason[c.reason] == 0 {
					t.Errorf("failures %v, not %s", g.FailuresByReason, c.reason)
				}
			})
		})
	}
}
