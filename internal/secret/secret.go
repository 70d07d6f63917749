// Package secret holds octets that must never be printed: keys, salts, pre-shared
// keys. A Bytes redacts itself in every way that Go formats or marshals a value,
// compares in constant time and can be zeroed when it is done with.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
)

const redacted = "[redacted]"

// Bytes is key material. Convert to []byte only where a cipher needs it.
type Bytes []byte

// Clone returns a copy that can be zeroed independently.
func (b Bytes) Clone() Bytes { return append(Bytes(nil), b...) }

// Equal compares in time that depends only on the lengths.
func (b Bytes) Equal(o Bytes) bool { return subtle.ConstantTimeCompare(b, o) == 1 }

// Zero overwrites the octets.
func (b Bytes) Zero() { clear(b) }

// String never shows the content.
func (b Bytes) String() string { return redacted }

// GoString never shows the content (%#v).
func (b Bytes) GoString() string { return redacted }

// Format never shows the content, whatever the verb.
func (b Bytes) Format(s fmt.State, _ rune) { io.WriteString(s, redacted) }

// MarshalJSON never shows the content.
func (b Bytes) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText never shows the content.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(redacted), nil }
