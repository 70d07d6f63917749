package gdoi

// SA TEK payload: the policy of one data SA, for ESP and AH (RFC 6407 §5.5, RFC
// 2407 §4.5). Other protocols are kept unread.

import (
	"bytes"
	"encoding/binary"

	"getvpn/gdoi/isakmp"
)

// SAT is a data SA and the traffic that it is for. Zero means absent in the
// optional fields. Several SATs may share an SPI: one SA for several selectors.
type SAT struct {
	Protocol     Protocol
	IPProto      uint8 // of the traffic, 0: any
	Src, Dst     Identity
	Transform    ESPTransform // an AH transform when Protocol is ProtoAH
	SPI          uint32
	Seconds      uint32 // remaining life; 0: DefaultLife
	Kilobytes    uint32
	Encap        Encapsulation
	Auth         AuthAlgorithm
	KeyBits      uint16 // without salt
	ESN          bool   // extended sequence numbers
	SigEncoding  uint16
	Preservation AddressPreservation
	Direction    SADirection

	// Private attributes of ours (docs/protocol/private-attributes.md).
	Replay *Replay
	Age    *uint32  // seconds since the key server made the TEK
	Exact  *WireACE // the entry, where the fields above can't say it all
	// Metadata is the header ahead of the payload; nil: there is none.
	Metadata *Metadata

	Private []isakmp.Attr // other private attributes, kept as they came
	Opaque  []byte        // the whole body of a protocol that isn't ESP or AH
}

// Life is the lifetime that applies, in seconds.
func (s *SAT) Life() uint32 {
	if s.Seconds == 0 {
		return DefaultLife
	}
	return s.Seconds
}

// EffectivePreservation is the address preservation that applies.
func (s *SAT) EffectivePreservation() AddressPreservation {
	if s.Preservation == 0 {
		return PreserveBoth
	}
	return s.Preservation
}

// EffectiveDirection is the direction that applies.
func (s *SAT) EffectiveDirection() SADirection {
	if s.Direction == 0 {
		return Symmetric
	}
	return s.Direction
}

// Counter reports whether senders on the SA need Sender IDs.
func (s *SAT) Counter() bool { return s.Protocol == ProtoESP && s.Transform.Counter() }

// knownTransform is what the choice between the two widths of ID lengths rests on.
func knownTransform(p Protocol, t ESPTransform) bool {
	if p == ProtoAH {
		return t >= 2 && t <= 14 // RFC 2407 §4.4.3, IANA
	}
	return t >= 1 && t <= 23
}

// parseSAT reads a SAT's body: with 1-octet ID lengths as the RFC draws, else with
// 2-octet ones as some peers send. Either must make sense to the last octet; the
// RFC's reading names the error when neither does.
func parseSAT(body []byte, d Dialect) (SAT, error) {
	if len(body) == 0 {
		return SAT{}, malformed(isakmp.ShortBody, isakmp.PayloadSAT, 0)
	}
	p := Protocol(body[0])
	switch {
	case p == 0:
		return SAT{}, malformed(isakmp.BadProtocol, isakmp.PayloadSAT, 0)
	case p != ProtoESP && p != ProtoAH:
		return SAT{Protocol: p, Opaque: bytes.Clone(body[1:])}, nil
	}
	s, err := parseSATAs(body, 1, d)
	if err == nil {
		return s, nil
	}
	if wide, errWide := parseSATAs(body, 2, d); errWide == nil {
		return wide, nil
	}
	return SAT{}, err
}

func parseSATAs(body []byte, width int, d Dialect) (SAT, error) {
	f := fields{b: body, payload: isakmp.PayloadSAT}
	s := SAT{Protocol: Protocol(f.uint(1)), IPProto: uint8(f.uint(1))}
	s.Src = f.identity(width, true, true)
	s.Dst = f.identity(width, false, true)
	s.Transform = ESPTransform(f.uint(1))
	if f.err == nil && !knownTransform(s.Protocol, s.Transform) {
		f.off--
		f.fail(isakmp.BadTransform)
	}
	s.SPI = f.uint(4)
	if f.err != nil {
		return SAT{}, f.err
	}
	list, off := f.rest()
	if err := s.attributes(isakmp.NewAttrDecoder(isakmp.PayloadSAT, list, off), d); err != nil {
		return SAT{}, err
	}
	return s, nil
}

