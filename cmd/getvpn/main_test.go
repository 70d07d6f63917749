package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"getvpn/cli"
	"getvpn/config"
	"getvpn/model"
)

// daemon is one with a configuration and nothing else.
type daemon struct {
	mu    sync.Mutex
	conf  *config.Config
	acted []cli.Action
	saved int
}

func (d *daemon) Snapshot() *model.Snapshot {
	return &model.Snapshot{Hostname: d.RunningConfig().Hostname}
}

func (d *daemon) RunningConfig() *config.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conf
}

func (d *daemon) Apply(base, next *config.Config, by cli.Caller) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if base != d.conf {
		return &cli.Changed{By: by}
	}
	d.conf = next
	return nil
}

func (d *daemon) Save(cli.Caller) error { d.saved++; return nil }

func (d *daemon) Act(a cli.Action, _ cli.Caller) error { d.acted = append(d.acted, a); return nil }

func socket(t *testing.T) string {
	t.Helper()
	path, _ := withDaemon(t)
	return path
}

func withDaemon(t *testing.T) (string, *daemon) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d := &daemon{conf: config.New()}
	d.conf.Hostname = "gm1"
	go cli.Serve(l, d)
	return path, d
}

// Configuration by -c and by standard input: applied at the end, refused with the line,
// dropped when it isn't left.
func TestConfigurationFromScripts(t *testing.T) {
	s, d := withDaemon(t)
	if n, out, errs := call("", "--socket", s, "-c", "configure terminal", "-c", "hostname ks1", "-c", "ip cef", "-c", "end", "-c", "write memory"); n != 0 || d.RunningConfig().Hostname != "ks1" || d.saved != 1 {
		t.Errorf("%d %q %q", n, out, errs)
	}
	if n, _, errs := call("", "--socket", s, "-c", "conf t\nhostname ks2"); n != 1 || d.RunningConfig().Hostname != "ks1" || !strings.Contains(errs, "end in configuration mode") {
		t.Errorf("%d %q", n, errs)
	}
	n, out, _ := call("", "--socket", s, "-c", "conf t", "-c", "hostname ks3", "-c", "crypto isakmp key hunter2 adress 10.0.0.1", "-c", "end")
	if n != 1 || d.RunningConfig().Hostname != "ks1" || !strings.Contains(out, "^") || strings.Contains(out, "hunter2") {
		t.Errorf("%d %q", n, out)
	}
	n, out, _ = call("configure terminal\ninterface eth0\nip tcp adjust-mss 1360\nexit\nhostname ks4\nend\n", "--socket", s)
	want := "ks1#Enter configuration commands, one per line.  End with CNTL/Z.\nks1(config)#ks1(config-if)#ks1(config-if)#ks1(config)#ks4(config)#ks4#\n"
	if n != 0 || out != want || d.RunningConfig().Hostname != "ks4" {
		t.Errorf("%d %q\nwant %q", n, out, want)
	}
	if n, _, _ := call("conf t\nhostname ks5\nnonsense\n", "--socket", s); n != 1 || d.RunningConfig().Hostname != "ks4" {
		t.Errorf("%d", n)
	}
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
