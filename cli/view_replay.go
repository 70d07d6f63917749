package cli

// Views of time-based anti-replay: gm replay, ks replay.

import (
	"slices"

	"getvpn/model"
)

func (v *view) gmReplay() {
	for _, g := range v.members() {
		v.line("Anti-replay Information For Group %s:", g.Name)
		v.line("Timebased Replay:")
		i := slices.IndexFunc(v.s.Dataplane.TimeReplay, func(t model.TimeReplay) bool { return t.Group == g.Name })
		if i < 0 {
			v.line("         is not enabled\n")
			continue
		}
		t := &v.s.Dataplane.TimeReplay[i]
		v.line("Replay Value : %.2f secs", t.Pseudotime.Seconds())
		v.line("Input Packets : %d Output Packets : %d", t.Input, t.Output)
		v.line("Input Error Packets : %d Output Error Packets : %d", t.TooOld+t.TooNew+t.Missing, t.OutputErrors)
		v.line("Time Sync Error : %d Max time delta : %.2f secs\n", g.RekeysRefused["pseudotime-old"], t.MaxDelta.Seconds())
		v.line("TBAR Error History (sampled at 10pak/min):")
		if len(t.Failures) == 0 {
			v.line("    No TBAR errors detected\n")
			continue
		}
		for _, f := range t.Failures {
			v.line("    %s  src %s  my pseudotime %.2f secs  peer pseudotime %.2f secs", f.At.UTC().Format("15:04:05.000"), ip(f.Source), f.Mine.Seconds(), f.Peer.Seconds())
		}
		v.line("")
	}
}

// ksReplay shows a key server's pseudotime: the seconds since its first member came.
func (v *view) ksReplay() {
	for _, g := range v.servers() {
		v.line("Anti-replay Information For Group %s:", g.Name)
		v.line("Timebased Replay:")
		timed := slices.ContainsFunc(g.Policies, func(p model.KSPolicy) bool { return p.Replay.Mode == "Time Based" })
		switch {
		case !timed:
			v.line("         is not enabled\n")
		case g.PseudotimeFrom.IsZero():
			v.line("Replay Value : 0.00 secs")
			v.line("Remaining sync time : 0 secs\n")
		default:
			v.line("Replay Value : %.2f secs", v.now.Sub(g.PseudotimeFrom).Seconds())
			v.line("Remaining sync time : %d secs\n", v.left(g.NextRekey))
		}
	}
}
