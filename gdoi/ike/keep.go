package ike

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"getvpn/gdoi/isakmp"
)

// This file keeps phase 1 with a key server up, whichever side made it: it dials while
// there is no SA, makes a new one before the last ends, closes what is too much, and
// watches each by DPD.

const (
	// pauseFirst doubles with each attempt up to pauseMost.
	pauseFirst = time.Second
	pauseMost  = 30 * time.Second
	// patience is how long an SA of the peer's may take to show that the peer has it too.
	patience = 5 * time.Second
	// settled is the life after which an SA counts as a success.
	settled = 10 * time.Second
	// grace is how long two SAs stay beside each other: messages under the older one arrive.
	grace = 5 * time.Second
	// renewMost and the renewShare-th part of the lifetime bound how long before an SA's
	// end a new one is made.
	renewMost  = 5 * time.Minute
	renewShare = 5
	// surplusTries is how often a peer is asked, a second apart, whether it has the newest SA.
	surplusTries = 3
	// deleteAgain is how often a delete of a surplus SA is repeated: the peer would go on
	// to send under it.
	deleteAgain = 2
)

// keptKeepalive watches SAs when none is configured: a dead peer is noticed after 17.5 s,
// and a link that loses a tenth isn't taken for one in half a day.
func keptKeepalive() Keepalive {
	return Keepalive{Interval: 10 * time.Second, Retry: 1500 * time.Millisecond}
}

// keepRetry gives an attempt up after 15 s: then the next one is only pauseMost away.
func keepRetry() Retry { return Retry{First: time.Second, Max: 4 * time.Second, Count: 5} }

// keepKey names a keeper; local may be zero.
type keepKey struct {
	remote netip.AddrPort
	local  netip.Addr
}

// watcher is one who asked for a peer to be kept.
type watcher struct{ f func(sa *SA, up bool) }

// keeper keeps one peer for all who ask for it.
type keeper struct {
	e      *Endpoint
	key    keepKey
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{}
	ended  chan struct{}

	// Guarded by peering.mu.
	watchers []*watcher
	sas      []*SA // all with the peer, also those that it may not have
	up       []*SA // those that were told, oldest first
	said     map[string]bool

	// Of the goroutine, until it has ended.
	next   time.Time // no attempt before
	fails  int
	dialed []*SA
	notes  map[*SA]note
	since  time.Time // since when SAs are up; zero: none is
	proved bool      // for long enough
}

// note is what a keeper remembers of an SA.
type note struct{ since, renew time.Time }

// Keep keeps phase 1 with a key server up until stop: it dials (after a second, then
// after twice as long each time up to 30 s, each less a random part), takes what the peer
// dials as well, renews before an SA ends, and notices a dead peer after 17.5 s unless a
// keepalive is configured. local is zero for the route's address.
//
// f is told each SA with the peer's address (and ours, if local is set) once when both
// sides have it and once when it has ended. There may be two at a time; the newest is to
// be used. Calls of f come one after the other, in order; nothing waits for them but
// Close, so f may call anything of the endpoint but that.
//
// Failures are told as events, each kind once until an SA is up. stop closes the SAs that
// were dialed here, unless somebody else keeps the peer too, and ends the reports: each
// SA that is still up is told down.
func (e *Endpoint) Keep(remote netip.AddrPort, local netip.Addr, f func(sa *SA, up bool)) (stop func()) {
	key := keepKey{netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port()), local.Unmap()}
	w := &watcher{f}
	k := e.peers.watch(e, key, w)
	if k == nil {
		return func() {}
	}
	for _, s := range e.SAs(key.remote.Addr()) {
		e.peers.arrived(s)
	}
	var once sync.Once
	return func() { once.Do(func() { k.leave(w) }) }
}

// watch finds or makes a keeper; nil when the endpoint is closed.
func (q *peering) watch(e *Endpoint, key keepKey, w *watcher) *keeper {
	q.mu.Lock()
	defer q.mu.Unlock()
	if k := q.keepers[key]; k != nil {
		k.watchers = append(k.watchers, w)
		for _, s := range k.up {
			q.tell(w, s, true)
		}
		return k
	}
	k := &keeper{e: e, key: key, wake: make(chan struct{}, 1), ended: make(chan struct{}), watchers: []*watcher{w},
		said: map[string]bool{}, notes: map[*SA]note{}}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		k.cancel()
		return nil
	}
	q.keepers[key] = k
	e.wg.Go(k.run)
	return k
}

