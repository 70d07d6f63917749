package machine

// The clocks of this machine at one moment, for clock.Moment, and the two readings that
// the watch compares too: generation ID and hardware clock.

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
	m := clock.Moment{Boot: c.Boot(), Awake: awake(), Wall: c.Now().Round(0), GenID: hex.EncodeToString(readGenID(root))}
	m.RTC, _ = readRTC(root)
	return m
}

// readGenID reads the VM generation ID below root; empty: it can't be read.
func readGenID(root string) []byte {
	id, _ := readHead(filepath.Join("/", root, fwcfgGenID))
	return id
}

// readRTC reads the hardware clock below root, in seconds since 1970.
func readRTC(root string) (rtc int64, ok bool) {
	b, err := readHead(filepath.Join("/", root, rtcEpoch))
	if err != nil {
		return 0, false
	}
	if rtc, err = strconv.ParseInt(string(trim(b)), 10, 64); err != nil {
		return 0, false
	}
	return rtc, true
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
