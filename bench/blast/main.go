// Command blast sends and counts UDP datagrams faster than one system call each
// allows. `blast send ADDR:PORT SIZE RATE SECONDS` prints how many it sent (RATE 0:
// as many as go); `blast sink PORT SECONDS` prints how many arrived until nothing
// came for half a second, or SECONDS passed.
package main

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const batch = 32

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "blast:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	num := func(i int) (int, error) {
		if i >= len(args) {
			return 0, fmt.Errorf("usage: blast send ADDR:PORT SIZE RATE SECONDS | blast sink PORT SECONDS")
		}
		return strconv.Atoi(args[i])
	}
	if len(args) == 5 && args[0] == "send" {
		to, err := netip.ParseAddrPort(args[1])
		if err != nil {
			return err
		}
		size, e1 := num(2)
		rate, e2 := num(3)
		secs, e3 := num(4)
		if e1 != nil || e2 != nil || e3 != nil {
			return fmt.Errorf("bad number in %v", args)
		}
		n, err := send(to, size, rate, time.Duration(secs)*time.Second)
		fmt.Println(n)
		return err
	}
	if len(args) == 3 && args[0] == "sink" {
		port, e1 := num(1)
		secs, e2 := num(2)
		if e1 != nil || e2 != nil {
			return fmt.Errorf("bad number in %v", args)
		}
		n, err := sink(port, time.Duration(secs)*time.Second)
		fmt.Println(n)
		return err
	}
	_, err := num(9)
	return err
}

func messages(size int) ([]mmsghdr, []byte) {
	buf := make([]byte, batch*size)
	iov := make([]unix.Iovec, batch)
	m := make([]mmsghdr, batch)
	for i := range m {
		iov[i].Base = &buf[i*size]
		iov[i].SetLen(size)
		m[i].hdr.Iov = &iov[i]
		m[i].hdr.SetIovlen(1)
	}
	return m, buf
}

// send paces by the clock: what is due by now goes out, at most a batch a call.
func send(to netip.AddrPort, size, rate int, d time.Duration) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		return 0, err
	}
	m, _ := messages(size)
	sent := 0
	for start := time.Now(); ; {
		el := time.Since(start)
		if el >= d {
			return sent, nil
		}
		due := batch
		if rate > 0 {
			due = min(batch, int(float64(rate)*el.Seconds())-sent)
			if due < 8 {
				time.Sleep(100 * time.Microsecond)
				continue
			}
		}
		n, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m[0])), uintptr(due), 0, 0, 0)
		if e != 0 && e != unix.ECONNREFUSED && e != unix.EINTR && e != unix.ENOBUFS {
			return sent, e
		}
		if e == 0 {
			sent += int(n)
		}
	}
}

func sink(port int, d time.Duration) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
		return 0, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 500000}); err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
		return 0, err
	}
	fmt.Println("ready")
	m, _ := messages(2048)
	got := 0
	for start := time.Now(); time.Since(start) < d; {
		const waitForOne = 0x10000
		n, _, e := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m[0])), batch, waitForOne, 0, 0)
		if e == unix.EAGAIN && got > 0 {
			break
		}
		if e == 0 {
			got += int(n)
		}
	}
	return got, nil
}
