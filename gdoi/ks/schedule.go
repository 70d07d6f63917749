package ks

// When a group's keys are renewed, as a machine: key ring and time in, what is due
// out. The sources are the vendor guide's rekey timers.
//
//	TEK    policy.RekeyAt after it was made; earlier where members that heard of no
//	       successor would come to fetch one (policy.ReadyBefore), so that nobody
//	       registers again for nothing.
//	KEK    policy.KEKRekeyAt after it was made; TEKs past half their life are renewed
//	       with it, since the guide's KEK rekey carries both.
//	sync   with time-based anti-replay, so often that clocks can't drift apart.
//
// What is due within mergeWithin of each other goes out in one message.
//
// The guide plans 5 s for each 50 unicast members. That estimate is kept where it
// takes less than the rekey offset, so that small groups follow the guide's examples;
// beyond, the time that our own sending took replaces it, which only makes a rekey
// later.

import (
	"time"

	"getvpn/gdoi/policy"
	"getvpn/ipsec"
)

const (
	// mergeWithin joins what is due (guide, time-based anti-replay: 60 s).
	mergeWithin = 60 * time.Second
	// syncAtMost is the longest time between two messages that carry the pseudotime.
	syncAtMost = 7200 * time.Second
	// driftShare: two clocks that drift 100 ppm in opposite directions may use up a
	// quarter of the window, which takes this many windows.
	driftShare = 1250
)

// timing is the configuration and state that rekey times depend on.
type timing struct {
	retransmits int
	interval    time.Duration
	unicast     bool
	members     int
	fanout      time.Duration // measured; 0: not yet
	sync        time.Duration // between pseudotimes; 0: none is needed
}

// needs is what a rekey must renew.
type needs struct {
	teks []int // entries
	kek  bool
	sync bool
}

func (n needs) any() bool { return len(n.teks) > 0 || n.kek || n.sync }

// planned is how many members the guide's estimate counts: 0 for multicast.
func (t timing) planned() int {
	if t.unicast {
		return t.members
	}
	return 0
}

// at is when a key of that life is rekeyed by the guide's formula f.
func (t timing) at(life time.Duration, f func(time.Duration, int, time.Duration, int) time.Duration) time.Duration {
	plain, guide := f(life, t.retransmits, t.interval, 0), f(life, t.retransmits, t.interval, t.planned())
	if t.fanout == 0 || plain-guide <= policy.Offset(life) {
		return guide
	}
	return max(guide, plain-t.fanout, life/2)
}

// tekAt is how long after its creation a TEK is rekeyed.
func (t timing) tekAt(life time.Duration) time.Duration {
	return min(t.at(life, policy.RekeyAt), life-policy.ReadyBefore(life))
}

// kekAt is how long after its creation a KEK is rekeyed.
func (t timing) kekAt(life time.Duration) time.Duration {
	return min(t.at(life, policy.KEKRekeyAt), life-min(life/2, max(kekReserve, policy.ReadyBefore(life))))
}

// syncEvery is how often members must hear the pseudotime for a window in seconds:
// 7200 s at most.
func syncEvery(window int) time.Duration {
	return min(syncAtMost, driftShare*time.Duration(window)*time.Second)
}

// syncOf is syncEvery of the smallest window of the entries; 0: none is time based.
func syncOf(entries []SetupEntry) time.Duration {
	var d time.Duration
	for _, e := range entries {
		if e.Replay.Mode != ipsec.ReplayTime {
			continue
		}
		if s := syncEvery(e.Replay.Window); d == 0 || s < d {
			d = s
		}
	}
	return d
}

// tekDue is when an entry's newest TEK is rekeyed.
func (t timing) tekDue(list []*tek) time.Time {
	x := list[len(list)-1]
	return x.created.Add(t.tekAt(x.lifetime))
}

func (t timing) kekDue(k *kek) time.Time { return k.created.Add(t.kekAt(k.lifetime)) }

// nextKeys is the next rekey that brings keys; zero: none.
func (t timing) nextKeys(k *keyring) time.Time {
	var w time.Time
	if !k.active() || k.kek == nil {
		return w
	}
	for _, list := range k.teks {
		w = earlier(w, t.tekDue(list))
	}
	return earlier(w, t.kekDue(k.kek))
}

// next is when something is due. synced is when members last heard the pseudotime.
func (t timing) next(k *keyring, synced time.Time) time.Time {
	w := t.nextKeys(k)
	if t.sync == 0 || w.IsZero() {
		return w
	}
	s := synced.Add(t.sync)
	if w.Sub(s) <= mergeWithin {
		return w // one message for both
	}
	return s
}

// due says what a rekey at now must renew.
func (t timing) due(k *keyring, synced, now time.Time) needs {
	var n needs
	w := t.next(k, synced)
	if w.IsZero() || now.Before(w) {
		return n
	}
	soon := now.Add(mergeWithin)
	n.sync = t.sync > 0 && !soon.Before(synced.Add(t.sync))
	if now.Before(t.nextKeys(k)) {
		return n
	}
	n.kek = !soon.Before(t.kekDue(k.kek))
	for i, list := range k.teks {
		x := list[len(list)-1]
		if !soon.Before(t.tekDue(list)) || n.kek && now.Sub(x.created) >= x.lifetime/2 {
			n.teks = append(n.teks, i)
		}
	}
	return n
}

// retransmit says whether a retransmission at now should leave that can wait: not when
// new keys follow within policy.RetransmitQuiet anyway.
func (t timing) retransmit(k *keyring, now time.Time) bool {
	w := t.nextKeys(k)
	return w.IsZero() || w.Sub(now) > policy.RetransmitQuiet
}

// reminderMost bounds the growing time between two reminders of a "periodic" group.
const reminderMost = time.Hour

// again is the time from transmission n (from 1) of a rekey to the next one; false
// when there is none. Reminders ("periodic") never end, but come ever more rarely: a
// member that is off for weeks needs no message every ten seconds.
func again(n, retransmits int, interval time.Duration, periodic bool) (time.Duration, bool) {
	if !periodic {
		return interval, n <= retransmits
	}
	d := interval
	for ; n > 1 && d < reminderMost; n-- {
		d *= 2
	}
	return max(interval, min(d, reminderMost)), true
}
