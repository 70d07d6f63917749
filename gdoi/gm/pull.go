package gm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"getvpn/gdoi/policy"
	"getvpn/model"
)

// Puller registers once with one key server: phase 1 if need be, then GROUPKEY-PULL.
// It blocks until it is done; ctx ends it early.
type Puller interface {
	Pull(ctx context.Context, r PullRequest) (*PullResult, error)
}

// PullRequest says where to register and for what.
type PullRequest struct {
	Server  netip.Addr
	Local   netip.Addr // source address; zero: the route's
	Group   model.GroupID
	Interop bool // nothing private on the wire
}

// PullResult is a verified download.
type PullResult struct {
	Offer policy.Offer
	Keys  policy.Keys
	// The offer was made between Asked, when message 1 was sent first, and At, when
	// message 2 arrived: its lifetimes count from some moment between.
	Asked, At     time.Time
	Local, Remote netip.AddrPort
}

// PullError says why a registration attempt failed.
type PullError struct {
	Class  Class
	Reason string // counter name
	Err    error
}

func (e *PullError) Error() string { return fmt.Sprintf("registration: %s: %v", e.Reason, e.Err) }
func (e *PullError) Unwrap() error { return e.Err }

// Class is what a failure means for the member.
type Class uint8

const (
	Unreachable Class = iota // no phase 1, or no answer
	BadHash                  // a message with a wrong HASH, and no right one
	Malformed                // an authentic message that can't be parsed
	Rejected                 // the policy is refused by us
	Unsupported              // the policy needs what we lack
)

// classify makes any error a PullError.
func classify(err error) *PullError {
	var p *PullError
	if errors.As(err, &p) {
		return p
	}
	var r *policy.RejectError
	if errors.As(err, &r) {
		c, name := Rejected, "policy-rejected"
		if r.Unsupported {
			c, name = Unsupported, "policy-unsupported"
		}
		return &PullError{Class: c, Reason: name, Err: err}
	}
	return &PullError{Class: Unreachable, Reason: "no-answer", Err: err}
}
