package dataplane

// Frames leave through an AF_PACKET socket bound to the interface, a batch a system
// call. The socket passes the interface's queueing discipline, tcpdump and egress
// programs like any traffic; steering knows it by its cookie.

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sender owns a socket and a batch of message headers that point into its owner's
// frame buffers. One worker uses it.
type sender struct {
	fd   int
	msgs []mmsghdr
	iovs []unix.Iovec
	n    int
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// openSender makes a socket for batches of up to n frames on the interface.
func openSender(ifindex, n int) (*sender, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("dataplane: packet socket: %w", err)
	}
	s := &sender{fd: fd, msgs: make([]mmsghdr, n), iovs: make([]unix.Iovec, n)}
	for i := range s.msgs {
		s.msgs[i].hdr.Iov = &s.iovs[i]
		s.msgs[i].hdr.SetIovlen(1)
	}
	// Protocol 0: it sends only. The bound interface spares an address a message.
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex}); err != nil {
		s.close()
		return nil, fmt.Errorf("dataplane: binding the packet socket: %w", err)
	}
	// Back pressure of a slow interface: wait a little, then drop.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Usec: 20000}); err != nil {
		s.close()
		return nil, fmt.Errorf("dataplane: send timeout: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4<<20); err != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20); err != nil {
			s.close()
			return nil, fmt.Errorf("dataplane: send buffer: %w", err)
		}
	}
	return s, nil
}

// add appends a frame, which must stay untouched until flush.
func (s *sender) add(frame []byte) {
	s.iovs[s.n].Base = &frame[0]
	s.iovs[s.n].SetLen(len(frame))
	s.n++
}

// flush sends what add gathered and returns how many frames the kernel refused.
func (s *sender) flush() (refused int, last error) {
	for at := 0; at < s.n; {
		n, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.msgs[at])), uintptr(s.n-at), 0, 0, 0)
		switch {
		case e == unix.EINTR:
		case e != 0: // the first frame of the rest; the call tells no more
			refused, last = refused+1, e
			at++
		default:
			at += int(n)
		}
	}
	s.n = 0
	return refused, last
}

func (s *sender) close() { unix.Close(s.fd) }
