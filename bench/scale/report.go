package main

// What was measured, as medians with least and most, beside bounds and goals.

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// spread is a distribution in three numbers.
type spread struct{ median, min, max float64 }

func spreadOf[T any](rows []T, value func(T) float64) spread {
	var v []float64
	for _, r := range rows {
		v = append(v, value(r))
	}
	if len(v) == 0 {
		return spread{}
	}
	slices.Sort(v)
	n := len(v)
	return spread{(v[(n-1)/2] + v[n/2]) / 2, v[0], v[n-1]}
}

func (s spread) text(format string) string {
	return fmt.Sprintf(format+" ("+format+"–"+format+")", s.median, s.min, s.max)
}

// verdict holds a figure against a goal.
func verdict(ok bool) string {
	if ok {
		return "met"
	}
	return "MISSED"
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Goals.
const (
	mostOfBound   = 3.0 // × the echo of the same datagrams
	longestRekey  = 10 * time.Second
	leastOfPublic = 0.7 // of the rate that public-key operations alone allow
)

type rekeyReport struct {
	o       options
	rounds  []rekeyRound
	last    Rekeyed
	tally   Tally
	copied  float64 // octets of the model an acknowledgement
	fresh   Usage
	full    Usage
	busiest Usage
}

func (r rekeyReport) print(w io.Writer) {
	n := r.o.members
	fmt.Fprintf(w, "\nrekey of %d members by unicast, %d octets signed with %s, acknowledgements of %d octets, %d interleaved rounds\n",
		n, len(r.last.Rekey), r.o.sign, r.last.Ack, len(r.rounds))
	fmt.Fprintf(w, "  %-46s %-20s %-20s %-20s\n", "median (least–most), ms", "time", "key server CPU", "members CPU")
	for _, x := range []struct {
		name string
		of   func(rekeyRound) cost
	}{
		{"rekey: all verify and acknowledge", func(r rekeyRound) cost { return r.rekey }},
		{"  bound: echo, members do the same work", func(r rekeyRound) cost { return r.work }},
		{"rekey: answers made in advance", func(r rekeyRound) cost { return r.unread }},
		{"  bound: echo of the same datagrams", func(r rekeyRound) cost { return r.echo }},
	} {
		fmt.Fprintf(w, "  %-46s %-20s %-20s %-20s\n", x.name,
			spreadOf(r.rounds, func(r rekeyRound) float64 { return ms(x.of(r).took) }).text("%.0f"),
			spreadOf(r.rounds, func(r rekeyRound) float64 { return ms(x.of(r).ks) }).text("%.0f"),
			spreadOf(r.rounds, func(r rekeyRound) float64 { return ms(x.of(r).gm) }).text("%.0f"))
	}
	of := func(a, b func(rekeyRound) time.Duration) spread {
		return spreadOf(r.rounds, func(r rekeyRound) float64 { return float64(a(r)) / float64(b(r)) })
	}
	took := func(r rekeyRound) time.Duration { return r.rekey.took }
	whole := of(took, func(r rekeyRound) time.Duration { return r.work.took })
	engine := of(func(r rekeyRound) time.Duration { return r.unread.took }, func(r rekeyRound) time.Duration { return r.echo.took })
	plain := of(took, func(r rekeyRound) time.Duration { return r.echo.took })
	cpu := of(func(r rekeyRound) time.Duration { return r.unread.ks }, func(r rekeyRound) time.Duration { return r.echo.ks })
	slowest := spreadOf(r.rounds, func(r rekeyRound) float64 { return r.rekey.took.Seconds() })
	fmt.Fprintf(w, "  time with members' work, × its bound: %s, goal %.0f: %s\n", whole.text("%.2f"), mostOfBound, verdict(whole.median <= mostOfBound))
	fmt.Fprintf(w, "  time of the key server alone, × its bound: %s, goal %.0f: %s; its CPU, × that of an echo: %s\n",
		engine.text("%.2f"), mostOfBound, verdict(engine.median <= mostOfBound), cpu.text("%.2f"))
	fmt.Fprintf(w, "  time with members' work, × an echo without it: %s, goal %.0f: %s\n", plain.text("%.2f"), mostOfBound, verdict(plain.median <= mostOfBound))
	fmt.Fprintf(w, "  slowest rekey %.2f s, goal %v: %s\n", slowest.max, longestRekey, verdict(slowest.max < longestRekey.Seconds()))
	fmt.Fprintf(w, "  last round: sent after %.0f ms, shown complete by the model after %.0f ms, %d datagrams sent; in all %d rekeys verified, %d refused\n",
		ms(r.last.Sending), ms(r.last.Shown), r.last.Datagrams, r.tally.Verified, r.tally.Refused)
	fmt.Fprintf(w, "  the model copied %.0f octets an acknowledgement, for what was sent and what was answered\n", r.copied)
	per := func(a, b int64) int64 { return (a - b) / int64(n) }
	fmt.Fprintf(w, "  key server's memory a member: %d octets live, %d resident, %d at the peak\n",
		per(int64(r.full.Heap), int64(r.fresh.Heap)), per(r.full.Resident, r.fresh.Resident), per(r.busiest.Peak, r.fresh.Resident))
}

type registerReport struct {
	o      options
	dh     int
	rounds []registerRound
	failed map[string]int
}

func (r registerReport) print(w io.Writer) {
	n := float64(r.o.members)
	rate := spreadOf(r.rounds, func(r registerRound) float64 { return n / r.took.Seconds() })
	// Both sides run here: two one-sided operations make a registration.
	bare := spreadOf(r.rounds, func(r registerRound) float64 { return r.bare.Rate / 2 })
	ratio := spreadOf(r.rounds, func(r registerRound) float64 { return n / r.took.Seconds() / (r.bare.Rate / 2) })
	cpu := spreadOf(r.rounds, func(r registerRound) float64 { return ms(r.ks) / n })
	gm := spreadOf(r.rounds, func(r registerRound) float64 { return ms(r.gm) / n })
	one := spreadOf(r.rounds, func(r registerRound) float64 { return ms(r.bare.CPU) })
	share := spreadOf(r.rounds, func(r registerRound) float64 { return float64(r.bare.CPU) * n / float64(r.ks) })
	fmt.Fprintf(w, "\nregistration of %d members, main mode and GROUPKEY-PULL, Diffie-Hellman group %d, %d at a time, %d rounds\n", r.o.members, r.dh, r.o.parallel, len(r.rounds))
	fmt.Fprintf(w, "  members a second: %s; both sides' public-key operations alone: %s; ratio %s\n", rate.text("%.0f"), bare.text("%.0f"), ratio.text("%.2f"))
	fmt.Fprintf(w, "  CPU a registration, ms: key server %s, members %s; one side's public-key operations alone %s\n", cpu.text("%.3f"), gm.text("%.3f"), one.text("%.3f"))
	fmt.Fprintf(w, "  public-key share of the key server's CPU: %s, goal %.2f: %s\n", share.text("%.2f"), leastOfPublic, verdict(share.median >= leastOfPublic))
	failures(w, r.failed)
}

// failures lists attempts that had to be repeated.
func failures(w io.Writer, failed map[string]int) {
	if len(failed) == 0 {
		fmt.Fprintf(w, "  no attempt failed\n")
		return
	}
	fmt.Fprintf(w, "  attempts that failed and were repeated: %s\n", tally(failed))
}

// tally lists counts by name.
func tally[N int | uint64](counts map[string]N) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		if counts[k] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", k, counts[k]))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

type crowdReport struct {
	o      options
	again  Again
	cost   cost
	counts Counts
}

func (r crowdReport) print(w io.Writer) {
	a := r.again
	fmt.Fprintf(w, "\na TEK of %v ends, no rekey arrived: %d members register again, Diffie-Hellman group 14\n", r.o.life, r.o.members)
	fmt.Fprintf(w, "  first began %.1f s before the end; half were done %.1f s, the last %.1f s before it; one member waited %.1f s at most\n",
		a.First.Seconds(), a.Median.Seconds(), a.Last.Seconds(), a.Longest.Seconds())
	fmt.Fprintf(w, "  done before the %v mark: %d of %d: %s\n", mark, a.InTime, r.o.members, verdict(a.InTime == r.o.members))
	fmt.Fprintf(w, "  CPU: key server %.1f s, members %.1f s\n", r.cost.ks.Seconds(), r.cost.gm.Seconds())
	failures(w, a.Failed)
	refused := maps.Clone(r.counts.Rejected)
	if refused == nil {
		refused = map[string]uint64{}
	}
	for reason, n := range r.counts.Drops {
		refused[reason] += n
	}
	fmt.Fprintf(w, "  datagrams and registrations that the key server dropped since its start: %s\n", tally(refused))
}
