package daemon

// The guide's tables 1 and 2 on whole daemons, with the changes that they don't name:
// each change is entered in configuration mode at a key server with two members under
// traffic, or at the members. Whether a rekey is on the wire must agree with config's
// table of changes; what members do, and when, stands in the rows here and in
// life_member_rows_test.go. Where the guide contradicts itself, config's table says which
// text counts and why; the rows here show that text.

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"getvpn/config"
	"getvpn/ipsec"
	"getvpn/model/event"
)

// tableLines is what changes change over to.
const tableLines = `crypto ipsec transform-set T2 esp-aes 256 esp-sha256-hmac
crypto ipsec profile Q
 set security-association lifetime seconds 900
 set transform-set T2
ip access-list extended B
 permit udp 10.0.0.0 0.255.255.255 10.0.0.0 0.255.255.255
 permit tcp 10.0.0.0 0.255.255.255 10.0.0.0 0.255.255.255
ip access-list standard NOBODY
 deny any
`

const (
	atLocal  = "crypto gdoi group G\n server local\n  "
	atSA     = atLocal + "sa ipsec 1\n   "
	another  = atLocal + "sa ipsec 2\n   profile Q\n   match address ipv4 C\n"
	rsa      = multicast + "\n  rekey authentication mypubkey rsa R"
	policy20 = "crypto isakmp policy 20\n encr aes 256\n hash sha512\n authentication pre-share\n group 14"
	listC    = "ip access-list extended C\n permit ip 172.16.0.0 0.0.255.255 any\n"
)

// row is a change; look finds out what members do.
type row struct {
	name           string // of config's table
	what           string // when a row has several tests
	before, change string // lines
	where          string // they are entered: "" at the key server, "members", "gm1", "gm2"
	transport      string // "": multicast
	clear          bool   // packets leave in clear afterwards, as the change says
	lossy          bool   // packets drop afterwards, as the change says
	refused        string // said when the change can't be applied; "": it can
	prepare        func(*scene)
	look           func(*scene)
}

// scene is a row that is being looked at.
type scene struct {
	*life
	ks, a, b *simNode
	old      uint32    // SPI before the change
	begin    time.Time // of the change
}

// at is where a row's lines are entered.
func (s *scene) at(where string) []*simNode {
	return map[string][]*simNode{"": {s.ks}, "members": {s.a, s.b}, "gm1": {s.a}, "gm2": {s.b}}[where]
}

// tek is the TEK that a member has under an SPI, policy its whole policy.
func (s *scene) tek(spi uint32) ipsec.TEK {
	p, _ := s.a.site.Policy("G")
	for _, k := range p.TEKs {
		if k.SPI == spi {
			return k
		}
	}
	return ipsec.TEK{}
}

func (s *scene) policy() ipsec.GroupPolicy { p, _ := s.a.site.Policy("G"); return p }

// new is the SPI of the TEK that members hold besides the old one; 0: none.
func (s *scene) new() uint32 {
	for _, k := range s.policy().TEKs {
		if k.SPI != s.old {
			return k.SPI
		}
	}
	return 0
}

// living wants that members hold a new TEK, send with the old one to its end, and then
// with the new one, for which ok holds.
func living(ok func(ipsec.TEK) bool) func(*scene) {
	return func(s *scene) {
		n := s.new()
		if n == 0 || s.a.spi() != s.old || !ok(s.tek(n)) {
			s.t.Errorf("holds %+v, sends with %#x, before %#x", s.policy().TEKs, s.a.spi(), s.old)
			return
		}
		s.run(time.Until(s.tek(s.old).Expires) - 40*time.Second)
		if s.a.spi() != s.old {
			s.t.Errorf("40 s before its end the old SA isn't sent with")
		}
		s.run(20 * time.Second)
		if s.a.spi() != n || s.b.spi() != n {
			s.t.Errorf("20 s before its end the old SA is still sent with")
		}
	}
}

// nextRekey wants that nothing changes before a rekey and ok holds of the TEK after it.
func nextRekey(ok func(ipsec.TEK) bool) func(*scene) {
	return func(s *scene) {
		if s.new() != 0 || ok(s.tek(s.old)) {
			s.t.Error("it counts before the next rekey")
		}
		s.ks.command("crypto gdoi ks rekey")
		s.run(10 * time.Second)
		if !ok(s.tek(s.new())) {
			s.t.Errorf("after the next rekey: %+v", s.tek(s.new()))
		}
	}
}

