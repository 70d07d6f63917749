package e2e

// Cooperative key servers as daemons in a network that can be split: four of them, four
// members that list them in different orders, a load that is counted between all hosts.

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"getvpn/internal/lab"
)

// league is a group with cooperative key servers.
type league struct {
	*world
	p      policy
	timers []string
	n      int // key servers
	ks     map[int]*lab.Daemon
	from   map[string]int // octets of the logs that were heard
	flows  []*flow
	sides  []side // of the network; nil: it is whole
}

// side are key servers and members that reach each other, by number.
type side struct{ ks, gm []int }

func (s side) nodes() (nodes []string) {
	for _, k := range s.ks {
		nodes = append(nodes, lab.KSNode(k))
	}
	for _, g := range s.gm {
		nodes = append(nodes, fmt.Sprintf("gm%d", g))
	}
	return nodes
}

// quick are the shortest times that the configuration allows.
var quick = []string{"protocol timeout refresh 5", "protocol timeout periodic 10", "protocol retransmit 2"}

// newLeague starts n key servers, the first with the highest priority, and four members;
// all are registered when it returns. On a busy machine another one may lead at first.
func newLeague(t *testing.T, n int, p policy, timers []string) *league {
	l := &league{world: newWorld(t, lab.Options{KeyServers: n, Members: 4}), p: p, timers: timers, n: n,
		ks: map[int]*lab.Daemon{}, from: map[string]int{}}
	l.must(l.RouteMulticast())
	l.signers()
	var errs []error
	var mu sync.Mutex
	var wg sync.WaitGroup
	for k := 1; k <= n; k++ {
		wg.Go(func() {
			d, err := l.start(k)
			mu.Lock()
			defer mu.Unlock()
			l.ks[k], errs = d, append(errs, err)
		})
	}
	wg.Wait()
	l.must(errors.Join(errs...))
	l.lead(l.all()...)
	for g := 1; g <= 4; g++ {
		l.startMember(g)
	}
	for g := 1; g <= 4; g++ {
		l.must(l.gms[g].Registered(time.Minute))
	}
	t.Cleanup(func() {
		if t.Failed() {
			l.tellAll()
		}
	})
	return l
}

