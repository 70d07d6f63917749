package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"getvpn/cli"
	"getvpn/config"
	"getvpn/model"
)

type daemon struct{}

func (daemon) Snapshot() *model.Snapshot     { return &model.Snapshot{Hostname: "gm1"} }
func (daemon) RunningConfig() *config.Config { return config.New() }
func (daemon) ClearGDOI(string) error        { return nil }

func socket(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go cli.Serve(l, daemon{})
	return path
}

func call(in string, args ...string) (int, string, string) {
	var out, errs bytes.Buffer
	n := run(args, strings.NewReader(in), &out, &errs)
	return n, out.String(), errs.String()
}

func TestOneCommand(t *testing.T) {
	s := socket(t)
	if n, out, _ := call("", "--socket", s, "-c", "show privilege"); n != 0 || out != "Current privilege level is 15\n" {
		t.Errorf("%d %q", n, out)
	}
	if n, out, _ := call("", "--socket", s, "-c", "show crypto gdoi", "--json"); n != 0 || !strings.Contains(out, `"Hostname": "gm1"`) {
		t.Errorf("%d %q", n, out)
	}
	if n, out, _ := call("", "--socket", s, "-c", "show nothing"); n != 1 || !strings.Contains(out, "% Invalid input detected at '^' marker.") {
		t.Errorf("%d %q", n, out)
	}
	if n, _, errs := call("", "--socket", s+"x", "-c", "show clock"); n != 1 || !strings.Contains(errs, "no daemon answers") {
		t.Errorf("%d %q", n, errs)
	}
	if n, _, _ := call("", "what"); n != 2 {
		t.Errorf("wrong usage: %d", n)
	}
}

func TestLoop(t *testing.T) {
	n, out, _ := call("show priv\n\nshow cl?\nexit\nshow never\n", "--socket", socket(t))
	if n != 0 || out != "gm1#Current privilege level is 15\ngm1#gm1#clock\ngm1#" {
		t.Errorf("%d %q", n, out)
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) string {
		f := filepath.Join(dir, "f.conf")
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	if n, out, errs := call("", "check", file("hostname x\n")); n != 0 || !strings.Contains(out, "no errors") {
		t.Errorf("%d %q %q", n, out, errs)
	}
	f := file("hostname x\ncrypto isakmp policy 1\n encr eas\n")
	if n, _, errs := call("", "check", f); n != 1 || !strings.Contains(errs, f+":3:7: Invalid input. Did you mean \"aes\"?\n   encr eas\n        ^") {
		t.Errorf("%d %q", n, errs)
	}
	f = file("crypto map M 10 gdoi\n set group NONE\n")
	if n, _, errs := call("", "check", f); n != 1 || !strings.Contains(errs, f+":1: crypto map M 10: there is no group NONE") {
		t.Errorf("%d %q", n, errs)
	}
	if n, _, _ := call("", "check", dir+"/none"); n != 1 {
		t.Errorf("missing file: %d", n)
	}
}