// newKEK wants another KEK at the members. The next rekey comes with it, and also with
// the old one where members don't acknowledge; the one after that with the new alone.
func newKEK(ok func(*scene) bool) func(*scene) {
	return func(s *scene) {
		k := s.ks.served().KEK.SPI
		if !ok(s) || s.a.member().KEK.SPI != k {
			s.t.Errorf("members have %+v, the key server %+v", s.a.member().KEK, s.ks.served().KEK)
		}
		for _, most := range []int{2, 1} {
			s.run(time.Minute)
			begin := time.Now()
			s.ks.command("crypto gdoi ks rekey")
			s.run(10 * time.Second)
			if n := len(told[event.GMRecvRekey](s.a, begin)); n < 1 || n > most {
				s.t.Errorf("%d rekeys received after the change", n)
			}
			if l := s.rekeys(begin); len(l) == 0 || l[len(l)-1].cookies != k {
				s.t.Error("the last rekey isn't under the new KEK")
			}
		}
	}
}

// same wants that members notice nothing.
func same(s *scene) {
	if s.new() != 0 || s.a.spi() != s.old {
		s.t.Errorf("members noticed: %+v", s.policy().TEKs)
	}
}

// nextPhase1 wants that members and ISAKMP SAs that exist notice nothing, and that a new
// phase 1 fails until the member's configuration has lines as well.
func nextPhase1(lines string) func(*scene) {
	return func(s *scene) {
		same(s)
		begin := time.Now()
		s.ks.command("crypto gdoi ks rekey")
		s.run(5 * time.Second)
		if n := len(told[event.GMRecvRekey](s.a, begin)); n != 1 {
			s.t.Errorf("%d rekeys received by who is registered", n)
		}
		if _, ok := s.a.joins(); !ok {
			s.t.Error("an ISAKMP SA that exists doesn't stay")
		}
		s.a.command("clear crypto isakmp")
		if _, ok := s.a.joins(); ok {
			s.t.Error("registered with what was")
		}
		s.a.configure(lines)
		if _, ok := s.a.joins(); !ok {
			s.t.Error("not registered with what is new")
		}
	}
}

// protects wants the entries at the members at once, and the SA as it was.
func protects(n int) func(*scene) {
	return func(s *scene) {
		if got := len(s.policy().Entries); got != n || s.a.spi() != s.old {
			s.t.Errorf("%d entries, sends with %#x, before %#x", got, s.a.spi(), s.old)
		}
	}
}

