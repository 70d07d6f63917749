package lab

// Code of this process inside a namespace. A socket stays in the namespace that it
// was opened in, so opening is all that In is needed for.

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// In runs f on a thread that is inside the node's network namespace. f must not
// start goroutines that depend on it.
func (l *Lab) In(node string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread is given back only if it is where it came from; a locked one ends
		// with its goroutine.
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- err
			return
		}
		defer unix.Close(home)
		there, err := unix.Open("/run/netns/"+l.NS(node), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- fmt.Errorf("lab: namespace of %s: %w", node, err)
			return
		}
		defer unix.Close(there)
		if err := unix.Setns(there, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("lab: enter %s: %w", node, err)
			return
		}
		err = f()
		if back := unix.Setns(home, unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		} else {
			err = errors.Join(err, back)
		}
		done <- err
	}()
	return <-done
}

// Sysctl writes settings below /proc/sys in a node.
func (l *Lab) Sysctl(node string, set map[string]string) error {
	return l.In(node, func() error {
		for k, v := range set {
			if err := os.WriteFile("/proc/sys/"+k, []byte(v), 0); err != nil {
				return fmt.Errorf("lab: %s: %s: %w", node, k, err)
			}
		}
		return nil
	})
}
