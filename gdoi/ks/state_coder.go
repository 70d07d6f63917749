package ks

// Octets of saved state: one walk over the values writes them or reads them, so that
// both can't disagree. Numbers are variable-length, everything of variable length is
// counted, and a count is checked against what is left before anything is made of it.

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"getvpn/internal/secret"
)

var errCoded = errors.New("ks: saved state doesn't parse")

// coder writes when to isn't nil, else reads from.
type coder struct {
	to   *secret.Bytes
	from []byte
	err  error // sticks; nothing is read or written after it
}

func (c *coder) writing() bool { return c.to != nil }

func (c *coder) fail() { c.err = errCoded }

// put writes. What is outgrown is zeroed: it may have held a key.
func (c *coder) put(b ...byte) {
	old := *c.to
	if len(old)+len(b) > cap(old) {
		n := make(secret.Bytes, len(old), 2*cap(old)+len(b)+1024)
		copy(n, old)
		old.Zero()
		old = n
	}
	*c.to = append(old, b...)
}

// take reads n octets of what is left. They are the input's own.
func (c *coder) take(n int) []byte {
	if c.err != nil || n < 0 || n > len(c.from) {
		c.fail()
		return nil
	}
	b := c.from[:n]
	c.from = c.from[n:]
	return b
}

// number is any integer or enumeration.
func number[T ~int | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64](c *coder, v *T) {
	if c.err != nil {
		return
	}
	if c.writing() {
		c.put(binary.AppendVarint(nil, int64(*v))...)
		return
	}
	x, n := binary.Varint(c.from)
	if n <= 0 || int64(T(x)) != x {
		c.fail()
		return
	}
	c.from = c.from[n:]
	*v = T(x)
}

func (c *coder) flag(v *bool) {
	if c.writing() {
		if *v {
			c.put(1)
		} else {
			c.put(0)
		}
		return
	}
	b := c.take(1)
	if c.err != nil || b[0] > 1 {
		c.fail()
		return
	}
	*v = b[0] == 1
}

// count is how many of something follow, each of least octets or more.
func (c *coder) count(n, least int) int {
	number(c, &n)
	if c.err == nil && !c.writing() && (n < 0 || n > len(c.from)/max(1, least)) {
		c.fail()
	}
	if c.err != nil {
		return 0
	}
	return n
}

// octets of variable length; what is read is a copy, nil when there are none.
func octets[T ~[]byte](c *coder, v *T) {
	n := c.count(len(*v), 1)
	if c.writing() {
		c.put(*v...)
		return
	}
	if b := c.take(n); len(b) > 0 {
		*v = append(T(nil), b...)
	}
}

// array is octets of fixed length.
func (c *coder) array(v []byte) {
	if c.writing() {
		c.put(v...)
		return
	}
	copy(v, c.take(len(v)))
}

func (c *coder) text(v *string) {
	b := []byte(*v)
	octets(c, &b)
	*v = string(b)
}

// moment keeps wall time to the nanosecond, and zero.
func (c *coder) moment(v *time.Time) {
	set, ns := !v.IsZero(), int64(0)
	if set {
		ns = v.UnixNano()
	}
	c.flag(&set)
	if !set {
		return
	}
	if number(c, &ns); !c.writing() && c.err == nil {
		*v = time.Unix(0, ns)
	}
}

func (c *coder) addr(v *netip.Addr) {
	b, err := v.MarshalBinary()
	if err != nil {
		c.fail()
		return
	}
	if octets(c, &b); !c.writing() && c.err == nil && v.UnmarshalBinary(b) != nil {
		c.fail()
	}
}

func (c *coder) addrPort(v *netip.AddrPort) {
	a, p := v.Addr(), v.Port()
	c.addr(&a)
	number(c, &p)
	*v = netip.AddrPortFrom(a, p)
}

// list is a slice of what walk writes or reads; nil when it is empty.
func list[T any](c *coder, v *[]T, least int, walk func(*T)) {
	n := c.count(len(*v), least)
	if !c.writing() {
		*v = nil
		if n > 0 && c.err == nil {
			*v = make([]T, n)
		}
	}
	for i := range *v {
		if c.err != nil {
			return
		}
		walk(&(*v)[i])
	}
}
