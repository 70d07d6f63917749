// Command getvpn is the shell of a running getvpnd: one command with -c, or a simple
// loop. "getvpn check FILE" judges a configuration file without a daemon.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"getvpn/cli"
)

// defaultSocket is where getvpnd listens unless told otherwise.
const defaultSocket = "/run/getvpn/getvpn.sock"

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run returns the exit status: 0, 1 when a command or file is bad, 2 for wrong usage.
func run(args []string, in io.Reader, out, errs io.Writer) int {
	f := flag.NewFlagSet("getvpn", flag.ContinueOnError)
	f.SetOutput(errs)
	socket := f.String("socket", defaultSocket, "control socket of the daemon")
	line := f.String("c", "", "run one command and exit")
	asJSON := f.Bool("json", false, "print the management model that a show command reads")
	f.Usage = func() {
		fmt.Fprintln(errs, "usage: getvpn [--socket PATH] [-c COMMAND [--json]]\n       getvpn check FILE")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return 2
	}
	switch {
	case f.NArg() == 2 && f.Arg(0) == "check":
		return check(f.Arg(1), out, errs)
	case f.NArg() > 0:
		f.Usage()
		return 2
	case *line != "":
		return one(*socket, cli.Request{Command: *line, JSON: *asJSON}, out, errs)
	}
	return loop(*socket, in, out, errs)
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

func one(socket string, r cli.Request, out, errs io.Writer) int {
	a, text, err := cli.Ask(socket, r)
	if err != nil {
		fmt.Fprintln(errs, "getvpn:", err)
		return 1
	}
	fmt.Fprint(out, text)
	if !a.OK {
		return 1
	}
	return 0
}

// loop reads commands until exit or the end of the input.
func loop(socket string, in io.Reader, out, errs io.Writer) int {
	a, _, err := cli.Ask(socket, cli.Request{})
	if err != nil {
		fmt.Fprintln(errs, "getvpn:", err)
		return 1
	}
	lines := bufio.NewScanner(in)
	for {
		fmt.Fprintf(out, "%s#", a.Hostname)
		if !lines.Scan() {
			fmt.Fprintln(out)
			return 0
		}
		text := strings.TrimLeft(lines.Text(), " ")
		switch w := strings.TrimSpace(text); w {
		case "":
			continue
		case "exit", "logout", "quit", "end":
			return 0
		}
		r := cli.Request{Command: text}
		if head, ok := strings.CutSuffix(text, "?"); ok {
			r = cli.Request{Command: head, Help: true}
		}
		got, answer, err := cli.Ask(socket, r)
		if err != nil {
			fmt.Fprintln(errs, "getvpn:", err)
			continue
		}
		a = got
		fmt.Fprint(out, answer)
	}
}
