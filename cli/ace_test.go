package cli

import (
	"testing"

	"getvpn/config"
)

// Views take apart what ipsec has written, in both families' forms.
func TestEntriesAreReadBack(t *testing.T) {
	c, _, err := config.Parse("t", []byte(`ip access-list extended four
 permit udp 10.1.0.0 0.0.255.255 eq 500 host 10.2.0.1 range 5 9
 deny tcp any any neq 22
ipv6 access-list six
 permit udp 2001:db8::/32 eq 500 host 2001:db8::1 range 5 9
 deny tcp any any neq 22
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"four", "six"} {
		l := c.ACLByName(name).Entries
		f := readACE(l[0].String())
		if !f.permit || f.proto != "udp" || f.src.port != "500" || f.dst.port != "5-9" || f.src.any || f.dst.any {
			t.Errorf("%s: %+v", l[0], f)
		}
		f = readACE(l[1].String())
		if f.permit || f.proto != "tcp" || f.src.port != "0" || f.dst.port != "22" || !f.dst.any {
			t.Errorf("%s: %+v", l[1], f)
		}
	}
}
