package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func fill(tcp float64, rounds int) results {
	r := results{}
	for i := range rounds {
		drift := float64(1 + i) // the machine gets faster; ratios don't
		r.note("plain", tcpRate, 2*drift)
		r.note("wireguard-go", tcpRate, 0.3*drift)
		r.note("plain", udpRate, 100*drift)
		r.note("getvpn", tcpRate, tcp*drift)
		r.note("getvpn", udpRate, 80*drift)
	}
	return r
}

func TestTargetsAreJudgedByRatio(t *testing.T) {
	for _, x := range []struct {
		name, form string
		r          results
		rounds     int
		missed     bool
		want       string
	}{
		{"met", "off", fill(0.9, 7), 7, false, "tcp Gb/s: 3.00 × wireguard-go (3.00–3.00), target 2.70: met"},
		{"missed", "off", fill(0.7, 7), 7, true, "target 2.70: MISSED"},
		{"met", "on", fill(0.25, 7), 7, false, "0.83 × wireguard-go (0.83–0.83), target 0.80: met"},
		{"missed", "on", fill(0.2, 8), 8, true, "target 0.80: MISSED"},
		{"too short", "off", fill(0.1, 6), 6, false, "not judged: 6 rounds of 7"},
		{"nothing", "off", results{}, 7, false, "not measured"},
	} {
		var b bytes.Buffer
		if got := x.r.judge(&b, x.form, x.rounds); got != x.missed || !strings.Contains(b.String(), x.want) {
			t.Errorf("%s, offloads %s: missed %v:\n%s", x.name, x.form, got, &b)
		}
	}
	if s, _ := spreadOf([]float64{4, 1, 3, 2}); s != (spread{2.5, 1, 4}) {
		t.Errorf("spread %+v", s)
	}
}

// One short round of two products in the first form: every measurement works.
func TestOneRound(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	if testing.Short() {
		t.Skip("measures for seconds")
	}
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", dir+"/", "getvpn/bench/gw", "getvpn/bench/blast").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var b bytes.Buffer
	err := run(config{dir: dir, rounds: 1, seconds: 1, probes: 2, only: "plain,getvpn", tests: "tcp,udp,rtt", forms: "off"}, &b)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(b.String())
	for _, q := range []string{tcpRate, udpRate, "idle rtt p50 µs", "idle rtt p99 µs", "loaded rtt p50 µs", "loaded rtt p99 µs"} {
		_, after, ok := strings.Cut(b.String(), "\n"+q+"\n")
		if !ok || !strings.HasPrefix(after, "  plain ") || !strings.Contains(after, "\n  getvpn ") {
			t.Errorf("no line of both products for %s", q)
		}
	}
	if !strings.Contains(b.String(), "not judged: 1 rounds of 7") {
		t.Error("a verdict on one round, or none named")
	}
}
