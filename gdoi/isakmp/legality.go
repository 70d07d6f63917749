package isakmp

// Which payloads a message may have: one table per message of an exchange, and one
// function that checks. RFC 2409 §5, §5.1, §5.4, §5.7; RFC 3947 §3.1, §3.2;
// RFC 6407 §3.2, §4; RFC 8263 §3.

// Message names a message of an exchange, and where payloads depend on it the
// authentication method.
type Message uint8

const (
	Main1         Message = iota // SA
	Main2                        // SA
	Main3                        // KE, Ni
	Main4                        // KE, Nr
	MainAuthPSK                  // 5 and 6: ID, HASH
	MainAuthSig                  // 5 and 6: ID, [CERT,] SIG
	Aggr1                        // SA, KE, Ni, IDii
	Aggr2PSK                     // SA, KE, Nr, IDir, HASH_R
	Aggr2Sig                     // SA, KE, Nr, IDir, [CERT,] SIG_R
	Aggr3PSK                     // HASH_I
	Aggr3Sig                     // [CERT,] SIG_I
	InfoClear                    // N or D, without keys
	InfoProtected                // HASH(1), N or D
	Pull1                        // HASH(1), Ni, ID
	Pull2                        // HASH(2), Nr, SA
	Pull3                        // HASH(3) [, GAP]
	Pull4                        // HASH(4) [, SEQ], KD
	Push                         // SEQ [, D…] [, SA, KD], SIG
	PushAck                      // HASH, SEQ, ID

	NumMessages
)

// Rule bounds how often a payload occurs.
type Rule struct {
	Type     PayloadType
	Min, Max int
}

// Protection says whether a message is encrypted.
type Protection uint8

const (
	Clear Protection = iota
	Encrypted
	ClearOrEncrypted
)

// Rules is one message's row. Ordered: payloads come in the order of the rules.
// Otherwise only the first must be First, when that is set.
type Rules struct {
	Protection Protection
	First      PayloadType
	Ordered    bool
	Payloads   []Rule
}

// maxVIDs bounds the vendor IDs of a message, maxCerts the certificate chain.
const (
	maxVIDs  = 32
	maxCerts = 8
)

// RulesOf is the table.
func RulesOf(m Message) Rules {
	one := func(t PayloadType) Rule { return Rule{t, 1, 1} }
	upTo := func(t PayloadType, n int) Rule { return Rule{t, 0, n} }
	vid := upTo(PayloadVendorID, maxVIDs)
	cr := upTo(PayloadCertReq, maxCerts)
	cert := upTo(PayloadCert, maxCerts)
	natd := upTo(PayloadNATD, 8)
	notify := upTo(PayloadNotify, 8)
	switch m {
	case Main1:
		return Rules{Clear, PayloadSA, false, []Rule{one(PayloadSA), vid}}
	case Main2:
		return Rules{Clear, PayloadSA, false, []Rule{one(PayloadSA), vid, cr}}
	case Main3, Main4:
		return Rules{Clear, 0, false, []Rule{one(PayloadKE), one(PayloadNonce), vid, cr, natd}}
	case MainAuthPSK:
		return Rules{Encrypted, 0, false, []Rule{one(PayloadID), one(PayloadHash), vid, notify}}
	case MainAuthSig:
		return Rules{Encrypted, 0, false, []Rule{one(PayloadID), one(PayloadSig), cert, cr, vid, notify}}
	case Aggr1:
		return Rules{Clear, PayloadSA, false, []Rule{one(PayloadSA), one(PayloadKE), one(PayloadNonce), one(PayloadID), vid, cr}}
	case Aggr2PSK:
		return Rules{Clear, PayloadSA, false, []Rule{one(PayloadSA), one(PayloadKE), one(PayloadNonce), one(PayloadID), one(PayloadHash), vid, natd}}
	case Aggr2Sig:
		return Rules{Clear, PayloadSA, false, []Rule{one(PayloadSA), one(PayloadKE), one(PayloadNonce), one(PayloadID), one(PayloadSig), cert, cr, vid, natd}}
	case Aggr3PSK:
		return Rules{ClearOrEncrypted, 0, false, []Rule{one(PayloadHash), vid, natd, notify}}
	case Aggr3Sig:
		return Rules{ClearOrEncrypted, 0, false, []Rule{one(PayloadSig), cert, vid, natd, notify}}
	case InfoClear:
		return Rules{Clear, 0, false, []Rule{notify, upTo(PayloadDelete, 8), vid}}
	case InfoProtected:
		return Rules{Encrypted, PayloadHash, false, []Rule{one(PayloadHash), notify, upTo(PayloadDelete, 8), vid}}
	case Pull1:
		return Rules{Encrypted, PayloadHash, true, []Rule{one(PayloadHash), one(PayloadNonce), one(PayloadID)}}
	case Pull2:
		return Rules{Encrypted, PayloadHash, true, []Rule{one(PayloadHash), one(PayloadNonce), one(PayloadSA)}}
	case Pull3:
		return Rules{Encrypted, PayloadHash, true, []Rule{one(PayloadHash), upTo(PayloadGAP, 1)}}
	case Pull4:
		return Rules{Encrypted, PayloadHash, true, []Rule{one(PayloadHash), upTo(PayloadSEQ, 1), one(PayloadKD)}}
	case Push:
		return Rules{Encrypted, PayloadSEQ, true, []Rule{one(PayloadSEQ), upTo(PayloadDelete, 16), upTo(PayloadSA, 1), upTo(PayloadKD, 1), one(PayloadSig)}}
	case PushAck:
		return Rules{Clear, PayloadHash, true, []Rule{one(PayloadHash), one(PayloadSEQ), one(PayloadID)}}
	}
	return Rules{}
}

// Check holds a message against its row: protection, then payloads. Private
// payload types (128 and up) are let through and may stand anywhere behind the
// first; an unknown type below is refused. A Push with an SA must have a KD and
// the other way round (RFC 6407 §5.9).
func Check(m Message, encrypted bool, payloads []Payload) error {
	r := RulesOf(m)
	if r.Protection == Encrypted && !encrypted {
		return malformed(NotEncrypted, 0, 0)
	}
	if r.Protection == Clear && encrypted {
		return malformed(UnexpectedEncryption, 0, 0)
	}
	if r.First != 0 && FirstType(payloads) != r.First {
		return malformed(PayloadOrder, FirstType(payloads), 0)
	}
	counts := make([]int, len(r.Payloads))
	last, off := 0, 0
	for _, p := range payloads {
		i := ruleIndex(r.Payloads, p.Type)
		switch {
		case i < 0 && p.Type.Private():
		case i < 0:
			return malformed(PayloadUnexpected, p.Type, off)
		case r.Ordered && i < last:
			return malformed(PayloadOrder, p.Type, off)
		default:
			last = i
			if counts[i]++; counts[i] > r.Payloads[i].Max {
				return malformed(PayloadRepeated, p.Type, off)
			}
		}
		off += GenericLen + len(p.Body)
	}
	for i, rule := range r.Payloads {
		if counts[i] < rule.Min {
			return malformed(PayloadMissing, rule.Type, off)
		}
	}
	if m == Push && counts[2] != counts[3] {
		return malformed(PayloadMissing, r.Payloads[2+counts[2]].Type, off)
	}
	return nil
}

func ruleIndex(rules []Rule, t PayloadType) int {
	for i := range rules {
		if rules[i].Type == t {
			return i
		}
	}
	return -1
}
