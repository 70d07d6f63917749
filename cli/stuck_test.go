package cli

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// descriptors of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	l, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(l)
}

// until waits for ok.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(60 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("never: %s", what)
		}
	}
}

// Fifty clients that ask for a long table and never read, twenty that send half a
// request, more than there are places: others are answered all the time, the stuck ones
// are closed when their time is up, and no descriptor is left.
func Test_scale_03_StuckClients(t *testing.T) {
	f := fixture(t)
	f.fill(1500)
	path := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	x := &server{x: &Exec{Control: f}, sessions: map[string]*remembered{}, limit: 2 * time.Second, patience: 20 * time.Millisecond}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := x.run(l); err != nil {
			t.Error(err)
		}
	})
	served := func() int {
		x.clients.mu.Lock()
		defer x.clients.mu.Unlock()
		return len(x.clients.m)
	}
	var held []net.Conn
	for i := range 70 {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		if i < 50 {
			fmt.Fprintln(c, `{"command":"show crypto gdoi ks members"}`)
		} else {
			fmt.Fprint(c, `{"command":"show`)
		}
	}
	for range 4 {
		until(t, "an answer beside stuck clients", func() bool {
			ans, text, err := Ask(path, Request{Command: "show crypto gdoi gm"})
			return err == nil && ans.OK && text != ""
		})
	}
	if served() < 20 {
		t.Logf("only %d were stuck at the end", served())
	}
	until(t, "stuck clients are closed", func() bool { return served() == 0 })
	for _, c := range held {
		c.Close()
	}
	until(t, "their descriptors are free", func() bool { return descriptors(t) <= before })
	l.Close()
	wg.Wait()
}
