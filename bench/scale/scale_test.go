package main

import (
	"bytes"
	"errors"
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// This binary is also the program whose children it starts.
func TestMain(m *testing.M) {
	if name := os.Getenv(roleVar); name != "" {
		if err := role(name, os.Args[1:], os.Stdout); err != nil {
			os.Stderr.WriteString("scale: " + err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// The whole program with a few members: it runs to its end, says what it measured, and
// every member registers, verifies every rekey and comes back.
func TestFewMembers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	var out bytes.Buffer
	if err := role("", []string{"-n", "20", "-rounds", "1", "-bare", "20ms", "-life", "8s"}, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{
		"rekey of 20 members by unicast", " rekeys verified, 0 refused", "octets an acknowledgement", "octets live",
		"registration of 20 members, main mode and GROUPKEY-PULL, Diffie-Hellman group 14",
		"registration of 20 members, main mode and GROUPKEY-PULL, Diffie-Hellman group 19",
		"20 members register again",
		"a key server joins one that has 20 members and 100 permits", "loss 1 %: registers members after", "IP fragments 0, goal 0: met",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it doesn't say %q", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

func TestArguments(t *testing.T) {
	for _, bad := range [][]string{{"-n", "0"}, {"-n", "70000"}, {"-rounds", "0"}, {"-parallel", "0"}, {"-only", "nothing"}, {"more"}, {"-what"}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
	if _, err := parse([]string{"-h"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("help: %v", err)
	}
	if err := role("nobody", nil, nil); err == nil {
		t.Error("a role that doesn't exist")
	}
}

func TestAddresses(t *testing.T) {
	for _, i := range []int{0, 1, 254, 255, 256, most - 1} {
		if a := memberAddr(i); memberIndex(a, most) != i || !crowdNet.Contains(a) {
			t.Errorf("member %d is %v, which is member %d", i, a, memberIndex(a, most))
		}
	}
	for _, a := range []netip.Addr{keyServer, crowdNet.Addr(), memberAddr(5), netip.IPv6Loopback(), {}} {
		if i := memberIndex(a, 5); i >= 0 {
			t.Errorf("%v is member %d of 5", a, i)
		}
	}
}

func TestSpread(t *testing.T) {
	s := spreadOf([]time.Duration{5, 1, 9, 3}, func(d time.Duration) float64 { return float64(d) })
	if s != (spread{4, 1, 9}) || s.text("%.0f") != "4 (1–9)" {
		t.Errorf("%+v %q", s, s.text("%.0f"))
	}
	if s := spreadOf[int](nil, nil); s != (spread{}) {
		t.Errorf("%+v", s)
	}
}
