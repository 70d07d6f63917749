package isakmp

// Payloads whose body is one string of octets: KE, HASH, SIG, NONCE, vendor ID,
// NAT-D, and the two that put one type octet before it, CERT and CERTREQ
// (RFC 2408 §3.7, §3.9-3.13, §3.16; RFC 3947 §3.2).

// Length limits of nonces in phase 1 (RFC 2409 §5). GROUPKEY-PULL has its own.
const (
	MinNonce = 8
	MaxNonce = 256
)

// KEPayload carries a public value, already padded to its group's length.
func KEPayload(public []byte) Payload { return Payload{Type: PayloadKE, Body: public} }

// HashPayload carries a hash.
func HashPayload(hash []byte) Payload { return Payload{Type: PayloadHash, Body: hash} }

// SigPayload carries a signature.
func SigPayload(sig []byte) Payload { return Payload{Type: PayloadSig, Body: sig} }

// NoncePayload carries a nonce.
func NoncePayload(nonce []byte) Payload { return Payload{Type: PayloadNonce, Body: nonce} }

// VendorIDPayload carries a vendor ID.
func VendorIDPayload(id []byte) Payload { return Payload{Type: PayloadVendorID, Body: id} }

// NATDPayload carries an address hash (RFC 3947 §3.2).
func NATDPayload(hash []byte) Payload { return Payload{Type: PayloadNATD, Body: hash} }

// ParseNonce checks the length of a nonce against limits in octets.
func ParseNonce(body []byte, minLen, maxLen int) ([]byte, error) {
	if len(body) < minLen || len(body) > maxLen {
		return nil, malformed(BadNonceLength, PayloadNonce, 0)
	}
	return body, nil
}

// ParseOpaque returns the body of a KE, HASH, SIG, vendor ID or NAT-D payload,
// which must not be empty. Its right length depends on what was negotiated: the
// caller compares.
func ParseOpaque(p Payload) ([]byte, error) {
	if len(p.Body) == 0 {
		return nil, malformed(ShortBody, p.Type, 0)
	}
	return p.Body, nil
}

// CertEncoding says what a certificate payload holds (RFC 2408 §3.9).
type CertEncoding uint8

// Encodings in use.
const (
	CertX509Signature CertEncoding = 4
	CertCRL           CertEncoding = 7
)

// Cert is a certificate payload.
type Cert struct {
	Encoding CertEncoding
	Data     []byte
}

// ParseCert reads the body of a CERT payload.
func ParseCert(body []byte) (Cert, error) {
	if len(body) < 2 {
		return Cert{}, malformed(ShortBody, PayloadCert, len(body))
	}
	return Cert{Encoding: CertEncoding(body[0]), Data: body[1:]}, nil
}

// Payload encodes the certificate.
func (c Cert) Payload() Payload {
	return Payload{Type: PayloadCert, Body: append([]byte{byte(c.Encoding)}, c.Data...)}
}

// CertReq asks for a certificate. Authority is the DER name of an issuer; empty
// means any (RFC 2408 §3.10).
type CertReq struct {
	Encoding  CertEncoding
	Authority []byte
}

// ParseCertReq reads the body of a CERTREQ payload.
func ParseCertReq(body []byte) (CertReq, error) {
	if len(body) < 1 {
		return CertReq{}, malformed(ShortBody, PayloadCertReq, 0)
	}
	return CertReq{Encoding: CertEncoding(body[0]), Authority: body[1:]}, nil
}

// Payload encodes the request.
func (c CertReq) Payload() Payload {
	return Payload{Type: PayloadCertReq, Body: append([]byte{byte(c.Encoding)}, c.Authority...)}
}
