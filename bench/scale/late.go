package main

// A key server that joins another one which has all members: until it opens and knows
// them, and what goes over the network for it. The interface's own counters say what that
// is; its MTU is that of a path with tunnels on it.

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"getvpn/gdoi/coop"
	"getvpn/gdoi/ks"
	"getvpn/internal/secret"
	"getvpn/model"
)

// lateMTU is the path's.
const lateMTU = 1400

// cooperate makes a group's key server one of several.
func cooperate(x *ks.Setup, o ServeOptions) {
	x.Entries[0].ACEs = permits(100)
	n := uint32(o.Self.As4()[3])
	x.Coop = &ks.CoopSetup{Self: o.Self, Priority: uint8(100 - n), Peers: o.Peers, SIDs: []coop.SIDRange{{Low: n << 18, High: n<<18 + 1<<18 - 1}},
		Refresh: time.Second, Periodic: 5 * time.Second, Retransmit: 3 * time.Second} // the first one needn't wait for the second for long
}

// Joined is a key server among others.
type Joined struct {
	Open     time.Duration // until it registers members
	Complete time.Duration // until it lists all
}

// Join waits until the key server is open and lists so many members.
func (k *KeyServer) Join(members int, r *Joined) error {
	for begin := time.Now(); time.Since(begin) < tooLong; time.Sleep(time.Millisecond) {
		s := k.store.Load()
		if len(s.KeyServers) == 0 || s.KeyServers[0].Coop == nil {
			continue
		}
		g := &s.KeyServers[0]
		if g.Coop.Role == model.CoopElecting || g.Coop.Gate != model.CoopOpen || g.Coop.Reinit {
			continue
		}
		if r.Open == 0 {
			r.Open = time.Since(begin)
		}
		if g.Members.Len() >= members {
			r.Complete = time.Since(begin)
			return nil
		}
	}
	g := &k.store.Load().KeyServers[0]
	return fmt.Errorf("the key server hasn't joined: %+v, %d of %d members", *g.Coop, g.Members.Len(), members)
}

// scales is a vault that weighs what it is given.
type scales int

// Save implements ks.Vault.
func (s *scales) Save(_ string, b []byte) error {
	*s += scales(len(b))
	return nil
}

// Load implements ks.Vault.
func (*scales) Load(string) (secret.Bytes, error) { return nil, os.ErrNotExist }

// Forget implements ks.Vault.
func (*scales) Forget(string) error { return nil }

// Weigh says how many octets the group's state has, as it is saved.
func (k *KeyServer) Weigh(_ struct{}, octets *int) error {
	var s scales
	k.state.Use(&s)
	defer k.state.Use(nil)
	if err := k.srv.Save(); err != nil {
		return err
	}
	*octets = int(s)
	return nil
}

// traffic is what the loopback interface has carried.
type traffic struct{ packets, octets, fragments int }

// etherHeader is counted with each packet, though there is none.
const etherHeader = 14

// carried reads the counters of the namespace that this process is in.
func carried() (t traffic, err error) {
	dev, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return t, err
	}
	for line := range strings.Lines(string(dev)) {
		if f := strings.Fields(line); len(f) == 17 && f[0] == "lo:" {
			t.octets, _ = strconv.Atoi(f[9])
			t.packets, _ = strconv.Atoi(f[10])
		}
	}
	t.octets -= etherHeader * t.packets
	snmp, err := os.ReadFile("/proc/self/net/snmp")
	if err != nil {
		return t, err
	}
	var names []string
	for line := range strings.Lines(string(snmp)) {
		f := strings.Fields(line)
		if f[0] != "Ip:" {
			continue
		}
		if i := slices.Index(names, "FragCreates"); i > 0 && i < len(f) {
			t.fragments, _ = strconv.Atoi(f[i])
		}
		names = f
	}
	if t.packets == 0 {
		return t, errors.New("no counters of the loopback interface")
	}
	return t, nil
}

// lossy loses a hundredth of what key servers send each other.
func lossy() error {
	c := exec.Command("nft", "-f", "-")
	c.Stdin = strings.NewReader(fmt.Sprintf("table ip scale { chain in { type filter hook input priority 0; ip saddr %s ip daddr %s numgen random mod 100 < 1 drop; }; }\n", serverNet, serverNet))
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("loss: %w: %s", err, out)
	}
	return nil
}

// lateRound is one joining.
type lateRound struct {
	loss           float64
	joined         Joined
	traffic        traffic
	there, late    time.Duration // processor time of who was there and who joined
	before, after  Usage         // of who was there
	fresh, settled Usage         // of who joined
}

