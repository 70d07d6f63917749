package clock

import (
	"encoding/json"
	"testing"
	"time"
)

func TestDoubt(t *testing.T) {
	base := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	at := func(boot, slept time.Duration, real time.Duration) Moment {
		return Moment{Boot: boot, Awake: boot - slept, Wall: base.Add(real), RTC: base.Add(real).Unix()}
	}
	then := at(time.Hour, 0, time.Hour)
	for name, c := range map[string]struct {
		now   Moment
		doubt bool
	}{
		"a restart":               {at(time.Hour+20*time.Second, 0, time.Hour+20*time.Second), false},
		"the same moment":         {then, false},
		"a slow restart":          {at(20*time.Hour, 0, 20*time.Hour+2*time.Second), false},
		"put back":                {at(time.Hour+20*time.Second, 0, 2*time.Hour), true},
		"put back, four seconds":  {at(time.Hour+20*time.Second, 0, time.Hour+24*time.Second), true},
		"put back to before":      {at(50*time.Minute, 0, 2*time.Hour), true},
		"suspended":               {at(2*time.Hour, 10*time.Minute, 2*time.Hour), true},
		"hardware clock set back": {func() Moment { m := at(time.Hour+20*time.Second, 0, time.Hour+20*time.Second); m.RTC -= 60; return m }(), true},
		"clock set right, RTC not": {func() Moment {
			m := at(time.Hour+20*time.Second, 0, time.Hour+20*time.Second)
			m.Wall = m.Wall.Add(time.Hour)
			return m
		}(), true},
		"hardware clock gone":   {func() Moment { m := at(time.Hour+20*time.Second, 0, time.Hour+20*time.Second); m.RTC = 0; return m }(), true},
		"generation ID appears": {func() Moment { m := at(time.Hour+20*time.Second, 0, time.Hour+20*time.Second); m.GenID = "a"; return m }(), true},
	} {
		if why := c.now.Doubt(then); (why != "") != c.doubt {
			t.Errorf("%s: %q", name, why)
		}
		b, err := json.Marshal(c.now)
		var got Moment
		if err != nil || json.Unmarshal(b, &got) != nil || !got.Wall.Equal(c.now.Wall) || (got.Doubt(then) != "") != c.doubt {
			t.Errorf("%s: %s %v", name, b, err)
		}
	}
	// A generation ID does what a hardware clock does.
	then.RTC, then.GenID = 0, "a"
	now := at(time.Hour+20*time.Second, 0, time.Hour+20*time.Second)
	now.RTC, now.GenID = 0, "a"
	if why := now.Doubt(then); why != "" {
		t.Error(why)
	}
	now.GenID = "b"
	if now.Doubt(then) == "" {
		t.Error("another generation ID, and no doubt")
	}
}
