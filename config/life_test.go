package config

import (
	"strings"
	"testing"
)

const lifeConfig = `crypto ipsec transform-set T1 esp-gcm 256
crypto ipsec transform-set T2 esp-aes esp-sha256-hmac
crypto ipsec profile P
 set transform-set T1
 set security-association lifetime seconds 7200
crypto gdoi group KS
 identity number 1
 interop rfc6407
 server local
  rekey algorithm aes 256
  rekey sig-hash algorithm sha384
  rekey address ipv4 121
  rekey retransmit 20 periodic
  rekey authentication mypubkey ecdsa SIGN
  rekey acknowledgement interoperable
  group size small 12
  sa ipsec 1
   profile P
   match address ipv4 120
   replay time window-size 20
   tag cts sgt
  address ipv4 10.0.0.1
crypto gdoi group GM
 identity number 2
 server address ipv4 10.0.0.9
 passive
 client registration interface lo0
 client rekey encryption aes 128 3des-cbc aes 256
 client rekey hash sha256 sha512
 client transform-sets T1 T2
 client fail-close revert
 client status active-sa track 7
 client recovery-check interval 300
 client bypass-policy
interface eth0
 ip igmp join-group 239.1.1.1
 ip igmp join-group 232.1.1.1 source 10.0.0.1
 ipv6 mld join-group ff3e::1 2001:db8::1
 cts manual
  policy static sgt 20 trusted
 ip igmp version 3
access-list 120 deny udp any eq 848 any eq 848
access-list 120 permit ip 10.1.0.0 0.0.255.255 any
access-list 121 permit udp host 10.0.0.1 eq 848 host 239.1.1.1 eq 848
`

// Every line of a group's life is a command of its own, printed as it was read.
func TestLifeLinesAreReadAndPrinted(t *testing.T) {
	c, _, err := Parse("life", []byte(lifeConfig))
	if err != nil {
		t.Fatal(err)
	}
	out := Render(c)
	for _, line := range strings.Split(strings.TrimSpace(lifeConfig), "\n") {
		if !strings.Contains(out, "\n"+line+"\n") {
			t.Errorf("not printed as it was read: %q", line)
		}
	}
	l := c.GroupByName("KS").Local
	if name, ecdsa := l.RekeyKey(); name != "SIGN" || !ecdsa || !l.RekeyPeriodic || l.RekeyAck != AckInteroperable || !l.SAs[0].Tag || l.SIDBits != 12 {
		t.Errorf("%+v", l)
	}
	g := c.GroupByName("GM")
	if x := g.Client; len(x.RekeyCiphers) != 3 || x.RekeyCiphers[2] != (RekeyCipher{EncrAES, 256}) || len(x.RekeyHashes) != 2 || len(x.TransformSets) != 2 ||
		!x.Revert || x.Track != 7 || x.Recovery != seconds(300) || !x.Bypass || !g.Passive || len(g.Kept) != 0 {
		t.Errorf("%+v", x)
	}
	if j := c.Interfaces[0].Joins; len(j) != 3 || j[1].Source.String() != "10.0.0.1" || j[2].Source.String() != "2001:db8::1" {
		t.Errorf("%v", j)
	}
}

// Every such line can be taken back, and what is left is the default.
func TestLifeLinesCanBeTakenBack(t *testing.T) {
	back := lifeConfig + `crypto gdoi group KS
 no interop rfc6407
 server local
  no rekey sig-hash algorithm
  no rekey address ipv4
  rekey retransmit 10 number 2
  no rekey authentication mypubkey
  no rekey acknowledgement
  no group size
  sa ipsec 1
   no tag cts sgt
crypto gdoi group GM
 no passive
 no client registration interface
 no client rekey encryption
 no client rekey hash
 no client transform-sets
 no client fail-close revert
 no client status active-sa track
 no client recovery-check interval
 no client bypass-policy
interface eth0
 no ip igmp join-group 239.1.1.1
 no ip igmp join-group 232.1.1.1 source 10.0.0.1
 no ipv6 mld join-group ff3e::1
 no cts manual
`
	c, _, err := Parse("back", []byte(back))
	if err != nil {
		t.Fatal(err)
	}
	out := Render(c)
	for _, gone := range []string{"interop", "sig-hash", "rekey address", "retransmit", "rekey authentication", "acknowledgement", "group size", "tag cts", "passive", "client", "join-group", "cts manual", "policy static"} {
		if strings.Contains(out, gone) {
			t.Errorf("%q is still there:\n%s", gone, out)
		}
	}
	if !strings.Contains(out, "ip igmp version 3") {
		t.Error("a kept line went with them")
	}
}

// A set that isn't there would make the list accept less than it says, or everything.
func TestAcceptedTransformSetsExist(t *testing.T) {
	c, _, err := Parse("f", []byte(strings.Replace(lifeConfig, "client transform-sets T1 T2", "client transform-sets T1 T9", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := Problems("f", c); err == nil || !strings.Contains(err.Error(), "group GM: client transform-sets: there is no transform set T9") {
		t.Errorf("%v", err)
	}
}

func TestLifeLinesThatAreWrong(t *testing.T) {
	for line, why := range map[string]string{
		"crypto gdoi group g\n client transform-sets A B C D E F G":      "Invalid input",
		"crypto gdoi group g\n client rekey encryption aes":              "Incomplete command",
		"crypto gdoi group g\n client rekey hash md5":                    "Invalid input",
		"crypto gdoi group g\n client recovery-check interval 99":        "Invalid input",
		"interface e\n ip igmp join-group 10.1.1.1":                      "isn't a multicast address",
		"interface e\n ip igmp join-group 239.1.1.1 source":              "A multicast group is joined by",
		"crypto gdoi group g\n server local\n  rekey retransmit 5 num 2": "Invalid input",
		"crypto gdoi group g\n server local\n  group size small 9":       "Invalid input",
	} {
		if _, _, err := Parse("f", []byte(line)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