// tableRows are those that a key server's configuration can bring about while it goes on.
var tableRows = []row{
	{name: "tek-lifetime", change: "crypto ipsec profile P\n set security-association lifetime seconds 7200",
		look: nextRekey(func(k ipsec.TEK) bool { return time.Until(k.Expires) > 7000*time.Second })},
	{name: "tek-transform", change: "crypto ipsec profile P\n set transform-set T2",
		look: living(func(k ipsec.TEK) bool { return k.Transform.Cipher == ipsec.CipherAESCBC })},
	{name: "tek-profile", change: atSA + "profile Q", look: living(func(k ipsec.TEK) bool { return k.Transform.Cipher == ipsec.CipherAESCBC })},
	{name: "tek-acl", change: "ip access-list extended A\n permit ip 172.16.0.0 0.0.255.255 any", look: protects(3)},
	{name: "tek-match", change: atSA + "match address ipv4 B", look: protects(2)},
	{name: "sa-added", change: another, look: func(s *scene) {
		protects(3)(s)
		if len(s.policy().TEKs) != 2 {
			s.t.Errorf("TEKs: %+v", s.policy().TEKs)
		}
	}},
	{name: "sa-removed", before: another, change: atLocal + "no sa ipsec 2", look: protects(2)},
	{name: "replay-counter-on", before: atSA + "no replay", change: atSA + "replay counter window-size 128",
		look: living(func(k ipsec.TEK) bool { return k.Replay == ipsec.Replay{Mode: ipsec.ReplayCounter, Window: 128} })},
	{name: "replay-counter-window", change: atSA + "replay counter window-size 256",
		look: nextRekey(func(k ipsec.TEK) bool { return k.Replay.Window == 256 })},
	{name: "replay-counter-off", change: atSA + "no replay", look: living(func(k ipsec.TEK) bool { return k.Replay.Mode == ipsec.ReplayNone })},
	{name: "replay-time-on", change: atSA + "replay time window-size 10",
		look: living(func(k ipsec.TEK) bool { return k.Replay == ipsec.Replay{Mode: ipsec.ReplayTime, Window: 10} })},
	{name: "replay-time-off", before: atSA + "replay time window-size 10", change: atSA + "no replay",
		look: living(func(k ipsec.TEK) bool { return k.Replay.Mode == ipsec.ReplayNone })},
	{name: "replay-time-window", before: atSA + "replay time window-size 10", change: atSA + "replay time window-size 20", look: func(s *scene) {
		s.ks.command("crypto gdoi ks rekey")
		s.run(10 * time.Second)
		if w := s.tek(s.new()).Replay.Window; w != 10 {
			s.t.Errorf("a rekey brings a window of %d s", w)
		}
		for _, n := range []*simNode{s.ks, s.a, s.b} {
			n.command("clear crypto gdoi")
		}
		s.run(10 * time.Second)
		if !slices.ContainsFunc(s.policy().TEKs, func(k ipsec.TEK) bool { return k.Replay.Window == 20 }) {
			s.t.Errorf("after clear: %+v", s.policy().TEKs)
		}
	}},
	{name: "tag", change: atSA + "tag cts sgt", look: living(func(k ipsec.TEK) bool { return k.Metadata.SGT })},
	{name: "receive-only-on", change: atLocal + "sa receive-only", clear: true, look: func(s *scene) {
		if f, ok := s.traffic.Probe(0); f.Drop != ipsec.DropNone || f.SPI != 0 || !ok {
			s.t.Errorf("after the rekey: %+v, arrived %v", f, ok)
		}
	}},
	{name: "receive-only-off", before: atLocal + "sa receive-only", change: atLocal + "no sa receive-only", clear: true, look: func(s *scene) {
		if f, ok := s.traffic.Probe(0); f.SPI == 0 || !ok {
			s.t.Errorf("after the rekey: %+v, arrived %v", f, ok)
		}
		if d := s.ks.served().Direction; d != "Both" { // already (guide l.954)
			s.t.Errorf("the key server shows %q", d)
		}
		if !s.policy().Passive {
			s.t.Error("clear packets aren't taken any more")
		}
		s.run(5*time.Minute + 20*time.Second) // from the last repetition of the rekey on
		if s.policy().Passive {
			s.t.Error("clear packets are taken after 5 minutes")
		}
	}},
	{name: "kek-lifetime", change: atLocal + "rekey lifetime seconds 7200", look: func(s *scene) {
		was := s.a.member().KEK.SPI
		same(s)
		s.ks.command("crypto gdoi ks rekey")
		s.run(10 * time.Second)
		if k := s.a.member().KEK; k.SPI == was || time.Until(k.Expires) > 7200*time.Second {
			s.t.Errorf("after ks rekey: %+v", k)
		}
	}},
	{name: "kek-cipher", change: atLocal + "rekey algorithm aes 256", look: newKEK(func(s *scene) bool { return s.a.member().KEK.KeyBits == 256 })},
	{name: "kek-key", change: atLocal + "rekey authentication mypubkey ecdsa OTHER", look: newKEK(func(s *scene) bool { return true })},
	{name: "kek-hash", change: atLocal + "rekey sig-hash algorithm sha512", transport: rsa, look: newKEK(func(s *scene) bool { return true })},
	{name: "kek-on", before: atLocal + "no rekey authentication", change: atLocal + "rekey authentication mypubkey ecdsa K", look: func(s *scene) {
		same(s) // nobody can read a rekey yet
		s.run(time.Until(s.tek(s.old).Expires))
		begin := time.Now()
		s.ks.command("crypto gdoi ks rekey")
		s.run(5 * time.Second)
		if n := len(told[event.GMRecvRekey](s.a, begin)); n != 1 {
			s.t.Errorf("%d rekeys received by who registered since", n)
		}
	}},
	{name: "kek-off", change: atLocal + "no rekey authentication", look: func(s *scene) {
		same(s)
		begin := time.Now()
		s.run(time.Until(s.tek(s.old).Expires))
		if p := s.rekeys(begin); len(p) != 0 {
			s.t.Errorf("%d rekeys", len(p))
		}
		if n := len(told[event.GMRegistrationComplete](s.a, begin)); n != 1 {
			s.t.Errorf("%d registrations", n)
		}
	}},
	{name: "transport-multicast", transport: unicast, change: atLocal + "rekey address ipv4 102\n  no rekey transport unicast",
		look: newKEK(func(s *scene) bool { return len(s.a.member().Joined) == 1 })},
	{name: "transport-unicast", change: atLocal + "rekey transport unicast", look: newKEK(func(s *scene) bool { return s.a.member().KEK.Unicast })},
	{name: "rekey-address", change: atLocal + "rekey address ipv4 103",
		look: newKEK(func(s *scene) bool {
			return slices.ContainsFunc(s.a.member().Joined, func(a netip.Addr) bool { return a.String() == "239.192.1.191" })
		})},
	{name: "rekey-address-acl", change: "no access-list 102\naccess-list 102 permit udp any host 239.192.1.192 eq 848", look: func(s *scene) {
		same(s)
		begin := time.Now()
		s.ks.command("crypto gdoi ks rekey")
		s.run(5 * time.Second)
		for _, p := range s.rekeys(begin) {
			if p.to.Addr().String() != "239.192.1.192" {
				s.t.Errorf("a rekey to %v", p.to)
			}
		}
		s.run(15 * time.Minute) // they register again and learn of it
		begin = time.Now()
		s.ks.command("crypto gdoi ks rekey")
		s.run(5 * time.Second)
		if n := len(told[event.GMRecvRekey](s.a, begin)); n != 1 {
			s.t.Errorf("%d rekeys received", n)
		}
	}},
	{name: "rekey-ack", transport: unicast, change: atLocal + "rekey acknowledgement any", look: func(s *scene) {
		same(s)
		s.ks.command("crypto gdoi ks rekey")
		s.run(5 * time.Second)
		if n := s.a.member().AcksSent; n != 1 {
			s.t.Errorf("%d acknowledgements", n)
		}
	}},
	{name: "ks-address", transport: unicast, change: atLocal + "address ipv4 203.0.113.201", look: func(s *scene) {
		same(s)
		begin := time.Now()
		s.ks.command("crypto gdoi ks rekey")
		s.run(5 * time.Second)
		for _, m := range []*simNode{s.a, s.b} {
			if l := told[event.GMRecvRekey](m, begin); len(l) != 1 || l[0].KS != s.ks.lo0 {
				s.t.Errorf("%s: rekeys received: %v", m.name, l)
			}
		}
		if n := s.ks.served().Unanswered; n != 0 {
			s.t.Errorf("%d members didn't acknowledge", n)
		}
	}},
	{name: "rekey-retransmit", change: atLocal + "rekey retransmit 10 number 3", look: func(s *scene) {
		same(s)
		begin := time.Now()
		s.ks.command("crypto gdoi ks rekey")
		s.run(time.Minute)
		if n := len(s.rekeys(begin)); n != 4 {
			s.t.Errorf("%d transmissions", n)
		}
	}},
	{name: "group-size", change: atLocal + "group size small 16", lossy: true, look: func(s *scene) {
		s.wait(5*time.Minute, "both are back", func() bool {
			k, m := s.tek(s.a.spi()), s.b.spi()
			return s.a.spi() != s.old && s.a.spi() == m && k.SIDBits == 16
		})
	}},
	{name: "identity", change: "crypto gdoi group G\n identity number 2", lossy: true, look: func(s *scene) {
		same(s)
		s.a.configure("crypto gdoi group G\n identity number 2")
		s.run(30 * time.Second)
		if l := s.ks.listed(); len(l) != 1 || l[0].Addr != s.a.addr {
			s.t.Errorf("registered in the new group: %+v", l)
		}
		if s.b.spi() != s.old {
			s.t.Error("who keeps the old identity doesn't go on with its keys")
		}
		if _, ok := s.b.joins(); ok || s.b.spi() != s.old {
			s.t.Error("registered under an identity that is gone, or left without keys")
		}
		s.b.configure("crypto gdoi group G\n identity number 2")
		s.wait(time.Minute, "both are of the new group", func() bool { return len(s.ks.listed()) == 2 })
	}},
	{name: "interop", change: "crypto gdoi group G\n interop rfc6407", look: func(s *scene) {
		same(s)
		s.run(time.Until(s.tek(s.old).Expires))
		if n := s.ks.listed(); len(n) != 2 || s.a.spi() == s.old || s.a.spi() != s.b.spi() {
			s.t.Errorf("a life later: members %+v, they send with %#x and %#x", n, s.a.spi(), s.b.spi())
		}
	}},
	{name: "group-added", change: "crypto gdoi group H\n identity number 9\n server local\n  sa ipsec 1\n   profile P\n   match address ipv4 C", look: func(s *scene) {
		same(s)
		for _, g := range s.ks.d.store.Load().KeyServers {
			if g.Name == "H" && (g.KEK != nil || g.Members.Len() != 0) {
				s.t.Errorf("keys before anybody registered: %+v", g)
			}
		}
		s.a.configure("crypto gdoi group H\n identity number 9\n server address ipv4 192.0.2.1\ncrypto map M 20 gdoi\n set group H")
		s.wait(time.Minute, "a member of the new group", func() bool { _, ok := s.a.site.Policy("H"); return ok })
	}},
	{name: "group-removed", change: "no crypto gdoi group G", lossy: true, look: func(s *scene) {
		same(s)
		s.run(time.Until(s.tek(s.old).Expires) - 5*time.Second)
		if s.a.spi() != s.old {
			s.t.Error("5 s before its end the key isn't sent with")
		}
		r := s.traffic.Report()
		if err := r.Flawless(); err != nil {
			s.t.Error(err)
		}
		s.run(10 * time.Second)
		if f, _ := s.traffic.Probe(0); f.Drop != ipsec.DropNoSA || f.SPI != 0 {
			s.t.Errorf("after its end: %+v", f)
		}
		if len(told[event.GMRegister](s.a, s.begin)) < 2 {
			s.t.Error("members don't look for a key server")
		}
	}},
	{name: "authorization", change: atLocal + "authorization address ipv4 NOBODY", look: func(s *scene) {
		same(s)
		begin := time.Now()
		s.a.command("clear crypto gdoi")
		s.run(30 * time.Second)
		if n := len(told[event.GMRegistrationComplete](s.a, begin)); n != 0 {
			s.t.Error("who isn't on the list registered")
		}
	}},
	{name: "tek-acl-removed", change: "no ip access-list extended A", refused: "there is no access list A", look: func(s *scene) {
		same(s)
		protects(2)(s)
		if out := s.ks.command("show running-config"); !strings.Contains(out, "ip access-list extended A\n") {
			s.t.Error("the list isn't in the running configuration")
		}
		s.run(time.Until(s.tek(s.old).Expires)) // members go on, and keys roll on
		if s.a.spi() == s.old || s.a.spi() != s.b.spi() {
			s.t.Errorf("a life later they send with %#x and %#x", s.a.spi(), s.b.spi())
		}
	}},
	{name: "psk", change: "crypto isakmp key k2 address 198.51.100.0 255.255.255.0",
		look: nextPhase1("crypto isakmp key k2 address 192.0.2.1")},
	{name: "profile-added", change: "crypto ipsec profile R\n set transform-set T2", look: func(s *scene) {
		same(s)
		begin := time.Now()
		s.ks.configure(atSA + "profile R")
		s.run(5 * time.Second)
		if len(s.rekeys(begin)) == 0 {
			s.t.Error("no rekey when an sa ipsec names it")
		}
		living(func(k ipsec.TEK) bool { return k.Transform.Cipher == ipsec.CipherAESCBC })(s)
	}},
	{name: "isakmp-policy", change: "no crypto isakmp policy 10\n" + policy20, look: nextPhase1(policy20)},
}

