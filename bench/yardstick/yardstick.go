// Package yardstick puts other products between the same two gateways as ours, so
// that a benchmark can compare them in one run: plain forwarding, wireguard-go, and
// strongSwan with its userspace ESP (kernel-libipsec).
package yardstick

import (
	"bufio"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Pair is two gateways in network namespaces, each with a WAN address and a LAN
// behind it, that route to each other's LAN through the WAN when nothing runs.
type Pair struct {
	NS  [2]string
	WAN [2]netip.Addr
	LAN [2]netip.Prefix
	Dir string // scratch
	WGO string // path of the built wgo program
}

// Yardstick brings a product up between the gateways; down undoes it.
type Yardstick struct {
	Name string
	Up   func(Pair) (down func() error, err error)
}

// All returns the yardsticks, cheapest first.
func All() []Yardstick {
	return []Yardstick{
		{"plain", func(Pair) (func() error, error) { return func() error { return nil }, nil }},
		{"wireguard-go", wireguard},
		{"libipsec", libipsec},
	}
}

func netns(ns string, env []string, args ...string) *exec.Cmd {
	c := exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...)
	c.Env = append(os.Environ(), env...)
	c.Stderr = os.Stderr
	return c
}

// stopAll ends processes in reverse order of their start.
func stopAll(cmds []*exec.Cmd) error {
	var errs []error
	for i := len(cmds) - 1; i >= 0; i-- {
		c := cmds[i]
		c.Process.Signal(syscall.SIGTERM)
		done := make(chan struct{})
		go func() { c.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			errs = append(errs, fmt.Errorf("yardstick: %s ignored SIGTERM", c.Path), c.Process.Kill())
			<-done
		}
	}
	return errors.Join(errs...)
}

// wireguardMTU is what wg-quick chooses on a 1500-octet link.
const wireguardMTU = 1420

func wireguard(p Pair) (func() error, error) {
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		k, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		keys[i] = k
	}
	var cmds []*exec.Cmd
	down := func() error { return stopAll(cmds) }
	for i := range 2 {
		o := 1 - i
		name := fmt.Sprintf("wgo%d", i)
		c := netns(p.NS[i], []string{
			"WGO_IF=" + name, "WGO_PORT=51820", fmt.Sprintf("WGO_MTU=%d", wireguardMTU),
			"WGO_KEY=" + hex.EncodeToString(keys[i].Bytes()),
			"WGO_PEER=" + hex.EncodeToString(keys[o].PublicKey().Bytes()),
			fmt.Sprintf("WGO_ENDPOINT=%v:51820", p.WAN[o]), "WGO_ALLOWED=" + p.LAN[o].String(),
		}, p.WGO)
		out, err := c.StdoutPipe()
		if err == nil {
			err = c.Start()
		}
		if err == nil {
			cmds = append(cmds, c)
			if line, rerr := bufio.NewReader(out).ReadString('\n'); strings.TrimSpace(line) != "up" {
				err = fmt.Errorf("yardstick: wireguard-go didn't start: %q %w", line, rerr)
			}
		}
		if err == nil {
			err = netns(p.NS[i], nil, "ip", "link", "set", name, "up").Run()
		}
		if err == nil {
			err = netns(p.NS[i], nil, "ip", "route", "add", p.LAN[o].String(), "dev", name).Run()
		}
		if err != nil {
			return nil, errors.Join(err, down())
		}
	}
	return down, nil
}

// libipsec runs a charon at each gateway with its kernel-libipsec plugin: ESP in
// userspace over a TUN, UDP encapsulated, AES-128-GCM.
func libipsec(p Pair) (func() error, error) {
	var cmds []*exec.Cmd
	down := func() error { return stopAll(cmds) }
	fail := func(err error) (func() error, error) { return nil, errors.Join(err, down()) }
	var vici [2]string
	for i := range 2 {
		o := 1 - i
		dir := filepath.Join(p.Dir, fmt.Sprintf("charon%d", i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fail(err)
		}
		vici[i] = "unix://" + filepath.Join(dir, "vici")
		conf := fmt.Sprintf(`charon {
 load = random nonce aes sha1 sha2 hmac kdf gcm openssl pem pkcs1 curve25519 gmp kernel-libipsec kernel-netlink socket-default vici updown
 port = 500
 port_nat_t = 4500
 filelog { f { path = %s/log
   default = 1
   flush_line = yes } }
 plugins { vici { socket = %s }
  kernel-libipsec { allow_peer_ts = yes } }
}
`, dir, vici[i])
		swan := fmt.Sprintf(`connections { b { version = 2
  local_addrs = %v
  remote_addrs = %v
  encap = yes
  proposals = aes128-sha256-ecp256
  local { auth = psk
    id = %v }
  remote { auth = psk
    id = %v }
  children { c { local_ts = %v
     remote_ts = %v
     esp_proposals = aes128gcm16 } } } }
secrets { ike-1 { secret = "benchmark" } }
`, p.WAN[i], p.WAN[o], p.WAN[i], p.WAN[o], p.LAN[i], p.LAN[o])
		if err := os.WriteFile(filepath.Join(dir, "strongswan.conf"), []byte(conf), 0o600); err != nil {
			return fail(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "swanctl.conf"), []byte(swan), 0o600); err != nil {
			return fail(err)
		}
		// Two charons share /run/charon.pid unless each has a /run of its own.
		c := netns(p.NS[i], nil, "unshare", "-m", "sh", "-c",
			"mount -t tmpfs none /run && exec env STRONGSWAN_CONF="+dir+"/strongswan.conf /usr/lib/ipsec/charon")
		if err := c.Start(); err != nil {
			return fail(err)
		}
		cmds = append(cmds, c)
		if err := retry(10*time.Second, func() error {
			return quiet(p.NS[i], "swanctl", "--load-all", "--file", dir+"/swanctl.conf", "--uri="+vici[i])
		}); err != nil {
			return fail(fmt.Errorf("yardstick: charon %d: %w", i, err))
		}
	}
	if err := retry(15*time.Second, func() error {
		return quiet(p.NS[0], "swanctl", "--initiate", "--child", "c", "--uri="+vici[0])
	}); err != nil {
		log, _ := os.ReadFile(filepath.Join(p.Dir, "charon0", "log"))
		return fail(fmt.Errorf("yardstick: strongSwan's child SA: %w; its log:\n%s", err, log))
	}
	return down, nil
}

// quiet runs a command whose output matters only when it fails.
func quiet(ns string, args ...string) error {
	c := netns(ns, nil, args...)
	c.Stderr = nil
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// retry repeats f until it succeeds or the time is over.
func retry(limit time.Duration, f func() error) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		err := f()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}