func (s *SAT) attributes(dec *isakmp.AttrDecoder, d Dialect) error {
	var seen classSet
	var lifeType, mode, window uint16
	for a, ok := dec.Next(); ok; a, ok = dec.Next() {
		life := a.Type == satLifeType || a.Type == satLifeDuration
		if !life && seen.again(a.Type) {
			dec.Fail(isakmp.AttributeRepeated, a)
		}
		switch a.Type {
		case satLifeType:
			lifeType = nonZero(dec, a)
		case satLifeDuration:
			dec.Life(a, lifeType, &s.Seconds, &s.Kilobytes)
			lifeType = 0
		case satGroup: // RFC 6407 §5.5.1: ignored
		case satEncap:
			s.Encap = Encapsulation(nonZero(dec, a))
		case satAuth:
			s.Auth = AuthAlgorithm(nonZero(dec, a))
		case satKeyLength:
			s.KeyBits = nonZero(dec, a)
		case satESN:
			v := dec.Uint16(a)
			if v > 1 {
				dec.Fail(isakmp.AttributeValue, a)
			}
			s.ESN = v == 1
		case satSigEncoding:
			s.SigEncoding = nonZero(dec, a)
		case satPreservation:
			s.Preservation = AddressPreservation(nonZero(dec, a))
		case satDirection:
			s.Direction = SADirection(nonZero(dec, a))
		default:
			if d.Strict || !s.private(dec, a, &mode, &window) {
				keepPrivate(dec, a, privateSAT(a.Type), d, &s.Private)
			}
		}
	}
	if dec.Err() == nil && (mode != 0 || window != 0) {
		s.Replay = &Replay{Mode: ReplayMode(mode), Window: window}
		if !s.Replay.valid() {
			return &isakmp.MalformedError{Reason: isakmp.AttributeValue, Payload: isakmp.PayloadSAT, Attr: SATReplayMode}
		}
	}
	return dec.Err()
}

func (s *SAT) body(d Dialect) []byte {
	b := []byte{byte(s.Protocol)}
	if s.Protocol != ProtoESP && s.Protocol != ProtoAH {
		return append(b, s.Opaque...)
	}
	b = append(b, s.IPProto)
	b = s.Src.appendTo(b, d.WideIDs)
	b = s.Dst.appendTo(b, d.WideIDs)
	b = append(b, byte(s.Transform))
	b = binary.BigEndian.AppendUint32(b, s.SPI)
	if s.Seconds != 0 {
		b = isakmp.AppendBasic(b, satLifeType, isakmp.LifeSeconds)
		b = isakmp.AppendVar32(b, satLifeDuration, s.Seconds)
	}
	if s.Kilobytes != 0 {
		b = isakmp.AppendBasic(b, satLifeType, isakmp.LifeKilobytes)
		b = isakmp.AppendVar32(b, satLifeDuration, s.Kilobytes)
	}
	b = appendNonZero(b, satEncap, uint16(s.Encap))
	b = appendNonZero(b, satAuth, uint16(s.Auth))
	b = appendNonZero(b, satKeyLength, s.KeyBits)
	if s.ESN {
		b = isakmp.AppendBasic(b, satESN, 1)
	}
	b = appendNonZero(b, satSigEncoding, s.SigEncoding)
	b = appendNonZero(b, satPreservation, uint16(s.Preservation))
	b = appendNonZero(b, satDirection, uint16(s.Direction))
	b = s.appendPrivate(b)
	return appendAttrs(b, s.Private)
}
