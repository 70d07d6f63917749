// Package isakmp is the codec of IKEv1 messages: header, payload chain,
// attributes and the payloads of phase 1 and of informational exchanges
// (RFC 2408 §3, RFC 2407 §4.6, RFC 2409, RFC 3947). Octets in, values out, and
// back; it knows no keys, sockets or clocks.
//
// What Parse functions return refers to the octets that they were given: copy
// what must outlive the datagram. Whatever is malformed gives a *MalformedError
// with a reason from a closed set. Values that Parse accepts encode to the same
// meaning again; unknown payloads and attributes are kept as they are.
package isakmp
