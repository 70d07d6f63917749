// Command getvpnd is the key server and group member daemon. It reads an IOS-syntax
// configuration file, runs until SIGTERM or SIGINT, and reads the file again at SIGHUP
// (a bad file changes nothing).
//
// Exit codes: 0 ended as asked (or the file is good, with --check), 1 it couldn't
// start or stop cleanly, 2 wrong usage, 3 the configuration is bad.
//
// No secret is ever an argument: keys stand in the configuration file (0600) and the
// state directory.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"

	"getvpn/config"
	"getvpn/daemon"

	"golang.org/x/sys/unix"
)

const (
	exitOK = iota
	exitFailure
	exitUsage
	exitConfig
)

// version is set by the linker.
var version = "development"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	var o daemon.Options
	f := flag.NewFlagSet("getvpnd", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.ConfigFile, "config", "/etc/getvpn/getvpn.conf", "configuration `file`")
	f.StringVar(&o.Socket, "socket", "/run/getvpn/getvpn.sock", "control socket `path`")
	f.StringVar(&o.StateDir, "state-dir", "/var/lib/getvpn", "`directory` of keys and ledgers")
	f.StringVar(&o.BPFDir, "bpf-dir", "/sys/fs/bpf/getvpn", "`directory` on a bpf file system for pinned policy")
	f.StringVar(&o.TrackHook, "track-hook", "/etc/getvpn/track-hook", "`program` that is told of tracked objects (number, up or down), if it is there")
	f.IntVar(&o.Queues, "queues", 1, "dataplane queues of an interface")
	f.BoolVar(&o.Flush, "flush", false, "take the policy out of the kernel when ending")
	verbose := f.Bool("debug", false, "debug log on standard error")
	check := f.Bool("check", false, "read the configuration, say what is wrong, end")
	lockOnly := f.Bool("lock-only", false, "close interfaces for what fail-close or the last downloaded lists protect until a daemon attaches to them, end")
	showVersion := f.Bool("version", false, "print the version, end")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	if f.NArg() > 0 {
		fmt.Fprintf(stderr, "getvpnd: unexpected argument %q\n", f.Arg(0))
		return exitUsage
	}
	o.Console = stderr
	switch {
	case *showVersion:
		fmt.Fprintln(stdout, "getvpnd", version)
		return exitOK
	case *check:
		if err := daemon.Check(o.ConfigFile, stderr); err != nil {
			return fail(stderr, err)
		}
		return exitOK
	case *lockOnly:
		if err := daemon.LockOnly(o); err != nil {
			return fail(stderr, err)
		}
		return exitOK
	}
	if *verbose {
		o.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	harden(o.Log)
	tune()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	d, err := daemon.Start(o)
	if err != nil {
		return fail(stderr, err)
	}
	for s := range signals {
		if s != unix.SIGHUP {
			break
		}
		if err := d.Reload("signal"); err != nil {
			fmt.Fprintf(stderr, "getvpnd: the configuration stays as it was: %v\n", err)
		}
	}
	if err := d.Stop(); err != nil {
		return fail(stderr, err)
	}
	return exitOK
}

func fail(w io.Writer, err error) int {
	fmt.Fprintf(w, "getvpnd: %v\n", err)
	var bad config.Errors
	var lost *config.Problem
	if errors.As(err, &bad) || errors.As(err, &lost) {
		return exitConfig
	}
	return exitFailure
}

// harden keeps keys out of core dumps, other processes' reach and swap, as far as the
// system lets us.
func harden(log *slog.Logger) {
	note := func(what string, err error) {
		if err != nil && log != nil {
			log.Debug("hardening", "what", what, "error", err)
		}
	}
	note("dumpable", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	note("core limit", unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
	// With a finite limit a lock of future pages would make later allocations fail.
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil || lim.Cur != unix.RLIM_INFINITY && os.Geteuid() != 0 {
		return
	}
	note("memory lock", unix.Mlockall(unix.MCL_CURRENT|unix.MCL_FUTURE|unix.MCL_ONFAULT))
}

// tune lets the collector run half as often as by default, unless the environment says
// otherwise, and bounds the heap by half of the machine's memory.
func tune() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	var info unix.Sysinfo_t
	if os.Getenv("GOMEMLIMIT") == "" && unix.Sysinfo(&info) == nil {
		debug.SetMemoryLimit(int64(info.Totalram) * int64(info.Unit) / 2)
	}
}
