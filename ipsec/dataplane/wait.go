package dataplane

// Where a pump without work sleeps: until its ring has something, or it must end.

import "golang.org/x/sys/unix"

// waiter polls a ring and a stop descriptor.
type waiter struct{ fds [2]unix.PollFd }

func newWaiter(r *ring, stop int) waiter {
	return waiter{[2]unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}}
}

// wait blocks in a way that the scheduler knows, and returns false when the pump has to
// end: the stop descriptor is readable, or the ring is gone for good.
func (w *waiter) wait() bool {
	if _, err := unix.Poll(w.fds[:], -1); err != nil && err != unix.EINTR {
		return false
	}
	ring, stop := &w.fds[0], &w.fds[1]
	if stop.Revents != 0 || ring.Revents&(unix.POLLHUP|unix.POLLNVAL) != 0 {
		return false
	}
	if ring.Revents&unix.POLLERR != 0 {
		// The interface went down: the error is reported once, and cleared.
		unix.GetsockoptInt(int(ring.Fd), unix.SOL_SOCKET, unix.SO_ERROR)
	}
	return true
}