// awaiting are rows that can't be tested yet, and what for.
var awaiting = map[string]string{}

// Each row of config's table has a test on whole daemons or is awaited, not both.
func TestEveryRowOfTheTablesIsTestedOrAwaited(t *testing.T) {
	tested := map[string]bool{}
	for _, x := range slices.Concat(tableRows, memberRows) {
		tested[x.name] = true
	}
	for _, x := range coopRows {
		tested[x.name] = true
	}
	known := map[string]bool{}
	for _, r := range config.Rows() {
		known[r.Name] = true
		if tested[r.Name] == (awaiting[r.Name] != "") {
			t.Errorf("row %s: tested %v, awaiting %q", r.Name, tested[r.Name], awaiting[r.Name])
		}
	}
	for name := range awaiting {
		if !known[name] {
			t.Errorf("awaiting %s, which is no row", name)
		}
	}
}

// docs/guide.md names tests that exist, and every awaited row.
func TestGuideListNamesTests(t *testing.T) {
	list, err := os.ReadFile("../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, dir := range []string{".", "../config", "../ipsec", "../gdoi/policy"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(b, -1) {
				have[string(m[1])] = true
			}
		}
	}
	names := regexp.MustCompile("`(Test\\w+)").FindAllSubmatch(list, -1)
	if len(names) < 30 {
		t.Errorf("%d tests are named", len(names))
	}
	for _, m := range names {
		if !have[string(m[1])] {
			t.Errorf("there is no %s", m[1])
		}
	}
	for row := range awaiting {
		if !strings.Contains(string(list), "`"+row+"`") {
			t.Errorf("%s isn't listed", row)
		}
	}
}

