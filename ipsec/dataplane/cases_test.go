package dataplane_test

// Cases that need traffic from the core itself: frames in clear.

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"getvpn/bench/static"
	"getvpn/bench/topology"
)

// Killed and restarted under a flood from both sides: what is protected dies or is
// sealed, never passes or is accepted in clear; the rest passes all the time.
func Test_esp_04_killed_and_restarted_under_flood(t *testing.T) {
	dir := bpffs(t)
	s := newSite(t, topology.Options{}, func(p *static.Policy) { p.BPFDir = dir })
	load := s.Cmd("h1", "ping", "-n", "-q", "-i", "0.002", "10.2.2.10")
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { load.Process.Kill(); load.Wait() }()
	denied := s.Cmd("gm1", "ping", "-n", "-i", "0.01", "-W", "2", "172.16.1.1")
	var said bytes.Buffer
	denied.Stdout = &said
	if err := denied.Start(); err != nil {
		t.Fatal(err)
	}
	defer denied.Process.Kill()

	// The core forges clear packets to h1, as fast as the flood.
	rx := s.listenUDP("h1", "10.1.1.10:9000")
	var stop atomic.Bool
	forged, accepted := make(chan int, 1), make(chan int, 1)
	s.sh("core", "ip addr add 10.2.2.99/32 dev lo")
	tx := s.listenUDP("core", "10.2.2.99:9000")
	go func() {
		n := 0
		for ; !stop.Load(); n++ {
			tx.WriteToUDPAddrPort([]byte("forged"), netip.MustParseAddrPort("10.1.1.10:9000"))
			time.Sleep(2 * time.Millisecond)
		}
		forged <- n
	}()
	go func() {
		n, b := 0, make([]byte, 100)
		for ; ; n++ {
			if _, err := rx.Read(b); err != nil {
				accepted <- n
				return
			}
		}
	}()

	times := 2
	if os.Getenv("GETVPN_SOAK") != "" {
		times = 10
	}
	ping := "ping -n -q -c 3 -i 0.05 -W 2 10.2.2.10"
	for i := range 2 * times {
		until(t, "traffic flows", 5*time.Second, func() bool { return s.gw[0].show().SA.EncapPackets > 50 })
		if i%2 == 0 {
			s.gw[0].kill()
		} else {
			s.gw[0].leave()
		}
		if out, err := s.Sh("h1", "ping -n -q -c 20 -i 0.01 -W 1 10.2.2.10"); err == nil {
			t.Errorf("a permit passed without a process:\n%s", out)
		}
		s.policy[0].SID = uint32(77 + i) // a restarted member has a new Sender ID
		s.start(0)
		s.sh("h1", ping)
	}
	stop.Store(true)
	n := <-forged
	rx.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if got := <-accepted; got != 0 || n < 100 {
		t.Errorf("%d of %d forged packets were accepted", got, n)
	}
	denied.Process.Signal(os.Interrupt)
	denied.Wait()
	var pings, answers int
	_, sum, _ := strings.Cut(said.String(), "statistics ---\n")
	_, err := fmt.Sscanf(sum, "%d packets transmitted, %d received", &pings, &answers)
	// The interrupt may come while the last answer is on its way.
	if last := strings.Contains(said.String(), fmt.Sprintf("icmp_seq=%d ", pings)); err != nil || answers < pings-1 || answers < pings && last {
		t.Errorf("what isn't protected: %d of %d answers\n%s", answers, pings, sum)
	}
	s.noneInClear()
}
