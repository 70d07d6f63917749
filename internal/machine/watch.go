package machine

// Watching for a restore. One goroutine owns all baselines: whatever says that something
// happened, every source is looked at, so that one restore is one report.

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"getvpn/internal/clock"
)

// Restored says that the machine isn't where it was a moment ago.
type Restored struct {
	// Sources says what showed it, one phrase each.
	Sources []string
}

func (r Restored) String() string { return strings.Join(r.Sources, ", ") }

// Watcher watches this machine. The zero value is ready for use.
type Watcher struct {
	Root     string        // of the paths; "" is /
	Clock    clock.Clock   // nil: clock.System
	Interval time.Duration // of the comparisons; 0: 1 s
	// Events gives kernel uevents as they come from the socket, until ctx ends; nil: the
	// kernel's. Without them the comparisons go on.
	Events func(ctx context.Context) (<-chan []byte, error)
	// Ready, if not nil, is called once with the sources that can be used, before the
	// first comparison; an empty list means that a restore stays unnoticed.
	Ready func(sources []string)
}

// rtcJump is how far the hardware clock must get ahead of boot time in one interval. It
// counts in whole seconds, read at two moments.
const rtcJump = 3 * time.Second

// state is what the sources said last.
type state struct {
	genid []byte
	rtc   int64 // seconds
	boot  time.Duration
	hasID bool
	hasTC bool
}

// Run watches until ctx ends and calls report from its own goroutine for each restore.
func (w *Watcher) Run(ctx context.Context, report func(Restored)) {
	c, interval := w.Clock, w.Interval
	if c == nil {
		c = clock.System{}
	}
	if interval <= 0 {
		interval = time.Second
	}
	listen := w.Events
	if listen == nil {
		listen = kernelEvents
	}
	var sources []string
	events, err := listen(ctx)
	if err == nil {
		sources = append(sources, "uevent")
	} else {
		events = nil
	}
	var last state
	w.poll(c, &last)
	if last.hasID {
		sources = append(sources, "fw_cfg")
	}
	if last.hasTC {
		sources = append(sources, "rtc")
	}
	if w.Ready != nil {
		w.Ready(sources)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		var why []string
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			if !isNewGeneration(e) {
				continue
			}
			why = append(why, "the kernel reports a new VM generation")
		case <-tick.C:
		}
		why = append(why, w.poll(c, &last)...)
		if len(why) > 0 {
			report(Restored{why})
		}
	}
}

// poll reads what can be read and says what has changed. A source that appears later,
// since its module is loaded then, is a baseline first.
func (w *Watcher) poll(c clock.Clock, last *state) (why []string) {
	if id := readGenID(w.Root); len(id) > 0 {
		if last.hasID && !bytes.Equal(id, last.genid) {
			why = append(why, "QEMU has another VM generation ID")
		}
		last.genid, last.hasID = id, true
	}
	if rtc, ok := readRTC(w.Root); ok {
		boot := c.Boot()
		ran := time.Duration(rtc-last.rtc)*time.Second - (boot - last.boot)
		if last.hasTC && ran > rtcJump {
			why = append(why, fmt.Sprintf("the hardware clock ran %v ahead of boot time", ran.Round(time.Second)))
		}
		last.rtc, last.boot, last.hasTC = rtc, boot, true
	}
	return why
}

// isNewGeneration reads a uevent: a header, then NUL-terminated NAME=VALUE. The kernel's
// vmgenid driver adds NEW_VMGENID=1 to a change of its device.
func isNewGeneration(e []byte) bool {
	head, rest, ok := bytes.Cut(e, []byte{0})
	if !ok || !bytes.HasPrefix(head, []byte("change@")) {
		return false
	}
	for _, f := range bytes.Split(rest, []byte{0}) {
		if bytes.Equal(f, []byte("NEW_VMGENID=1")) {
			return true
		}
	}
	return false
}
