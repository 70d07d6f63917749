package machine

// The kernel's uevents: a netlink multicast that needs no privilege to hear.

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	kernelGroup = 1       // udev's own, which any root process may write to, is 2
	ueventMax   = 8 << 10 // the kernel's buffers have 2 KiB
)

// kernelEvents delivers uevents until ctx ends. A reader that is slow loses some, which
// the comparisons make up for.
func kernelEvents(ctx context.Context) (<-chan []byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("machine: uevents: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("machine: uevents: %w", err)
	}
	f := os.NewFile(uintptr(fd), "uevents")
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("machine: uevents: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { f.Close() })
	out := make(chan []byte, 64)
	go func() {
		defer close(out)
		defer f.Close()
		defer stop()
		buf := make([]byte, ueventMax)
		for {
			var (
				n    int
				from unix.Sockaddr
				rerr error
			)
			if err := raw.Read(func(fd uintptr) bool {
				n, from, rerr = unix.Recvfrom(int(fd), buf, 0)
				return !errors.Is(rerr, unix.EAGAIN)
			}); err != nil {
				return // closed
			}
			if errors.Is(rerr, unix.ENOBUFS) || errors.Is(rerr, unix.EINTR) {
				continue
			}
			if rerr != nil {
				return
			}
			// Only the kernel has port 0: a process can't forge an event.
			if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 || !isNewGeneration(buf[:n]) {
				continue
			}
			e := append([]byte(nil), buf[:n]...)
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}
