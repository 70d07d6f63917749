// Package dataplane carries the traffic: it steers packets of protected interfaces
// to itself, seals and opens them with the SAs of package ipsec, and puts them back
// where the kernel would have had them.
//
// Out: a program on the interface's egress redirects what policy protects to the
// interface's TAP, super-packets whole and with the Ethernet header that the
// kernel resolved. A worker takes them from a ring, cuts them to frames, judges each once more,
// seals them in place and sends a batch on an AF_PACKET socket.
//
// In: a ring on the interface receives ESP for SPIs that are ours. A worker opens
// it in place, checks the inner packet against policy, joins consecutive segments
// of a flow and writes them to the TAP, whose ingress program hands them to the
// interface's ingress: what was sealed is received on the interface, decrypted.
package dataplane
