// Package frr shows a routing daemon that follows a member's keys, with the lines of
// docs/track.md: FRR at the member announces the group's prefix to the site's router
// while the member has a key. It needs root and Debian's frr (scripts/setup test).
// GETVPN_BIN names a folder of programs to test instead of the tree's.
package frr

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"getvpn/internal/lab"
)

// limit is generous: the machine may be busy. Everything takes well below a second on
// one that isn't.
const limit = 60 * time.Second

// prefix is what the member announces.
const prefix = "10.1.0.0/16"

// isakmp is phase 1 of both sides.
const isakmp = `crypto isakmp policy 10
 encr aes 256
 hash sha256
 authentication pre-share
 group 19
 lifetime 1200
`

const ks = "hostname ks\n" + isakmp + `crypto isakmp key frr-lab address 172.16.0.0 255.255.0.0
crypto ipsec transform-set T esp-gcm 128
crypto ipsec profile P
 set transform-set T
crypto gdoi group G
 identity number 1234
 server local
  rekey algorithm aes 256
  rekey authentication mypubkey ecdsa SIGN
  rekey transport unicast
  sa ipsec 1
   profile P
   match address ipv4 LIST
  address ipv4 172.16.8.2
ip access-list extended LIST
 permit ip 10.1.0.0 0.0.255.255 10.1.0.0 0.0.255.255
end
`

const gm = "hostname gm1\n" + isakmp + `crypto isakmp key frr-lab address 172.16.8.2
crypto gdoi group G
 identity number 1234
 server address ipv4 172.16.8.2
 client status active-sa track 99
crypto map M 10 gdoi
 set group G
interface wan
 crypto map M
end
`

// router is the site's own: h1, that listens to the member.
const router = `router bgp 65010
 bgp router-id 10.1.1.10
 no bgp ebgp-requires-policy
 neighbor 10.1.1.1 remote-as 65001
 neighbor 10.1.1.1 timers connect 1
`

// page returns the indented blocks of docs/track.md.
func page(t *testing.T) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/track.md")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			b.WriteString(code)
			continue
		}
		if b.Len() > 0 && strings.TrimSpace(line) != "" {
			blocks = append(blocks, b.String())
			b.Reset()
		}
	}
	return blocks
}

// block is the one that begins so.
func block(t *testing.T, begin string) string {
	t.Helper()
	all := page(t)
	i := slices.IndexFunc(all, func(b string) bool { return strings.HasPrefix(b, begin) })
	if i < 0 {
		t.Fatalf("docs/track.md has no block that begins with %q", begin)
	}
	return all[i]
}

