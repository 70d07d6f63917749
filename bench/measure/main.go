// Command measure compares the dataplane with plain forwarding and with other
// products, interleaved, in one run on the same namespaces, and prints medians, their
// spread and ratios, and whether the targets are met. It needs root, iperf3, ping and
// ethtool. Exit status 1: a target is missed, in a run long enough to say so, or a
// measurement failed. Only ratios count; absolute values are the machine's.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"getvpn/bench/topology"
	"getvpn/bench/yardstick"
)

type config struct {
	dir, only, tests, profile string
	forms                     string
	rounds, seconds, probes   int
}

func main() {
	var c config
	flag.StringVar(&c.dir, "bin", "", "folder with the built gw, blast and wgo")
	flag.IntVar(&c.rounds, "rounds", judgedRounds, "interleaved runs")
	flag.IntVar(&c.seconds, "seconds", 2, "length of one TCP stream")
	flag.IntVar(&c.probes, "probes", 7, "steps of the search for a packet rate, a second each")
	flag.StringVar(&c.only, "products", "plain,getvpn,wireguard-go,libipsec", "what to measure")
	flag.StringVar(&c.tests, "tests", "tcp,udp,rtt", "what of it; also flood")
	flag.StringVar(&c.forms, "offloads", "off,on", "forms to run: the WAN links' offloads off, or on")
	flag.StringVar(&c.profile, "profile", "", "write CPU profiles of the gateways to this path with .1 and .2")
	flag.Parse()
	if err := run(c, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

var errMissed = errors.New("a target is missed")

// run measures every form and prints it when it is done.
func run(c config, w io.Writer) error {
	if c.rounds < 1 || c.seconds < 1 || c.probes < 1 {
		return fmt.Errorf("rounds, seconds and probes are at least 1")
	}
	missed := false
	for _, form := range strings.Split(c.forms, ",") {
		if form != "off" && form != "on" {
			return fmt.Errorf("offloads are off or on, not %q", form)
		}
		got, err := runForm(c, form)
		if err != nil {
			return fmt.Errorf("offloads %s: %w", form, err)
		}
		fmt.Fprintf(w, "\nWAN offloads %s, AES-128-GCM, %d interleaved rounds\n", form, c.rounds)
		got.print(w, strings.Split(c.only, ","))
		missed = got.judge(w, form, c.rounds) || missed
	}
	if missed {
		return errMissed
	}
	return nil
}

func runForm(c config, form string) (results, error) {
	net, err := topology.Up(fmt.Sprintf("bm%d", os.Getpid()%100000), topology.Options{WANOffload: form == "on"})
	if err != nil {
		return nil, err
	}
	defer net.Down()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	tmp, err := os.MkdirTemp("", "measure")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	pair := yardstick.Pair{NS: [2]string{net.NS("gm1"), net.NS("gm2")},
		WAN: [2]netipAddr{topology.GM1, topology.GM2}, LAN: [2]netipPrefix{topology.LAN1, topology.LAN2},
		Dir: tmp, WGO: filepath.Join(c.dir, "wgo")}
	products, err := choose(c, net)
	if err != nil {
		return nil, err
	}
	b := bench{c: c, net: net, got: results{}}
	for r := range c.rounds {
		for _, p := range products {
			select {
			case s := <-interrupted:
				return nil, fmt.Errorf("%v in round %d", s, r+1)
			default:
			}
			down, err := p.Up(pair)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.Name, err)
			}
			err = b.measure(p.Name)
			if err = errors.Join(err, down()); err != nil {
				return nil, fmt.Errorf("%s: %w", p.Name, err)
			}
		}
		slices.Reverse(products) // nobody always follows the same one
		fmt.Fprintf(os.Stderr, "offloads %s: round %d of %d\n", form, r+1, c.rounds)
	}
	return b.got, nil
}

// choose finds the products by name.
func choose(c config, net *topology.Net) (products []yardstick.Yardstick, err error) {
	known := append(yardstick.All(), ours(c, net))
	for _, name := range strings.Split(c.only, ",") {
		i := slices.IndexFunc(known, func(y yardstick.Yardstick) bool { return y.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no product %q", name)
		}
		products = append(products, known[i])
	}
	return products, nil
}
