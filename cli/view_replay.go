package cli

// Views of time-based anti-replay: gm replay, ks replay.

import (
	"slices"
	"time"

	"getvpn/model"
)

func secs2(d time.Duration) float64 { return d.Seconds() }

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
		v.line("Replay Value : %.2f secs", secs2(t.Pseudotime))
		v.line("Input Packets : %d Output Packets : %d", t.Input, t.Output)
		v.line("Input Error Packets : %d Output Error Packets : %d", t.TooOld+t.TooNew+t.Missing, t.OutputErrors)
		v.line("Time Sync Error : %d Max time delta : %.2f secs\n", g.RekeysRefused["pseudotime-old"], secs2(t.MaxDelta))
		v.line("TBAR Error History (sampled at 10pak/min):")
		if len(t.Failures) == 0 {
			v.line("    No TBAR errors detected\n")
			continue
		}
		for _, f := range t.Failures {
			v.line("    %s  src %s  my pseudotime %.2f secs  peer pseudotime %.2f secs", f.At.UTC().Format("15:04:05.000"), ip(f.Source), secs2(f.Mine), secs2(f.Peer))
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
			v.line("Replay Value : %.2f secs", secs2(v.now.Sub(g.PseudotimeFrom)))
			v.line("Remaining sync time : %d secs\n", v.left(g.NextRekey))
		}
	}
}
