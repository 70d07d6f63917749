// Package static makes group policies with fixed keys, for benchmarks and end-to-end
// tests of the dataplane without a key server.
package static

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"runtime/pprof"
	"time"

	"getvpn/internal/secret"
	"getvpn/ipsec"
	"getvpn/ipsec/dataplane"
)

// Policy describes one gateway. All permitted traffic uses one TEK.
type Policy struct {
	Group      string // empty: "bench"
	MapSeq     int    // 0: 10
	BPFDir     string
	Backend    string
	Interface  string
	Queues     int
	SPI        uint32
	SID        uint32           // this gateway's Sender ID
	Transform  *ipsec.Transform // nil: AES-128-GCM, tunnel
	Replay     ipsec.Replay
	Metadata   ipsec.Metadata
	Pseudo     *ipsec.Pseudotime // nil: none
	FirstSeq   uint32
	Life       time.Duration     // 0: an hour
	Permit     [][2]netip.Prefix // protected, and so is the mirror of each
	Deny       [][2]netip.Prefix // before the permits
	KeySeed    byte
	Settings   dataplane.InterfaceSettings
	Inline     map[string]dataplane.Inline // LAN ports with tags in frames
	CPUProfile string
	Older      []Older // TEKs before, still valid for receiving
}

// Older is a TEK like the policy's but for these.
type Older struct {
	SPI     uint32
	KeySeed byte
}

// GroupPolicy is the policy as the dataplane takes it.
func (p *Policy) GroupPolicy() (ipsec.GroupPolicy, error) {
	tr := ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: 128}
	if p.Transform != nil {
		tr = *p.Transform
	}
	if err := tr.Validate(); err != nil {
		return ipsec.GroupPolicy{}, fmt.Errorf("static: %w", err)
	}
	key := func(n int, seed byte) secret.Bytes {
		b := make(secret.Bytes, n)
		for i := range b {
			b[i] = byte(i)*7 + seed + 1
		}
		return b
	}
	life := p.Life
	if life == 0 {
		life = time.Hour
	}
	tek := ipsec.TEK{SPI: p.SPI, Transform: tr, Key: key(tr.CipherKeyLen(), p.KeySeed), AuthKey: key(tr.AuthKeyLen(), p.KeySeed),
		Lifetime: life, Expires: time.Now().Add(life), Replay: p.Replay, Metadata: p.Metadata, FirstSeq: p.FirstSeq}
	if tr.Counter() {
		tek.SIDBits, tek.SIDs = 24, []uint32{p.SID}
	}
	g := ipsec.GroupPolicy{Group: cmp.Or(p.Group, "bench"), Interface: p.Interface, MapSeq: cmp.Or(p.MapSeq, 10), State: ipsec.Registered, TEKs: []ipsec.TEK{tek}, Pseudo: p.Pseudo}
	for _, o := range p.Older {
		old := tek
		old.SPI, old.Key, old.AuthKey = o.SPI, key(tr.CipherKeyLen(), o.KeySeed), key(tr.AuthKeyLen(), o.KeySeed)
		g.TEKs = append(g.TEKs, old)
	}
	add := func(a ipsec.Action, src, dst netip.Prefix) {
		f := ipsec.IPv4
		if src.Addr().Is6() {
			f = ipsec.IPv6
		}
		e := ipsec.Entry{ACE: ipsec.ACE{Seq: 10 * (len(g.Entries) + 1), Action: a, Family: f,
			Src: ipsec.MatchPrefix(src), Dst: ipsec.MatchPrefix(dst)}}
		if a == ipsec.Permit {
			e.SPI = p.SPI
		}
		g.Entries = append(g.Entries, e)
	}
	for _, x := range p.Deny {
		add(ipsec.Deny, x[0], x[1])
		add(ipsec.Deny, x[1], x[0])
	}
	for _, x := range p.Permit {
		add(ipsec.Permit, x[0], x[1])
		add(ipsec.Permit, x[1], x[0])
	}
	return g, nil
}

// Profile writes a CPU profile until stop is called.
func Profile(path string) (stop func(), err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("static: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("static: %w", err)
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}
