package daemon

import (
	"maps"
	"net/netip"
	"testing"

	"getvpn/config"
	"getvpn/ipsec/dataplane"
)

const manyConf = common + `hostname gm
crypto isakmp policy 20
 encr aes
 hash sha
 authentication rsa-sig
 group 14
crypto gdoi group RED
 identity number 1
 server address ipv4 192.0.2.1
 server address ipv4 192.0.2.2
crypto gdoi group BLUE
 identity number 2
 server address ipv4 192.0.2.1
crypto gdoi group UNUSED
 identity number 3
 server address ipv4 192.0.2.1
crypto map M gdoi fail-close
 match address FC
 activate
crypto map M 10 gdoi
 set group RED
 match address LOCAL
crypto map M 20 gdoi
 set group BLUE
crypto map N 10 gdoi
 set group RED
interface wan
 crypto map M
interface wan2
 crypto map N
ip access-list extended FC
 deny tcp any any eq 22
ip access-list extended LOCAL
 deny udp any any eq 123
end
`

// Several groups on an interface, a group on several interfaces, maps with several
// entries; a group that no interface has isn't a member's.
func TestMemberSetups(t *testing.T) {
	c, _, err := config.Parse("t", []byte(manyConf))
	if err != nil {
		t.Fatal(err)
	}
	s, err := memberSetups(c)
	if err != nil || len(s) != 2 || s[0].Group.Name != "RED" || s[1].Group.Name != "BLUE" {
		t.Fatalf("%+v %v", s, err)
	}
	red := s[0].Attach
	if len(red) != 2 || red[0].Interface != "wan" || red[0].MapSeq != 10 || !red[0].FailClose.Active || len(red[0].Local) != 1 ||
		red[1].Interface != "wan2" || red[1].FailClose.Active {
		t.Errorf("RED: %+v", red)
	}
	if b := s[1].Attach; len(b) != 1 || b[0].MapSeq != 20 || !b[0].FailClose.Active || len(b[0].FailClose.ACEs) != 1 {
		t.Errorf("BLUE: %+v", b)
	}
	if len(s[0].Group.Servers) != 2 || s[0].Group.Servers[1] != netip.MustParseAddr("192.0.2.2") {
		t.Errorf("servers %v", s[0].Group.Servers)
	}
	k, notes := ikeConfig(c)
	if len(k.Policies) != 1 || k.Policies[0].Group != 19 || len(k.Keys) != 1 || len(notes) != 1 {
		t.Errorf("%d policies, %d keys, notes %v", len(k.Policies), len(k.Keys), notes)
	}
}

// Tags: the mask is every interface's; ports with "cts manual" take tags from frames, but
// for those that are protected.
func TestTagSettings(t *testing.T) {
	c, _, err := config.Parse("t", []byte(manyConf+`crypto gdoi tag mark mask 0xff00
interface lan
 cts manual
  policy static sgt 7 trusted
interface dmz
 cts manual
interface wan
 cts manual
end
`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]dataplane.Inline{"lan": {TagMask: 0xff00, Static: 7, Trusted: true}, "dmz": {TagMask: 0xff00}}
	if got := inlinePorts(c); !maps.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	ifs := interfaceSettings(c, fixedAddr{})
	if len(ifs) != 2 || ifs["wan"].TagMask != 0xff00 || ifs["wan2"].TagMask != 0xff00 {
		t.Errorf("%+v", ifs)
	}
}
