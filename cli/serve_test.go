package cli

import (
	"bufio"
	"bytes"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func serve(t *testing.T, c Control) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Serve(l, c) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return path
}

func TestSocketCarriesCommandsErrorsAndHelp(t *testing.T) {
	f := fixture(t)
	path := serve(t, f)
	a, text, err := Ask(path, Request{Command: "show crypto gdoi gm"})
	if err != nil || !a.OK || a.Hostname != "GM1" || !strings.Contains(text, "Registration status   : Registered") {
		t.Errorf("%+v %v\n%s", a, err, text)
	}
	if a, text, err = Ask(path, Request{Command: "show nonsense"}); err != nil || a.OK || !strings.HasSuffix(text, "^\n% Invalid input detected at '^' marker.\n\n") {
		t.Errorf("%+v %v %q", a, err, text)
	}
	if a, text, err = Ask(path, Request{Command: "sh", Help: true}); err != nil || !a.OK || text != "show\n" {
		t.Errorf("%+v %v %q", a, err, text)
	}
	if a, _, err = Ask(path, Request{}); err != nil || !a.OK || a.Hostname != "GM1" {
		t.Errorf("%+v %v", a, err)
	}
	if _, _, err = Ask(path, Request{Command: strings.Repeat("x", maxRequest)}); err == nil {
		t.Error("an endless command was sent")
	}
	if _, _, err = Ask(path+"none", Request{}); err == nil {
		t.Error("no daemon, no error")
	}
}

// A table of 2000 members arrives whole.
func TestSocketLongAnswer(t *testing.T) {
	f := fixture(t)
	f.fill(2000)
	_, text, err := Ask(serve(t, f), Request{Command: "show crypto gdoi ks members"})
	if n := strings.Count(text, "GM State"); err != nil || n != 2000 {
		t.Errorf("%d members, %v", n, err)
	}
}

// Clients that say nothing take slots, not the daemon: the next one is told at once, and
// when one leaves there is room again.
func TestSocketBoundsItsClients(t *testing.T) {
	path := serve(t, fixture(t))
	var held []net.Conn
	for range maxClients {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	var all bytes.Buffer
	if _, err := all.ReadFrom(c); err != nil || !strings.Contains(all.String(), "Too many sessions") {
		t.Errorf("%q %v", all.String(), err)
	}
	held[0].Close()
	for limit := time.Now().Add(30 * time.Second); ; {
		if a, _, err := Ask(path, Request{}); err == nil && a.OK {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("no room after a client left")
		}
	}
}

func TestSocketRefusesRubbish(t *testing.T) {
	path := serve(t, fixture(t))
	for _, in := range []string{"\n", "{\n", strings.Repeat("a", maxRequest+10) + "\n", `{"command":3}` + "\n"} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(30 * time.Second))
		c.Write([]byte(in))
		if line, _ := bufio.NewReader(c).ReadString('\n'); !strings.Contains(line, `"ok":false`) {
			t.Errorf("%.20q: %q", in, line)
		}
		c.Close()
	}
}

// Whatever is typed, the shell answers and doesn't fall over.
func FuzzExec(f *testing.F) {
	for _, s := range []string{"show crypto gdoi", "sh cry gdoi gr getvpn1 ks mem 1.2.3.4 | i x", "clear crypto gdoi", "show | ", "| count (", "no show"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		x := &Exec{Control: fixture(t)}
		x.Run(line, false)
		x.Help(line)
	})
}
