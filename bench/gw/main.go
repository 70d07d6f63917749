// Command gw runs the dataplane of one gateway with a static policy: no key server,
// the same keys at both ends. It reads a Policy as JSON from its standard input, prints
// "up", and ends when its input does. A line "show" prints the model as JSON.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"getvpn/bench/static"
	"getvpn/ipsec/dataplane"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gw:", err)
		os.Exit(1)
	}
}

func run() error {
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	var p static.Policy
	if err := json.Unmarshal(line, &p); err != nil {
		return err
	}
	if p.CPUProfile != "" {
		stop, err := static.Profile(p.CPUProfile)
		if err != nil {
			return err
		}
		defer stop()
	}
	d, err := dataplane.Open(dataplane.Options{BPFDir: p.BPFDir, Queues: p.Queues, Backend: p.Backend})
	if err != nil {
		return err
	}
	defer d.Close(false)
	g, err := p.GroupPolicy()
	if err != nil {
		return err
	}
	if err := d.Configure(p.Interface, p.Settings); err != nil {
		return err
	}
	if err := d.Install(g); err != nil {
		return err
	}
	fmt.Println("up")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil
		}
		if line == "show\n" {
			b, err := json.Marshal(d.Model())
			if err != nil {
				return err
			}
			fmt.Println(string(b))
		}
	}
}
