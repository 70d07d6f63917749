package steer

// Tells when nft tables of this network namespace change: "nft flush ruleset", as
// firewall services do when they reload, takes locks away too.

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// nftGroup is NFNLGRP_NFTABLES (uapi/linux/netfilter/nfnetlink.h).
const nftGroup = 7

// LockWatch is a running watch.
type LockWatch struct {
	f    *os.File
	idle chan struct{}
}

// WatchLocks calls changed, from one goroutine, after nft rules changed, our own changes
// included.
func WatchLocks(changed func()) (*LockWatch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("steer: watching nft tables: %w", err)
	}
	w := &LockWatch{f: os.NewFile(uintptr(fd), "nft watch"), idle: make(chan struct{})}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (nftGroup - 1)}); err != nil {
		w.f.Close()
		return nil, fmt.Errorf("steer: watching nft tables: %w", err)
	}
	c, err := w.f.SyscallConn()
	if err != nil {
		w.f.Close()
		return nil, fmt.Errorf("steer: watching nft tables: %w", err)
	}
	go func() {
		defer close(w.idle)
		b := make([]byte, 1<<16)
		// What is in a message doesn't matter: the tables are looked at, so that none
		// lost to a full buffer (ENOBUFS) can mislead.
		drain := func(fd uintptr) (any bool) {
			for {
				if _, err := unix.Read(int(fd), b); err != nil && !errors.Is(err, unix.ENOBUFS) {
					return any
				}
				any = true
			}
		}
		for c.Read(drain) == nil {
			changed()
		}
	}()
	return w, nil
}

// Close ends it and waits for a call of changed that is under way.
func (w *LockWatch) Close() {
	w.f.Close()
	<-w.idle
}
