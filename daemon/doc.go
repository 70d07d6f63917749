// Package daemon is the composition root: it builds key servers and members from a
// configuration, gives them one IKE endpoint and one dataplane, wires the sinks and
// the control socket, and follows changes of the configuration.
//
// Order at start: what must be closed is closed in the kernel (fail-close) before any
// socket is opened; then the endpoint, the groups, the control socket. Order at the
// end: the reverse, with the policy left in the kernel unless it is to be flushed.
package daemon