// leave ends the reports to a watcher; the last one ends the keeper.
func (k *keeper) leave(w *watcher) {
	q := k.e.peers
	q.mu.Lock()
	k.watchers = slices.DeleteFunc(k.watchers, func(o *watcher) bool { return o == w })
	for _, s := range k.up {
		q.tell(w, s, false)
	}
	end := len(k.watchers) == 0
	if end {
		delete(q.keepers, k.key)
	}
	q.mu.Unlock()
	if !end {
		return
	}
	k.cancel()
	<-k.ended
	for _, s := range k.dialed {
		k.e.removeSA(s, true, "no longer kept")
	}
}

// has tells whether an SA is one of the keeper's.
func (k *keeper) has(s *SA) bool {
	return s.key.addr == k.key.remote.Addr() && (!k.key.local.IsValid() || s.key.local == k.key.local)
}

// poke has the keeper look again.
func (k *keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *keeper) run() {
	defer close(k.ended)
	k.next = time.Now()
	if k.waits() { // the other side dials; one SA is enough
		k.next = k.next.Add(pauseFirst + k.e.some(pauseFirst))
	}
	for k.e.ended(k.ctx) == nil {
		t := time.NewTimer(k.step(time.Now()))
		select {
		case <-k.ctx.Done():
		case <-k.e.quit:
		case <-k.wake:
		case <-t.C:
		}
		t.Stop()
	}
	k.cancel()
}

// waits tells whether the peer should dial first: its address is the lower one.
func (k *keeper) waits() bool {
	own := k.key.local
	if c := k.e.conn(own, k.key.remote.Addr(), false); c != nil && !own.IsValid() {
		if own = c.LocalAddr().Addr(); own.IsUnspecified() {
			var err error
			if own, err = routeLocal(k.key.remote); err != nil {
				return false
			}
		}
	}
	return own.IsValid() && k.key.remote.Addr().Less(own)
}

// idle is how long a keeper with nothing to do waits for something to happen.
const idle = time.Hour

// step does what is due and returns when to look again.
func (k *keeper) step(now time.Time) time.Duration {
	all, up := k.look(now)
	if len(up) == 0 {
		if !k.since.IsZero() { // the last one has ended
			k.missed(now, now.Sub(k.since) < settled)
			k.since, k.proved = time.Time{}, false
		}
		if wait := k.coming(all, up, now); wait > 0 {
			return wait
		}
		return k.dial(now)
	}
	if k.since.IsZero() {
		k.since = now
	}
	if !k.proved && now.Sub(k.since) >= settled {
		k.proved, k.fails, k.next = true, 0, now
	}
	newest := slices.MaxFunc(up, func(a, b *SA) int { return a.expires.Compare(b.expires) })
	renew := k.notes[newest].renew.Sub(now)
	if renew <= 0 || newest.worn() {
		if wait := k.coming(all, up, now); wait > 0 {
			return wait
		}
		return k.dial(now)
	}
	return min(renew, k.thin(up, now), idle)
}

// look lists the living SAs with the peer, and those of them that are up, both oldest
// first, and has each watched.
func (k *keeper) look(now time.Time) (all, up []*SA) {
	k.e.peers.mu.Lock()
	all, up = slices.Clone(k.sas), slices.Clone(k.up)
	k.e.peers.mu.Unlock()
	for _, s := range all {
		if _, ok := k.notes[s]; ok {
			continue
		}
		s.startDPD(keptKeepalive())
		lead := min(s.expires.Sub(s.established)/renewShare, renewMost)
		if !s.peer.Initiator { // who made it makes the next
			lead /= 2
		}
		k.notes[s] = note{now, s.expires.Add(-lead + k.e.some(lead/4))}
	}
	for s := range k.notes {
		if !slices.Contains(all, s) {
			delete(k.notes, s)
		}
	}
	k.dialed = slices.DeleteFunc(k.dialed, func(s *SA) bool { return !slices.Contains(all, s) })
	return all, up
}

