package cli

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"getvpn/config"
	"getvpn/model"
)

var now = time.Date(2026, 7, 28, 10, 0, 0, 0, time.UTC)

// fake is a daemon with a key server's group, a member's group, and what they hold.
type fake struct {
	snap    model.Snapshot
	conf    *config.Config
	acted   []Action
	by      []Caller
	applied int
	saved   int
	refuse  error // what Apply answers
}

func (f *fake) Snapshot() *model.Snapshot     { return &f.snap }
func (f *fake) RunningConfig() *config.Config { return f.conf }
func (f *fake) Save(Caller) error             { f.saved++; return nil }
func at(sec int) time.Time                    { return now.Add(time.Duration(sec) * time.Second) }
func a(s string) netip.Addr                   { return netip.MustParseAddr(s) }
func ap(s string) netip.AddrPort              { return netip.MustParseAddrPort(s) }

func (f *fake) Act(a Action, by Caller) error {
	f.acted, f.by = append(f.acted, a), append(f.by, by)
	return nil
}

func (f *fake) Apply(base, next *config.Config, by Caller) error {
	if f.refuse != nil {
		return f.refuse
	}
	if base != f.conf {
		return &Changed{f.by[len(f.by)-1], now}
	}
	if err := config.Problems("c", next); err != nil {
		return err
	}
	f.conf, f.snap.Hostname = next, next.Hostname
	f.applied, f.by = f.applied+1, append(f.by, by)
	return nil
}

// publicKey stands for a key of RSA with 4096 bits: its length counts here.
var publicKey = bytes.Repeat([]byte{0x30, 0x82, 0xAB, 0x00, 0x01}, 110)

const fixtureConfig = `hostname GM1
crypto gdoi group ks1
 identity number 1223
 server local
  rekey authentication mypubkey rsa REKEYRSA
crypto map svn gdoi fail-close
 match address 105
 activate
access-list 105 deny tcp any eq telnet any
access-list 105 deny ospf any any
`

