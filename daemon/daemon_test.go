package daemon

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/gdoi/ike"
	"getvpn/internal/memnet"
	"getvpn/ipsec"
	"getvpn/ipsec/dataplane"
	"getvpn/model"
)

// host gives a listen function for a host with that address: a socket bound to all
// addresses is reached there.
func host(n *memnet.Network, a netip.Addr) func(netip.AddrPort) (ike.PacketConn, error) {
	return func(l netip.AddrPort) (ike.PacketConn, error) { return memnet.As[ike.Datagram](n.Listen(l, a)) }
}

// fakePlane remembers what it was told, in order.
type fakePlane struct {
	mu   sync.Mutex
	log  []string
	last map[string]ipsec.GroupPolicy
	full string // an interface without room
}

func (p *fakePlane) refuse(iface string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.full = iface
}

func (p *fakePlane) note(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, s)
}

func (p *fakePlane) Install(g ipsec.GroupPolicy) error {
	p.note("install " + g.Group + " " + g.Interface)
	p.mu.Lock()
	defer p.mu.Unlock()
	if g.Interface == p.full {
		return errRoom
	}
	p.last[g.Group+" "+g.Interface] = g
	return nil
}

func (p *fakePlane) InstallAll(l []ipsec.GroupPolicy) error {
	if len(l) > 1 {
		p.note("together")
	}
	for _, g := range l {
		if err := p.Install(g); err != nil {
			return err
		}
	}
	return nil
}

func (p *fakePlane) Remove(group, iface string) error {
	p.note("remove " + group + " " + iface)
	return nil
}
func (p *fakePlane) Configure(i string, _ dataplane.InterfaceSettings) error {
	p.note("configure " + i)
	return nil
}
func (p *fakePlane) SetInline(m map[string]dataplane.Inline) error {
	if len(m) > 0 {
		p.note("tags in frames")
	}
	return nil
}
func (p *fakePlane) Exempt(syscall.RawConn) error { p.note("exempt"); return nil }
func (p *fakePlane) SetLocal([]netip.Addr) error  { return nil }
func (p *fakePlane) ClearReplay(string)           {}
func (p *fakePlane) Settle() error                { p.note("settle"); return nil }
func (p *fakePlane) Publish()                     {}
func (p *fakePlane) SACounters(uint32) (model.SACounters, bool) {
	return model.SACounters{EncapPackets: 7}, true
}
func (p *fakePlane) RuleHits(string, string) []uint64 { return []uint64{3, 4} }
func (p *fakePlane) Close(keep bool) error {
	if keep {
		p.note("close, policy kept")
	} else {
		p.note("close, policy gone")
	}
	return nil
}

func (p *fakePlane) done() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

func (p *fakePlane) policy(k string) ipsec.GroupPolicy {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[k]
}

type fixedAddr netip.Addr

func (a fixedAddr) of(string, bool) netip.Addr          { return netip.Addr(a) }
func (a fixedAddr) all() []netip.Addr                   { return []netip.Addr{netip.Addr(a)} }
func (a fixedAddr) watch(<-chan struct{}, func()) error { return nil }

const common = `crypto isakmp policy 10
 encr aes 256
 hash sha256
 authentication pre-share
 group 19
crypto isakmp key test-key address 0.0.0.0 0.0.0.0
`

const ksConf = common + `hostname ks
crypto ipsec transform-set T esp-gcm 128
crypto ipsec profile P
 set security-association lifetime seconds 900
 set transform-set T
crypto gdoi group RED
 identity number 1
 server local
  sa ipsec 1
   profile P
   match address ipv4 A
   no replay
  address ipv4 192.0.2.1
crypto gdoi group BLUE
 identity number 2
 server local
  sa ipsec 1
   profile P
   match address ipv4 A
   no replay
  address ipv4 192.0.2.1
ip access-list extended A
 deny tcp any any eq 22
 permit ip 10.0.0.0 0.255.255.255 10.0.0.0 0.255.255.255
end
`

const gmConf = common + `hostname gm
crypto gdoi group RED
 identity number 1
 server address ipv4 192.0.2.1
crypto map M gdoi fail-close
 match address FC
 activate
crypto map M 10 gdoi
 set group RED
interface wan
 crypto map M
ip access-list extended FC
 deny tcp any any eq 22
end
`

