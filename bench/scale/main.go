// Command scale measures how a key server stands many members: a rekey of all of them
// with everybody's acknowledgement, registrations, and a crowd that comes back at once
// because no rekey reached it, and a second key server that joins late. Key server and members are two processes with real UDP
// sockets on the loopback interface of a network namespace of their own, which goes
// with them. Beside each figure stands what it can't be better than, measured in the
// same run. It needs root and ip. Exit status 1: a measurement failed; a goal that is
// missed is marked MISSED in the output and isn't an error.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

type options struct {
	members, rounds, parallel int
	only, sign, profile       string
	life                      time.Duration // of the crowd's TEK
	bare                      time.Duration
}

func main() {
	if err := role(os.Getenv(roleVar), os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "scale:", err)
		}
		os.Exit(1)
	}
}

// role runs what this process is for; a user's is none of the named ones.
func role(name string, args []string, w io.Writer) error {
	switch name {
	case "":
		if _, err := parse(args); err != nil {
			return err
		}
		return enter(args, w)
	case "inside":
		o, err := parse(args)
		if err != nil {
			return err
		}
		return inside(o, w)
	case keyServerRole:
		return serve(name, &KeyServer{})
	case crowdRole:
		return serve(name, &Crowd{})
	}
	return fmt.Errorf("no role %q", name)
}

// Roles are the names of the children and of what they serve.
const (
	keyServerRole = "keyserver"
	crowdRole     = "crowd"
)

// sections are the measurements.
var sections = []string{"rekey", "register", "crowd", "late"}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("scale", flag.ContinueOnError)
	f.IntVar(&o.members, "n", 10000, "members")
	f.IntVar(&o.rounds, "rounds", 7, "interleaved rounds of the rekey; registrations take half as many")
	f.IntVar(&o.parallel, "parallel", 64, "registrations at a time, where the members don't choose the moment")
	f.StringVar(&o.only, "only", strings.Join(sections, ","), "what to measure")
	f.StringVar(&o.sign, "sign", "rsa", "signature of rekeys: rsa (2048 bits) or ecdsa (P-256)")
	f.StringVar(&o.profile, "profile", "", "write CPU profiles to this path with the section and the side behind it, and profiles of allocation beside them")
	f.DurationVar(&o.life, "life", 240*time.Second, "life of the crowd's TEK")
	f.DurationVar(&o.bare, "bare", time.Second, "how long public-key operations alone are measured, before and after each round of registrations")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("what is %q?", f.Arg(0))
	case o.members < 1 || o.members > most:
		return o, fmt.Errorf("members: 1 to %d", most)
	case o.rounds < 1 || o.parallel < 1:
		return o, errors.New("rounds and parallel are at least 1")
	}
	for _, s := range strings.Split(o.only, ",") {
		if !slices.Contains(sections, s) {
			return o, fmt.Errorf("no section %q: there are %s", s, strings.Join(sections, ", "))
		}
	}
	return o, nil
}

// enter runs this program again in a network namespace of its own.
func enter(args []string, w io.Writer) error {
	c := self("inside", args...)
	c.Stdout = w
	c.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	if err := c.Run(); err != nil {
		return fmt.Errorf("in a network namespace: %w", err)
	}
	return nil
}