func fixture(t *testing.T) *fake {
	t.Helper()
	c, _, err := config.Parse("fixture", []byte(fixtureConfig))
	if err != nil {
		t.Fatal(err)
	}
	tek := func(spi uint32, left int) model.TEK {
		return model.TEK{SPI: spi, Transform: "esp-256-aes esp-sha256-hmac", KeyBytes: 32, AuthBytes: 32, Tunnel: true,
			Lifetime: 600 * time.Second, Expires: at(left), Replay: model.Replay{Mode: "Count Based", Window: 64}, Direction: "Both",
			Interface: "GigabitEthernet0/0/1", SA: model.SACounters{EncapPackets: 7, DecapPackets: 5, ICVDrops: 1}}
	}
	aces := []model.ACE{{Text: "deny ip host 11.23.33.33 host 24.54.55.55"}, {Text: "deny udp any port = 3785 any"},
		{Text: "permit ip 25.25.0.0 0.0.255.255 15.15.0.0 0.0.255.255"}, {Text: "permit tcp 10.0.0.0 0.255.0.255 any port = 80"}}
	kek := &model.KEK{SPI: [16]byte{0xEE, 0xB0, 15: 0x22}, Algorithm: "AES", KeyBits: 256, SigHash: "HMAC_AUTH_SHA", SigBits: 4096,
		Unicast: true, Lifetime: 1200 * time.Second, Expires: at(787), RekeyAt: at(552), Seq: 3, Public: publicKey}
	copy(kek.SPI[:], []byte{0xEE, 0xB0, 0xE9, 0xA2, 0x12, 0x34, 0xC7, 0x1A, 0xF1, 0x03, 0x4F, 0x6B})
	first := tek(0xEE021924, 188)
	first.RekeyAt, first.Tag = at(62), true
	f := &fake{conf: c}
	f.snap = model.Snapshot{Hostname: "GM1", KSRejected: map[string]uint64{"coop-wrong-group": 2, "unknown-group": 1}, At: now, Boot: now.Add(-26 * time.Hour),
		KeyServers: []model.KSGroup{{Name: "ks1", Identity: model.GroupID{Number: 1223}, Local: a("1.1.1.1"), Unicast: true, Direction: "Both",
			RekeyLifetime: 1200 * time.Second, RetransmitPeriod: 10 * time.Second, RetransmitCount: 2, KEK: kek,
			Policies: []model.KSPolicy{{Seq: 1, Profile: "prof1", ACL: "acl1", ACEs: aces, Lifetime: 600 * time.Second,
				Replay: model.Replay{Mode: "Count Based", Window: 64}, TEKs: []model.TEK{first, tek(0x3A14695B, -5)}}},
			Members: model.NewMemberTable(model.Member{Addr: a("44.44.44.1"), Version: "1.0.25", RekeysSent: 3, RekeyRetries: 1, AcksRcvd: 3, AcksMissed: 1,
				SentSeqs: [4]uint32{3, 2, 1}, RcvdSeqs: [4]uint32{3, 2, 1}}, model.Member{Addr: a("54.54.54.1"), Version: "1.0.25"}),
			SIDBits: 24, SIDsMax: 1 << 24, NextRekey: at(62), PseudotimeFrom: at(-6000), Unanswered: 1,
			Counters: model.KSCounters{RekeysSent: 3, Retransmits: 1, LastRetransmits: 1, LastRekeyTook: 1234 * time.Millisecond, RekeyDatagrams: 7, AcksRcvd: 3},
			Rejected: map[string]uint64{"unauthorized": 3}}},
		Members: []model.GMGroup{{Name: "getvpn1", Identity: model.GroupID{Number: 1223}, Servers: []netip.Addr{a("1.1.1.1"), a("1.1.1.2")},
			Interface: "GigabitEthernet0/0/1", MapName: "cisco", Status: model.Registered, Local: ap("3.3.1.1:848"), Remote: ap("1.1.1.1:848"),
			Version: "1.0.26", RegisteredWith: a("1.1.1.1"), ReRegisters: at(449), Succeeded: 1, Attempted: 1, Direction: "Both", LocalACL: "bypass",
			LocalACEs: []model.ACE{{Text: "deny ip 172.16.1.0 0.0.0.255 172.16.100.0 0.0.0.255"}}, DownloadedACEs: aces,
			KEK: kek, TEKs: []model.TEK{tek(0x5A69F51E, 510), tek(0xF553AC4C, 35)}, FailuresByReason: map[string]uint64{"no-response": 2},
			RekeysReceived: 25, LastRekeyFrom: a("1.1.1.1"), LastRekeySeq: 3, GMLife: model.GMLife{RekeysSinceRegistration: 20, AcksSent: 25, LastRekeyAt: at(-90),
				Revert: true, Removal: at(697), Track: model.GMTrack{ID: 7, Up: true}, Recovery: model.GMRecovery{Interval: 300 * time.Second, Executed: 1},
				AcceptCiphers: []string{"aes 128", "aes 256"}}}},
		IKE: model.IKE{SAs: []model.IKESA{
			{ID: 1067, Local: ap("172.16.1.9:848"), Remote: ap("172.16.1.1:848"), State: "GDOI_IDLE", Initiator: true, Encr: "aes", Hash: "sha",
				Auth: "pre-share", DHGroup: 14, Expires: at(107), DPD: true},
			{ID: 29609, Local: ap("100.13.220.2:848"), Remote: ap("100.0.10.2:848"), State: "MM_NO_STATE", Initiator: true, Deleted: true}},
			Drops: map[string]uint64{"auth-failed": 4}},
		Dataplane: model.Dataplane{Backend: "tcx", Drops: map[string]uint64{"icv": 1, "clear-inbound": 9, "no-sa": 2},
			TimeReplay: []model.TimeReplay{{Group: "getvpn1", Known: true, Pseudotime: 3611735210 * time.Millisecond, Input: 2209247136, Output: 396920861, TooOld: 2,
				MaxDelta: 1250 * time.Millisecond, Failures: []model.TimeFailure{{At: at(-5), Source: a("10.1.1.1"), Mine: 100 * time.Second, Peer: 70500 * time.Millisecond}}}},
			Interfaces: []model.Interface{{Name: "GigabitEthernet0/0/1", MTU: 1500}}}}
	return f
}

// fill registers n members with the first group.
func (f *fake) fill(n int) {
	var rows []model.Member
	for i := range n {
		rows = append(rows, model.Member{Addr: a(fmt.Sprintf("10.1.%d.%d", i/250, i%250+1))})
	}
	f.snap.KeyServers[0].Members = model.NewMemberTable(rows...)
}
