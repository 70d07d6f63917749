package steer

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// soRcvMark asks for the mark of a received packet (SO_RCVMARK, kernel 5.19).
const soRcvMark = 75

// A host's frames with a tag come in as if there had been none, tag in the mark; others as
// ever. What isn't such a header stays what it is, and the kernel drops it.
func TestInlineTags(t *testing.T) { backends(t, inlineTags) }

func inlineTags(t *testing.T, backend string) {
	n := newNet(t)
	s := open(t, backend, "")
	t.Cleanup(func() { s.Close(false) })
	rx := n.socket("10.1.0.1", 5000)
	ok(t, unix.SetsockoptInt(rx, unix.SOL_SOCKET, soRcvMark, 1))
	frame := func(head string, payload []byte) []byte {
		f := n.frame(protoUDP, datagram(5000, string(payload)))
		h := must[[]byte](t)(hex.DecodeString(strings.ReplaceAll(head, " ", "")))
		return slices.Concat(f[:12], h, f[etherLen:])
	}
	recv := func() (mark uint32, payload []byte) {
		t.Helper()
		ok(t, unix.SetsockoptTimeval(rx, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
		b, oob := make([]byte, 2000), make([]byte, 200)
		k, o, _, _, err := unix.Recvmsg(rx, b, oob, 0)
		ok(t, err)
		msgs := must[[]unix.SocketControlMessage](t)(unix.ParseSocketControlMessage(oob[:o]))
		for _, m := range msgs {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_MARK {
				mark = binary.NativeEndian.Uint32(m.Data)
			}
		}
		return mark, b[:k]
	}
	const tagged, plain = "8909 0101 0001 0123 0800", "0800"
	for _, x := range []struct {
		in          Inline
		tag7, clear uint32 // marks of frames with the tag 0x0123 and without one
	}{
		{Inline{Tag: TagBits{16, 0}}, 0x123, 0},
		{Inline{Tag: TagBits{12, 16}}, 0x1230000, 0},
		{Inline{Tag: TagBits{16, 16}, Static: 0xbeef}, 0x1230000, 0xbeef0000},
		{Inline{Tag: TagBits{16, 0}, Static: 5, Replace: true}, 5, 5},
		{Inline{Tag: TagBits{8, 0}, Static: 5}, 0, 5},     // 0x0123 has no room
		{Inline{Tag: TagBits{8, 0}, Static: 0x100}, 0, 0}, // nor has the static one
		{Inline{Tag: TagBits{1, 31}, Static: 1}, 0, 1 << 31},
	} {
		ok(t, s.AttachInline(n.wan, x.in))
		for _, size := range []int{1, 64, 1464} {
			for head, want := range map[string]uint32{tagged: x.tag7, plain: x.clear} {
				payload := bytes.Repeat([]byte{byte(size)}, size)
				n.inject(frame(head, payload))
				if mark, got := recv(); mark != want || !bytes.Equal(got, payload) {
					t.Errorf("%+v, %s, %d octets: mark %#x, want %#x; payload whole: %v", x.in, head, size, mark, want, bytes.Equal(got, payload))
				}
			}
		}
	}
	if !s.InlineAlive(n.wan) {
		t.Error("the program is gone")
	}
	// None of these is a header with a tag.
	for _, head := range []string{"8909 0201 0001 0007 0800", "8909 0102 0001 0007 0800", "8909 0101 0002 0007 0800",
		"8909 0101 0001 0007 8100", "8909 0101 0001 0007 8909"} {
		n.inject(frame(head, []byte("bad")))
	}
	n.inject(frame("8909 0101 00", nil)[:19])
	n.inject(frame(tagged, []byte("last")))
	if _, got := recv(); string(got) != "last" {
		t.Errorf("%q came", got)
	}
	ok(t, s.DetachInline(n.wan))
	n.inject(frame(tagged, []byte("dropped by the kernel")))
	n.inject(frame(plain, []byte("last")))
	if mark, got := recv(); string(got) != "last" || mark != 0 {
		t.Errorf("%q came with mark %#x", got, mark)
	}
	for _, b := range []TagBits{{0, 0}, {17, 0}, {16, 17}} {
		if s.AttachInline(n.wan, Inline{Tag: b}) == nil {
			t.Errorf("%+v is taken", b)
		}
	}
}