// daemons starts zebra and bgpd in a node. FRR drops root and wants its folder.
func daemons(t *testing.T, l *lab.Lab, dir, node, conf string) {
	t.Helper()
	own := filepath.Join(dir, node)
	if err := os.Mkdir(own, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"zebra": "", "bgpd": conf} {
		if err := os.WriteFile(filepath.Join(own, name+".conf"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	u, err := user.Lookup("frr")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(own, uid, gid); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"zebra", "bgpd"} {
		p, err := l.Start(name+"-"+node, node, "/usr/lib/frr/"+name, "--vty_socket", own, "-z", filepath.Join(own, "zserv.api"),
			"-i", filepath.Join(own, name+".pid"), "-f", filepath.Join(own, name+".conf"), "-A", "127.0.0.1", "-P", "0", "--log", "stdout")
		if err != nil {
			t.Fatal(err)
		}
		wait(t, func() error {
			if !p.Alive() {
				return lab.Final(fmt.Errorf("%s ended: %s", p.Name, p.Output()))
			}
			_, err := os.Stat(filepath.Join(own, name+".vty"))
			return err
		})
	}
}

func wait(t *testing.T, f func() error) {
	t.Helper()
	if err := lab.Until(limit, f); err != nil {
		t.Fatal(err)
	}
}

// vtysh runs a command in a node's FRR.
func vtysh(dir, node, command string) (string, error) {
	out, err := exec.Command("vtysh", "--vty_socket", filepath.Join(dir, node), "--config_dir", dir, "-d", "bgpd", "-c", command).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("vtysh -c %q in %s: %w: %s", command, node, err, out)
	}
	return string(out), nil
}

// announced reports whether a node's bgpd has the prefix as a best path.
func announced(dir, node string) (bool, error) {
	out, err := vtysh(dir, node, "show bgp ipv4 unicast json")
	if err != nil {
		return false, err
	}
	var table struct {
		Routes map[string][]struct{ Bestpath bool }
	}
	if err := json.Unmarshal([]byte(out), &table); err != nil {
		return false, fmt.Errorf("%w: %s", err, out)
	}
	return slices.ContainsFunc(table.Routes[prefix], func(p struct{ Bestpath bool }) bool { return p.Bestpath }), nil
}

// follow waits until the object, FRR at the member, FRR at the site's router and that
// one's kernel all say up or down.
func follow(t *testing.T, l *lab.Lab, dir string, up bool) {
	t.Helper()
	start := time.Now()
	wait(t, func() error {
		b, err := os.ReadFile(filepath.Join(l.Dir, "track", "99"))
		if want := map[bool]string{true: "up\n", false: "down\n"}[up]; err != nil || string(b) != want {
			return fmt.Errorf("the object's file says %q, %v, want %q", b, err, want)
		}
		for _, node := range []string{"gm1", "h1"} {
			if has, err := announced(dir, node); err != nil || has != up {
				return fmt.Errorf("bgpd of %s has the prefix: %v, %v, want %v", node, has, err, up)
			}
		}
		out, err := l.Run("h1", "ip", "route", "show", prefix)
		if has := strings.Contains(out, "via 10.1.1.1 dev e0 proto bgp"); err != nil || has != up {
			return fmt.Errorf("the router's kernel says %q, %v, want up %v", out, err, up)
		}
		return nil
	})
	t.Logf("up %v: everywhere after %v", up, time.Since(start).Round(time.Millisecond))
}

// The prefix is announced with the first key, withdrawn when the last one goes, and
// announced again with the next.
func TestPrefixFollowsTheKeys(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := os.Stat("/usr/lib/frr/bgpd"); err != nil {
		if os.Getenv("GETVPN_CI") != "" {
			t.Fatal(err)
		}
		t.Skip("no frr here: scripts/setup test installs it")
	}
	bin, tools := os.Getenv("GETVPN_BIN"), t.TempDir()
	if bin == "" {
		bin = tools
		if err := lab.Build(bin); err != nil {
			t.Fatal(err)
		}
	}
	l, err := lab.New(lab.Options{Members: 1, Bin: bin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	// Not t.TempDir: another user must reach it.
	dir, err := os.MkdirTemp("", "getvpn-frr-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vtysh.conf"), nil, 0o644); err != nil {
		t.Fatal(err)
	}

	// The page's vtysh talks to the member's FRR, wherever that has its sockets.
	vty, err := exec.LookPath("vtysh")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"vtysh": fmt.Sprintf("#!/bin/sh\nexec %s --vty_socket %s --config_dir %s \"$@\"\n", vty, filepath.Join(dir, "gm1"), dir),
		"hook":  block(t, "#!/bin/sh"),
	} {
		if err := os.WriteFile(filepath.Join(tools, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	daemons(t, l, dir, "gm1", block(t, "router bgp"))
	daemons(t, l, dir, "h1", router)
	wait(t, func() error {
		out, err := vtysh(dir, "h1", "show bgp ipv4 unicast summary json")
		if err == nil && !strings.Contains(out, `"state":"Established"`) {
			err = fmt.Errorf("the session isn't up: %s", out)
		}
		return err
	})

	conf := func(name, text string) string {
		f, err := l.ConfFile(name, text)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	server, err := l.Daemon("ks", conf("ks", ks))
	if err != nil {
		t.Fatal(err)
	}
	path := os.Getenv("PATH")
	t.Setenv("PATH", tools+":"+path)
	member, err := l.Daemon("gm1", conf("gm1", gm), "-track-hook", filepath.Join(tools, "hook"))
	t.Setenv("PATH", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the member's log:\n%s", member.Output())
		}
	})
	if err := member.Registered(limit); err != nil {
		t.Fatal(err)
	}
	follow(t, l, dir, true)

	// The member is told to drop its keys, and can't ask for new ones.
	if _, err := l.Input("core", "table inet cut { chain c { type filter hook prerouting priority -400; ip daddr "+lab.KeyServer+" udp dport 848 drop; }; }\n", "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Show("clear crypto gdoi ks members now"); err != nil {
		t.Fatal(err)
	}
	follow(t, l, dir, false)
	if out, err := vtysh(dir, "gm1", "show ip bgp"); err == nil {
		t.Logf("gm1's vtysh while down:\n%s", out)
	}

	if _, err := l.Run("core", "nft", "delete", "table", "inet", "cut"); err != nil {
		t.Fatal(err)
	}
	if err := member.Registered(limit); err != nil {
		t.Fatal(err)
	}
	follow(t, l, dir, true)
	if out, err := vtysh(dir, "gm1", "show ip bgp"); err == nil {
		t.Logf("gm1's vtysh while up again:\n%s", out)
	}

	// A daemon that ends in order leaves the object down.
	if err := member.Stop(); err != nil {
		t.Fatal(err)
	}
	follow(t, l, dir, false)
}
