package machine

import (
	"testing"
	"time"
)

func TestReadMoment(t *testing.T) {
	x := newTree(t)
	x.rtc(time.Unix(1700000000, 0))
	x.write(fwcfgGenID, "\x01\x02")
	m := ReadMoment(x.root)
	if m.RTC != 1700000000 || m.GenID != "0102" || m.Awake <= 0 || m.Boot < m.Awake-time.Second || time.Since(m.Wall).Abs() > time.Minute {
		t.Errorf("%+v", m)
	}
	if m = ReadMoment(t.TempDir()); m.RTC != 0 || m.GenID != "" {
		t.Errorf("%+v", m)
	}
}
