package event

// Happenings of the traffic's way, beside those of the catalogue's first part.

import "net/netip"

// TimeReplayFailed: packets were refused for their time stamp; rate limited by the
// emitter. Pseudotimes are in seconds with two decimals.
type TimeReplayFailed struct {
	Group  string     `f:"group"`
	Src    netip.Addr `f:"src_ip"`
	MyPST  string     `f:"my_pst"`
	Peer   string     `f:"peer_pst"`
	Window int        `f:"window"` // seconds
	// Packets are those since the last such event; the rest is the last one's.
	Packets uint64 `f:"packets"`
}

// Row is the catalogue's line.
func (TimeReplayFailed) Row() Row {
	return Row{"GDOI", 4, "TIMEBASED_REPLAY_FAILED", "An anti replay check has failed in group <group> from sourceip-address <src_ip>. my_pseudotime is <my_pst> secs, peer_pseudotime is <peer_pst> secs, replay_window is <window> (second)"}
}
