package syslog

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"getvpn/model/event"
)

var complete = event.GMRegistrationComplete{KS: netip.MustParseAddr("192.1.40.2"), Group: "GRP-R1", GM: netip.MustParseAddr("192.1.10.2")}

func at(e event.Event) event.Record {
	return event.Record{Seq: 7, At: time.Date(2026, 3, 1, 1, 12, 11, 711e6, time.UTC), Event: e}
}

func TestLineIsTheVendors(t *testing.T) {
	want := "*Mar  1 01:12:11.711: %GDOI-5-GM_REGS_COMPL: Registration to KS 192.1.40.2 complete for group GRP-R1 using address 192.1.10.2"
	if got := Line(at(complete), false); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := Line(at(complete), true); got != want[1:] {
		t.Errorf("synchronised: %s", got)
	}
	if got := string(Datagram(at(complete), false, 23)); got != "<189>23: "+want {
		t.Errorf("datagram: %s", got)
	}
}

func TestPeerCannotForgeLines(t *testing.T) {
	got := Text(event.KSRejectVersion{GM: complete.GM, Version: "1\n<189>1: %SYS-5-RESTART: x", Group: "g", Features: "f"})
	if strings.ContainsAny(got, "\r\n") {
		t.Errorf("control character in %q", got)
	}
}

type brokenWriter struct{ closed bool }

func (*brokenWriter) Write([]byte) (int, error) { return 0, errors.New("refused") }
func (b *brokenWriter) Close() error            { b.closed = true; return nil }

type bufCloser struct{ bytes.Buffer }

func (*bufCloser) Close() error { return nil }

// A dead host loses its own lines only, is dialled again after a while, and the
// loss is counted.
func TestUnreachableHostDegradesOnlyItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead, live := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")
		out, dials, alive := &bufCloser{}, 0, false
		l := New(Options{Hosts: []netip.AddrPort{dead, live}, Synced: func() bool { return false },
			Dial: func(a netip.AddrPort) (io.WriteCloser, error) {
				if a == live {
					return out, nil
				}
				dials++
				if alive {
					return &bufCloser{}, nil
				}
				return &brokenWriter{}, nil
			}})
		l.write(at(complete))
		l.write(at(complete))
		if dials != 1 || l.Lost() != 2 {
			t.Errorf("dials %d lost %d, want 1 and 2", dials, l.Lost())
		}
		if n := strings.Count(out.String(), "GM_REGS_COMPL"); n != 2 {
			t.Errorf("live host got %d lines, want 2", n)
		}
		alive = true
		time.Sleep(redialAfter)
		l.write(at(complete))
		if dials != 2 || l.Lost() != 2 {
			t.Errorf("after the pause: dials %d lost %d, want 2 and 2", dials, l.Lost())
		}
	})
}

func TestUDPHost(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	bus := event.NewBus()
	sub := bus.Subscribe("syslog", 16)
	l := New(Options{Hosts: []netip.AddrPort{pc.LocalAddr().(*net.UDPAddr).AddrPort()}})
	done := make(chan struct{})
	go func() { l.Run(sub); close(done) }()
	bus.Emit(event.Restart{})
	bus.Emit(complete)
	buf := make([]byte, 2000)
	for _, want := range []string{`^<189>1: \*?\w{3} [ \d]\d \d\d:\d\d:\d\d\.\d{3}: %SYS-5-RESTART: System restarted --$`, `^<189>2: .*%GDOI-5-GM_REGS_COMPL: `} {
		pc.SetReadDeadline(time.Now().Add(30 * time.Second))
		n, _, err := pc.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(want).Match(buf[:n]) {
			t.Errorf("%q doesn't match %s", buf[:n], want)
		}
	}
	bus.Close()
	<-done
}
