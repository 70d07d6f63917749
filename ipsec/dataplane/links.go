package dataplane

// Watches the host's interfaces by netlink and tells when any changed. The listener
// does no more than that: the port looks at what there is now, so that no message,
// lost or reordered, can mislead it.

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

type linkWatch struct {
	done chan struct{}
	idle chan struct{}
}

// watchLinks calls changed, from one goroutine, after each burst of changes.
func watchLinks(changed func()) (*linkWatch, error) {
	w := &linkWatch{done: make(chan struct{}), idle: make(chan struct{})}
	c := make(chan netlink.LinkUpdate, 64)
	if err := netlink.LinkSubscribe(c, w.done); err != nil {
		return nil, fmt.Errorf("dataplane: watching interfaces: %w", err)
	}
	go func() {
		defer close(w.idle)
		for {
			select {
			case <-w.done:
				return
			case _, ok := <-c:
				if !ok {
					// The socket overran: look once more, and listen anew.
					select {
					case <-w.done:
						return
					default:
					}
					c = make(chan netlink.LinkUpdate, 64)
					if netlink.LinkSubscribe(c, w.done) != nil {
						return
					}
				}
			}
			for more := true; more; {
				select {
				case _, more = <-c:
				default:
					more = false
				}
			}
			changed()
		}
	}()
	return w, nil
}

func (w *linkWatch) close() {
	close(w.done)
	<-w.idle
}
