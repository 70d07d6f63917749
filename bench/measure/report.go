package main

// What was measured, as medians, spread and ratios, and the judgement on the targets.

import (
	"fmt"
	"io"
	"slices"
)

// Quantities that have targets.
const (
	tcpRate = "tcp Gb/s"
	udpRate = "udp64 kpps at < 0.5 % loss"
)

// results are the values by product and quantity, in the order of rounds.
type results map[string]map[string][]float64

func (r results) note(product, quantity string, v float64) {
	if r[product] == nil {
		r[product] = map[string][]float64{}
	}
	r[product][quantity] = append(r[product][quantity], v)
}

// spread is a distribution in three numbers.
type spread struct{ median, min, max float64 }

func spreadOf(v []float64) (s spread, ok bool) {
	if len(v) == 0 {
		return s, false
	}
	v = slices.Clone(v)
	slices.Sort(v)
	n := len(v)
	return spread{(v[(n-1)/2] + v[n/2]) / 2, v[0], v[n-1]}, true
}

// ratio compares ours with another product, round by round, so that the machine's drift
// counts for nothing.
func (r results) ratio(other, quantity string) (spread, bool) {
	a, b := r["getvpn"][quantity], r[other][quantity]
	var v []float64
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			v = append(v, a[i]/b[i])
		}
	}
	return spreadOf(v)
}

func (r results) print(w io.Writer, products []string) {
	var quantities []string
	for _, p := range products {
		for q := range r[p] {
			if !slices.Contains(quantities, q) {
				quantities = append(quantities, q)
			}
		}
	}
	slices.Sort(quantities)
	for _, q := range quantities {
		fmt.Fprintf(w, "\n%s\n", q)
		for _, p := range products {
			s, ok := spreadOf(r[p][q])
			if !ok {
				continue
			}
			fmt.Fprintf(w, "  %-13s median %9.2f  (%.2f–%.2f)", p, s.median, s.min, s.max)
			if s, ok := r.ratio(p, q); ok && p != "getvpn" {
				fmt.Fprintf(w, "   getvpn is %.2f × this (%.2f–%.2f)", s.median, s.min, s.max)
			}
			fmt.Fprintln(w)
		}
	}
}

// target is a ratio that the median must reach.
type target struct {
	form, quantity, other string
	least                 float64
}

var targets = [...]target{
	{"off", tcpRate, "wireguard-go", 2.7},
	{"off", tcpRate, "plain", 0.40},
	{"off", udpRate, "plain", 0.6},
	{"on", tcpRate, "wireguard-go", 0.8},
}

// judgedRounds is how many rounds a verdict needs.
const judgedRounds = 7

// judge says of each target of a form whether it is met, and returns whether one is
// missed. A run of fewer rounds is shown beside the targets and judged by none.
func (r results) judge(w io.Writer, form string, rounds int) (missed bool) {
	fmt.Fprintln(w, "\ntargets")
	for _, t := range targets {
		if t.form != form {
			continue
		}
		s, ok := r.ratio(t.other, t.quantity)
		verdict := "met"
		switch {
		case !ok:
			verdict = "not measured"
		case rounds < judgedRounds:
			verdict = fmt.Sprintf("not judged: %d rounds of %d", rounds, judgedRounds)
		case s.median < t.least:
			verdict, missed = "MISSED", true
		}
		fmt.Fprintf(w, "  %s: %.2f × %s (%.2f–%.2f), target %.2f: %s\n", t.quantity, s.median, t.other, s.min, s.max, t.least, verdict)
	}
	return missed
}
