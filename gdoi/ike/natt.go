package ike

import (
	"net/netip"

	"getvpn/gdoi/isakmp"
)

// This file holds the vendor IDs that mean something here, and NAT detection
// (RFC 3947 §3).

// vendorID is a value of a vendor ID payload.
type vendorID string

const (
	vidNATT vendorID = "\x4a\x13\x1c\x81\x07\x03\x58\x45\x5c\x57\x28\xf2\x0e\x95\x45\x2f" // RFC 3947 §3.1
	vidDPD  vendorID = "\xaf\xca\xd7\x13\x68\xa1\xf1\xc9\x6b\x86\x96\xfc\x77\x57\x01\x00" // RFC 3706 §5.1
)

// natHash is the content of a NAT-D payload: hash(CKY-I | CKY-R | IP | port).
func natHash(h HashAlg, ci, cr isakmp.Cookie, a netip.AddrPort) []byte {
	return h.Sum(ci[:], cr[:], a.Addr().Unmap().AsSlice(), []byte{byte(a.Port() >> 8), byte(a.Port())})
}

// natPayloads are our NAT-D payloads: the peer's address as we see it, then our own.
func natPayloads(h HashAlg, ci, cr isakmp.Cookie, local, remote netip.AddrPort) []isakmp.Payload {
	return []isakmp.Payload{
		isakmp.NATDPayload(natHash(h, ci, cr, remote)),
		isakmp.NATDPayload(natHash(h, ci, cr, local)),
	}
}

// natDetect compares a peer's NAT-D payloads with the addresses that its packet had.
// here: a NAT is before us; there: one is before the peer. present is false when the
// peer sent none.
func natDetect(h HashAlg, ci, cr isakmp.Cookie, local, remote netip.AddrPort, payloads []isakmp.Payload) (here, there, present bool, err error) {
	mine, theirs := natHash(h, ci, cr, local), natHash(h, ci, cr, remote)
	n := 0
	there = true
	for _, p := range payloads {
		if p.Type != isakmp.PayloadNATD {
			continue
		}
		if len(p.Body) != len(mine) {
			return false, false, false, refuse(DropNATD, "NAT-D of %d octets, the hash has %d", len(p.Body), len(mine))
		}
		if n == 0 {
			here = string(p.Body) != string(mine)
		} else if string(p.Body) == string(theirs) {
			there = false
		}
		n++
	}
	switch n {
	case 0:
		return false, false, false, nil
	case 1:
		return false, false, false, refuse(DropNATD, "one NAT-D payload, at least two are due")
	}
	return here, there, true, nil
}
