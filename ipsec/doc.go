// Package ipsec is IPsec without I/O: access lists and the policy compiled from
// them, ESP sealing and opening for every transform of the product, replay
// windows, the header preservation of GET VPN tunnel mode, and fragmentation.
// It owns the safety property of counter modes: a (key, IV) pair is used once.
//
// Sources: RFC 4301, 4303 and the transform RFCs; RFC 6054 for counter modes with
// several senders; the vendor guide for crypto-map semantics.
package ipsec
