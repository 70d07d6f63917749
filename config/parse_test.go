package config

import (
	"os"
	"testing"
)

func load(t *testing.T, name string) (*Config, []Warning) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	c, w, err := Parse(name, text)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return c, w
}

func TestScratch(t *testing.T) {
	for _, f := range []string{"guide-ks.conf", "guide-gm.conf", "guide-fail-close.conf", "keyserver.conf"} {
		c, w := load(t, f)
		t.Logf("%+v\n%v", c, w)
	}
	_, _, err := Parse("x.conf", []byte("hostname a\ncrypto isakmp key hunter2 adress 1.2.3.4\ncrypto isakmp policy 1\n encrr aes\n hash sha\ninterface\ncrypto gdoi group g\n identity numbr 1\naccess-list 101 permit tcp any eq telne any\n  server local\n"))
	t.Logf("\n%v", err)
}
