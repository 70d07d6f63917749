package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"getvpn/config"
	"getvpn/gdoi"
	"getvpn/gdoi/ks"
	"getvpn/gdoi/policy"
	"getvpn/internal/secret"
)

// The estimate of a rekey's octets that configuration prints stays within 8 % of the
// message that the encoder makes, from one entry to a hundred.
func TestRekeyOctetsAreEstimatedWell(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ks.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 5, 20, 100} {
		for _, extra := range []string{"   no replay\n", "   replay time window-size 10\n   tag cts sgt\n", "   replay counter window-size 64\n"} {
			for _, interop := range []bool{false, true} {
				conf := "crypto ipsec transform-set T esp-aes 256 esp-sha256-hmac\ncrypto ipsec profile P\n set transform-set T\ncrypto gdoi group g\n identity number 1\n"
				if interop {
					conf += " interop rfc6407\n"
				}
				conf += " server local\n  rekey algorithm aes 256\n  rekey authentication mypubkey ecdsa K\n  rekey transport unicast\n  sa ipsec 1\n   profile P\n   match address ipv4 L\n" + extra + "ip access-list extended L\n"
				for i := range n {
					if i%5 == 4 {
						conf += fmt.Sprintf(" deny udp any eq %d any eq %d\n", i+1, i+1)
					} else {
						conf += fmt.Sprintf(" permit ip 10.%d.0.0 0.0.255.255 10.0.0.0 0.255.255.255\n", i)
					}
				}
				c, _, err := config.Parse("t", []byte(conf))
				if err != nil {
					t.Fatal(err)
				}
				g := c.GroupByName("g")
				setup, _, err := ks.Resolve(c, g, func(string) (*ks.Signer, error) { return signer, nil })
				if err != nil {
					t.Fatal(err)
				}
				want := encoded(t, setup, signer, interop)
				if got := config.RekeyOctets(c, g); got < want*92/100-40 || got > want*108/100+40 {
					t.Errorf("%d entries, interop %v, %s: estimated %d octets, %d are made", n, interop, strings.TrimSpace(extra), got, want)
				}
			}
		}
	}
}

// encoded is the length of the real message, with an old and a new TEK.
func encoded(t *testing.T, s *ks.Setup, signer *ks.Signer, interop bool) int {
	t.Helper()
	e := s.Entries[0]
	o := &policy.Offer{KEK: &policy.KEK{Src: netip.MustParseAddrPort("192.0.2.1:848"), Dst: netip.MustParseAddrPort("192.0.2.1:848"), Cipher: gdoi.KEKAESCBC, KeyBits: 256,
		Lifetime: time.Hour, SigHash: gdoi.SigHashSHA256, SigAlg: signer.Alg, SigBits: signer.Bits, IV: make(secret.Bytes, 16), Key: make(secret.Bytes, 32), Ack: 1}}
	for spi := uint32(0x1001); spi <= 0x1002; spi++ {
		o.TEKs = append(o.TEKs, policy.TEK{SPI: spi, Transform: e.Transform, Lifetime: time.Hour, HasAge: true, Replay: e.Replay, Tag: s.Group.Local.SAs[0].Tag,
			Key: make(secret.Bytes, e.Transform.CipherKeyLen()), AuthKey: make(secret.Bytes, e.Transform.AuthKeyLen())})
	}
	if o.TEKs[0].Replay.Mode == 2 {
		o.Clock = &policy.Clock{Pseudotime: time.Minute, Tick: time.Second, Header: 12}
	}
	for _, a := range e.ACEs {
		x := policy.Entry{ACE: a}
		if a.Action == 1 {
			x.SPIs = []uint32{0x1001, 0x1002}
		}
		o.Entries = append(o.Entries, x)
	}
	p, err := policy.EncodeRekey(&policy.Rekey{Seq: 1, Offer: o}, interop)
	if err != nil {
		t.Fatal(err)
	}
	sa := &gdoi.RekeySA{Algorithm: gdoi.KEKAESCBC, IV: o.KEK.IV, Key: o.KEK.Key, SigHash: gdoi.SigHashSHA256, SigAlg: signer.Alg, RFCOnly: interop}
	n, err := sa.Size(p, signer.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return n
}
