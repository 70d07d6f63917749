package sim

// Traffic: flows of numbered packets, so that each can be called received, dropped or
// lost.

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"getvpn/ipsec"
)

// flight is how long a packet may be on its way before it counts as lost.
const flight = 2 * time.Second

// Flow is one direction between two sites' hosts.
type Flow struct {
	From, To         *Site
	Proto            byte // 6 or 17
	SrcPort, DstPort uint16
}

// flowState counts one flow.
type flowState struct {
	Flow
	sent, got int
	clearGot  int
	next      uint64
	open      map[uint64]time.Time // sent, not received
}

// Traffic generates and counts.
type Traffic struct {
	core *Core
	mu   sync.Mutex
	l    []*flowState
	dup  int

	stop chan struct{}
	done chan struct{}
}

// NewTraffic makes a generator without flows.
func NewTraffic(c *Core) *Traffic { return &Traffic{core: c} }

// Listen counts what a site's hosts receive. Before traffic is sent to it.
func (t *Traffic) Listen(s *Site) { s.heard = t.heard }

// Pairs makes flows in both directions between all sites that are given: UDP to later
// ones, TCP to earlier ones.
func (t *Traffic) Pairs(sites ...*Site) {
	for i, a := range sites {
		for j, b := range sites {
			f := Flow{From: a, To: b, Proto: 17, SrcPort: 4000, DstPort: 5000}
			if j < i {
				f.Proto = 6
			}
			if i != j {
				t.Add(f)
			}
		}
	}
}

// Add makes a flow and returns its number.
func (t *Traffic) Add(f Flow) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.l = append(t.l, &flowState{Flow: f, open: map[uint64]time.Time{}})
	return len(t.l) - 1
}

// Start lets every flow send a packet each interval.
func (t *Traffic) Start(every time.Duration) {
	t.stop, t.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(t.done)
		k := time.NewTicker(every)
		defer k.Stop()
		for {
			select {
			case <-t.stop:
				return
			case <-k.C:
				t.mu.Lock()
				n := len(t.l)
				t.mu.Unlock()
				for i := range n {
					t.Send(i)
				}
			}
		}
	}()
}

// Stop ends Start and waits until what is on its way has arrived.
func (t *Traffic) Stop() {
	if t.stop == nil {
		return
	}
	close(t.stop)
	<-t.done
	t.stop = nil
	time.Sleep(flight)
}

// Send sends one packet of a flow.
func (t *Traffic) Send(flow int) Fate {
	fate, _ := t.send(flow)
	return fate
}

// send returns the packet's number too.
func (t *Traffic) send(flow int) (Fate, uint64) {
	t.mu.Lock()
	f := t.l[flow]
	n := f.next
	f.next++
	f.sent++
	f.open[n] = time.Now()
	t.mu.Unlock()
	return f.From.Send(packet(&f.Flow, uint32(flow), n), flow), n
}

// Probe sends one packet of a flow and says what became of it at its sender and whether
// it arrived.
func (t *Traffic) Probe(flow int) (fate Fate, arrived bool) {
	fate, n := t.send(flow)
	time.Sleep(flight)
	t.mu.Lock()
	defer t.mu.Unlock()
	_, open := t.l[flow].open[n]
	return fate, !open
}

const magic = "sim1"

// packet makes an IPv4 packet with the flow and the number in it.
func packet(f *Flow, flow uint32, n uint64) []byte {
	l4 := 8
	if f.Proto == 6 {
		l4 = 20
	}
	b := make([]byte, 20+l4+16)
	b[0], b[8], b[9] = 0x45, 64, f.Proto
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	src, dst := f.From.Host.As4(), f.To.Host.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	binary.BigEndian.PutUint16(b[20:], f.SrcPort)
	binary.BigEndian.PutUint16(b[22:], f.DstPort)
	if f.Proto == 17 {
		binary.BigEndian.PutUint16(b[24:], uint16(l4+16))
	} else {
		b[32] = 5 << 4
	}
	p := b[20+l4:]
	copy(p, magic)
	binary.BigEndian.PutUint32(p[4:], flow)
	binary.BigEndian.PutUint64(p[8:], n)
	return b
}

