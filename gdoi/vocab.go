package gdoi

// Numbers of RFC 6407 §5, RFC 2407 §4.4-4.5 and the ESP documents, as they stand
// on the wire. The management model counts differently: map before use.

// Protocol of a data SA (RFC 6407 §5.5).
type Protocol uint8

const (
	ProtoESP Protocol = 1
	ProtoAH  Protocol = 2
)

// KEKAlgorithm encrypts GROUPKEY-PUSH (RFC 6407 §5.3.2).
type KEKAlgorithm uint16

const (
	KEKDES    KEKAlgorithm = 1
	KEK3DES   KEKAlgorithm = 2
	KEKAESCBC KEKAlgorithm = 3
)

// SigHash is a SIG_HASH_ALGORITHM (RFC 6407 §5.3.5).
type SigHash uint16

const (
	SigHashMD5    SigHash = 1
	SigHashSHA1   SigHash = 2
	SigHashSHA256 SigHash = 3
	SigHashSHA384 SigHash = 4
	SigHashSHA512 SigHash = 5
)

// SigAlgorithm is a SIG_ALGORITHM (RFC 6407 §5.3.6).
type SigAlgorithm uint16

const (
	SigRSA      SigAlgorithm = 1
	SigDSS      SigAlgorithm = 2
	SigECDSS    SigAlgorithm = 3
	SigECDSA256 SigAlgorithm = 4
	SigECDSA384 SigAlgorithm = 5
	SigECDSA521 SigAlgorithm = 6
)

// KEKManagementLKH is the one KEK management algorithm (RFC 6407 §5.3.1).
const KEKManagementLKH uint16 = 1

// AckRequest is a KEK_ACK_REQUESTED (RFC 8263 §2).
type AckRequest uint16

const (
	AckKEKSHA256 AckRequest = 1
	AckLKHSHA256 AckRequest = 2
	AckKEKSHA512 AckRequest = 3
	AckLKHSHA512 AckRequest = 4
)

// ESPTransform is an ESP transform identifier (RFC 2407 §4.4.4, RFC 3602 §5.2,
// RFC 3686 §5.3, RFC 4309 §7.3, RFC 4106 §8.3; 23 by IANA for RFC 4543).
type ESPTransform uint8

const (
	ESPDES      ESPTransform = 2
	ESP3DES     ESPTransform = 3
	ESPNull     ESPTransform = 11
	ESPAESCBC   ESPTransform = 12
	ESPAESCTR   ESPTransform = 13
	ESPAESCCM8  ESPTransform = 14
	ESPAESCCM12 ESPTransform = 15 // ICV of 12 octets
	ESPAESCCM16 ESPTransform = 16 // ICV of 16 octets
	ESPAESGCM8  ESPTransform = 18
	ESPAESGCM12 ESPTransform = 19 // ICV of 12 octets
	ESPAESGCM16 ESPTransform = 20 // ICV of 16 octets
	ESPGMAC     ESPTransform = 23
)

// Counter reports whether senders need Sender IDs (RFC 6054 §2, RFC 6407 §3.5).
func (t ESPTransform) Counter() bool {
	switch t {
	case ESPAESCTR, ESPAESCCM8, ESPAESCCM12, ESPAESCCM16, ESPAESGCM8, ESPAESGCM12, ESPAESGCM16, ESPGMAC:
		return true
	}
	return false
}

// Encapsulation mode (RFC 2407 §4.5, RFC 3947 §5.1). Zero: absent, tunnel.
type Encapsulation uint16

const (
	EncapTunnel       Encapsulation = 1
	EncapTransport    Encapsulation = 2
	EncapUDPTunnel    Encapsulation = 3
	EncapUDPTransport Encapsulation = 4
)

// AuthAlgorithm is an authentication algorithm (RFC 2407 §4.5, RFC 4868 §4, IANA).
type AuthAlgorithm uint16

const (
	AuthHMACMD5    AuthAlgorithm = 1
	AuthHMACSHA1   AuthAlgorithm = 2
	AuthHMACSHA256 AuthAlgorithm = 5
	AuthHMACSHA384 AuthAlgorithm = 6
	AuthHMACSHA512 AuthAlgorithm = 7
	AuthAESXCBC    AuthAlgorithm = 9
	AuthGMAC128    AuthAlgorithm = 11 // AH
	AuthGMAC192    AuthAlgorithm = 12
	AuthGMAC256    AuthAlgorithm = 13
)

// AddressPreservation of tunnel mode (RFC 6407 §5.5.1.1.1). Zero: absent, which
// means PreserveBoth.
type AddressPreservation uint16

const (
	PreserveNone        AddressPreservation = 1
	PreserveSource      AddressPreservation = 2
	PreserveDestination AddressPreservation = 3
	PreserveBoth        AddressPreservation = 4
)

// SADirection (RFC 6407 §5.5.1.1.2). Zero: absent, which means Symmetric.
type SADirection uint16

const (
	SenderOnly   SADirection = 1
	ReceiverOnly SADirection = 2
	Symmetric    SADirection = 3
)

// DefaultLife is the lifetime of a data SA without one, in seconds (RFC 2407
// §4.5).
const DefaultLife = 28800

// Attribute classes of a SAK (RFC 6407 §5.3, RFC 8263 §8).
const (
	sakManagement   uint16 = 1
	sakAlgorithm    uint16 = 2
	sakKeyLength    uint16 = 3
	sakKeyLifetime  uint16 = 4
	sakSigHash      uint16 = 5
	sakSigAlgorithm uint16 = 6
	sakSigKeyLength uint16 = 7
	sakOakleyGroup  uint16 = 8 // RFC 3547 only, ignored
	sakAckRequested uint16 = 9
)

// Attribute classes of a GAP (RFC 6407 §5.4).
const (
	gapATD        uint16 = 1
	gapDTD        uint16 = 2
	gapSIDRequest uint16 = 3
)

// Attribute classes of a SAT (RFC 2407 §4.5, RFC 6407 §5.5.1.1, IANA).
const (
	satLifeType     uint16 = 1
	satLifeDuration uint16 = 2
	satGroup        uint16 = 3 // must be ignored
	satEncap        uint16 = 4
	satAuth         uint16 = 5
	satKeyLength    uint16 = 6
	satESN          uint16 = 11
	satSigEncoding  uint16 = 13
	satPreservation uint16 = 14
	satDirection    uint16 = 15
)

// Key download types (RFC 6407 §5.6).
const (
	kdTEK uint8 = 1
	kdKEK uint8 = 2
	kdLKH uint8 = 3
	kdSID uint8 = 4
)

// Attribute classes of key packets (RFC 6407 §5.6.1-5.6.4).
const (
	tekAlgorithmKey  uint16 = 1
	tekIntegrityKey  uint16 = 2
	tekSourceAuthKey uint16 = 3

	kekAlgorithmKey    uint16 = 1
	kekSigAlgorithmKey uint16 = 2

	lkhDownloadArray   uint16 = 1
	lkhUpdateArray     uint16 = 2
	lkhSigAlgorithmKey uint16 = 3

	sidBits  uint16 = 1
	sidValue uint16 = 2
)

// privateGAP reports whether a SAK, GAP, TEK, KEK or LKH class is for private use.
func privateGAP(class uint16) bool { return class >= 128 && class <= 255 }

// privateSID is the range of the SID packet, which begins one later.
func privateSID(class uint16) bool { return class >= 129 && class <= 255 }

// privateSAT is the private range of IPsec SA attributes (RFC 2407 §6.7).
func privateSAT(class uint16) bool { return class >= 32001 }
