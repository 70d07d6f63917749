// Command measure compares the dataplane with plain forwarding and with other
// products, interleaved, in one run on the same namespaces, and prints medians, their
// spread and ratios. It needs root, iperf3, ping and ethtool.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"getvpn/bench/topology"
	"getvpn/bench/yardstick"
)

func main() {
	var c config
	flag.StringVar(&c.dir, "bin", "", "folder with the built gw, blast and wgo")
	flag.IntVar(&c.rounds, "rounds", 7, "interleaved runs")
	flag.IntVar(&c.seconds, "seconds", 2, "length of one throughput measurement")
	flag.StringVar(&c.only, "products", "plain,getvpn,wireguard-go,libipsec", "what to measure")
	flag.StringVar(&c.tests, "tests", "tcp,udp,rtt", "what of it")
	flag.BoolVar(&c.offloads, "offloads", false, "leave the WAN links' offloads on")
	flag.StringVar(&c.profile, "profile", "", "write CPU profiles of the gateways to this path with .1 and .2")
	flag.Parse()
	if err := run(c); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

type config struct {
	dir, only, tests, profile string
	rounds, seconds           int
	offloads                  bool
}

func run(c config) error {
	net, err := topology.Up(fmt.Sprintf("bm%d", os.Getpid()%100000), topology.Options{WANOffload: c.offloads})
	if err != nil {
		return err
	}
	defer net.Down()
	tmp, err := os.MkdirTemp("", "measure")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	pair := yardstick.Pair{NS: [2]string{net.NS("gm1"), net.NS("gm2")},
		WAN: [2]netipAddr{topology.GM1, topology.GM2}, LAN: [2]netipPrefix{topology.LAN1, topology.LAN2},
		Dir: tmp, WGO: filepath.Join(c.dir, "wgo")}
	var products []yardstick.Yardstick
	for _, name := range strings.Split(c.only, ",") {
		if name == "getvpn" {
			products = append(products, ours(c, net))
			continue
		}
		for _, y := range yardstick.All() {
			if y.Name == name {
				products = append(products, y)
			}
		}
	}
	b := bench{c: c, net: net, got: map[string]map[string][]float64{}}
	for r := range c.rounds {
		for _, p := range products {
			down, err := p.Up(pair)
			if err != nil {
				return err
			}
			err = b.measure(p.Name)
			if derr := down(); err == nil {
				err = derr
			}
			if err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", r+1, c.rounds)
	}
	b.print(products)
	return nil
}