func TestTablesOfTheGuide(t *testing.T) {
	t.Parallel()
	look(t, tableRows)
}

// look makes each row's change and looks at what comes of it.
func look(t *testing.T, list []row) {
	rows := map[string]config.Row{}
	for _, r := range config.Rows() {
		rows[r.Name] = r
	}
	for _, x := range list {
		name := x.name
		if x.what != "" {
			name += ": " + x.what
		}
		t.Run(name, func(t *testing.T) {
			want, ok := rows[x.name]
			if !ok {
				t.Fatal("no such row")
			}
			lively(t, 41, calm, func(l *life) {
				transport := multicast
				if x.transport != "" {
					transport = x.transport
				}
				s := &scene{life: l}
				s.ks = l.ks("ks", "192.0.2.1", edit(t, pushed(t, lifeKS, transport), "seconds 3600", "seconds 900")+listC+tableLines+x.before+"\n")
				gms := l.members(2, lifeGM)
				s.a, s.b = gms[0], gms[1]
				if x.prepare != nil {
					x.prepare(s)
				}
				l.wait(time.Minute, "members have keys", func() bool { return len(s.policy().TEKs) > 0 && s.b.member().Succeeded > 0 })
				l.run(time.Minute)
				l.flow(500 * time.Millisecond)
				s.old, s.begin = s.a.spi(), time.Now()
				s.change(t, &x)
				l.run(5 * time.Second)
				// Without a KEK nobody could read a rekey that is switched on.
				if n := len(l.rekeys(s.begin)); x.name != "kek-on" && (n > 0) != (want.Rekey || want.Name == "group-removed" || want.Name == "group-size") {
					t.Errorf("%d rekeys on the wire; the table says %v", n, want.Rekey)
				}
				x.look(s)
				switch {
				case x.lossy:
				case x.clear:
					l.flawlessButClear()
				default:
					l.flawless()
				}
			})
		})
	}
}

