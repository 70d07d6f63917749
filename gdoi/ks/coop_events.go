package ks

// What is told of cooperative key servers, in the vendor's words.

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"getvpn/gdoi/coop"
	"getvpn/model/event"
)

// unknownStep is the least time between two events of peers that aren't configured or
// speak another protocol: anybody who passes phase 1 could cause them.
const unknownStep = 10 * time.Second

// telling lets twenty things of a kind be told in ten seconds: a flood is counted, not told
// word for word.
type telling struct {
	since time.Time
	n     int
}

func (t *telling) take(now time.Time) bool {
	if t.since.IsZero() || now.Sub(t.since) >= unknownStep {
		t.since, t.n = now, 0
	}
	t.n++
	return t.n <= 20
}

// tellResult emits the event of a result, if it has one.
func (g *Group) tellResult(r coop.Result) {
	name, self := g.Name(), g.coop.self
	switch r := r.(type) {
	case coop.RoleChanged:
		primary := g.coop.m.View().Primary
		if r.Role == coop.Primary {
			g.note(event.CoopBecamePrimary{KS: self, Group: name, Previous: event.Previous{Addr: r.Previous}})
		}
		if g.coop.reset && primary != r.Previous {
			g.note(event.CoopPrimaryUsurped{KS: primary, Group: name})
		}
		g.coop.reset = false
	case coop.ElectionBegun:
		g.note(event.CoopElection{Group: name, Previous: event.Previous{Addr: r.Previous}})
	case coop.PeerReachable:
		g.note(event.CoopReachable{Peer: r.Peer, Group: name})
	case coop.PeerUnreachable:
		g.note(event.CoopUnreachable{Peer: r.Peer, Group: name, Status: g.ikeStatus(r.Peer)})
	case coop.PeerAdded:
		g.note(event.CoopPeerAdded{Peer: r.Peer, Group: name})
	case coop.PeerRemoved:
		g.note(event.CoopPeerRemoved{Peer: r.Peer, Group: name})
	case coop.PseudotimeChanged:
		if r.Large {
			word := event.Pseudotime
			if r.Merge {
				word = event.PST
			}
			g.note(event.CoopTimestampLarge{Peer: r.Peer, Group: name, Clock: word, Mine: r.Old / 1000, Its: r.Value / 1000})
		}
	case coop.TooOld:
		if !g.coop.olds.take(g.now()) {
			return
		}
		g.note(event.CoopTimestampTooOld{Peer: r.Peer, Group: name, Mine: r.Mine / 1000, Its: r.Its / 1000, Skew: r.Skew / 1000})
	case coop.Ahead:
		g.note(event.CoopTimestampLargeKept{Peer: r.Peer, Group: name, Mine: r.Mine / 1000, Its: r.Its / 1000})
	case coop.AnnTimerExpired:
		g.note(event.CoopAnnTimerExpired{Group: name})
	case coop.Mismatch:
		for _, item := range r.Items {
			g.note(event.CoopConfigMismatch{Group: name, Item: item})
			if item == itemTBAR {
				g.note(event.CoopInconsistentTBAR{Peer: r.Peer, Group: name})
			}
		}
	case coop.SigningKeyDiffers:
		g.note(event.CoopSigningKeyDiffers{Peer: r.Peer, Group: name, Mine: hex.EncodeToString(r.Mine[:]), Its: hex.EncodeToString(r.Its[:])})
	case coop.VersionDiffers:
		mine, its := software(r.Mine), software(r.Its)
		if r.Mine[0] != r.Its[0] {
			g.note(event.KSMajorVersionMismatch{Group: name, KS: self, Version: mine, Peer: r.Peer, PeerVersion: its})
		} else {
			g.note(event.KSMinorVersionMismatch{Group: name, KS: self, Version: mine, Peer: r.Peer, PeerVersion: its})
		}
	case coop.SIDsOverlap:
		if r.Cleared {
			g.note(event.CoopSIDOverlapCleared{Group: name, Peer: r.Peer})
		} else {
			g.note(event.CoopSIDOverlap{Group: name, Mine: rangeText(r.Mine), Peer: r.Peer, Its: rangeText(r.Its)})
		}
	case coop.SeqFailure:
		if g.coop.seqs.take(g.now()) {
			g.note(event.CoopAnnSeqFailure{Group: name, Announced: r.Announced, Expected: r.Expect})
		}
	case coop.RoleReset:
		g.coop.reset = true
	}
}

func software(v [3]uint8) string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

func rangeText(r coop.SIDRange) string { return fmt.Sprintf("%d - %d", r.Low, r.High) }

// ikeStatus is how phase 1 with a peer stands, in the vendor's words.
func (g *Group) ikeStatus(peer netip.Addr) string {
	for _, p := range g.coop.m.View().Peers {
		if p.Addr == peer && p.IKE {
			return "Established"
		}
	}
	return "Failed to establish"
}

// refusedPeer counts a message that the machine refused, and tells of those that say
// something about who is out there.
func (g *Group) refusedPeer(peer netip.Addr, err error) {
	c, now := g.coop, g.now()
	var e *coop.Error
	if !errors.As(err, &e) {
		return
	}
	c.refused[e.Reason]++
	g.note()
	if c.loud.take(now) {
		g.s.o.Log.Info("message of a key server refused", "group", g.Name(), "peer", peer, "error", err)
	}
	if e.Reason != coop.Unconfigured && e.Reason != coop.Incompatible || !c.strange.IsZero() && now.Sub(c.strange) < unknownStep {
		return
	}
	c.strange = now
	if e.Reason == coop.Unconfigured {
		g.note(event.CoopUnauthorized{Peer: peer, Group: g.Name(), Local: g.coop.self})
	} else {
		g.note(event.CoopVersionMismatch{Group: g.Name(), Local: g.coop.self, Peer: peer})
	}
}

// blockedEvent is what is told of a registration that was refused; nil: nothing.
func (g *Group) blockedEvent(reason string, gm netip.Addr) event.Event {
	switch reason {
	case blockedElection:
		return event.CoopBlockedElection{GM: gm, Group: g.Name()}
	case blockedStale:
		return event.CoopBlockedStale{GM: gm, Group: g.Name()}
	}
	return nil
}
