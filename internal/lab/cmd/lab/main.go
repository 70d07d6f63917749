// Command lab runs the demonstration (demo), leaves its topology or that of the case
// study running for the curious (up, case-study) and removes it again (down); "case-study
// check" leaves nothing. It needs root and the built programs in bin/; the check takes
// those of GETVPN_BIN if that names a folder.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"getvpn/internal/lab"
)

// keptDir and keptPrefix are of the one lab that "up" leaves running.
const (
	keptDir    = "/run/getvpn-lab"
	keptPrefix = "gvlab"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch strings.Join(args, " ") {
	case "demo":
		return demo()
	case "up":
		return up()
	case "case-study":
		return caseStudy()
	case "case-study check":
		return checkCaseStudy(lab.Options{Bin: os.Getenv("GETVPN_BIN")})
	case "down":
		return lab.Remove(keptDir)
	}
	return errors.New("usage: lab demo|up|case-study [check]|down")
}

// demo tells the story.
func demo() error {
	l, err := lab.New(lab.Options{KeyServers: 2})
	if err != nil {
		return err
	}
	return meanwhile(l, (&story{l: l}).tell)
}

// meanwhile runs f and removes the lab, also after Ctrl-C.
func meanwhile(l *lab.Lab, f func() error) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(stop)
	done := make(chan error, 1)
	go func() { done <- f() }()
	var err error
	select {
	case err = <-done:
	case sig := <-stop:
		err = fmt.Errorf("lab: %v", sig)
	}
	return errors.Join(err, l.Close())
}

// keep builds the lab that outlives this program.
func keep(o lab.Options) (*lab.Lab, error) {
	if _, err := os.Stat(filepath.Join(keptDir, "lab.json")); err == nil {
		return nil, fmt.Errorf("lab: one is running already in %s; make lab-down removes it", keptDir)
	}
	o.Dir, o.Keep = keptDir, true
	return lab.New(o)
}

// around tells how to look around.
func around(commands [][2]string) {
	fmt.Printf("\nThe lab runs. To look around:\n\n")
	for _, c := range commands {
		fmt.Printf("  %-82s  %s\n", c[0], c[1])
	}
	fmt.Printf("\nmake lab-down removes it.\n")
}

func up() error {
	l, err := keep(lab.Options{KeyServers: 2, Prefix: keptPrefix})
	if err != nil {
		return err
	}
	s := &story{l: l}
	for _, f := range []func() error{s.network, s.start, l.RouteMulticast, l.Detach} {
		if err := f(); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	around([][2]string{
		{"bin/getvpn --socket " + l.Dir + "/gm1.sock", "a shell at member 1 (also gm2, gm3, ks, ks2)"},
		{"bin/getvpn --socket " + l.Dir + `/ks.sock -c "show crypto gdoi ks rekey"`, "one command at a key server"},
		{"bin/getvpn --socket " + l.Dir + `/ks2.sock -c "show crypto gdoi ks coop"`, "who is primary"},
		{"bin/getvpn --socket " + l.Dir + `/ks.sock -c "crypto gdoi ks rekey replace-now"`, "new keys at once, by the primary"},
		{"bin/getvpn --socket " + l.Dir + `/ks.sock -c "clear crypto gdoi ks policy"`, "all new, the KEK too"},
		{"bin/getvpn --socket " + l.Dir + "/ks.sock", "a shell at a key server: configure terminal, …"},
		{fmt.Sprintf("kill -9 %d; tail -f %s/ks2.log", s.kss[0].PID(), l.Dir), "the primary dies, the other takes over"},
		{"ip netns exec " + l.NS("h1") + " ping " + lab.Host(2), "from host to host, encrypted"},
		{"ip netns exec " + l.NS("h1") + " ping " + lab.DeniedHost(2), "to the address that the list denies, in clear"},
		{"ip netns exec " + l.NS("core") + " tcpdump -n -i c1", "what the core sees"},
		{"tail -f " + l.Dir + "/gm1.log", "a member's log"},
	})
	return nil
}