// coming is how long to wait for an SA that the peer has just made, 0 if there is none.
func (k *keeper) coming(all, up []*SA, now time.Time) time.Duration {
	for _, s := range all {
		if left := k.notes[s].since.Add(patience).Sub(now); left > 0 && !slices.Contains(up, s) {
			return min(left, k.ask(s, now))
		}
	}
	return 0
}

// ask has the peer show that it has an SA too, a second after it came, then each two.
func (k *keeper) ask(s *SA, now time.Time) time.Duration {
	s.mu.Lock()
	last := s.lastSent
	s.mu.Unlock()
	wait := 2*time.Second - now.Sub(last)
	if first := k.notes[s].since.Add(time.Second).Sub(now); first > 0 {
		return first
	}
	if wait > 0 {
		return wait
	}
	if err := s.probeOnce(); err != nil {
		k.e.log.Debug("R-U-THERE", "err", err)
	}
	return 2 * time.Second
}

// dial makes an SA, unless it is too early.
func (k *keeper) dial(now time.Time) time.Duration {
	if early := k.next.Sub(now); early > 0 {
		return early
	}
	s, err := k.e.Connect(k.ctx, k.key.remote, ConnectOptions{Local: k.key.local, Fresh: true, Retry: keepRetry()})
	if err != nil {
		k.e.log.Debug("key server can't be reached", "peer", k.key.remote, "attempt", k.fails+1, "err", err)
		k.missed(time.Now(), true)
		return 0
	}
	k.dialed = append(k.dialed, s)
	if err := s.probeOnce(); err != nil { // so that the peer knows that we have it
		k.e.log.Debug("R-U-THERE", "err", err)
	}
	return 0
}

// missed puts the next attempt off. failure: longer than the one before.
func (k *keeper) missed(now time.Time, failure bool) {
	pause := pauseFirst
	for range min(k.fails, 16) {
		pause = min(2*pause, pauseMost)
	}
	k.next = now.Add(pause - k.e.some(pause/2))
	if failure {
		k.fails++
	} else {
		k.fails = 0
	}
}

// thin closes all SAs but the newest, at one of the two sides: the initiator of that with
// the lowest cookies, which both sides have. First it makes sure that the peer still has
// the newest.
func (k *keeper) thin(up []*SA, now time.Time) time.Duration {
	if len(up) < 2 {
		return idle
	}
	lowest := slices.MinFunc(up, func(a, b *SA) int { return bytes.Compare(a.cookiesSPI(), b.cookiesSPI()) })
	if !lowest.peer.Initiator {
		return idle
	}
	newest := slices.MaxFunc(up, func(a, b *SA) int { return int(a.id) - int(b.id) })
	if early := k.notes[newest].since.Add(grace).Sub(now); early > 0 {
		return early
	}
	if !newest.Probe(k.ctx, surplusTries, time.Second) {
		return grace
	}
	for _, s := range up {
		if s != newest {
			k.e.removeSA(s, true, "a newer one is in use")
			newest.disown(s)
		}
	}
	return idle
}

// disown deletes another SA with the peer again: the delete under that SA may be lost, and
// the peer would go on to use it until DPD ends it.
func (s *SA) disown(o *SA) {
	d := isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{o.cookiesSPI()}}
	left := deleteAgain
	s.every(time.Second, func(time.Time) time.Duration {
		if err := s.inform(d.Payload()); err != nil {
			s.ep.log.Debug("delete", "err", err)
		}
		if left--; left == 0 {
			return 0
		}
		return time.Second
	})
}

// worn tells whether most of the SA's message IDs are used up.
func (s *SA) worn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.used) > maxMIDs/4*3
}

// some is a random time below d, 0 without random numbers.
func (e *Endpoint) some(d time.Duration) time.Duration {
	var b [8]byte
	if _, err := io.ReadFull(e.rand, b[:]); err != nil || d <= 0 {
		return 0
	}
	return time.Duration(binary.BigEndian.Uint64(b[:]) % uint64(d))
}
