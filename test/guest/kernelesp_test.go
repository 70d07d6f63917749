package guest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"getvpn/ipsec"
	"getvpn/ipsec/dataplane"
	"getvpn/model"
)

// The kernel's ESP and ours, one group TEK in both: for each transform that both
// know, pings go through protected both ways.

const (
	ours, theirs = "10.1.1.5", "10.2.2.6"
	gatewayEnv   = "GETVPN_GUEST_TEST_GATEWAY"
	pings        = 2 // of each size
)

var sizes = []string{"0", "1", "1300"}

func TestMain(m *testing.M) {
	if dev := os.Getenv(gatewayEnv); dev != "" {
		if err := gateway(dev); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// order is what the test tells the gateway process: install this.
type order struct {
	SPI       uint32
	Transform ipsec.Transform
	Key, Auth string // hex
}

// gateway is the member's dataplane on dev, in a process of its own because it
// lives in another network namespace. It installs a TEK for each line of its input.
func gateway(dev string) error {
	d, err := dataplane.Open(dataplane.Options{})
	if err != nil {
		return err
	}
	defer d.Close(false)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return err
		}
		p, err := o.policy(dev)
		if err != nil {
			return err
		}
		if err := d.Install(p); err != nil {
			return err
		}
		fmt.Println("installed")
	}
	m := d.Model()
	return json.NewEncoder(os.Stdout).Encode(m)
}

func (o order) policy(dev string) (ipsec.GroupPolicy, error) {
	key, err := hex.DecodeString(o.Key)
	if err != nil {
		return ipsec.GroupPolicy{}, err
	}
	auth, err := hex.DecodeString(o.Auth)
	if err != nil {
		return ipsec.GroupPolicy{}, err
	}
	a, b := netip.MustParsePrefix(ours+"/32"), netip.MustParsePrefix(theirs+"/32")
	ace := func(s, d netip.Prefix) ipsec.Entry {
		return ipsec.Entry{SPI: o.SPI, ACE: ipsec.ACE{Action: ipsec.Permit, Family: ipsec.IPv4, Src: ipsec.MatchPrefix(s), Dst: ipsec.MatchPrefix(d)}}
	}
	return ipsec.GroupPolicy{
		Group: "guest", Interface: dev, State: ipsec.Registered,
		Entries: []ipsec.Entry{ace(a, b), ace(b, a)},
		TEKs: []ipsec.TEK{{
			SPI: o.SPI, Transform: o.Transform, Key: key, AuthKey: auth,
			Lifetime: time.Hour, Expires: time.Now().Add(time.Hour), SIDBits: 24, SIDs: []uint32{0x00a1b2},
			Replay: ipsec.Replay{Mode: ipsec.ReplayCounter, Window: 64},
		}},
	}, nil
}

// octets are n distinguishable key octets.
func octets(n, salt int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + salt)
	}
	return hex.EncodeToString(b)
}

// kernelWords are the transform in the language of ip xfrm.
func kernelWords(o order) string {
	t := o.Transform
	switch t.Cipher {
	case ipsec.CipherAESGCM:
		return fmt.Sprintf(`aead "rfc4106(gcm(aes))" 0x%s %d`, o.Key, 8*t.ICVLen)
	case ipsec.CipherAESGMAC:
		return fmt.Sprintf(`aead "rfc4543(gcm(aes))" 0x%s 128`, o.Key)
	}
	enc := map[ipsec.Cipher]string{
		ipsec.CipherAESCBC: "cbc(aes)", ipsec.Cipher3DES: "cbc(des3_ede)", ipsec.CipherNull: "ecb(cipher_null)",
	}[t.Cipher]
	key := `""`
	if o.Key != "" {
		key = "0x" + o.Key
	}
	auth := [...]string{ipsec.AuthSHA1: "sha1", ipsec.AuthSHA256: "sha256", ipsec.AuthSHA384: "sha384", ipsec.AuthSHA512: "sha512"}[t.Auth]
	bits := [...]int{ipsec.AuthSHA1: 96, ipsec.AuthSHA256: 128, ipsec.AuthSHA384: 192, ipsec.AuthSHA512: 256}[t.Auth]
	return fmt.Sprintf(`enc "%s" %s auth-trunc "hmac(%s)" 0x%s %d`, enc, key, auth, o.Auth, bits)
}

