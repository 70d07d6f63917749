package main

// The demonstration, step by step. Every step checks what it claims: a number that
// isn't what it should be ends the story with an error.

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"getvpn/internal/lab"
)

type story struct {
	l   *lab.Lab
	kss []*lab.Daemon // the key servers
	ks  *lab.Daemon   // the one of them that is primary
	gms []*lab.Daemon
	n   int

	frame []byte // an ESP frame from h1 to h2 as the core saw it
	load  *load  // of the later steps
}

func (s *story) tell() error {
	begin := time.Now()
	steps := []struct {
		title string
		do    func() error
	}{
		{"A network: two key servers, three sites, a core that only routes", s.network},
		{"The key servers elect a primary, the members register", s.start},
		{"What a key server and a member know", s.show},
		{"Hosts talk: ping and a file", s.unicast},
		{"What the core saw of it", s.coreSaw},
		{"Multicast: one site sends, two receive", s.multicast},
		{"A host that the list denies goes in clear", s.denied},
		{"Replayed and forged packets die and are counted", s.forged},
		{"Throughput, one TCP stream, everything on this machine", s.throughput},
		{"A load that stays", s.loadUp},
		{"A rekey under this load", s.rekey},
		{"A policy change under this load, in the key server's configuration mode", s.policyChange},
		{"A KEK rollover under this load: the key that protects rekeys", s.kekRollover},
		{"The primary key server dies under this load", s.failover},
		{"It comes back, as secondary", s.comesBack},
		{"In clear, all the time", s.clear},
	}
	for _, step := range steps {
		s.n++
		fmt.Printf("\n%d. %s\n\n", s.n, step.title)
		if err := step.do(); err != nil {
			s.logs()
			return fmt.Errorf("step %d, %s: %w", s.n, step.title, err)
		}
	}
	fmt.Printf("\nDone in %.0f s: every number above was checked.\n", time.Since(begin).Seconds())
	return nil
}

