package main

// What registrations can't be cheaper than: the Diffie-Hellman of one side (a private
// and public value, the shared secret), by the product's own code, on all processors,
// and nothing else.

import (
	"crypto/rand"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"getvpn/gdoi/ike"
)

// BareArgs: for how long.
type BareArgs struct {
	DH  int
	For time.Duration
}

// Bare is the cost of one side of an exchange.
type Bare struct {
	CPU  time.Duration // of one
	Rate float64       // a second, all processors
}

func bare(a BareArgs) (Bare, error) {
	peer, err := ike.NewDH(a.DH, rand.Reader)
	if err != nil {
		return Bare{}, fmt.Errorf("group %d: %w", a.DH, err)
	}
	before, err := usage(false)
	if err != nil {
		return Bare{}, err
	}
	var done atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	errs := make(chan error, runtime.GOMAXPROCS(0))
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for time.Since(begin) < a.For {
				d, err := ike.NewDH(a.DH, rand.Reader)
				if err == nil {
					_, err = d.Shared(peer.Public())
				}
				if err != nil {
					errs <- err
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	after, err := usage(false)
	if err != nil {
		return Bare{}, err
	}
	select {
	case err := <-errs:
		return Bare{}, err
	default:
	}
	n := max(1, done.Load())
	return Bare{CPU: (after.CPU - before.CPU) / time.Duration(n), Rate: float64(n) / took.Seconds()}, nil
}
