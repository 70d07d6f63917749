package ike

import (
	"net/netip"
	"time"

	"getvpn/gdoi/isakmp"
	"getvpn/internal/secret"
)

// This file holds what configures an endpoint: Config, an immutable value that
// Endpoint.SetConfig swaps as a whole, and the policies and keys in it.

// Encryption of phase 1; numbers are the attribute values of RFC 2409 App. A.
type Encryption uint16

const (
	Encr3DES Encryption = 5
	EncrAES  Encryption = 7 // CBC, RFC 3602
)

// HashAlg of phase 1; numbers are the attribute values of RFC 2409 App. A, RFC 4868 §4.
type HashAlg uint16

const (
	HashSHA1   HashAlg = 2
	HashSHA256 HashAlg = 4
	HashSHA384 HashAlg = 5
	HashSHA512 HashAlg = 6
)

// AuthMethod of phase 1; numbers are the attribute values of RFC 2409 App. A.
type AuthMethod uint16

// AuthPSK is the pre-shared key method, the only one so far; signatures join through
// the authenticator interface.
const AuthPSK AuthMethod = 1

// DefaultLifetime of an ISAKMP SA when a Policy says 0 (the vendor's default).
const DefaultLifetime = 86400 * time.Second

// Policy is one "crypto isakmp policy". KeyBits is for AES only (128, 192, 256; 0
// means 128). Lifetime 0 means DefaultLifetime. Group is the IANA group number: 2, 5,
// 14, 15, 16, 24 (MODP), 19, 20, 21 (ECP).
type Policy struct {
	Priority int
	Encr     Encryption
	KeyBits  int
	Hash     HashAlg
	Auth     AuthMethod
	Group    int
	Lifetime time.Duration
}

// Key is one pre-shared key. It is for the peers in Prefix (0.0.0.0/0 and ::/0 are the
// default, also called wildcard, key), or for the host name (aggressive mode, where
// the peer's identity is known in time).
type Key struct {
	Prefix   netip.Prefix
	Hostname string
	PSK      secret.Bytes
}

// Keepalive is dead peer detection (RFC 3706). Interval 0 switches the periodic form
// off; a peer's R-U-THERE is always answered. Retry is the time between probes that
// get no answer (default 2 s); five of them end the SA.
type Keepalive struct {
	Interval, Retry time.Duration
}

// Config is everything that may change while the endpoint runs. Never change a Config
// after it was given to an endpoint: make a new one and call SetConfig. Live SAs stay.
type Config struct {
	Policies []Policy // any order; Priority decides, the lowest number first
	Keys     []Key
	// Aggressive lets this side answer aggressive mode. With a pre-shared key it
	// exposes a hash to offline guessing: off by default, and never with a wildcard key.
	Aggressive bool
	// Identity is what we call ourselves; the zero value is the local address.
	Identity  Identity
	Keepalive Keepalive
}

// Identity is the content of an ID payload: its type and its data as raw octets.
type Identity struct {
	Type isakmp.IDType
	Data string
}

// AddrIdentity is the identity of an address.
func AddrIdentity(a netip.Addr) Identity {
	id := isakmp.AddrID(a)
	return Identity{id.Type, string(id.Data)}
}

// Addr is the identity's address; the zero Addr if it is a name.
func (i Identity) Addr() netip.Addr {
	a, _ := isakmp.ID{Type: i.Type, Data: []byte(i.Data)}.Addr()
	return a
}

// String is the address or name as text; names are quoted where they hold anything
// but printable ASCII.
func (i Identity) String() string {
	if a := i.Addr(); a.IsValid() {
		return a.String()
	}
	return printable(i.Data)
}

// psk finds the key for a peer: a host name of its identity first (id may be zero),
// then the longest prefix that holds the address. wild tells that it is the default key.
func (c *Config) psk(addr netip.Addr, id Identity) (key secret.Bytes, wild, ok bool) {
	addr = addr.Unmap()
	best := -1
	for _, k := range c.Keys {
		if k.Hostname != "" {
			if (id.Type == isakmp.IDFQDN || id.Type == isakmp.IDUserFQDN) && id.Data == k.Hostname {
				return k.PSK, false, true
			}
			continue
		}
		if k.Prefix.IsValid() && k.Prefix.Contains(addr) && k.Prefix.Bits() > best {
			best, key, ok = k.Prefix.Bits(), k.PSK, true
		}
	}
	return key, best == 0, ok
}

// ordered lists the usable policies by priority.
func (c *Config) ordered() []Policy {
	out := make([]Policy, 0, len(c.Policies))
	for _, p := range c.Policies {
		if p.KeyBits == 0 && p.Encr == EncrAES {
			p.KeyBits = 128
		}
		if p.Encr == Encr3DES {
			p.KeyBits = 0
		}
		if p.Lifetime <= 0 {
			p.Lifetime = DefaultLifetime
		}
		if p.Auth == 0 {
			p.Auth = AuthPSK
		}
		if p.valid() == nil {
			out = append(out, p)
		}
	}
	sortPolicies(out)
	return out
}
