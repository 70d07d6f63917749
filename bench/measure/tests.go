package main

// The measurements: one TCP stream by iperf3, the rate of 64-octet UDP datagrams at
// which fewer than 0.5 % are lost, and round-trip times on the idle and the loaded
// path.

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"getvpn/bench/static"
	"getvpn/bench/topology"
	"getvpn/bench/yardstick"
)

type (
	netipAddr   = netip.Addr
	netipPrefix = netip.Prefix
)

// ours runs bench/gw at both gateways.
func ours(c config, net *topology.Net) yardstick.Yardstick {
	return yardstick.Yardstick{Name: "getvpn", Up: func(yardstick.Pair) (func() error, error) {
		var stops []func() error
		down := func() error {
			for _, s := range stops {
				if err := s(); err != nil {
					return err
				}
			}
			return nil
		}
		for i, gm := range []string{"gm1", "gm2"} {
			p := static.Policy{Interface: "wan", SPI: 0x1000, SID: uint32(i + 1),
				Permit: [][2]netip.Prefix{{topology.LAN1, topology.LAN2}}}
			if c.profile != "" {
				p.CPUProfile = fmt.Sprintf("%s.%d", c.profile, i+1)
			}
			stop, err := gateway(c, net, gm, p)
			if err != nil {
				down()
				return nil, err
			}
			stops = append(stops, stop)
		}
		return down, nil
	}}
}

func gateway(c config, net *topology.Net, gm string, p static.Policy) (func() error, error) {
	cmd := net.Cmd(gm, filepath.Join(c.dir, "gw"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := bufio.NewReader(out)
	if err := json.NewEncoder(in).Encode(p); err != nil {
		return nil, err
	}
	if line, err := r.ReadString('\n'); line != "up\n" {
		cmd.Process.Kill()
		return nil, fmt.Errorf("gateway %s didn't start: %q %w", gm, line, err)
	}
	return func() error {
		if os.Getenv("MEASURE_SHOW") != "" {
			io.WriteString(in, "show\n")
			line, _ := r.ReadString('\n')
			fmt.Fprintln(os.Stderr, gm, line)
		}
		in.Close()
		err := cmd.Wait()
		if os.Getenv("MEASURE_SHOW") != "" {
			fmt.Fprintln(os.Stderr, gm, "CPU time", cmd.ProcessState.UserTime(), cmd.ProcessState.SystemTime())
		}
		return err
	}, nil
}

type bench struct {
	c   config
	net *topology.Net
	got results
}

func (b *bench) measure(product string) error {
	for _, t := range strings.Split(b.c.tests, ",") {
		var err error
		switch t {
		case "tcp":
			var v float64
			if v, err = b.tcp(); err == nil {
				b.got.note(product, tcpRate, v)
			}
		case "udp":
			var v float64
			if v, err = b.udp(); err == nil {
				b.got.note(product, udpRate, v)
			}
		case "flood":
			var got int
			if _, got, err = b.blast(0); err == nil {
				b.got.note(product, "udp64 flood kpps", float64(got)/udpSeconds/1000)
			}
		case "rtt":
			err = b.rtt(product, "idle", 200, "0.01")
			if err == nil {
				err = b.loaded(product)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) server() (*exec.Cmd, error) {
	s := b.net.Cmd("h2", "iperf3", "-s", "-1", "--forceflush")
	out, err := s.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.Start(); err != nil {
		return nil, err
	}
	r := bufio.NewReader(out)
	for { // until it listens
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("iperf3 server: %w", err)
		}
		if strings.Contains(line, "listening") {
			break
		}
	}
	go io.Copy(io.Discard, r)
	return s, nil
}

func (b *bench) tcp() (float64, error) {
	s, err := b.server()
	if err != nil {
		return 0, err
	}
	defer s.Wait()
	out, err := b.net.Cmd("h1", "iperf3", "-J", "-c", topology.H2.String(), "-t", strconv.Itoa(b.c.seconds), "-O", "0.3").Output()
	if err != nil {
		s.Process.Kill()
		return 0, fmt.Errorf("iperf3: %w: %s", err, out)
	}
	var j struct {
		End struct {
			SumReceived struct {
				Bps float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(out, &j); err != nil {
		return 0, err
	}
	return j.End.SumReceived.Bps / 1e9, nil
}

// udpSeconds is the length of one probe of the packet rate.
const udpSeconds = 1

// udp searches the largest offered rate that loses less than 0.5 %, and returns what
// arrived, in thousands a second.
func (b *bench) udp() (float64, error) {
	low, high, best := 0, 400000, 0.0
	for range b.c.probes {
		rate := (low + high) / 2
		sent, got, err := b.blast(rate)
		if err != nil {
			return 0, err
		}
		// The sender must have reached the rate; else the machine can't offer more.
		if got >= sent-sent/200 && sent > 0 && sent >= rate*udpSeconds*9/10 {
			low = rate
			best = max(best, float64(got)/udpSeconds/1000)
		} else {
			high = rate
		}
	}
	return best, nil
}

func (b *bench) blast(rate int) (sent, got int, err error) {
	secs := strconv.Itoa(udpSeconds)
	sink := b.net.Cmd("h2", filepath.Join(b.c.dir, "blast"), "sink", "9000", strconv.Itoa(udpSeconds+2))
	out, err := sink.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := sink.Start(); err != nil {
		return 0, 0, err
	}
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); line != "ready\n" {
		return 0, 0, fmt.Errorf("sink: %q %w", line, err)
	}
	o, err := b.net.Cmd("h1", filepath.Join(b.c.dir, "blast"), "send", topology.H2.String()+":9000", "64", strconv.Itoa(rate), secs).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("blast: %w: %s", err, o)
	}
	line, err := r.ReadString('\n')
	if err != nil {
		return 0, 0, err
	}
	fmt.Sscan(string(o), &sent)
	fmt.Sscan(line, &got)
	return sent, got, sink.Wait()
}

var rttTime = regexp.MustCompile(`time=([0-9.]+) ms`)

func (b *bench) rtt(product, what string, n int, interval string) error {
	out, err := b.net.Cmd("h1", "ping", "-n", "-c", strconv.Itoa(n), "-i", interval, topology.H2.String()).Output()
	if err != nil && len(out) == 0 {
		return err
	}
	var v []float64
	for _, m := range rttTime.FindAllSubmatch(out, -1) {
		f, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return err
		}
		v = append(v, f*1000)
	}
	if len(v) < n/2 {
		return fmt.Errorf("ping: %d of %d came back", len(v), n)
	}
	slices.Sort(v)
	b.got.note(product, what+" rtt p50 µs", v[len(v)/2])
	b.got.note(product, what+" rtt p99 µs", v[len(v)*99/100])
	return nil
}

func (b *bench) loaded(product string) error {
	s, err := b.server()
	if err != nil {
		return err
	}
	defer s.Wait()
	load := b.net.Cmd("h1", "iperf3", "-c", topology.H2.String(), "-t", strconv.Itoa(b.c.seconds))
	if err := load.Start(); err != nil {
		s.Process.Kill()
		return err
	}
	err = b.rtt(product, "loaded", 80*b.c.seconds, "0.01")
	load.Wait()
	return err
}
