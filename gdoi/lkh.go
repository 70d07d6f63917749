package gdoi

// LKH key packets (RFC 6407 §5.6.3): decoded and encoded for completeness; no
// engine of ours manages keys by LKH.

import (
	"encoding/binary"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/secret"
)

// LKHKeys is an LKH key packet.
type LKHKeys struct {
	SPI      KEKSPI
	Download []LKHKey // from the member's leaf to the group KEK; nil: absent
	Updates  []LKHUpdate
	SigKey   []byte
	Private  []SecretAttr
}

// LKHUpdate replaces keys from a node to the root. The first key is encrypted under
// the key that ID and Handle name, each other one under the one before it.
type LKHUpdate struct {
	ID     uint16
	Handle uint32
	Keys   []LKHKey
}

// LKHKey is the key of one node. Dates are seconds since 1970, 0 for none; Key is
// IV then key.
type LKHKey struct {
	ID      uint16
	Type    uint8 // a KEK_ALGORITHM
	Created uint32
	Expires uint32
	Handle  uint32
	Key     secret.Bytes
}

const (
	lkhVersion   = 1
	lkhKeyHeader = 16
)

func (p *keyPacket) lkh() (*LKHKeys, error) {
	l := &LKHKeys{}
	copy(l.SPI[:], p.spi(len(l.SPI)))
	var sig secret.Bytes
	err := p.attrs(privateGAP, &l.Private, func(dec *isakmp.AttrDecoder, a isakmp.Attr) bool {
		switch a.Type {
		case lkhDownloadArray:
			if l.Download != nil {
				dec.Fail(isakmp.AttributeRepeated, a)
				return true
			}
			f := fields{b: a.Value}
			n := f.lkhHeader()
			l.Download = f.lkhKeys(n)
			if f.err != nil {
				dec.Fail(isakmp.AttributeValue, a)
			}
		case lkhUpdateArray:
			f := fields{b: a.Value}
			n := f.lkhHeader()
			u := LKHUpdate{ID: uint16(f.uint(2))}
			if f.uint(2) != 0 {
				f.fail(isakmp.BadReserved)
			}
			u.Handle = f.uint(4)
			u.Keys = f.lkhKeys(n)
			if f.err != nil {
				dec.Fail(isakmp.AttributeValue, a)
				return true
			}
			l.Updates = append(l.Updates, u)
		case lkhSigAlgorithmKey:
			return once(dec, a, &sig)
		default:
			return false
		}
		return true
	})
	l.SigKey = sig
	return l, err
}

// lkhHeader reads version, number of keys and reserved octet.
func (f *fields) lkhHeader() int {
	version, n, reserved := f.uint(1), int(f.uint(2)), f.uint(1)
	if version != lkhVersion || reserved != 0 || n == 0 {
		f.fail(isakmp.BadReserved)
	}
	return n
}

// lkhKeys reads n keys to the end of the octets. A key has no length of its own, so
// all of one array must be equally long.
func (f *fields) lkhKeys(n int) []LKHKey {
	if f.err != nil {
		return nil
	}
	left := len(f.b) - f.off
	if left < n*(lkhKeyHeader+1) || left%n != 0 {
		f.fail(isakmp.ShortBody)
		return nil
	}
	size := left/n - lkhKeyHeader
	keys := make([]LKHKey, 0, n)
	for range n {
		k := LKHKey{ID: uint16(f.uint(2)), Type: uint8(f.uint(1))}
		if f.uint(1) != 0 {
			f.fail(isakmp.BadReserved)
		}
		k.Created, k.Expires, k.Handle = f.uint(4), f.uint(4), f.uint(4)
		k.Key = secret.Bytes(f.take(size)).Clone()
		keys = append(keys, k)
	}
	if f.err != nil {
		return nil
	}
	return keys
}

func (l *LKHKeys) attrs() []byte {
	var b []byte
	if len(l.Download) > 0 {
		b = isakmp.AppendVar(b, lkhDownloadArray, appendLKHKeys(lkhArray(len(l.Download)), l.Download))
	}
	for _, u := range l.Updates {
		v := lkhArray(len(u.Keys))
		v = binary.BigEndian.AppendUint16(v, u.ID)
		v = append(v, 0, 0)
		v = binary.BigEndian.AppendUint32(v, u.Handle)
		b = isakmp.AppendVar(b, lkhUpdateArray, appendLKHKeys(v, u.Keys))
	}
	b = appendKey(b, lkhSigAlgorithmKey, l.SigKey)
	return appendSecrets(b, l.Private)
}

func lkhArray(n int) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{lkhVersion}, uint16(n)), 0)
}

func appendLKHKeys(b []byte, keys []LKHKey) []byte {
	for _, k := range keys {
		b = binary.BigEndian.AppendUint16(b, k.ID)
		b = append(b, k.Type, 0)
		b = binary.BigEndian.AppendUint32(b, k.Created)
		b = binary.BigEndian.AppendUint32(b, k.Expires)
		b = binary.BigEndian.AppendUint32(b, k.Handle)
		b = append(b, k.Key...)
	}
	return b
}

func (l *LKHKeys) zero() {
	zeroSecrets(l.Private)
	for _, k := range l.Download {
		k.Key.Zero()
	}
	for _, u := range l.Updates {
		for _, k := range u.Keys {
			k.Key.Zero()
		}
	}
}