func say(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

// quote prints the first lines of an output.
func quote(out string, lines int) {
	all := strings.Split(strings.Trim(out, "\n"), "\n")
	for i, line := range all {
		if i == lines {
			say("   | … %d more lines", len(all)-lines)
			return
		}
		say("   | %s", line)
	}
}

// logs shows the end of every daemon's log after a failure.
func (s *story) logs() {
	for _, d := range s.daemons() {
		if d == nil {
			continue
		}
		lastWords(d)
	}
}

func lastWords(d *lab.Daemon) {
	out := strings.Split(strings.TrimSpace(d.Output()), "\n")
	fmt.Printf("\n   last lines of %s's log:\n", d.Node)
	quote(strings.Join(out[max(0, len(out)-12):], "\n"), 12)
}

func (s *story) network() error {
	say("ks  %-10s ────────┐        ┌──────── %s ks2", lab.KSAddr(1), lab.KSAddr(2))
	say("h1  %-10s ── gm1 ─┼─ core ─┼─ gm2 ── %s h2", lab.Host(1), lab.Host(2))
	say("                       └────────┴─ gm3 ── %s h3", lab.Host(3))
	// Counted for the whole story, before routing, by the core's own kernel.
	protected := "ip saddr 10.1.0.0/16 ip daddr { 10.1.0.0/16, 239.1.0.0/16 }"
	return s.l.Count("core", map[string]string{
		"esp":    protected + " ip protocol esp",
		"clear":  protected + " ip protocol != esp ip saddr != " + lab.DeniedHost(2) + " ip daddr != " + lab.DeniedHost(2),
		"denied": protected + " ip protocol != esp ip daddr " + lab.DeniedHost(2),
		"hidden": "ip saddr { " + lab.Host(1) + ", " + lab.DeniedHost(2) + " } ip daddr { " + lab.Host(1) + ", " + lab.DeniedHost(2) + " } ip protocol esp",
	})
}

// conf finds an example configuration.
func conf(node string) string { return filepath.Join("examples", "demo", node+".conf") }

func (s *story) start() error {
	if err := s.l.SigningKey("DEMO-KEY", lab.KSNode(1), lab.KSNode(2)); err != nil {
		return err
	}
	for n := 1; n <= s.l.KeyServers; n++ {
		d, err := s.l.Daemon(lab.KSNode(n), conf(lab.KSNode(n)))
		if err != nil {
			return err
		}
		s.kss = append(s.kss, d)
	}
	s.ks = s.kss[0]
	if err := roles(s.kss[0], s.kss[1]); err != nil {
		return err
	}
	for n := 1; n <= s.l.Members; n++ {
		d, err := s.l.Daemon(fmt.Sprintf("gm%d", n), conf(fmt.Sprintf("gm%d", n)))
		if err != nil {
			return err
		}
		s.gms = append(s.gms, d)
	}
	for _, d := range s.gms {
		if err := d.Registered(time.Minute); err != nil {
			return err
		}
		if err := d.Says(time.Minute, "GM_REGS_COMPL"); err != nil {
			return err
		}
	}
	line := regexp.MustCompile(`.*%(GDOI|CRYPTO)-.*`)
	for _, d := range s.daemons() {
		say("%s says:", d.Node)
		quote(strings.Join(line.FindAllString(d.Output(), -1), "\n"), 6)
	}
	return s.spread()
}

func (s *story) show() error {
	for _, d := range []*lab.Daemon{s.ks, s.gms[0]} {
		out, err := d.Show("show crypto gdoi")
		if err != nil {
			return err
		}
		if !strings.Contains(out, "DEMO") {
			return fmt.Errorf("the group isn't in the output:\n%s", out)
		}
		say("%s# show crypto gdoi", d.Node)
		quote(out, 28)
	}
	return nil
}

func (s *story) unicast() error {
	// Large enough for a few seconds; the pings' frames are captured whole, so that a
	// later step can forge one.
	c, err := s.l.Capture("core-c1", "core", "c1", 0, "net 10.1.0.0/16")
	if err != nil {
		return err
	}
	out, err := s.l.Ping("h1", lab.Host(2), 20)
	if err != nil {
		return errors.Join(err, errors.New(out))
	}
	frames, err := c.Stop()
	if err != nil {
		return err
	}
	for _, line := range strings.Split(out, "\n") {
		if strings.Contains(line, "packets transmitted") || strings.Contains(line, "rtt") {
			say("ping h1 to h2: %s", line)
		}
	}
	for _, f := range frames {
		if p, ok := f.IP(); ok && p.Proto == lab.ESP && p.Src.String() == lab.Host(1) && p.Dst.String() == lab.Host(2) {
			s.frame = f.Data
		}
	}
	const size = 64 << 20
	t, err := s.l.Transfer("h1", "h2", lab.Host(2), size, 40*time.Second)
	if err != nil {
		return err
	}
	say("a file of %d MiB from h1 to h2: %.1f s, %.2f Gb/s", size>>20, t.Took.Seconds(), size*8/t.Took.Seconds()/1e9)
	say("SHA-256 at h1 %s…", hex.EncodeToString(t.Sent[:12]))
	say("SHA-256 at h2 %s…, the same", hex.EncodeToString(t.Received[:12]))
	return nil
}

func (s *story) coreSaw() error {
	frames, err := lab.ReadPcap(filepath.Join(s.l.Dir, "core-c1.pcap"))
	if err != nil {
		return err
	}
	flows, spis := map[string]int{}, map[uint32]bool{}
	for _, f := range frames {
		p, ok := f.IP()
		if !ok || p.Proto != lab.ESP {
			return fmt.Errorf("a frame that isn't ESP: %+v", p)
		}
		flows[p.Src.String()+" > "+p.Dst.String()]++
		spis[p.SPI] = true
	}
	say("the capture of the pings at c1 holds %d frames, each of them ESP:", len(frames))
	for flow, n := range flows {
		say("   %s ESP, %d frames: the hosts' own addresses outside", flow, n)
	}
	if len(flows) != 2 || len(frames) < 40 {
		return fmt.Errorf("%d flows in %d frames, want 2 in 40", len(flows), len(frames))
	}
	for spi := range spis {
		say("   SPI %#08x, one group key for everybody", spi)
	}
	if len(spis) != 1 {
		return fmt.Errorf("%d SPIs", len(spis))
	}
	return nil
}

func (s *story) multicast() error {
	if err := s.l.RouteMulticast(); err != nil {
		return err
	}
	const n, size, rate = 5000, 1000, 2500
	var rs []*lab.Receiver
	for _, h := range []string{"h2", "h3"} {
		r, err := s.l.JoinMulticast(h, n)
		if err != nil {
			return err
		}
		defer r.Close()
		rs = append(rs, r)
	}
	if err := s.l.SendMulticast("h1", n, size, rate); err != nil {
		return err
	}
	say("h1 sent %d datagrams of %d octets to %s, %d a second", n, size, lab.DataGroup, rate)
	for i, r := range rs {
		if err := r.Await(n, 5*time.Second); err != nil {
			return fmt.Errorf("h%d: %w", i+2, err)
		}
		if r.Duplicates+r.Damaged != 0 {
			return fmt.Errorf("h%d: %d duplicates, %d damaged", i+2, r.Duplicates, r.Damaged)
		}
		say("h%d received %d, each once", i+2, r.Count)
	}
	return nil
}

func (s *story) denied() error {
	const n = 10
	c, err := s.l.Capture("core-denied", "core", "c1", 0, "icmp and host "+lab.DeniedHost(2))
	if err != nil {
		return err
	}
	if out, err := s.l.Ping("h1", lab.DeniedHost(2), n); err != nil {
		return errors.Join(err, errors.New(out))
	}
	frames, err := c.Stop()
	if err != nil {
		return err
	}
	if len(frames) != 2*n {
		return fmt.Errorf("%d frames in clear, not %d", len(frames), 2*n)
	}
	say("\"deny ip any host %s\": %d pings answered, %d ICMP packets readable in the core", lab.DeniedHost(2), n, len(frames))
	return nil
}

// Header lengths of the frames that the story replays and forges, in octets.
const ethernet, ipv4 = 14, 20

// dropped reads one drop counter of a member.
func dropped(d *lab.Daemon, reason string) (int, error) {
	drops, err := d.Drops()
	return drops[reason], err
}

func (s *story) forged() error {
	if s.frame == nil {
		return errors.New("no frame to forge")
	}
	gm := s.gms[1]
	mac, err := s.l.MAC("gm2", "wan")
	if err != nil {
		return err
	}
	replayed := append([]byte(nil), s.frame...)
	copy(replayed, mac)
	forged := append([]byte(nil), replayed...)
	forged[len(forged)-20] ^= 1     // one bit of the encrypted part
	forged[ethernet+ipv4+4] ^= 0x80 // a sequence number far ahead, or the window would take it first
	const copies = 5
	// The second forgery: clear text that claims to come from the other site.
	inClear := lab.UDP(mac, lab.Host(1), lab.Host(2), 4321, 4321, []byte("not encrypted"))
	for _, f := range []struct {
		what, reason string
		frame        []byte
	}{
		{"ESP recorded earlier, unchanged", "replay", replayed},
		{"ESP with a bit changed", "icv", forged},
		{"clear UDP with a protected host's address", "clear-inbound", inClear},
	} {
		before, err := dropped(gm, f.reason)
		if err != nil {
			return err
		}
		for range copies {
			if err := s.l.Inject("core", "c2", f.frame); err != nil {
				return err
			}
		}
		if err := lab.Until(30*time.Second, func() error {
			after, err := dropped(gm, f.reason)
			if err == nil && after-before != copies {
				err = fmt.Errorf("counter %s went from %d to %d, not by %d", f.reason, before, after, copies)
			}
			return err
		}); err != nil {
			return err
		}
		say("%d × %s: gm2's drop counter \"%s\" rose by %d", copies, f.what, f.reason, copies)
	}
	return nil
}

func (s *story) throughput() error {
	for _, way := range []struct{ name, addr string }{
		{"encrypted, AES-128-GCM", lab.Host(2)},
		{"in clear (the denied address)", lab.DeniedHost(2)},
	} {
		gbps, err := s.l.IPerf("h1", "h2", way.addr, 3*time.Second)
		if err != nil {
			return err
		}
		say("%-30s %6.2f Gb/s", way.name, gbps)
	}
	return nil
}

func (s *story) clear() error {
	n, err := s.l.Counted("core")
	if err != nil {
		return err
	}
	say("the core's kernel counted, over the whole story:")
	say("   %8d packets of protected flows as ESP", n["esp"])
	say("   %8d packets to the denied address in clear", n["denied"])
	say("   %8d packets of protected flows in clear", n["clear"])
	if n["clear"] != 0 || n["esp"] == 0 || n["denied"] == 0 {
		return errors.New("that isn't as it should be")
	}
	return nil
}
