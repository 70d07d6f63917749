package main

// The vendor's case study, on the files of examples/case-study: two key servers, five
// members, all of them registered, all sites reached, everything encrypted.

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"getvpn/internal/lab"
)

const casePrefix = "gvcase"

// study is the running case study.
type study struct {
	l   *lab.Lab
	kss []*lab.Daemon // KS1, KS2
	gms []*lab.Daemon
}

// caseStudy leaves it running.
func caseStudy() error {
	l, err := keep(lab.Options{Prefix: casePrefix, Topology: lab.CaseStudy})
	if err != nil {
		return err
	}
	c := &study{l: l}
	for _, f := range []func() error{c.run, l.Detach} {
		if err := f(); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	around([][2]string{
		{"bin/getvpn --socket " + l.Dir + "/gm1.sock", "a shell at GM1 (also gm2 to gm5, ks1, ks2)"},
		{"bin/getvpn --socket " + l.Dir + `/ks2.sock -c "show crypto gdoi ks coop"`, "who is primary"},
		{"bin/getvpn --socket " + l.Dir + `/ks1.sock -c "show crypto gdoi ks members"`, "who has registered"},
		{"bin/getvpn --socket " + l.Dir + `/ks1.sock -c "crypto gdoi ks rekey"`, "new keys, by the primary"},
		{"bin/getvpn --socket " + l.Dir + `/ks1.sock -c "clear crypto gdoi ks coop role"`, "KS1 gives up its role, both elect anew"},
		{fmt.Sprintf("kill -9 %d; tail -f %s/ks2.log", c.kss[0].PID(), l.Dir), "KS1 dies, KS2 takes over within 70 s"},
		{"ip netns exec " + l.NS("h1") + " ping " + lab.Host(5), "from site 1 to site 5, encrypted"},
		{"ip netns exec " + l.NS("core") + " tcpdump -n -i g1", "what the core sees of site 1"},
		{"ip -n " + l.NS("gm5") + " link set eth1 down", "GM5 loses one of its links (up: it is back)"},
		{"tail -f " + l.Dir + "/ks1.log", "a key server's log"},
	})
	return nil
}

// checkCaseStudy runs it and removes it again.
func checkCaseStudy(o lab.Options) error {
	o.Topology = lab.CaseStudy
	l, err := lab.New(o)
	if err != nil {
		return err
	}
	return meanwhile(l, (&study{l: l}).run)
}

// run starts all devices and checks what the case study promises.
func (c *study) run() error {
	for _, f := range []func() error{c.start, c.registered, c.traffic, c.oneLinkDown} {
		if err := f(); err != nil {
			c.logs()
			return err
		}
	}
	return nil
}

func (c *study) daemon(node string) (*lab.Daemon, error) {
	return c.l.Daemon(node, filepath.Join("examples", "case-study", node+".conf"))
}

func (c *study) start() error {
	// What must not travel in clear, counted in the core before routing.
	const protected = "ip saddr 10.1.0.0/16 ip daddr 10.1.0.0/16 "
	if err := c.l.Count("core", map[string]string{"esp": protected + "ip protocol esp", "clear": protected + "ip protocol != esp"}); err != nil {
		return err
	}
	if err := c.l.SigningKey("group1-export-general", "ks1", "ks2"); err != nil {
		return err
	}
	for _, node := range []string{"ks1", "ks2"} {
		d, err := c.daemon(node)
		if err != nil {
			return err
		}
		c.kss = append(c.kss, d)
	}
	if err := roles(c.kss[0], c.kss[1]); err != nil {
		return err
	}
	say("KS1 is primary, KS2 secondary")
	c.gms = make([]*lab.Daemon, lab.Sites)
	errs := make([]error, lab.Sites)
	var wg sync.WaitGroup
	for i := range c.gms {
		wg.Go(func() { c.gms[i], errs[i] = c.daemon(fmt.Sprintf("gm%d", i+1)) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// caseMembers are the addresses that members register from, and the key server that
// stands first on their list.
func caseMembers() [][2]string {
	const ks1, ks2 = "209.165.200.225", "209.165.201.1"
	return [][2]string{{"209.165.202.129", ks1}, {"209.165.202.133", ks2}, {"209.165.202.137", ks1}, {"209.165.202.141", ks1}, {"209.165.202.161", ks2}}
}

func (c *study) registered() error {
	var members []string
	for i, d := range c.gms {
		if err := d.Registered(time.Minute); err != nil {
			return err
		}
		x := caseMembers()[i]
		if err := registeredWith(d, x[1]); err != nil {
			return err
		}
		members = append(members, x[0])
		say("GM%d, %s, registered with %s", i+1, x[0], x[1])
	}
	for i, d := range c.kss {
		if err := knows(d, members); err != nil {
			return err
		}
		say("KS%d knows all %d, each once", i+1, lab.Sites)
	}
	return nil
}

// pings is how many echo requests go from each site to each other one.
const pings = 3

func (c *study) traffic() error {
	before, err := c.l.Counted("core")
	if err != nil {
		return err
	}
	pairs := 0
	for a := 1; a <= lab.Sites; a++ {
		for b := a + 1; b <= lab.Sites; b++ {
			if out, err := c.l.Ping(fmt.Sprintf("h%d", a), lab.Host(b), pings); err != nil {
				return errors.Join(err, errors.New(out))
			}
			pairs++
		}
	}
	n, err := c.l.Counted("core")
	if err != nil {
		return err
	}
	esp := n["esp"] - before["esp"]
	say("%d pings between each two of the sites: the core saw %d packets as ESP, %d in clear", pings, esp, n["clear"])
	if esp != 2*pings*pairs || n["clear"] != 0 {
		return fmt.Errorf("that should be %d and none", 2*pings*pairs)
	}
	return nil
}

// oneLinkDown takes each of member 5's links away for a moment.
func (c *study) oneLinkDown() error {
	for _, dev := range []string{"a1", "a2"} {
		if err := c.link(dev, "down", 1); err != nil {
			return err
		}
		out, err := c.l.Ping("h1", lab.Host(5), pings)
		if err != nil {
			return errors.Join(err, errors.New(out))
		}
		if err := c.link(dev, "up", 0); err != nil {
			return err
		}
	}
	n, err := c.l.Counted("core")
	if err != nil {
		return err
	}
	say("GM5 over either of its two links alone: all pings answered, %d packets in clear", n["clear"])
	if n["clear"] != 0 {
		return errors.New("none may be")
	}
	return nil
}

// unusable marks a next hop that routing passes over.
var unusable = regexp.MustCompile(`\b(?:dead|linkdown)\b`)

// link switches the core's side of a link to member 5, and waits until so many next hops
// are unusable at both ends: the kernel tells the other end a moment later.
func (c *study) link(dev, state string, without int) error {
	if _, err := c.l.Run("core", "ip", "link", "set", dev, state); err != nil {
		return err
	}
	return lab.Until(time.Minute, func() error {
		for node, route := range map[string]string{"gm5": "default", "core": "10.1.5.0/24"} {
			out, err := c.l.Run(node, "ip", "-o", "route", "show", route)
			if err != nil {
				return err
			}
			hops := 0
			for _, hop := range strings.Split(out, "nexthop")[1:] {
				if unusable.MatchString(hop) {
					hops++
				}
			}
			if hops != without {
				return fmt.Errorf("%s has %d unusable next hops, not %d: %s", node, hops, without, out)
			}
		}
		return nil
	})
}

func (c *study) logs() {
	for _, d := range append(append([]*lab.Daemon(nil), c.kss...), c.gms...) {
		if d != nil {
			lastWords(d)
		}
	}
}
