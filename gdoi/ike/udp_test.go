package ike

import (
	"bytes"
	"errors"
	"net"
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

// What came while nobody read comes out in order, octet for octet and each with its
// sender, whether it fills a batch or not; then the socket's end.
func TestUDPReadsBatches(t *testing.T) {
	server, err := listenUDP(netip.MustParseAddrPort("127.0.0.1:0"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var clients [2]PacketConn
	for i := range clients {
		if clients[i], err = listenUDP(netip.MustParseAddrPort("127.0.0.1:0"), nil); err != nil {
			t.Fatal(err)
		}
		defer clients[i].Close()
	}
	buf := make([]byte, 65536)
	sizes := []int{0, 1, 84, 1500, 9000, 65507}
	for _, n := range []int{1, inboxSize - 1, inboxSize, 2*inboxSize + 3} {
		sent := make([][]byte, n)
		for i := range sent {
			sent[i] = bytes.Repeat([]byte{byte(i + 1)}, sizes[i%len(sizes)])
			if err := clients[i%2].Write(sent[i], netip.Addr{}, server.LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		for i := range sent {
			d, err := server.Read(buf)
			if err != nil || !bytes.Equal(d.Data, sent[i]) || d.Remote != clients[i%2].LocalAddr() || d.Local != server.LocalAddr() {
				t.Fatalf("%d of %d: %d octets from %v to %v, %v", i, n, len(d.Data), d.Remote, d.Local, err)
			}
		}
	}
	server.Close()
	if _, err := server.Read(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// Control messages that say nothing of an address, or are cut off, are passed over.
func FuzzPacketInfo(f *testing.F) {
	f.Add(sourceInfo(netip.MustParseAddr("192.0.2.1"), false))
	f.Add(sourceInfo(netip.MustParseAddr("2001:db8::1"), true))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, ok := packetInfo(b); ok != a.IsValid() {
			t.Errorf("%v %v", a, ok)
		}
	})
}

// Whole endpoints on the kernel's sockets: bound to one address and to all, both
// families; the answers come from the address that was asked.
func TestEndpointsOnRealSockets(t *testing.T) {
	const memberPort, serverPort = 38480, 38481
	keys := []Key{{Prefix: netip.MustParsePrefix("127.0.0.0/8"), PSK: []byte("k")}, {Prefix: netip.MustParsePrefix("::1/128"), PSK: []byte("k")}}
	c := &Config{Policies: []Policy{{Encr: EncrAES, Hash: HashSHA256, Group: 19}}, Keys: keys}
	hooks := 0
	k, err := New(Options{Config: c, Port: serverPort, NATTPort: -1, Control: func(syscall.RawConn) error { hooks++; return nil }})
	if err != nil {
		t.Skipf("ports aren't free: %v", err)
	}
	defer k.Close()
	echoKS(t, k)
	if hooks != len(k.conns) || hooks == 0 {
		t.Errorf("%d hooks for %d sockets", hooks, len(k.conns))
	}
	for _, v := range []struct {
		locals        []netip.Addr
		server, local string
	}{
		{[]netip.Addr{netip.MustParseAddr("127.0.0.1")}, "127.0.0.9", "127.0.0.1"},
		{nil, "127.0.0.9", "127.0.0.1"},
		{nil, "::1", "::1"},
	} {
		if v.server == "::1" && len(k.conns) < 2 {
			t.Log("no IPv6 here")
			continue
		}
		g, err := New(Options{Config: c, Locals: v.locals, Port: memberPort, NATTPort: -1})
		if err != nil {
			t.Skipf("ports aren't free: %v", err)
		}
		sa, err := g.Connect(t.Context(), netip.AddrPortFrom(netip.MustParseAddr(v.server), serverPort), ConnectOptions{})
		if err != nil {
			t.Fatalf("%s: %v; %v %v", v.server, err, g.Drops(), k.Drops())
		}
		if err := pull(t.Context(), sa); err != nil {
			t.Errorf("%s: %v", v.server, err)
		}
		if got := sa.Peer().Local; got != netip.AddrPortFrom(netip.MustParseAddr(v.local), memberPort) {
			t.Errorf("local %v, want %s", got, v.local)
		}
		list := k.SAs(netip.MustParseAddr(v.local))
		if len(list) == 0 || list[len(list)-1].Peer().Local.Addr().String() != v.server {
			t.Errorf("%s: server's SAs %v", v.server, list)
		}
		g.Close()
	}
}