func transforms() []ipsec.Transform {
	var ts []ipsec.Transform
	for _, bits := range []int{128, 192, 256} {
		for _, icv := range []int{8, 12, 16} {
			ts = append(ts, ipsec.Transform{Cipher: ipsec.CipherAESGCM, KeyBits: bits, ICVLen: icv})
		}
		ts = append(ts, ipsec.Transform{Cipher: ipsec.CipherAESGMAC, KeyBits: bits})
	}
	for i, auth := range []ipsec.Auth{ipsec.AuthSHA1, ipsec.AuthSHA256, ipsec.AuthSHA384, ipsec.AuthSHA512} {
		ts = append(ts,
			ipsec.Transform{Cipher: ipsec.CipherAESCBC, KeyBits: 128 + 64*(i%3), Auth: auth},
			ipsec.Transform{Cipher: ipsec.Cipher3DES, Auth: auth},
			ipsec.Transform{Cipher: ipsec.CipherNull, Auth: auth})
	}
	return ts
}

func TestKernelESPUnderstandsEveryTransform(t *testing.T) {
	const ns, tap = "gvguest1", "gvtap1"
	g := boot(t, ns, tap)
	ip(t, "-n", ns, "addr", "add", "10.99.0.1/24", "dev", tap)
	ip(t, "-n", ns, "addr", "add", ours+"/32", "dev", "lo")
	ip(t, "-n", ns, "route", "add", theirs+"/32", "via", "10.99.0.2", "src", ours)
	must(t, g, "ip addr add 10.99.0.2/24 dev eth0; ip addr add "+theirs+"/32 dev lo; ip route add "+ours+"/32 via 10.99.0.1 src "+theirs)

	gw := exec.Command("ip", "netns", "exec", ns, "/proc/self/exe")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	gw.Args[4] = self
	gw.Env = append(os.Environ(), gatewayEnv+"="+tap)
	var errs bytes.Buffer
	gw.Stderr = &errs
	in, err := gw.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := gw.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := gw.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewScanner(pipe)

	for i, tr := range transforms() {
		o := order{SPI: 0x5000 + uint32(i), Transform: tr, Key: octets(tr.CipherKeyLen(), i), Auth: octets(tr.AuthKeyLen(), 3*i+1)}
		name := fmt.Sprintf("%v/%d", tr, tr.ICVLen)
		setup := "ip xfrm state flush; ip xfrm policy flush"
		for _, d := range [][2]string{{ours, theirs}, {theirs, ours}} {
			setup += fmt.Sprintf(" && ip xfrm state add src %s dst %s proto esp spi %d mode tunnel reqid 9 replay-window 32 %s", d[0], d[1], o.SPI, kernelWords(o))
		}
		for _, p := range []string{"src " + ours + " dst " + theirs + " dir in", "src " + theirs + " dst " + ours + " dir out"} {
			ends, _, _ := strings.Cut(p, " dir")
			setup += fmt.Sprintf(" && ip xfrm policy add %s tmpl %s proto esp mode tunnel reqid 9", p, ends)
		}
		must(t, g, setup)
		line, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(in, "%s\n", line)
		if !out.Scan() {
			t.Fatalf("%s: gateway ended: %v: %s", name, gw.Wait(), errs.String())
		}
		for _, size := range sizes {
			ping := exec.Command("ip", "netns", "exec", ns, "ping", "-q", "-c", strconv.Itoa(pings), "-i0.01", "-W5", "-s", size, "-I", ours, theirs)
			if b, err := ping.CombinedOutput(); err != nil {
				stat, _ := g.Run("grep -v '[^0-9]0$' /proc/net/xfrm_stat; ip -s xfrm state")
				t.Errorf("%s, %s octets: %v: %s\nguest: %s", name, size, err, b, stat)
			}
		}
		if stat := must(t, g, "ip -s xfrm state | grep -A2 'current:' | grep -c '[1-9][0-9]*(packets)'"); stat != "2" {
			t.Errorf("%s: the kernel used %s of its two states: traffic wasn't protected both ways", name, stat)
		}
	}
	in.Close()
	var m model.Dataplane
	if !out.Scan() || json.Unmarshal(out.Bytes(), &m) != nil || len(m.Interfaces) != 1 {
		t.Fatalf("gateway's report: %q", out.Text())
	}
	if err := gw.Wait(); err != nil {
		t.Errorf("gateway: %v: %s", err, errs.String())
	}
	want := uint64(len(transforms()) * len(sizes) * pings)
	if i := m.Interfaces[0]; i.EncapPackets != want || i.DecapPackets != want || len(i.Drops) > 0 || len(m.Drops) > 0 {
		t.Errorf("sealed %d, opened %d, want %d each and no drops: %v %v", i.EncapPackets, i.DecapPackets, want, i.Drops, m.Drops)
	}
}
