package clock

// Whether it was the same machine all the time between two moments, for who didn't run
// meanwhile and so has heard no event: a virtual machine that is put back has the boot ID,
// the boot clock and the /run of its snapshot. What it hasn't is the time that passed
// since, and a hardware clock knows that.

import (
	"fmt"
	"time"
)

// Moment is what a machine's clocks say at one moment. It is written to disk as JSON.
type Moment struct {
	Boot  time.Duration `json:"boot"`            // since the machine was booted
	Awake time.Duration `json:"awake"`           // of that, not suspended
	Wall  time.Time     `json:"wall"`            // as the clock is set
	RTC   int64         `json:"rtc,omitempty"`   // the hardware clock, in seconds since 1970; 0: it can't be read
	GenID string        `json:"genid,omitempty"` // the VM generation ID; "": it can't be read
}

// sleepSlack is how far apart boot and awake time may be read.
const sleepSlack = time.Second

// rtcSlack is how far hardware, wall and boot clock may count apart: two readings of a
// clock that shows whole seconds, and what correcting it by the network takes.
const rtcSlack = 3 * time.Second

// Doubt says why the machine may have been put back, or copied, between then and now;
// "" when something rules that out. Both must be of one boot. What makes a doubt:
//
//   - neither a hardware clock nor a generation ID that could tell;
//   - another generation ID;
//   - more than 3 s between what the hardware clock and what the boot clock counted: it
//     went on while the machine didn't. A pause looks the same;
//   - the same of the wall clock, which is set right after a restore, and so tells even
//     when the hardware clock was set by it to the snapshot's time before;
//   - a suspend: after one the kernel makes the boot clock agree with the hardware clock,
//     and some hypervisors suspend a machine to take its snapshot.
func (now Moment) Doubt(then Moment) string {
	ran := now.Boot - then.Boot
	apart := func(d time.Duration) bool { return d.Abs() > rtcSlack }
	switch {
	case ran < 0 || now.Awake < then.Awake:
		return "the boot clock went back"
	case now.RTC == 0 || then.RTC == 0:
		if now.GenID == "" || then.GenID == "" {
			return "nothing here would tell that the machine was put back"
		}
	case apart(time.Duration(now.RTC-then.RTC)*time.Second - ran):
		return fmt.Sprintf("the hardware clock counted %v, the boot clock %v", time.Duration(now.RTC-then.RTC)*time.Second, ran.Round(time.Second))
	}
	switch wall := now.Wall.Sub(then.Wall); {
	case now.GenID != then.GenID:
		return "the machine has another generation ID"
	case apart(wall - ran):
		return fmt.Sprintf("the wall clock went on by %v, the boot clock by %v", wall.Round(time.Second), ran.Round(time.Second))
	case ran-(now.Awake-then.Awake) > sleepSlack:
		return "the machine was suspended"
	}
	return ""
}
