package machine

import (
	"encoding/hex"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"getvpn/internal/clock"
)

// ReadMoment reads the clocks of this machine; root is of the paths below /sys, "" is /.
func ReadMoment(root string) clock.Moment {
	c := clock.System{}
	m := clock.Moment{Boot: c.Boot(), Awake: awake(), Wall: c.Now().Round(0)}
	if b, err := readHead(filepath.Join("/", root, rtcEpoch)); err == nil {
		if rtc, err := strconv.ParseInt(string(trim(b)), 10, 64); err == nil {
			m.RTC = rtc
		}
	}
	if id, err := readHead(filepath.Join("/", root, fwcfgGenID)); err == nil && len(id) > 0 {
		m.GenID = hex.EncodeToString(id)
	}
	return m
}

// awake is CLOCK_MONOTONIC, 0 where there is none: then it seems to sleep, and nothing is
// trusted.
func awake() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