type rig struct {
	t     *testing.T
	d     *Daemon
	plane *fakePlane
	file  string
	out   *bytes.Buffer
}

func start(t *testing.T, dir string, n *memnet.Network, addr, conf string) (*rig, error) {
	a := netip.MustParseAddr(addr)
	r := &rig{t: t, plane: &fakePlane{last: map[string]ipsec.GroupPolicy{}}, file: filepath.Join(dir, addr+".conf"), out: &bytes.Buffer{}}
	if err := os.WriteFile(r.file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Start(Options{ConfigFile: r.file, StateDir: filepath.Join(dir, addr), Console: r.out, addrs: fixedAddr(a), listen: host(n, a),
		openPlane: func(dataplane.Options) (Plane, error) { r.plane.note("open"); return r.plane, nil }})
	r.d = d
	return r, err
}

// lines counts what was logged.
func (r *rig) lines() int {
	w := r.d.o.Console.(*lockedWriter)
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Count(r.out.Bytes(), []byte("\n"))
}

// A key server and a member from their configuration files: fail-close first, then the
// policy; a reload that touches one group alone; an end that leaves the policy.
func TestTwoDaemons(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		k, err := start(t, dir, n, "192.0.2.1", ksConf)
		if err != nil {
			t.Error(err, k.out)
			return
		}
		m, err := start(t, dir, n, "198.51.100.1", gmConf)
		if err != nil {
			t.Fatal(err, m.out)
		}
		defer k.d.Stop()
		defer m.d.Stop()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := m.plane.done(); len(got) < 4 || got[0] != "open" || got[1] != "configure wan" || got[2] != "install RED wan" || !slices.Contains(got, "settle") {
			t.Errorf("dataplane saw %v", got)
		}
		p := m.plane.policy("RED wan")
		if p.State != ipsec.Registered || len(p.Entries) != 2 || p.Entries[1].SPI == 0 || !p.FailClose.Active {
			t.Fatalf("installed %+v\n%s\n%s", p, m.out, k.out)
		}
		s := k.d.store.Load()
		if len(s.KeyServers) != 2 || s.KeyServers[0].Members.Len()+s.KeyServers[1].Members.Len() != 1 {
			t.Errorf("key server: %+v", s.KeyServers)
		}

		// RED's lifetime is BLUE's too; only BLUE's identity changes.
		os.WriteFile(k.file, []byte(strings.Replace(ksConf, "identity number 2", "identity number 3", 1)), 0o600)
		red := k.d.groups["RED"]
		blue := k.d.groups["BLUE"]
		if err := k.d.Reload("test"); err != nil {
			t.Fatal(err)
		}
		if k.d.groups["RED"] != red || k.d.groups["BLUE"] == blue {
			t.Error("the wrong group was restarted")
		}
		os.WriteFile(k.file, []byte("crypto gdoi nonsense\n"), 0o600)
		if err := k.d.Reload("test"); err == nil || k.d.groups["RED"] != red {
			t.Error("a bad file was applied", err)
		}
		os.WriteFile(m.file, []byte(strings.Replace(gmConf, " crypto map M\nip", "ip", 1)), 0o600)
		if err := m.d.Reload("test"); err != nil {
			t.Fatal(err)
		}
		if got := m.plane.done(); got[len(got)-1] != "remove RED wan" {
			t.Errorf("dataplane saw %v", got)
		}
		if err := m.d.Stop(); err != nil {
			t.Error(err)
		}
		if got := m.plane.done(); got[len(got)-1] != "close, policy kept" {
			t.Errorf("dataplane saw %v", got)
		}
		if err := k.d.Stop(); err != nil {
			t.Error(err)
		}
		if !strings.Contains(m.out.String(), "GM_REGS_COMPL") || !strings.Contains(k.out.String(), "KS_REGS_COMPL") {
			t.Errorf("console\n%s\n%s", m.out, k.out)
		}
		if strings.Contains(m.out.String()+k.out.String(), "test-key") {
			t.Error("a key on the console")
		}
	})
}
