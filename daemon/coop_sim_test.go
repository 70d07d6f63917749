package daemon

// Simulations with cooperative key servers: whole daemons that elect, announce and take
// over over the same control network that carries rekeys. Key servers are ks1, ks2, … at
// 192.0.2.1, .2, …; the first has the highest priority, and all sign with one key.

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/ks"
	"getvpn/model"
)

// coopPriority is that of the i-th key server, from 1.
func coopPriority(i int) int { return 110 - 10*i }

// alone makes conf, which is pushed's, the i-th key server's, without redundancy.
func alone(t *testing.T, conf string, i int) string {
	t.Helper()
	return edit(t, conf, "hostname ks", fmt.Sprintf("hostname ks%d", i), "  address ipv4 192.0.2.1\n", fmt.Sprintf("  address ipv4 192.0.2.%d\n", i))
}

// cooperative makes conf that of the i-th of n key servers. The list of peers is the same
// at all of them.
func cooperative(t *testing.T, conf string, i, n int, lines ...string) string {
	t.Helper()
	own := fmt.Sprintf("  address ipv4 192.0.2.%d\n", i)
	return edit(t, alone(t, conf, i), own, own+redundancy(i, n, lines...))
}

// redundancy is the block of the i-th of n key servers.
func redundancy(i, n int, lines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  redundancy\n   local priority %d\n", coopPriority(i))
	for p := range n {
		fmt.Fprintf(&b, "   peer address ipv4 192.0.2.%d\n", p+1)
	}
	for _, x := range lines {
		b.WriteString("   " + x + "\n")
	}
	return b.String()
}

// server starts the i-th key server with that configuration and the common signing key.
func (l *life) server(i int, conf string) *simNode {
	l.t.Helper()
	name := fmt.Sprintf("ks%d", i)
	l.signs(name)
	return l.ks(name, fmt.Sprintf("192.0.2.%d", i), conf)
}

// signs gives a key server that doesn't run yet the key that all others have.
func (l *life) signs(name string) {
	l.t.Helper()
	common := filepath.Join(l.dir, "common")
	for _, dir := range []string{common, filepath.Join(l.dir, name)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			l.t.Fatal(err)
		}
	}
	if _, err := (&ks.SignerStore{Files: ks.Disk{}, Dir: common}).Load(ks.KeyRef("K", true)); err != nil {
		l.t.Fatal(err)
	}
	for file, b := range readAll(l.t, common) {
		if err := os.WriteFile(filepath.Join(l.dir, name, file), b, 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
}

// servers starts n cooperative key servers of a group and waits until they serve it.
func (l *life) servers(n int, conf string, lines ...string) (out []*simNode) {
	l.t.Helper()
	for i := 1; i <= n; i++ {
		out = append(out, l.server(i, cooperative(l.t, conf, i, n, lines...)))
	}
	l.settled(out...)
	return out
}

// settled waits until one of the key servers is primary, all others follow it, and all
// take members.
func (l *life) settled(list ...*simNode) (primary *simNode) {
	l.t.Helper()
	l.wait(2*time.Minute, "one key server leads the others", func() bool {
		primary = nil
		for _, n := range list {
			c := n.served().Coop
			if c == nil || c.Role == model.CoopElecting || c.Gate != model.CoopOpen || c.Primary != list[0].served().Coop.Primary {
				return false
			}
			if c.Role == model.CoopPrimary {
				primary = n
			}
		}
		return primary != nil
	})
	return primary
}

// spread starts n members with flows between all; each asks the key servers in turn,
// beginning with another one.
func (l *life) spread(n, servers int) (out []*simNode) {
	l.t.Helper()
	for i := 1; i <= n; i++ {
		out = append(out, l.gm(fmt.Sprintf("gm%d", i), fmt.Sprintf("198.51.100.%d", i), asks(l.t, i, servers)))
	}
	for i, a := range out {
		for _, b := range out[i+1:] {
			l.traffic.Pairs(a.site, b.site)
		}
	}
	return out
}

// asks is a member's configuration that lists so many key servers from the i-th on.
func asks(t *testing.T, i, servers int) string {
	t.Helper()
	var lines string
	for k := range servers {
		lines += fmt.Sprintf(" server address ipv4 192.0.2.%d\n", (i-1+k)%servers+1)
	}
	return edit(t, lifeGM, " server address ipv4 192.0.2.1\n", lines)
}

// apart cuts the network between two sets of nodes, together heals it.
func (l *life) apart(a, b []*simNode) { l.between(a, b, l.net.Cut) }

func (l *life) together(a, b []*simNode) { l.between(a, b, l.net.Heal) }

func (l *life) between(a, b []*simNode, f func(x, y netip.Addr)) {
	for _, x := range a {
		for _, y := range b {
			f(x.addr, y.addr)
		}
	}
}

// coop is the group's life with other key servers as the model shows it.
func (n *simNode) coop() model.Coop {
	if c := n.served().Coop; c != nil {
		return *c
	}
	return model.Coop{}
}

// peer is what a key server shows of another one.
func (n *simNode) peer(o *simNode) model.CoopPeer {
	for _, p := range n.coop().Peers {
		if p.Addr == o.addr {
			return p
		}
	}
	return model.CoopPeer{}
}

// said is the console's lines of the log from an offset on, without their time.
func (n *simNode) said(from int) (out []string) {
	synctest.Wait()
	for _, line := range strings.Split(n.out.String()[from:], "\n") {
		if _, text, ok := strings.Cut(line, ": %"); ok {
			out = append(out, "%"+text)
		}
	}
	return out
}

// pattern makes an expression of a line in which <n> stands for a number, <hex> for a
// fingerprint.
func pattern(line string) *regexp.Regexp {
	p := regexp.QuoteMeta(line)
	p = strings.ReplaceAll(strings.ReplaceAll(p, "<n>", `\d+`), "<hex>", `[0-9a-f]{64}`)
	return regexp.MustCompile("^" + p + "$")
}

// says counts the lines from an offset on that are exactly like line.
func (n *simNode) says(from int, line string) (count int) {
	p := pattern(line)
	for _, s := range n.said(from) {
		if p.MatchString(s) {
			count++
		}
	}
	return count
}
