package ike

import (
	"net/netip"
	"syscall"
	"testing"
)

// A socket bound to all addresses learns which one was asked and answers from it; the
// control hook sees each socket.
func TestUDPAnswersFromTheAddressAsked(t *testing.T) {
	for _, v := range []struct{ bind, ask, from string }{
		{"0.0.0.0:0", "127.0.0.5", "127.0.0.6:0"},
		{"[::]:0", "::1", "[::1]:0"},
	} {
		hooks := 0
		hook := func(rc syscall.RawConn) error { hooks++; return nil }
		server, err := listenUDP(netip.MustParseAddrPort(v.bind), hook)
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		client, err := listenUDP(netip.MustParseAddrPort(v.from), hook)
		if err != nil {
			t.Skipf("no such address here: %v", err)
		}
		defer client.Close()
		ask := netip.AddrPortFrom(netip.MustParseAddr(v.ask), server.LocalAddr().Port())
		if err := client.Write([]byte("question"), netip.Addr{}, ask); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		d, err := server.Read(buf)
		if err != nil || string(d.Data) != "question" || d.Local != ask || d.Remote != client.LocalAddr() {
			t.Fatalf("%+v %v", d, err)
		}
		if err := server.Write([]byte("answer"), d.Local.Addr(), d.Remote); err != nil {
			t.Fatal(err)
		}
		d, err = client.Read(buf)
		if err != nil || string(d.Data) != "answer" || d.Remote != ask {
			t.Errorf("%+v %v", d, err)
		}
		if hooks != 2 {
			t.Errorf("%d hooks", hooks)
		}
	}
}