// signers gives all key servers one key that signs rekeys.
func (l *league) signers() {
	l.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	l.must(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	l.must(err)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for k := 1; k <= l.n; k++ {
		dir := filepath.Join(l.Dir, lab.KSNode(k)+".state")
		l.must(os.MkdirAll(dir, 0o700))
		l.must(os.WriteFile(filepath.Join(dir, "rsa-SIGN.pem"), text, 0o600))
	}
}

// start starts key server k, also again.
func (l *league) start(k int) (*lab.Daemon, error) {
	conf := strings.NewReplacer("hostname ks\n", "hostname "+lab.KSNode(k)+"\n",
		"  address ipv4 "+lab.KeyServer+"\n", "  address ipv4 "+lab.KSAddr(k)+"\n"+l.redundancy(k),
		" permit udp host "+lab.KeyServer+" eq 848 ", " permit udp any eq 848 ").Replace(ksConf(l.p))
	file, err := l.ConfFile(lab.KSNode(k), conf)
	if err != nil {
		return nil, err
	}
	return l.Daemon(lab.KSNode(k), file)
}

func (l *league) redundancy(k int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  redundancy\n   local priority %d\n", 100-10*k)
	for o := 1; o <= l.n; o++ {
		if o != k {
			fmt.Fprintf(&b, "   peer address ipv4 %s\n", lab.KSAddr(o))
		}
	}
	for _, t := range l.timers {
		fmt.Fprintf(&b, "   %s\n", t)
	}
	return b.String()
}

// startMember starts member g, whose first key server is the one of its number.
func (l *league) startMember(g int) {
	l.Helper()
	var servers strings.Builder
	for i := range l.n {
		fmt.Fprintf(&servers, " server address ipv4 %s\n", lab.KSAddr((g-1+i)%l.n+1))
	}
	conf := strings.NewReplacer(" server address ipv4 "+lab.KeyServer+"\n", servers.String(),
		"address "+lab.KeyServer+"\n", "address 172.16.0.0 255.255.0.0\n").Replace(gmConf(g, member{}))
	file, err := l.ConfFile(fmt.Sprintf("gm%d", g), conf)
	l.must(err)
	l.gms[g], err = l.Daemon(fmt.Sprintf("gm%d", g), file)
	l.must(err)
}

func (l *league) all() []int { return slices.Sorted(maps.Keys(l.ks)) }

// coopModel is what of a daemon's snapshot these tests read.
type coopModel struct {
	KeyServers []struct {
		KEK        *coopKEK
		Policies   []struct{ TEKs []tek }
		Unanswered int
		Coop       struct {
			Role    int
			Primary string
			Peers   []struct {
				Addr   string
				Status int
				IKE    bool
			}
		}
	}
	Members []struct {
		KEK       *coopKEK
		TEKs      []tek // newest first
		Succeeded int
	}
	Dataplane struct{ Drops map[string]int }
}

type coopKEK struct {
	SPI [16]byte
	Seq uint32
}

const primary, secondary = 1, 2 // of Role

const dead = 2 // of Status

func (l *league) model(d *lab.Daemon) (m coopModel, err error) {
	err = d.Snapshot(&m)
	return m, err
}

// teks are the SPIs that a key server has in force, newest first.
func (m *coopModel) teks() (spis []uint32) {
	for _, t := range m.KeyServers[0].Policies[0].TEKs {
		spis = append(spis, t.SPI)
	}
	return spis
}

// agree waits until p is the primary of these key servers, which all hold its keys.
func (l *league) agree(p int, among ...int) {
	l.Helper()
	l.until(2*time.Minute, func() error {
		lead, err := l.model(l.ks[p])
		if err != nil {
			return err
		}
		if lead.KeyServers[0].Coop.Role != primary || lead.KeyServers[0].KEK == nil {
			return fmt.Errorf("ks%d isn't primary", p)
		}
		for _, k := range among {
			m, err := l.model(l.ks[k])
			if err != nil {
				return err
			}
			g := &m.KeyServers[0]
			if k != p && g.Coop.Role != secondary || g.Coop.Primary != lab.KSAddr(p) || g.KEK == nil || g.KEK.SPI != lead.KeyServers[0].KEK.SPI ||
				!slices.Equal(m.teks(), lead.teks()) {
				return fmt.Errorf("ks%d has role %d under %s and the TEKs %x, not %x", k, g.Coop.Role, g.Coop.Primary, m.teks(), lead.teks())
			}
		}
		return nil
	})
}

// lead waits until these key servers have one primary that all follow, and returns it.
func (l *league) lead(among ...int) (p int) {
	l.Helper()
	l.until(3*time.Minute, func() error {
		p = 0
		for _, k := range among {
			m, err := l.model(l.ks[k])
			if err != nil {
				return err
			}
			if m.KeyServers[0].Coop.Role != primary {
				continue
			}
			if p != 0 {
				return fmt.Errorf("ks%d and ks%d are primary", p, k)
			}
			p = k
		}
		if p == 0 {
			return errors.New("nobody is primary")
		}
		return nil
	})
	l.agree(p, among...)
	return p
}

// forget lets heard count what daemons say from now on.
func (l *league) forget() {
	for _, d := range l.ks {
		l.from[d.Node] = len(d.Output())
	}
}

// heard counts a text in what key server k has said since forget.
func (l *league) heard(k int, text string) int {
	d := l.ks[k]
	return strings.Count(d.Output()[l.from[d.Node]:], text)
}

// says waits until key server k says a text.
func (l *league) says(k int, text string) {
	l.Helper()
	l.until(3*time.Minute, func() error {
		if l.heard(k, text) == 0 {
			return fmt.Errorf("ks%d hasn't said %s", k, text)
		}
		return nil
	})
}

const (
	becamePrimary = "%GDOI-5-COOP_KS_TRANS_TO_PRI"
	election      = "%GDOI-5-COOP_KS_ELECTION"
	unreachable   = "%GDOI-3-COOP_KS_UNREACH"
	reachable     = "%GDOI-5-COOP_KS_REACH"
)

// acknowledged waits until members gm hold the KEK of key server k and have answered its
// rekey (one that isn't answered is only waited for until they hold it), and returns it.
func (l *league) acknowledged(k int, not [16]byte, gm ...int) (kek [16]byte) {
	l.Helper()
	l.until(2*time.Minute, func() error {
		m, err := l.model(l.ks[k])
		if err != nil {
			return err
		}
		g := &m.KeyServers[0]
		if kek = g.KEK.SPI; kek == not {
			return fmt.Errorf("ks%d has the KEK %x still", k, kek)
		}
		for _, x := range gm {
			m, err := l.model(l.gms[x])
			if err != nil {
				return err
			}
			if h := m.Members[0].KEK; h == nil || h.SPI != kek {
				return fmt.Errorf("gm%d doesn't hold the KEK %x of ks%d but %x", x, kek, k, h)
			}
		}
		if l.unicast() && g.Unanswered > l.away(k) {
			return fmt.Errorf("ks%d waits for %d members", k, g.Unanswered)
		}
		return nil
	})
	return kek
}

// unicast reports whether rekeys are sent to each member, and answered.
func (l *league) unicast() bool { return slices.Contains(l.p.rekey, "rekey transport unicast") }

// away is how many members key server k can't reach.
func (l *league) away(k int) int {
	for _, s := range l.sides {
		if slices.Contains(s.ks, k) {
			return len(l.gms) - len(s.gm)
		}
	}
	return 0
}

// switched waits until members gm send with the newest key of key server k.
func (l *league) switched(k int, gm ...int) {
	l.Helper()
	l.until(2*time.Minute, func() error {
		m, err := l.model(l.ks[k])
		if err != nil {
			return err
		}
		newest := m.teks()[0]
		for _, x := range gm {
			m, err := l.model(l.gms[x])
			if err != nil {
				return err
			}
			if i := slices.IndexFunc(m.Members[0].TEKs, func(t tek) bool { return t.Sending }); i < 0 || m.Members[0].TEKs[i].SPI != newest {
				return fmt.Errorf("gm%d doesn't send with %x but has %+v", x, newest, m.Members[0].TEKs)
			}
		}
		return nil
	})
}

// kek is the SPI of key server k's KEK.
func (l *league) kek(k int) [16]byte {
	l.Helper()
	m, err := l.model(l.ks[k])
	l.must(err)
	return m.KeyServers[0].KEK.SPI
}

// tellAll prints what explains a failure.
func (l *league) tellAll() {
	for k := range l.ks {
		b, _ := os.ReadFile(filepath.Join(l.Dir, lab.KSNode(k)+".log"))
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		l.Logf("ks%d's log ends:\n%s", k, strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
	if b, err := os.ReadFile(filepath.Join(l.Dir, "gm4.log")); err == nil {
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		l.Logf("gm4's log ends:\n%s", strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
}
