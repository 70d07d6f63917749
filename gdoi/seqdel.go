package gdoi

// Sequence number and delete payloads of GROUPKEY-PUSH (RFC 6407 §5.7, §5.9), and
// the identity of a group (§5.1).

import (
	"encoding/binary"
	"net/netip"

	"getvpn/gdoi/isakmp"
)

// ParseSEQ reads a sequence number payload's body (RFC 6407 §5.7).
func ParseSEQ(body []byte) (uint32, error) {
	f := fields{b: body, payload: isakmp.PayloadSEQ}
	v := f.uint(4)
	if f.err == nil && f.off != len(body) {
		return 0, malformed(isakmp.TrailingBody, isakmp.PayloadSEQ, f.off)
	}
	return v, f.err
}

// SEQPayload encodes a sequence number.
func SEQPayload(seq uint32) isakmp.Payload {
	return isakmp.Payload{Type: isakmp.PayloadSEQ, Body: binary.BigEndian.AppendUint32(nil, seq)}
}

// Delete says which SAs end. AllTEKs and AllKEKs mean every one (SPI 0); then the
// matching list is empty.
type Delete struct {
	TEKs    []uint32
	KEKs    []KEKSPI
	AllTEKs bool
	AllKEKs bool
}

// protoKEK is the protocol ID of a rekey SA in a delete.
const protoKEK uint8 = 0

// ParseDelete reads a delete payload's body: ESP SAs or rekey SAs, never both in
// one payload. The DOI is 2; peers send 0 and 1 too.
func ParseDelete(body []byte) (Delete, error) {
	raw, err := isakmp.ParseDelete(body)
	if err != nil {
		return Delete{}, err
	}
	if raw.DOI > isakmp.DOIGDOI {
		return Delete{}, malformed(isakmp.BadDOI, isakmp.PayloadDelete, 0)
	}
	var d Delete
	size := len(raw.SPIs[0])
	switch raw.Protocol {
	case uint8(ProtoESP):
		if size != 4 {
			return Delete{}, malformed(isakmp.BadSPISize, isakmp.PayloadDelete, 5)
		}
		for _, s := range raw.SPIs {
			if v := binary.BigEndian.Uint32(s); v == 0 {
				d.AllTEKs = true
			} else {
				d.TEKs = append(d.TEKs, v)
			}
		}
	case protoKEK:
		if size != 16 {
			return Delete{}, malformed(isakmp.BadSPISize, isakmp.PayloadDelete, 5)
		}
		for _, s := range raw.SPIs {
			if v := KEKSPI(s); v == (KEKSPI{}) {
				d.AllKEKs = true
			} else {
				d.KEKs = append(d.KEKs, v)
			}
		}
	default:
		return Delete{}, malformed(isakmp.BadProtocol, isakmp.PayloadDelete, 4)
	}
	if d.AllTEKs {
		d.TEKs = nil
	}
	if d.AllKEKs {
		d.KEKs = nil
	}
	return d, nil
}

// Payloads encodes the delete: TEKs first, then KEKs, a payload each.
func (d Delete) Payloads() []isakmp.Payload {
	var teks, keks [][]byte
	if d.AllTEKs {
		teks = [][]byte{make([]byte, 4)}
	} else {
		for _, v := range d.TEKs {
			teks = append(teks, binary.BigEndian.AppendUint32(nil, v))
		}
	}
	if d.AllKEKs {
		keks = [][]byte{make([]byte, 16)}
	} else {
		for _, v := range d.KEKs {
			keks = append(keks, v[:])
		}
	}
	var out []isakmp.Payload
	if len(teks) > 0 {
		out = append(out, isakmp.Delete{DOI: isakmp.DOIGDOI, Protocol: uint8(ProtoESP), SPIs: teks}.Payload())
	}
	if len(keks) > 0 {
		out = append(out, isakmp.Delete{DOI: isakmp.DOIGDOI, Protocol: protoKEK, SPIs: keks}.Payload())
	}
	return out
}

// GroupNumber is the identity of a group that has a number: ID_KEY_ID with 4 octets
// (RFC 6407 §5.1). Big-endian; §5 wants it so.
func GroupNumber(n uint32) isakmp.ID {
	return isakmp.ID{Type: isakmp.IDKeyID, Data: binary.BigEndian.AppendUint32(nil, n)}
}

// GroupAddress is the identity of a group that has an address.
func GroupAddress(a netip.Addr) isakmp.ID { return isakmp.AddrID(a) }

// GroupKey makes an identity usable as a map key. Key servers look groups up by it:
// the identity is an opaque string, so that another spelling can be configured.
func GroupKey(id isakmp.ID) string { return string(rune(id.Type)) + string(id.Data) }
