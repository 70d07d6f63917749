package gdoi

// Dialect: how strictly to read, and which deviations of known peers to write.

// Dialect is a peer's way of writing. The zero value is RFC 6407. Reading always
// takes the RFC's layout and the known deviations; only Strict changes it.
type Dialect struct {
	// Strict refuses private attributes too, not only unknown IANA ones
	// (RFC 6407 §5.3.2, §5.4: abort on what isn't understood).
	Strict bool
	// WideIDs sends ID data lengths in SAK and SAT as 2 octets (some peers' reading
	// of RFC 3547).
	WideIDs bool
	// LongReserved sends 6 octets instead of 4 behind the SAK's SPI, as the
	// reference implementation of RFC 3547 does.
	LongReserved bool
	// AckOutputLength derives the key of acknowledgements with the length of the prf's
	// output (256, 512) instead of its block's (512, 1024): RFC 8263 §3.2 says both.
	AckOutputLength bool
}