// measureLate lets a key server join one that has all members, and again on a network
// that loses some.
func measureLate(o options, w io.Writer) error {
	var dirs [1 + len(lateServers)]string
	for i := range dirs {
		d, err := os.MkdirTemp("", "scale")
		if err != nil {
			return err
		}
		defer os.RemoveAll(d)
		dirs[i] = d
	}
	gm, err := start(crowdRole)
	if err != nil {
		return err
	}
	defer gm.stop()
	there, err := start(keyServerRole)
	if err != nil {
		return err
	}
	defer there.stop()
	serve := func(c *child, dir string, self netip.Addr) error {
		return c.call("Serve", ServeOptions{Life: 4 * time.Hour, Sign: "ecdsa", Dir: dir, Self: self, Peers: append(lateServers[:], keyServer)}, nil)
	}
	var alone Joined
	var registered Registered
	if err := errors.Join(gm.call("Begin", CrowdOptions{o.members}, nil), serve(there, dirs[0], keyServer), there.call("Join", 0, &alone),
		gm.call("Register", RegisterArgs{o.parallel, 19}, &registered)); err != nil {
		return err
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "mtu", strconv.Itoa(lateMTU)).CombinedOutput(); err != nil {
		return fmt.Errorf("MTU: %w: %s", err, out)
	}
	var state int
	if err := there.call("Weigh", struct{}{}, &state); err != nil {
		return err
	}
	var rounds []lateRound
	for i, loss := range []float64{0, 0.01} {
		if loss > 0 {
			if err := lossy(); err != nil {
				return err
			}
		}
		r, err := lateJoin(there, loss, o.members, func(c *child) error { return serve(c, dirs[i+1], lateServers[i]) })
		if err != nil {
			return err
		}
		rounds = append(rounds, r)
	}
	lateReport{o, state, rounds}.print(w)
	return nil
}

// lateJoin is one joining; the key server that joined is gone afterwards.
func lateJoin(there *child, loss float64, members int, serve func(*child) error) (r lateRound, err error) {
	r.loss = loss
	late, err := start(keyServerRole)
	if err != nil {
		return r, err
	}
	defer late.stop()
	var t0, t1 traffic
	var busy Usage
	read := func(u *Usage, c *child, settle bool) func() error {
		return func() (err error) { *u, err = c.used(settle); return err }
	}
	for _, step := range []func() error{
		read(&r.before, there, true), read(&r.fresh, late, true),
		func() (err error) { t0, err = carried(); return err },
		func() error { return serve(late) },
		func() error { return late.call("Join", members, &r.joined) },
		func() (err error) { time.Sleep(settling); t1, err = carried(); return err },
		read(&busy, there, false), read(&r.settled, late, false),
	} {
		if err := step(); err != nil {
			return r, err
		}
	}
	r.there, r.late = busy.CPU-r.before.CPU, r.settled.CPU-r.fresh.CPU
	r.traffic = traffic{t1.packets - t0.packets, t1.octets - t0.octets, t1.fragments - t0.fragments}
	if r.after, err = there.used(true); err == nil {
		r.settled, err = late.used(true)
	}
	return r, err
}

type lateReport struct {
	o      options
	state  int
	rounds []lateRound
}

func (r lateReport) print(w io.Writer) {
	n := int64(r.o.members)
	fmt.Fprintf(w, "\na key server joins one that has %d members and 100 permits; MTU %d; the state, as it is saved, has %d octets, %d a member\n",
		n, lateMTU, r.state, int64(r.state)/n)
	for _, x := range r.rounds {
		fmt.Fprintf(w, "  loss %.0f %%: registers members after %.2f s, lists all after %.2f s\n", 100*x.loss, x.joined.Open.Seconds(), x.joined.Complete.Seconds())
		fmt.Fprintf(w, "    on the wire %d packets, %d octets: %.2f × the state, goal %.0f: %s; IP fragments %d, goal 0: %s\n", x.traffic.packets, x.traffic.octets,
			float64(x.traffic.octets)/float64(r.state), mostOfState, verdict(float64(x.traffic.octets) <= mostOfState*float64(max(r.state, leastState))), x.traffic.fragments, verdict(x.traffic.fragments == 0))
		fmt.Fprintf(w, "    CPU: who was there %.0f ms, who joined %.0f ms\n", ms(x.there), ms(x.late))
		grown := func(name string, a, b Usage) {
			heap := int64(b.Heap) - int64(a.Heap)
			fmt.Fprintf(w, "    memory of %s: %d octets live more than before (%.1f × the state, %d a member), %d resident\n", name, heap, float64(heap)/float64(r.state), heap/n, b.Resident-a.Resident)
		}
		grown("who was there", x.before, x.after)
		grown("who joined", x.fresh, x.settled)
	}
}

// mostOfState is the goal for octets on the wire; what is said without any member counts
// as a state of leastState.
const (
	mostOfState = 2.0
	leastState  = 64 << 10
)
