package ks

// The policy in force as it is sent: to who registers and in rekeys.

import (
	"net/netip"
	"time"

	"getvpn/gdoi/policy"
)

// view is the policy of a key ring as it can be sent: it never changes.
type view struct {
	entries []SetupEntry
	teks    [][]*tek
	kek     *kek
	timed   bool // members need the pseudotime
	// Of a policy that replaces another at once: see docs/rollover.md.
	activate, linger time.Duration
}

// activates is how long after it was made a TEK that replaces another at once is sent
// with: when a first retransmission has come too.
func (g *Group) activates() time.Duration {
	if n, every, _ := g.repeats(); n > 0 {
		return every + activationMargin
	}
	return leastActivation
}

// lingers is how long a replaced TEK is received with.
func (g *Group) lingers() time.Duration { return g.activates() + lingerMargin }

const (
	leastActivation  = 5 * time.Second
	activationMargin = 2 * time.Second
	lingerMargin     = 5 * time.Second
)

func (g *Group) view(ring *keyring) *view {
	v := &view{entries: g.setup.Entries, teks: ring.clone().teks, kek: ring.kek, timed: syncOf(g.setup.Entries) > 0}
	for _, list := range v.teks {
		for _, t := range list {
			v.timed = v.timed || timeBased(t.replay)
		}
	}
	return v
}

// offer is the view at a moment.
func (v *view) offer(now time.Time, pseudo time.Duration) *policy.Offer {
	o := &policy.Offer{Activation: v.activate, Deactivation: v.linger}
	aces := 0
	for _, e := range v.entries {
		aces += len(e.ACEs)
	}
	o.Entries = make([]policy.Entry, 0, aces) // each registration makes an offer
	for i, e := range v.entries {
		var spis []uint32
		for _, t := range v.teks[i] {
			left := t.expires.Sub(now).Truncate(time.Second)
			if left < time.Second {
				continue // as good as ended; its successor is there
			}
			spis = append(spis, t.spi)
			o.TEKs = append(o.TEKs, policy.TEK{SPI: t.spi, Transform: t.transform, Lifetime: left, Age: now.Sub(t.created), HasAge: true,
				Direction: e.Direction, Replay: t.replay, Tag: t.tag, Key: t.key, AuthKey: t.authKey})
		}
		for _, a := range e.ACEs {
			x := policy.Entry{ACE: a}
			if permits(a) {
				x.SPIs = spis
			}
			o.Entries = append(o.Entries, x)
		}
	}
	if v.timed {
		o.Clock = &policy.Clock{Pseudotime: pseudo.Truncate(time.Millisecond), Tick: pseudoTick, Header: metadataLen}
	}
	return o
}

// with adds the rekey SA: src is where rekeys come from, dst where the member gets
// them; zero: a value that is the same for every member.
func (v *view) with(o *policy.Offer, src netip.Addr, dst netip.AddrPort, now time.Time) {
	k := v.kek
	if k == nil {
		return
	}
	if k.multicast.IsValid() {
		dst = k.multicast
	} else if !dst.IsValid() {
		any := netip.IPv4Unspecified()
		if src.Is6() {
			any = netip.IPv6Unspecified()
		}
		dst = netip.AddrPortFrom(any, rekeyPort)
	}
	o.KEK = &policy.KEK{SPI: k.spi, Src: netip.AddrPortFrom(src, rekeyPort), Dst: dst, Cipher: k.cipher, KeyBits: k.keyBits,
		Lifetime: k.expires.Sub(now).Truncate(time.Second), SigHash: k.hash, SigAlg: k.signer.Alg, SigBits: k.signer.Bits,
		IV: k.iv, Key: k.key, Public: k.signer.Public, Ack: k.ack}
}