// change enters the row's lines where it says. Nothing is sent before configuration mode
// is left.
func (s *scene) change(t *testing.T, x *row) {
	t.Helper()
	var leave []func()
	var was []*config.Config
	is := func(i int, next *config.Config) {
		t.Helper()
		if !slices.ContainsFunc(config.Consequences(was[i], next), func(c config.Consequence) bool { return c.Row == x.name }) {
			t.Error("the change isn't of this row")
		}
	}
	nodes := s.at(x.where)
	for i, n := range nodes {
		was = append(was, n.d.RunningConfig())
		if x.refused == "" {
			leave = append(leave, n.enter(x.change))
			continue
		}
		if out := n.refused(x.change); !strings.Contains(out, x.refused) {
			t.Errorf("said %q, want %q", out, x.refused)
		}
		is(i, s.without(t, was[i], x.change))
	}
	s.run(10*time.Second + 100*time.Millisecond) // nothing is on its way then
	if k := s.rekeys(s.begin); len(k) != 0 {
		t.Errorf("%d rekeys before configuration mode is left", len(k))
	}
	for i := range leave {
		leave[i]()
		is(i, nodes[i].d.RunningConfig())
	}
}

// without is the configuration with lines that take something away.
func (s *scene) without(t *testing.T, c *config.Config, lines string) *config.Config {
	t.Helper()
	next, _, err := config.Parse("t", []byte(config.Render(c)+lines+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return next
}
