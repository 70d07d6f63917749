// Package policy joins the two vocabularies: IPsec values (access list entries,
// transforms, data SAs with their keys) on one side, GDOI payloads (SA KEK, SA TEK,
// key download) on the other. The key server goes one way, the member the other, and
// a test holds the round trip. It also holds the clockwork that both ends share: when
// a successor must be ready, when a member registers again, when it changes over.
//
// Sources: RFC 6407 §5.2-5.7, RFC 2407 §4.4-4.6, RFC 6054; the vendor guide.
package policy