// heard counts a delivery.
func (t *Traffic) heard(s *Site, ip []byte, sealed bool) {
	if len(ip) < 16 {
		return
	}
	p := ip[len(ip)-16:]
	if string(p[:4]) != magic {
		return
	}
	flow, n := binary.BigEndian.Uint32(p[4:]), binary.BigEndian.Uint64(p[8:])
	t.mu.Lock()
	defer t.mu.Unlock()
	if int(flow) >= len(t.l) {
		return
	}
	f := t.l[flow]
	if _, ok := f.open[n]; !ok || f.To != s {
		t.dup++
		return
	}
	delete(f.open, n)
	f.got++
	if !sealed {
		f.clearGot++
	}
}

// Report is what became of all packets since the flows were made or last reset.
type Report struct {
	Sent, Received, Lost, Duplicated int
	ClearReceived                    int // delivered without ever having been sealed
	Clear                            int // seen on the wire in clear
	RepeatedIVs                      int // seen on the wire
	Drops                            map[string]map[ipsec.DropReason]int
	Switches                         map[string]int // by site: the least of its flows
	LiveSAs                          map[string]int
	Incidents                        []string
}

// Report counts. Packets that are still on their way are neither received nor lost.
func (t *Traffic) Report() Report {
	r := Report{Drops: map[string]map[ipsec.DropReason]int{}, Switches: map[string]int{}, LiveSAs: map[string]int{}}
	_, r.Clear, r.RepeatedIVs = t.core.Wire()
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Duplicated = t.dup
	for i, f := range t.l {
		r.Sent += f.sent
		r.Received += f.got
		r.ClearReceived += f.clearGot
		for _, n := range slices.Sorted(maps.Keys(f.open)) {
			if now.Sub(f.open[n]) < flight {
				continue
			}
			if r.Lost++; len(r.Incidents) < notesKept {
				r.Incidents = append(r.Incidents, fmt.Sprintf("%s %s to %s: lost", f.open[n].Format("15:04:05.000"), f.From.Name, f.To.Name))
			}
		}
		n := f.From.Switches(i)
		if was, ok := r.Switches[f.From.Name]; !ok || n < was {
			r.Switches[f.From.Name] = n
		}
	}
	for _, s := range t.core.sites {
		r.Drops[s.Name] = s.Drops()
		r.LiveSAs[s.Name] = s.LiveSAs()
		s.mu.Lock()
		r.Incidents = append(r.Incidents, s.notes...)
		s.mu.Unlock()
	}
	slices.Sort(r.Incidents)
	return r
}

// Reset forgets what was counted; what is on its way is lost from the count too.
func (t *Traffic) Reset() {
	t.mu.Lock()
	for _, f := range t.l {
		f.sent, f.got, f.clearGot = 0, 0, 0
		clear(f.open)
	}
	t.dup = 0
	t.mu.Unlock()
	t.core.mu.Lock()
	t.core.esp, t.core.clear, t.core.again = 0, 0, 0
	t.core.mu.Unlock()
	for _, s := range t.core.sites {
		s.mu.Lock()
		clear(s.drops)
		clear(s.switches)
		s.notes, s.most = nil, len(s.liveSPIs())
		s.mu.Unlock()
	}
}

func (s *Site) liveSPIs() map[uint32]*planeSA {
	if s.plane == nil {
		return nil
	}
	return s.plane.spis
}

// Dropped is the number of packets that were dropped anywhere.
func (r *Report) Dropped() (n int) {
	for _, m := range r.Drops {
		for _, k := range m {
			n += k
		}
	}
	return n
}

// Flawless says what keeps the report from being perfect; nil: nothing was lost,
// dropped, doubled, or in clear.
func (r *Report) Flawless() error {
	if r.Sent > 0 && r.Received == r.Sent && r.Lost == 0 && r.Duplicated == 0 && r.Clear == 0 && r.RepeatedIVs == 0 && r.Dropped() == 0 {
		return nil
	}
	return fmt.Errorf("%v", r)
}

func (r *Report) String() string {
	return fmt.Sprintf("sent %d, received %d, lost %d, doubled %d, in clear %d (delivered %d), IVs repeated %d, drops %v, switches %v, SAs %v\n\t%s",
		r.Sent, r.Received, r.Lost, r.Duplicated, r.Clear, r.ClearReceived, r.RepeatedIVs, r.Drops, r.Switches, r.LiveSAs, strings.Join(r.Incidents, "\n\t"))
}
