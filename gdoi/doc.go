// Package gdoi is the Group Domain of Interpretation (RFC 6407): its payloads, its
// private attributes (docs/protocol/private-attributes.md) and the pure machines of
// the GROUPKEY-PULL exchange. Octets and randomness in, octets and results out; no
// socket, clock, log or goroutine.
//
// A refusal is an *Error or an *isakmp.MalformedError; ReasonOf gives the name
// under which either is counted. Neither ever holds octets of a message.
//
// What Parse functions return owns its octets, unlike package isakmp's: keys
// outlive the datagram.
package gdoi
