// Package syslog turns events into the vendor's log lines and sends them to the
// console and to syslog hosts. Nobody else formats a %GDOI line.
//
// A line is TIMESTAMP: %FACILITY-SEVERITY-MNEMONIC: text. To a host it is framed as
// IOS frames it: <PRI>COUNT: TIMESTAMP: %….
package syslog

import (
	"fmt"
	"strings"
	"time"

	"getvpn/model/event"
)

// local7 is the facility that IOS uses unless told otherwise.
const local7 = 23

// Text fills the row's format with the event's fields.
func Text(e event.Event) string {
	s := e.Row().Format
	for _, f := range event.Fields(e) {
		s = strings.ReplaceAll(s, "<"+f.Name+">", printable(fmt.Sprint(f.Value)))
	}
	return s
}

// printable keeps a value that a peer chose from forging or splitting log lines.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return '.'
		}
		return r
	}, s)
}

// Tag is the %FACILITY-SEVERITY-MNEMONIC of an event.
func Tag(e event.Event) string {
	r := e.Row()
	return fmt.Sprintf("%%%s-%d-%s", r.Facility, r.Severity, r.Mnemonic)
}

// Line renders a record as the console shows it. synced says whether the wall
// clock is known to be right; IOS marks the others with an asterisk.
func Line(r event.Record, synced bool) string {
	mark := "*"
	if synced {
		mark = ""
	}
	return mark + Timestamp(r.At) + ": " + Tag(r.Event) + ": " + Text(r.Event)
}

// Timestamp is "service timestamps log datetime msec", in UTC.
func Timestamp(t time.Time) string { return t.UTC().Format("Jan _2 15:04:05.000") }

// Datagram renders a record as sent to a syslog host; count numbers the messages
// of this host from 1.
func Datagram(r event.Record, synced bool, count uint64) []byte {
	pri := local7*8 + int(r.Event.Row().Severity)
	return fmt.Appendf(nil, "<%d>%d: %s", pri, count, Line(r, synced))
}
