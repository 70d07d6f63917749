// Package event is the catalogue of what can happen, as a closed set of typed
// values, and the dispatcher that hands them to bounded sinks. An engine emits one
// value a happening, after it has published its snapshot; which syslog line,
// notification and counter follow stands in the event's row, not in the engine.
package event

import (
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Severity as in syslog: 0 emergencies … 7 debugging.
type Severity uint8

// Row is a line of the catalogue. Format holds <name> for a field tagged
// `f:"name"`; everything else is literal.
type Row struct {
	Facility string // GDOI, CRYPTO, SYS
	Severity Severity
	Mnemonic string
	Format   string
}

// Event is one of the types of this package.
type Event interface {
	Row() Row
}

// Field is a named parameter of an event.
type Field struct {
	Name  string
	Value any
}

// Fields lists an event's parameters in declaration order.
func Fields(e Event) []Field {
	v := reflect.ValueOf(e)
	t := v.Type()
	var out []Field
	for i := range t.NumField() {
		if n := t.Field(i).Tag.Get("f"); n != "" {
			out = append(out, Field{n, v.Field(i).Interface()})
		}
	}
	return out
}

// Previous is the primary before a change of roles, NONE when there was none.
type Previous struct{ netip.Addr }

// String is the address, or NONE.
func (p Previous) String() string {
	if !p.IsValid() {
		return "NONE"
	}
	return p.Addr.String()
}

// Clock is what an announcement's message calls the pseudotime: devices print two words.
type Clock string

const (
	Pseudotime Clock = "pseudotime" // at a secondary
	PST        Clock = "PST"        // in elections and merges
)

// Record is an emitted event with its time and the number of its emission.
type Record struct {
	Seq   uint64
	At    time.Time
	Event Event
}

// Emitter is all that an engine sees of the dispatcher.
type Emitter interface {
	Emit(Event)
}

// Bus hands every record to every sink. Emit never blocks: a sink whose ring is
// full loses the record and counts it.
type Bus struct {
	mu   sync.Mutex
	seq  uint64
	subs []*Sub
}

// NewBus returns a dispatcher without sinks.
func NewBus() *Bus { return &Bus{} }

// Sub is one sink's bounded ring.
type Sub struct {
	name    string
	c       chan Record
	dropped atomic.Uint64
}

// C yields the records in order; it is closed by Bus.Close.
func (s *Sub) C() <-chan Record { return s.c }

// Dropped counts the records that didn't fit.
func (s *Sub) Dropped() uint64 { return s.dropped.Load() }

// Subscribe adds a sink with room for size records.
func (b *Bus) Subscribe(name string, size int) *Sub {
	s := &Sub{name: name, c: make(chan Record, size)}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs = append(b.subs, s)
	return s
}

// Unsubscribe ends a sink: its channel is closed, what waits in it can still be read.
func (b *Bus) Unsubscribe(s *Sub) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.subs, s); i >= 0 {
		b.subs = slices.Delete(b.subs, i, i+1)
		close(s.c)
	}
}

// Emit numbers and dispatches e.
func (b *Bus) Emit(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	r := Record{Seq: b.seq, At: time.Now(), Event: e}
	for _, s := range b.subs {
		select {
		case s.c <- r:
		default:
			s.dropped.Add(1)
		}
	}
}

// Close ends every sink's channel. Emit must not be called afterwards.
func (b *Bus) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.subs {
		close(s.c)
	}
	b.subs = nil
}
