// Command getvpn is the shell of a running getvpnd: commands with -c, or a loop over
// the input. "getvpn check FILE" judges a configuration file without a daemon.
package main

import (
	"bufio"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"getvpn/cli"

	"golang.org/x/sys/unix"
)

// defaultSocket is where getvpnd listens unless told otherwise.
const defaultSocket = "/run/getvpn/getvpn.sock"

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run returns the exit status: 0, 1 when a command or file is bad, 2 for wrong usage.
func run(args []string, in io.Reader, out, errs io.Writer) int {
	f := flag.NewFlagSet("getvpn", flag.ContinueOnError)
	f.SetOutput(errs)
	socket := f.String("socket", defaultSocket, "control socket of the daemon")
	var lines []string
	f.Func("c", "run a command and exit; may be given several times, for configuration mode", func(s string) error {
		lines = append(lines, strings.Split(s, "\n")...)
		return nil
	})
	asJSON := f.Bool("json", false, "print the management model that a show command reads")
	f.Usage = func() {
		fmt.Fprintln(errs, "usage: getvpn [--socket PATH] [-c COMMAND [-c COMMAND]... [--json]]\n       getvpn check FILE")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return 2
	}
	s := &shell{socket: *socket, session: rand.Text(), out: out, errs: errs}
	switch {
	case f.NArg() == 2 && f.Arg(0) == "check":
		return check(f.Arg(1), out, errs)
	case f.NArg() > 0:
		f.Usage()
		return 2
	case len(lines) > 0:
		return s.script(lines, *asJSON)
	}
	s.person = terminal(in)
	return s.loop(in)
}

func check(file string, out, errs io.Writer) int {
	text, err := os.ReadFile(file)
	if err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	report, err := cli.Check(file, text)
	fmt.Fprint(out, report)
	if err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	return 0
}

// terminal reports whether a person types there.
func terminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// shell is one session with the daemon.
type shell struct {
	socket, session string
	person          bool
	out, errs       io.Writer
}

func (s *shell) ask(r cli.Request) (cli.Answer, string, bool) {
	r.Session = s.session
	a, text, err := cli.Ask(s.socket, r)
	if err != nil {
		fmt.Fprintln(s.errs, "getvpn:", err)
		return a, "", false
	}
	return a, text, true
}

// script runs commands until one fails. Changes of a configuration that wasn't left are
// dropped, and that is a failure.
func (s *shell) script(lines []string, asJSON bool) int {
	var last cli.Answer
	for _, line := range lines {
		a, text, ok := s.ask(cli.Request{Command: line, JSON: asJSON, Script: true})
		if !ok {
			return 1
		}
		fmt.Fprint(s.out, text)
		if !a.OK {
			s.abandon(a)
			return 1
		}
		last = a
	}
	if last.Config {
		s.abandon(last)
		fmt.Fprintln(s.errs, "getvpn: the commands end in configuration mode: nothing was applied; add -c end")
		return 1
	}
	return 0
}

// abandon drops a candidate.
func (s *shell) abandon(a cli.Answer) {
	if a.Config {
		s.ask(cli.Request{Command: "abort"})
	}
}

// loop reads commands until exit or the end of the input. Without a person the status
// tells whether all of them succeeded.
func (s *shell) loop(in io.Reader) int {
	a, _, ok := s.ask(cli.Request{})
	if !ok {
		return 1
	}
	status := 0
	lines := bufio.NewScanner(in)
	for {
		fmt.Fprint(s.out, a.Prompt)
		if !lines.Scan() {
			fmt.Fprintln(s.out)
			s.abandon(a)
			return status
		}
		text := lines.Text()
		if !a.Config {
			switch text = strings.TrimLeft(text, " "); strings.TrimSpace(text) {
			case "":
				continue
			case "exit", "logout", "quit", "end":
				return status
			}
		}
		r := cli.Request{Command: text, Asks: s.person}
		if head, ok := strings.CutSuffix(text, "?"); ok && a.Prompt != "" {
			r = cli.Request{Command: head, Help: true}
		}
		got, answer, ok := s.ask(r)
		if ok && got.Confirm {
			fmt.Fprint(s.out, answer)
			if !lines.Scan() || strings.ToLower(strings.TrimSpace(lines.Text())) != "yes" {
				continue
			}
			r.Confirmed = true
			got, answer, ok = s.ask(r)
		}
		if !ok {
			status = 1
			continue
		}
		if !got.OK && !s.person {
			status = 1
		}
		a = got
		fmt.Fprint(s.out, answer)
	}
}
